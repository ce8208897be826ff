"""A picture of waiting times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_fctsfn._files import replace_file
from napari_fctsfn.benchmark.speed import Timing

_PANELS = {"first_mask_ms": "first mask", "click_ms": "a further click"}
"""What is drawn, with its title."""


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

    several = len({timing.size for timing in timings}) > 1
    height = 3.8 if several else 1.2 + 0.35 * len(timings)
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, title in zip(panels, _PANELS.values(), strict=True):
        axes.set_title(title)
    (_draw_lines if several else _draw_bars)(panels, timings)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=120)


def _draw_lines(panels: Any, timings: Sequence[Timing]) -> None:
    """Times over the size of the image, a line for each model."""
    for axes, key in zip(panels, _PANELS, strict=True):
        for name in dict.fromkeys(timing.model for timing in timings):
            rows = [timing for timing in timings if timing.model == name]
            times = [getattr(timing, key) for timing in rows]
            axes.plot([timing.size for timing in rows], times, "o-", label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted({timing.size for timing in timings}))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel("rows and columns of the image")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("milliseconds (median)")
    panels[0].legend(fontsize=8)


def _draw_bars(panels: Any, timings: Sequence[Timing]) -> None:
    """Times at one size of the image, a bar for each model."""
    size = timings[0].size
    every = []
    for axes, key in zip(panels, _PANELS, strict=True):
        times = [getattr(timing, key) for timing in timings]
        bars = axes.barh([timing.model for timing in timings], times)
        axes.bar_label(bars, [_duration(time) for time in times], padding=4, fontsize=9)
        axes.set_xscale("log")
        axes.set_xlabel(f"milliseconds (median), {size} x {size} pixels")
        axes.grid(alpha=0.3, axis="x")
        axes.set_axisbelow(True)
        every += times
    # room for the shortest bar and for the text beside the longest
    panels[0].set_xlim(min(every) / 4, max(every) * 8)
    panels[0].invert_yaxis()


def _duration(milliseconds: float) -> str:
    """A time as a person reads it."""
    seconds = milliseconds / 1000
    return f"{milliseconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
