"""The two Points layers in which the annotator clicks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.layers import Image, Points

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.plugin.layers import THICK_POINTS, image_shape, transforms
from napari_fctsfn.session import Plane

# blue and orange of Okabe and Ito: told apart by every kind of colour vision; symbols differ too
POSITIVE_COLOR, NEGATIVE_COLOR = "#0072B2", "#E69F00"
_LOOK = {
    True: {"name": "positive clicks", "face_color": POSITIVE_COLOR, "symbol": "disc"},
    False: {"name": "negative clicks", "face_color": NEGATIVE_COLOR, "symbol": "x"},
}
_SHARE = 60
"""A click is drawn over one part in so many of the image's longer side."""


class Prompts:
    """Positive and negative clicks of one object, as two Points layers.

    The features of a point say what it is: `polarity`, `object` (label), `order` (rank among the
    clicks) and `axes` (the two axes of the slice it was made in).

    Parameters
    ----------
    image : Image
        The layers get its place and its axes.
    changed : callable
        Called, without arguments, after the annotator has added, moved or removed points.
    channels : int, optional
        The axis of the image's channels: clicks are the same in all of them.
    """

    def __init__(
        self, image: Image, changed: Callable[[], None], channels: int | None = None
    ) -> None:
        self._changed = changed
        self._writing = False
        self._label = 0
        self._axes = (image.ndim - 2, image.ndim - 1)
        self.positive = self._layer(image, True, channels)
        self.negative = self._layer(image, False, channels)
        for layer in self.layers:
            layer.events.data.connect(self._on_data)

    @property
    def layers(self) -> tuple[Points, Points]:
        """The positive and the negative layer."""
        return self.positive, self.negative

    def close(self) -> None:
        """Stop listening to the layers."""
        for layer in self.layers:
            layer.events.data.disconnect(self._on_data)

    def expect(self, label: int, axes: tuple[int, int] | None) -> None:
        """Say what the next point will belong to.

        Parameters
        ----------
        label : int
            The object.
        axes : (int, int) or None
            The axes of the slice that is shown; None keeps those that were shown before.
        """
        self._label = label
        self._axes = axes or self._axes
        self._set_defaults()

    def read(self, without: tuple[Points, int] | None = None) -> dict[Plane, Clicks]:
        """The clicks in the layers by slice, each in the order in which they were made.

        Parameters
        ----------
        without : (Points, int), optional
            A layer and the number of a point that is left out.
        """
        found: dict[Plane, list[tuple[int, int, Click]]] = {}
        for layer in self.layers:
            orders, axes = self._column(layer, "order"), self._column(layer, "axes")
            for number, point in enumerate(layer.data):
                if (layer, number) == without:
                    continue
                plane = Plane.through(point, _axes_of(axes[number], self._axes))
                row, column = plane.row_column(point)
                click = Click(row, column, layer is self.positive)
                found.setdefault(plane, []).append((_order_of(orders[number]), number, click))
        return {
            plane: Clicks(click for _, _, click in sorted(entries, key=lambda entry: entry[:2]))
            for plane, entries in found.items()
        }

    def show(self, clicks: dict[Plane, Clicks]) -> None:
        """Make the layers hold these clicks and no others."""
        for layer in self.layers:
            mine = [
                (plane, order, click)
                for plane, ordered in clicks.items()
                for order, click in enumerate(ordered)
                if click.positive == (layer is self.positive)
            ]
            data = np.array(
                [plane.point(click.row, click.column) for plane, _, click in mine], dtype=float
            ).reshape(-1, layer.ndim)
            features = self._features(
                layer is self.positive,
                [order for _, order, _ in mine],
                [_axes_text(plane.axes) for plane, _, _ in mine],
            )
            with self._quietly():
                if not np.array_equal(layer.data, data):
                    layer.selected_data = set()
                    layer.data = data
                layer.features = features
        self._set_defaults()

    def _layer(self, image: Image, positive: bool, channels: int | None) -> Points:
        layer = Points(
            ndim=image.ndim,
            features=self._features(positive, [], []),
            size=max(max(image_shape(image)[-2:]) / _SHARE, 1.0),
            border_color="white",
            border_width=0.15,
            **_LOOK[positive],
            **transforms(image, channels, THICK_POINTS),
        )
        # legible at every zoom, in pixels of the screen
        layer.canvas_size_limits = (8, 18)
        return layer

    def _features(
        self, positive: bool, orders: list[int], axes: list[str]
    ) -> dict[str, np.ndarray]:
        return {
            # typed, since no type can be told from columns without rows
            "polarity": np.full(len(orders), "positive" if positive else "negative", object),
            "object": np.full(len(orders), self._label),
            "order": np.array(orders, dtype=int),
            "axes": np.array(axes, dtype=object),
        }

    def _set_defaults(self) -> None:
        columns = [self._column(layer, "order") for layer in self.layers]
        last = max((_order_of(order) for column in columns for order in column), default=-1)
        for layer in self.layers:
            layer.feature_defaults = {
                "polarity": "positive" if layer is self.positive else "negative",
                "object": self._label,
                "order": last + 1,
                "axes": _axes_text(self._axes),
            }

    @staticmethod
    def _column(layer: Points, name: str) -> list[Any]:
        """A feature of all points; the annotator may have replaced the table."""
        if name in layer.features.columns:
            return list(layer.features[name])
        return [None] * len(layer.data)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._writing = True
        try:
            yield
        finally:
            self._writing = False

    def _on_data(self, event: Any) -> None:
        # only the past tense: before a change the layer still holds the old points
        if self._writing or str(event.action).split(".")[-1].lower() not in (
            "added",
            "changed",
            "removed",
        ):
            return
        self._set_defaults()
        self._changed()


def _axes_text(axes: tuple[int, int]) -> str:
    return f"{axes[0]},{axes[1]}"


def _axes_of(text: object, usual: tuple[int, int]) -> tuple[int, int]:
    """Axes of a feature; those shown now where the feature is missing."""
    parts = str(text).split(",")
    if len(parts) == 2 and all(part.isdigit() for part in parts):
        return int(parts[0]), int(parts[1])
    return usual


def _order_of(value: object) -> int:
    """Rank of a feature; last where it is missing."""
    if isinstance(value, int | float | np.integer) and math.isfinite(value):
        return int(value)
    return 1 << 30
