"""A picture of waiting times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_fctsfn._files import replace_file
from napari_fctsfn.benchmark.speed import Timing


def plot(timings: Sequence[Timing], path: Path) -> None:
    """Draw first mask and click against the size of the image.

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

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(timing.model for timing in timings))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, title in zip(
        panels, ("first_mask_ms", "click_ms"), ("first mask", "a further click"), strict=True
    ):
        for name in names:
            rows = [timing for timing in timings if timing.model == name]
            sizes = [timing.size for timing in rows]
            axes.plot(sizes, [getattr(timing, key) for timing in rows], "o-", label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted({timing.size for timing in timings}))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_title(title)
        axes.set_xlabel("rows and columns of the image")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("milliseconds (median)")
    panels[0].legend(fontsize=8)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=120)
