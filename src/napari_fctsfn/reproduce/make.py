"""From a folder of data sets and a folder of models to the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import read_card, resolve_model
from napari_fctsfn.reproduce.figures import draw_curves, draw_masks
from napari_fctsfn.reproduce.items import CLASSICAL, ITEMS, Item
from napari_fctsfn.reproduce.published import SET_KEYS, SET_NAMES, SetKey
from napari_fctsfn.reproduce.report import Row, Stock, as_csv, curves, differences, table, title
from napari_fctsfn.reproduce.runs import Runs, deadline_after, wanted_by
from napari_fctsfn.reproduce.sources import Model, find_models, find_sets

_MASKS = ("figure-7", "figure-8")


@dataclass(frozen=True)
class Plan:
    """What to make, and from what.

    Parameters
    ----------
    data : Path
        Folder of the data sets; see `find_sets`.
    output : Path
        Folder for ``report.md``, a CSV file of each item, pictures, and in ``runs`` the
        evaluations; it is made.
    items : tuple of str
        Names of `ITEMS`.
    models : Path, optional
        Folder of model files; see `find_models`.
    also : tuple of str
        Models that stand beside the paper's, by name or file.
    limit : int, optional
        At most so many objects of each set.
    seed : int
        Of their choice.
    max_clicks : int
    workers : int
        Processes.
    device : str
    minutes : float, optional
        Begin no further object after so long; 0 runs nothing and draws no masks.
    """

    data: Path
    output: Path
    items: tuple[str, ...]
    models: Path | None = None
    also: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    max_clicks: int = 20
    workers: int = 1
    device: str = "auto"
    minutes: float | None = None


def reproduce(plan: Plan, tell: Callable[[str], None] = lambda _: None) -> Path:
    """Run the evaluations that are missing, and write the report of all that are there.

    The same call goes on with what is not complete.

    Parameters
    ----------
    plan : Plan
    tell : callable
        Told before each evaluation which it is.

    Returns
    -------
    Path
        ``report.md``.

    Raises
    ------
    InputError
        If data or models are missing or damaged, or a package that is needed is not installed.
    """
    deadline = deadline_after(plan.minutes)
    items = [ITEMS[name] for name in plan.items]
    _check_packages(items)
    sets = find_sets(plan.data, plan.limit, plan.seed)
    found = find_models(plan.models)
    models = found.models | {name: [Model(name)] for name in CLASSICAL}
    extra = []
    for name in plan.also:
        path = resolve_model(name)
        extra.append(path.stem if name == str(path) else name)
        if extra[-1] in models:
            raise InputError(f"--also {name}: there is a network of that name already")
        models[extra[-1]] = [Model(name, read_card(path))]
    plan.output.mkdir(parents=True, exist_ok=True)
    runs = Runs(plan.output / "runs", plan.max_clicks, plan.device, plan.workers)
    wanted = wanted_by(items, models, extra, sets)
    for line in runs.run(wanted, deadline):
        tell(line)
    stock = Stock(sets, models, tuple(extra), runs)
    parts = [_make(item, stock, plan.output, deadline) for item in items]
    asked = dict.fromkeys(name for item in items for name in stock.networks(item))
    text = "# The paper's tables and figures\n\n" + "\n".join(
        [_missing(items, stock), *parts, differences(stock, list(asked), found.others)]
    )
    path = plan.output / "report.md"
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _check_packages(items: list[Item]) -> None:
    """Raise before hours are spent if something is not installed."""
    if find_spec("maxflow") is None:
        raise InputError("the paper's graph cuts need PyMaxflow: pip install PyMaxflow")
    if any(not item.measures for item in items) and find_spec("matplotlib") is None:
        raise InputError(
            "figures need matplotlib: pip install 'napari-fctsfn[plot]', or ask for tables only"
        )


def _make(item: Item, stock: Stock, folder: Path, deadline: float | None) -> str:
    """Write an item's files; its part of the report."""
    rows: list[Row]
    if item.name in _MASKS:
        return draw_masks(item, stock, folder, deadline)
    if item.measures:
        text, rows = table(item, stock)
    else:
        text, rows = curves(item, stock)
        if rows:
            draw_curves(item, rows, folder)
    if rows:
        with replace_file(folder / f"{item.name}.csv") as temporary:
            temporary.write_text(as_csv(rows), encoding="utf-8")
    return text


def _missing(items: list[Item], stock: Stock) -> str:
    """What of the paper was not run, by reason."""
    reasons: dict[str, dict[str, None]] = {}
    count = 0
    asked: dict[tuple[str, SetKey], None] = {}
    for item in items:
        if item.name not in _MASKS:
            asked |= {(n, key): None for n in stock.networks(item) for key in SET_KEYS}
    for network, key in asked:
        why = stock.results(network, key)
        if isinstance(why, str):
            count += 1
            reasons.setdefault(why, {})[f"{title(network)} on {SET_NAMES[key]}"] = None
    if not asked:
        return ""
    head = f"{len(asked) - count} of {len(asked)} pairs of network and data set were measured."
    return "\n".join(
        [head, "", *(f"- {why}: {', '.join(what)}." for why, what in reasons.items()), ""]
    )
