"""What the annotator sets about masks: how a probability becomes one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_fctsfn.predict import Settings

LOWEST, HIGHEST = 0.05, 0.95
"""Of the threshold."""

_STEP = 0.05
"""Of the threshold."""

_RATIO = 4.0
"""The graph cut's strength at no and at full pull of the edges, over that in the middle."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """How masks are made from what the network sees.

    It changes only the mask that is shown, never what the network is told of earlier masks; so
    another refinement needs no network.

    Parameters
    ----------
    threshold : float
        A pixel is object where its probability is larger; 0.05..0.95.
    edges : float
        How strongly outlines are drawn to edges of the image by the graph cut, 0..1; 0 is off.
    fill_holes : bool
        Fill small holes without a negative click.
    drop_unclicked : bool
        Drop parts without a positive click.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    threshold: float = 0.5
    edges: float = 0.0
    fill_holes: bool = True
    drop_unclicked: bool = True

    def __post_init__(self) -> None:
        if not LOWEST <= self.threshold <= HIGHEST:
            raise ValueError(
                f"the threshold must be between {LOWEST} and {HIGHEST}, not {self.threshold!r}"
            )
        if not 0 <= self.edges <= 1:
            raise ValueError(f"the pull of the edges must be between 0 and 1, not {self.edges!r}")

    def sized(self, larger: bool) -> Refinement:
        """With the threshold one step on, for larger or smaller masks, as far as it goes."""
        threshold = self.threshold + (-_STEP if larger else _STEP)
        return replace(self, threshold=round(min(max(threshold, LOWEST), HIGHEST), 2))

    def applied(self, settings: Settings) -> Settings:
        """A predictor's settings with this refinement."""
        return replace(
            settings,
            threshold=self.threshold,
            graph_cut=self.edges > 0,
            graph_cut_strength=_RATIO ** (1 - 2 * self.edges),
            fill_holes=self.fill_holes,
            drop_unclicked=self.drop_unclicked,
        )


USUAL = Refinement()
"""What a predictor does by itself."""
