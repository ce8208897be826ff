"""The paper's tables and figures: which networks, which measures, what is claimed."""

from __future__ import annotations

from dataclasses import dataclass

from napari_fctsfn.evaluate.decidability import CHOICES, measured
from napari_fctsfn.reproduce.published import COUNTS

DEPTHS = tuple(f"tslfn-{number}" for number in range(1, 6))
CLASSICAL = ("gc", "gm", "rw", "esc", "gsc")

TITLES = {
    "ssfcn": "SSFCN",
    "tslfn": "TSLFN",
    "fctsfn": "FCTSFN",
    "tslfn-32s": "TSLFN, stride 32",
    "tslfn-minus": "TSLFN-, stride 32",
    **{name: f"TSLFN_{name[-1]}" for name in DEPTHS},
    **{name: name.upper() for name in CLASSICAL},
}
"""What networks and methods are called in the paper."""


@dataclass(frozen=True)
class Item:
    """A table or a figure.

    Parameters
    ----------
    name : str
        Such as ``table-2``.
    title : str
    networks : tuple of str
        Its columns or lines.
    measures : tuple of str
        Of a table, see `published`; none of a figure.
    claims : tuple of (str, str)
        Pairs of networks of which the paper finds the first one better.
    extra : bool
        Whether models that are not the paper's may stand beside them.
    """

    name: str
    title: str
    networks: tuple[str, ...]
    measures: tuple[str, ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    extra: bool = False

    @property
    def decidability(self) -> bool:
        """Whether it tells decidability indices."""
        return any("_" in measure for measure in self.measures)


_IOUS = tuple(f"iou{count}" for count in COUNTS)
_INDICES = tuple(f"{choice}_{count}" for choice in CHOICES for count in measured(choice))
_ANALYSIS = ("ssfcn", "tslfn", "fctsfn")
_RESTRICTED = (*CLASSICAL, "ssfcn", "fctsfn")
_STEPS = (("tslfn", "ssfcn"), ("fctsfn", "tslfn"))
_DEPTH = tuple(("tslfn-4", name) for name in DEPTHS if name != "tslfn-4")
_BEST = tuple(("fctsfn", name) for name in _RESTRICTED if name != "fctsfn")

ITEMS = {
    item.name: item
    for item in (
        Item(
            "table-1",
            "Decidability index between the responses around positive and negative clicks",
            ("ssfcn", "tslfn"),
            _INDICES,
            (("tslfn", "ssfcn"),),
        ),
        Item("table-2", "Mean number of clicks: TSLFN and MSRN", _ANALYSIS, ("noc",), _STEPS, True),
        Item("table-3", "Mean IoU: TSLFN and MSRN", _ANALYSIS, _IOUS, _STEPS, True),
        Item("table-4", "Mean number of clicks: depth of the streams", DEPTHS, ("noc",), _DEPTH),
        Item("table-5", "Mean IoU: depth of the streams", DEPTHS, _IOUS, _DEPTH),
        Item("table-6", "Mean IoU: restricted comparison", _RESTRICTED, _IOUS, _BEST, True),
        Item(
            "table-7",
            "Mean number of clicks: restricted comparison",
            _RESTRICTED,
            ("noc",),
            _BEST,
            True,
        ),
        Item(
            "table-8",
            "Mean number of clicks: unrestricted comparison",
            ("fctsfn",),
            ("noc",),
            extra=True,
        ),
        Item(
            "figure-3",
            "Mean IoU and clicks: with and without the interaction stream",
            ("tslfn-minus", "tslfn-32s"),
            claims=(("tslfn-32s", "tslfn-minus"),),
        ),
        Item("figure-4", "Mean IoU and clicks: TSLFN and MSRN", _ANALYSIS, extra=True),
        Item("figure-5", "Mean IoU and clicks: depth of the streams", DEPTHS),
        Item("figure-6", "Mean IoU and clicks: restricted comparison", _RESTRICTED, extra=True),
        Item("figure-7", "Masks of all methods after the same clicks", _RESTRICTED, extra=True),
        Item("figure-8", "Masks of the FCTSFN after 1 to 5 clicks", ("fctsfn",), extra=True),
    )
}
"""By name, in the paper's order."""
