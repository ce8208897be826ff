"""How a probability becomes a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from napari_fctsfn.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Switches of a prediction.

    Parameters
    ----------
    threshold : float
        A pixel is object where its probability, 0..1, is larger.
    zoom : bool
        Look again at a window around the predicted object, at a finer scale.
    consistent : bool
        Obey clicks that the network contradicts: near the mask's outline by a change at the click,
        else by an adjustment of the features behind the fusion (f-BRS). A further click on the
        object then takes nothing from the mask, and one on the background adds nothing.
    steady : float
        Share, 0..1, of the probability before the last click in the probability after it, but where
        the mask's change hangs together with that click.
    flip : bool
        Average over the window and its mirror image, at twice the cost.
    graph_cut : bool
        Snap the mask's outline to edges of the image (paper, section 3.4).
    graph_cut_strength : float
        Weight of the probability against the image's edges; larger trusts the network more.
    drop_unclicked : bool
        Drop connected components without a positive click.
    fill_holes : bool
        Fill small holes without a negative click.
    extent : float
        Longest side, in pixels of the slice, of objects like the one that is clicked on; at the
        first click a mask of about this size is believed more. 0: not known.

    Raises
    ------
    InputError
        If the threshold is not between 0 and 1, the strength not above 0, `steady` not from 0 up to
        1, or the extent below 0.
    """

    threshold: float = 0.5
    zoom: bool = True
    consistent: bool = True
    steady: float = 0.3
    flip: bool = False
    graph_cut: bool = False
    graph_cut_strength: float = 1.0
    drop_unclicked: bool = True
    fill_holes: bool = True
    extent: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold must be between 0 and 1, not {self.threshold!r}")
        if not self.graph_cut_strength > 0:
            raise InputError(
                f"graph_cut_strength must be above 0, not {self.graph_cut_strength!r}; "
                f"set graph_cut to False to switch it off"
            )
        if not 0 <= self.steady < 1:
            raise InputError(f"steady must be at least 0 and below 1, not {self.steady!r}")
        if not 0 <= self.extent < math.inf:
            raise InputError(
                f"extent must be a number of pixels, 0 if it is not known, not {self.extent!r}"
            )

    def raw(self, threshold: float = 0.49) -> Settings:
        """These settings without any post-processing, as the protocol ``ritm`` scores."""
        return replace(
            self, threshold=threshold, graph_cut=False, drop_unclicked=False, fill_holes=False
        )

    def published(self) -> Settings:
        """These settings as the paper has them (sections 3.4 and 4.1).

        The network looks at the whole image, and its mask is that of the graph cut and nothing
        else.
        """
        alone = replace(self.raw(0.5), zoom=False, consistent=False, steady=0.0, flip=False)
        return replace(alone, graph_cut=True)
