"""The paper's figures: curves, and masks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn._files import replace_file
from napari_fctsfn.clicks import Clicks
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import ObjectReference, load_segmenter, protocol_settings
from napari_fctsfn.evaluate.rivals import RIVALS
from napari_fctsfn.evaluate.segmenter import Segmenter
from napari_fctsfn.predict import Settings
from napari_fctsfn.predict.normalisation import Normalisation, as_rgb
from napari_fctsfn.reproduce.items import Item
from napari_fctsfn.reproduce.published import SET_KEYS, SET_NAMES
from napari_fctsfn.reproduce.report import Row, Stock, title
from napari_fctsfn.reproduce.runs import is_over
from napari_fctsfn.reproduce.sources import TestSet

_EXAMPLES = 4
"""Objects of figures 7 and 8."""

_SAME_CLICKS = 4
"""Clicks of figure 7."""

_CLICKS = 5
"""Clicks of figure 8."""

_TINT = np.array([255, 60, 40])


def draw_curves(item: Item, rows: Sequence[Row], folder: Path) -> None:
    """Draw mean IoU against clicks, a panel for each set, into NAME.png and NAME.svg.

    Parameters
    ----------
    item : Item
    rows : sequence of dict
        As `report.curves` gives them; at least one.
    folder : Path
    """
    names = [name for name in SET_NAMES.values() if any(row["set"] == name for row in rows)]
    figure = _figure(1.5 + 4 * len(names), 3.6)
    panels = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
    for axes, name in zip(panels, names, strict=True):
        here = [row for row in rows if row["set"] == name]
        for number, network in enumerate(dict.fromkeys(row["network"] for row in here)):
            points = [row for row in here if row["network"] == network]
            counts = [row["clicks"] for row in points]
            means = [100 * row["mean"] for row in points]
            axes.plot(counts, means, color=f"C{number}", label=network)
            if any(row["low"] != row["high"] for row in points):
                low, high = ([100 * row[end] for row in points] for end in ("low", "high"))
                axes.fill_between(counts, low, high, color=f"C{number}", alpha=0.12, linewidth=0)
            told = [row for row in points if row["paper"] is not None]
            axes.plot(
                [row["clicks"] for row in told],
                [100 * row["paper"] for row in told],
                "x",
                color=f"C{number}",
            )
        axes.set_title(name)
        axes.set_xlabel("clicks")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean IoU (%)")
    lines = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    named = {name: line for name, line in lines.items() if not name.startswith("_")}
    figure.legend(named.values(), named.keys(), loc="outside right center", fontsize=8)
    _save(figure, folder, item.name)


def draw_masks(item: Item, stock: Stock, folder: Path, deadline: float | None) -> str:
    """Draw figure 7 or 8 with our pictures, and say in Markdown what is on it.

    Figure 7: the same clicks, those a user makes who corrects the FCTSFN, for all methods. Figure
    8: one method after each click. Where there is no FCTSFN another model stands for it, and the
    text says which. After the deadline no further object is begun: a figure that an earlier call
    has drawn stays.
    """
    key = next((key for key in ("grabcut", *SET_KEYS) if key in stock.sets), None)
    heading = f"## {item.name.replace('-', ' ').capitalize()}. {item.title}\n\n"
    there = [name for name in stock.networks(item) if stock.models.get(name)]
    absent = [title(name) for name in item.networks if name not in there]
    if key is None or not there:
        return f"{heading}Not drawn: no model of {', '.join(absent)}.\n"
    test_set = stock.sets[key]
    lead = "fctsfn" if "fctsfn" in there else there[-1]
    shown = f"{heading}![{item.title}]({item.name}.png)\n\n"
    lines = _lines(item, stock, test_set, there, lead, deadline)
    if lines is None:
        if (folder / f"{item.name}.png").exists():
            return f"{shown}Drawn by an earlier call: the time was over.\n"
        return f"{heading}Not drawn: the time was over.\n"
    widest = max(len(line) for line in lines)
    figure = _figure(2 * widest, 1.7 * len(lines))
    panels = figure.subplots(len(lines), widest, squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    for line, row in zip(lines, panels, strict=True):
        for (name, picture), axes in zip(line, row, strict=False):
            axes.imshow(picture)
            axes.set_title(name, fontsize=8)
    _save(figure, folder, item.name)
    text = f"{shown}Objects of `{test_set.dataset.folder.name}`, clicks on {title(lead)}."
    if absent:
        text += f" Not drawn, no model: {', '.join(absent)}."
    return text + "\n"


def _lines(
    item: Item,
    stock: Stock,
    test_set: TestSet,
    names: Sequence[str],
    lead: str,
    deadline: float | None,
) -> list[list[tuple[str, NDArray[np.uint8]]]] | None:
    """Titles and pictures of each line of figure 7 or 8; None if the time was over first."""
    lines: list[list[tuple[str, NDArray[np.uint8]]]] = []
    loaded: dict[str, Segmenter] = {}
    for reference in test_set.objects[:_EXAMPLES]:
        if is_over(deadline):
            return None
        if not loaded:
            device = stock.runs.device
            loaded = {name: load_segmenter(stock.models[name][0].name, device) for name in names}
        scene = test_set.dataset.scene(reference.stem)
        truth = scene.truth(reference.value)
        image = _display(scene.image)
        clicks, masks = _click(loaded[lead], lead, scene.image, reference, truth, scene.ignore)
        if item.name == "figure-7":
            same = clicks[:_SAME_CLICKS]
            panes = [("clicks", _dotted(image, same))]
            for name, segmenter in loaded.items():
                mask = _replay(segmenter, name, scene.image, reference, same)
                panes.append((title(name), _tinted(image, mask)))
            lines.append([*panes, ("truth", _tinted(image, truth))])
        else:
            lines.append(
                [
                    (f"{count} of {_CLICKS}", _dotted(_tinted(image, mask), clicks[:count]))
                    for count, mask in enumerate(masks, 1)
                ]
            )
    return lines


def _click(
    segmenter: Segmenter,
    name: str,
    image: Any,
    reference: ObjectReference,
    truth: NDArray[np.bool_],
    ignore: NDArray[np.bool_] | None,
) -> tuple[Clicks, list[NDArray[np.bool_]]]:
    """Clicks of a user who corrects a method, and its mask after each."""
    segmenter.set_image(image, key=(reference.stem, name))
    clicks, masks, before = Clicks(), [], None
    mask = np.zeros_like(truth)
    while len(clicks) < _CLICKS:
        click = next_click(mask, truth, clicks, "fctsfn", ignore)
        if click is None:
            break
        clicks = clicks.append(click)
        before = segmenter.predict(clicks, before, _settings(name))
        mask = before.full_mask()
        masks.append(mask)
    return clicks, masks


def _replay(
    segmenter: Segmenter, name: str, image: Any, reference: ObjectReference, clicks: Clicks
) -> NDArray[np.bool_]:
    segmenter.set_image(image, key=(reference.stem, name))
    before = None
    for count in range(1, len(clicks) + 1):
        before = segmenter.predict(clicks[:count], before, _settings(name))
    assert before is not None
    return before.full_mask()


def _settings(name: str) -> Settings:
    return Settings() if name in RIVALS else protocol_settings(Settings(), "fctsfn")


def _display(image: NDArray[Any]) -> NDArray[np.uint8]:
    """RGB, 0..255, as it is shown."""
    grey = image.ndim == 2
    rgb = as_rgb(image)
    shown = Normalisation.from_array(image) if grey else Normalisation.for_rgb(rgb.dtype)
    return np.rint(255 * shown.apply(rgb)).astype(np.uint8)


def _tinted(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    found = (image * 0.55).astype(np.uint8)
    found[mask] = (0.75 * image[mask] + 0.25 * _TINT).astype(np.uint8)
    return found


def _dotted(image: NDArray[np.uint8], clicks: Clicks) -> NDArray[np.uint8]:
    """Discs where the clicks are: green on the object, red off it, rimmed with white."""
    found = image.copy()
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    radius = max(image.shape[:2]) / 60
    for click in clicks:
        row, column = click.pixel
        far = np.hypot(rows - row, columns - column)
        found[far <= 1.5 * radius] = 255
        found[far <= radius] = (40, 200, 60) if click.positive else (220, 30, 30)
    return found


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, folder: Path, name: str) -> None:
    for kind in ("png", "svg"):
        with replace_file(folder / f"{name}.{kind}") as temporary:
            figure.savefig(temporary, format=kind, dpi=130)
        figure.set_layout_engine("none")  # found once, it stays
