"""Slices of a stack: an object followed from those where it is known."""

from napari_fctsfn.stack.guide import guide_clicks
from napari_fctsfn.stack.propagate import Look, Rule, Stack, Step, blend
from napari_fctsfn.stack.volume import (
    Direction,
    Outcome,
    annotated,
    count,
    propagate,
    report,
    stretches,
)
from napari_fctsfn.stack.worst import worst_first

__all__ = [
    "Direction",
    "Look",
    "Outcome",
    "Rule",
    "Stack",
    "Step",
    "annotated",
    "blend",
    "count",
    "guide_clicks",
    "propagate",
    "report",
    "stretches",
    "worst_first",
]
