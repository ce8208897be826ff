"""Tables as Markdown and CSV, the paper's numbers beside ours."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fctsfn.evaluate import ObjectResult
from napari_fctsfn.models import ModelCard
from napari_fctsfn.reproduce.cells import Cell, Gain, cell, gain
from napari_fctsfn.reproduce.items import TITLES, Item
from napari_fctsfn.reproduce.published import (
    CITED,
    SET_KEYS,
    SET_NAMES,
    THRESHOLDS,
    SetKey,
    published,
)
from napari_fctsfn.reproduce.runs import Runs
from napari_fctsfn.reproduce.sources import Model, TestSet, why_no_set

Row = dict[str, Any]
"""A line of a CSV file."""


@dataclass(frozen=True)
class Stock:
    """What tables and figures are made from.

    Parameters
    ----------
    sets : dict of str to TestSet
    models : dict of str to list of Model
        By network; see `find_models`.
    extra : tuple of str
        Networks that stand beside the paper's.
    runs : Runs
    """

    sets: dict[SetKey, TestSet]
    models: dict[str, list[Model]]
    extra: tuple[str, ...]
    runs: Runs

    def networks(self, item: Item) -> tuple[str, ...]:
        """The networks of an item, those beside the paper's at the end."""
        return item.networks + (self.extra if item.extra else ())

    def results(self, network: str, key: SetKey) -> list[list[ObjectResult]] | str:
        """Complete results of every training of a network on a set, or why there are none."""
        if key not in self.sets:
            return why_no_set(key)
        if not self.models.get(network):
            return f"no model of {title(network)}"
        found, missing = [], []
        for model in self.models[network]:
            results = self.runs.results(model, self.sets[key])
            if results is None:
                missing.append(self.runs.progress(model, self.sets[key]))
            else:
                found.append(results)
        if missing:
            of = f"{len(missing)} of {len(missing) + len(found)} trainings: "
            return (of if len(self.models[network]) > 1 else "") + missing[0]
        return found


def title(network: str) -> str:
    """What a network is called in the report."""
    return TITLES.get(network, network)


class _Notes:
    """Reasons for empty cells, each with a letter."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def letter(self, reason: str) -> str:
        return self._letters.setdefault(reason, chr(ord("a") + len(self._letters) % 26))

    def lines(self) -> list[str]:
        return [f"{letter}: {reason}." for reason, letter in self._letters.items()]


def table(item: Item, stock: Stock) -> tuple[str, list[Row]]:
    """A table of the paper with ours beside it.

    Parameters
    ----------
    item : Item
    stock : Stock

    Returns
    -------
    (str, list of dict)
        Markdown; and a line for each cell, for CSV.
    """
    notes, rows = _Notes(), []
    networks = stock.networks(item)
    choices = _choices(item)
    columns = [(choice, network) for choice in choices for network in networks]
    heads = [
        f"{choice.replace('_', ' ')}, {title(network)}" if choice else title(network)
        for choice, network in columns
    ]
    cited = sorted({name for row in CITED.values() for name in row}) if _is_cited(item) else []
    lines = [
        f"## {_heading(item)}",
        "",
        "| data set | " + " | ".join([*(f"{name}, cited" for name in cited), *heads]) + " |",
        "|---" * (1 + len(cited) + len(heads)) + "|",
    ]
    for label, key, suffix in _lines(item):
        cells = []
        for choice, network in columns:
            measure = f"{choice}_{suffix}" if choice else f"{suffix}"
            if measure == "single_positive_1":
                cells.append("-")
                continue
            text, row = _cell(item, stock, network, key, measure, notes)
            cells.append(text)
            rows.append(row)
        others = [_number(CITED[label].get(name), "noc") for name in cited]
        lines.append(f"| {label} | " + " | ".join(others + cells) + " |")
    if _is_cited(item):
        for label in (label for label in CITED if "categories" in label):
            others = [_number(CITED[label].get(name), "noc") for name in cited]
            lines.append(f"| {label} | " + " | ".join(others + ["-" for _ in columns]) + " |")
    lines += ["", "Each cell: the paper's / ours (95 % interval)."]
    if _is_cited(item):
        lines[-1] += " What is cited stands in the paper and was not measured there or here."
    lines += notes.lines()
    claims = _claims(item, stock)
    if claims:
        lines += ["", *claims]
    return "\n".join(lines) + "\n", rows


def _heading(item: Item) -> str:
    kind, _, number = item.name.partition("-")
    return f"{kind.capitalize()} {number}. {item.title}"


def _is_cited(item: Item) -> bool:
    return item.name == "table-8"


def _choices(item: Item) -> list[str]:
    """Settings of the clicks that have columns of their own; one empty one where there is none."""
    return list(dict.fromkeys(m.rpartition("_")[0] for m in item.measures))


def _lines(item: Item) -> list[tuple[str, SetKey, str]]:
    """Label, set and end of the measure's name of every line."""
    if item.measures == ("noc",):
        return [(f"{SET_NAMES[k]} ({THRESHOLDS[k]}% IoU)", k, "noc") for k in SET_KEYS]
    found: list[tuple[str, SetKey, str]] = []
    for suffix in dict.fromkeys(m.rpartition("_")[2] for m in item.measures):
        count = suffix.removeprefix("iou")
        clicks = "click" if count == "1" else "clicks"
        found += [(f"{SET_NAMES[k]} ({count} {clicks})", k, suffix) for k in SET_KEYS]
    return found


def _cell(
    item: Item, stock: Stock, network: str, key: SetKey, measure: str, notes: _Notes
) -> tuple[str, Row]:
    paper = published(measure, network, key)
    row: Row = {
        "item": item.name,
        "set": SET_NAMES[key],
        "network": title(network),
        "measure": measure,
        "paper": paper,
    }
    runs = stock.results(network, key)
    found = runs if isinstance(runs, str) else cell(runs, measure, key)
    if found is None:
        found = "the measure is not defined, or there are fewer clicks"
    if isinstance(found, str):
        return f"{_number(paper, measure)} / - {notes.letter(found)}", {**row, "why": found}
    text = f"{_number(paper, measure)} / {_with_interval(found, measure)}"
    return text, row | _details(found)


def _details(found: Cell) -> Row:
    low, high = found.interval or (None, None)
    return {
        "mean": found.mean,
        "low": low,
        "high": high,
        "median": found.median,
        "trainings": " ".join(f"{mean:.4f}" for mean in found.trainings),
        "objects": found.objects,
        "left_out": found.left_out,
        "why": "",
    }


def _number(value: float | None, measure: str) -> str:
    if value is None:
        return "-"
    shown = round(100 * value, 1) if measure.startswith("iou") else round(value, 2)
    # There is no minus before a zero.
    return f"{shown + 0.0:.1f}" if measure.startswith("iou") else f"{shown + 0.0:.2f}"


def _with_interval(found: Cell | Gain, measure: str) -> str:
    mean = _number(found.mean, measure)
    if found.interval is None:
        return f"{mean} (one picture)"
    low, high = (_number(value, measure) for value in found.interval)
    return f"{mean} ({low} to {high})"


def _claims(item: Item, stock: Stock) -> list[str]:
    """What the paper says is better, and by how much it is here."""
    found = []
    measures = item.measures or ("iou1", "iou3", "iou10")
    for better, worse in item.claims:
        for key in SET_KEYS:
            ours, theirs = stock.results(better, key), stock.results(worse, key)
            if isinstance(ours, str) or isinstance(theirs, str):
                continue
            for measure in measures:
                difference = gain(ours, theirs, measure, key)
                if difference is None:
                    continue
                found.append(
                    f"| {title(better)} before {title(worse)} | {SET_NAMES[key]} | "
                    f"{_told(measure)} | {_with_interval(difference, measure)} | "
                    f"{difference.verdict} |"
                )
    if not found:
        return []
    head = "| claim | data set | measure | gain (95 % interval) | here |"
    return [head, "|---|---|---|---|---|", *found]


def _told(measure: str) -> str:
    if measure == "noc":
        return "clicks saved"
    if measure.startswith("iou"):
        return f"IoU at {measure.removeprefix('iou')}"
    setting, _, count = measure.rpartition("_")
    return f"index, {setting.replace('_', ' ')}, {count}"


def curves(item: Item, stock: Stock) -> tuple[str, list[Row]]:
    """What a figure with curves says, in words, and its points for CSV."""
    rows: list[Row] = []
    missing: dict[str, list[str]] = {}
    for key in SET_KEYS:
        for network in stock.networks(item):
            runs = stock.results(network, key)
            if isinstance(runs, str):
                missing.setdefault(runs, []).append(f"{title(network)} on {SET_NAMES[key]}")
                continue
            for count in range(1, stock.runs.max_clicks + 1):
                found = cell(runs, f"iou{count}", key)
                row = {"set": SET_NAMES[key], "network": title(network), "clicks": count}
                paper = published(f"iou{count}", network, key)
                rows.append(row | {"paper": paper} | (_details(found) if found else {}))
    lines = [f"## {_heading(item)}", ""]
    if rows:
        lines += [f"![{item.title}]({item.name}.png)", "", "Crosses: the paper's tables."]
    lines += [f"Not drawn, {why}: {', '.join(what)}." for why, what in missing.items()]
    return "\n".join([*lines, *_spaced(_claims(item, stock))]) + "\n", rows


def _spaced(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def differences(stock: Stock, networks: Sequence[str], others: Sequence[str]) -> str:
    """Every known difference from the paper, in data, weights and protocol.

    Parameters
    ----------
    stock : Stock
    networks : sequence of str
        Those that were asked for.
    others : sequence of str
        Files of models that are no network of the paper.
    """
    lines = ["## What differs from the paper", "", "Data:", ""]
    for key in SET_KEYS:
        if key not in stock.sets:
            lines.append(f"- {SET_NAMES[key]}: {why_no_set(key)}.")
            continue
        one = stock.sets[key]
        lines.append(
            f"- {SET_NAMES[key]}: `{one.dataset.folder.name}`, {one.differs or 'all objects'}."
        )
    lines += ["", "Weights:", ""]
    for network in networks:
        alike: dict[str, list[str]] = {}
        for model in stock.models.get(network, []):
            if model.card is not None:
                seed = model.card.training.get("seed")
                told = f"`{Path(model.name).name}`" + ("" if seed is None else f" (seed {seed})")
                alike.setdefault(_weights(model.card), []).append(told)
        lines += [f"- {title(network)}: {', '.join(who)}: {how}." for how, who in alike.items()]
    unused = "not used, since no table or figure is of such a network"
    lines += [f"- {unused}: `{name}`." for name in others]
    lines += [
        "",
        "Protocol:",
        "",
        f"- {stock.runs.max_clicks} clicks on every object (the paper: 20).",
        "- Void pixels and outlines do not count, corners connect errors: the paper says neither.",
        "- The weights of the graph cut are our own: the paper gives none.",
        "- First layers pad by 1, the authors' by 100, but for networks from their Caffe files.",
        "- A picture is scaled to the longest side on the model's card, in the paper it is not.",
        "- Classical methods: see `napari_fctsfn.evaluate.rivals`; the paper gives no parameters.",
        "- Intervals draw pictures, and trainings where there are several; the paper has none.",
    ]
    return "\n".join(lines) + "\n"


def _weights(card: ModelCard) -> str:
    """How a model was trained, but for its seed."""
    training = card.training
    parts = [str(card.architecture.get("backbone", "lite"))]
    told = ("recipe", "stage", "optimizer", "steps", "batch", "input", "start", "origin")
    parts += [f"{name} {training[name]}" for name in told if name in training]
    if card.training_data:
        parts.append("data " + ", ".join(part.name for part in card.training_data))
    return ", ".join([*parts, f"longest side {card.input_size}"])


def as_csv(rows: Sequence[Row]) -> str:
    """Lines of CSV; numbers with all their digits, what is missing left empty."""
    text = io.StringIO()
    heads = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
