"""Masks that are in Labels layers of any tool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_fctsfn.plugin.layers import camera_of
from napari_fctsfn.session import Plane

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.viewer import Viewer


def label_under_cursor(viewer: Viewer, first: Labels) -> tuple[Labels, int] | None:
    """The Labels layer and the label that the cursor points at; None if it points at none.

    Parameters
    ----------
    viewer : Viewer
    first : Labels
        Is asked first; after it all other visible Labels layers, the topmost first.
    """
    others = [layer for layer in reversed(viewer.layers) if isinstance(layer, Labels)]
    for layer in (first, *(layer for layer in others if layer is not first)):
        if layer.visible and (label := label_at(viewer, layer)):
            return layer, label
    return None


def masks_of(layer: Labels, label: int, axes: Iterable[int]) -> dict[Plane, NDArray[np.bool_]]:
    """The mask of a label in every slice that has it.

    Parameters
    ----------
    layer : Labels
        Its data may be lazy: they are read slice by slice.
    label : int
    axes : iterable of int
        The two axes the slices span.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    open_axes = tuple(axes)
    hidden = [1 if axis in open_axes else size for axis, size in enumerate(data.shape)]
    found = {}
    for index in np.ndindex(*hidden):
        plane = Plane(tuple(None if axis in open_axes else i for axis, i in enumerate(index)))
        mask = np.asarray(data[plane.key]) == label
        if mask.any():
            found[plane] = mask
    return found


def label_at(viewer: Viewer, layer: Labels) -> int:
    """The label of a layer that the cursor points at; 0 if there is none."""
    value: Any = layer.get_value(
        viewer.cursor.position,
        view_direction=camera_of(viewer).view_direction,
        dims_displayed=list(viewer.dims.displayed),
        world=True,
    )
    # a multiscale layer also says at which level it looked
    value = value[1] if isinstance(value, tuple) else value
    return 0 if value is None else int(value)
