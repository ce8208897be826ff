"""A picture of waiting times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_fctsfn._files import replace_file
from napari_fctsfn.benchmark.speed import Timing

_PANELS = (("first_mask_ms", "first mask"), ("click_ms", "a further click"))


def plot(timings: Sequence[Timing], path: Path) -> None:
    """Draw first mask and click: bars for one size of the image, lines over several.

    Parameters
    ----------
    timings : sequence of Timing
    path : Path
        A .png, .svg or .pdf file.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib is missing; it comes with the extra ``plot``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sizes = sorted({timing.size for timing in timings})
    names = list(dict.fromkeys(timing.model for timing in timings))
    height = 3.8 if len(sizes) > 1 else 1.2 + 0.35 * len(names)
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (key, title) in zip(panels, _PANELS, strict=True):
        axes.set_title(title)
        if len(sizes) > 1:
            _lines(axes, key, names, timings, sizes)
        else:
            _bars(axes, key, timings, sizes[0])
    if len(sizes) > 1:
        panels[0].set_ylabel("milliseconds (median)")
        panels[0].legend(fontsize=8)
    else:
        times = [getattr(timing, key) for timing in timings for key, _ in _PANELS]
        # room for the shortest bar and for the text beside the longest
        panels[0].set_xlim(min(times) / 4, max(times) * 8)
        panels[0].invert_yaxis()
    with replace_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=120)


def _lines(
    axes: Any, key: str, names: list[str], timings: Sequence[Timing], sizes: list[int]
) -> None:
    for name in names:
        rows = [timing for timing in timings if timing.model == name]
        times = [getattr(timing, key) for timing in rows]
        axes.plot([timing.size for timing in rows], times, "o-", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("rows and columns of the image")
    axes.grid(alpha=0.3)


def _bars(axes: Any, key: str, timings: Sequence[Timing], size: int) -> None:
    times = [getattr(timing, key) for timing in timings]
    bars = axes.barh([timing.model for timing in timings], times, color="tab:blue")
    axes.bar_label(bars, [_duration(time) for time in times], padding=4, fontsize=9)
    axes.set_xscale("log")
    axes.set_xlabel(f"milliseconds (median), {size} x {size} pixels")
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)


def _duration(milliseconds: float) -> str:
    """A time as a person reads it."""
    seconds = milliseconds / 1000
    return f"{milliseconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
