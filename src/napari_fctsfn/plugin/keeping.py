"""Where a session is kept between two openings of the dock: in the metadata of its labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from napari.utils.notifications import show_warning

from napari_fctsfn.plugin.layers import capacity, image_shape
from napari_fctsfn.session import Session, SessionError, from_document, to_document

if TYPE_CHECKING:
    from napari_fctsfn.predict import Normalisation

METADATA = "napari-fctsfn"
"""Key of the metadata."""

_IMAGE = "napari-fctsfn image"
"""Key of the name of the image that was annotated."""


def keep(session: Session, labels: Labels, image: Image) -> None:
    """Keep a session with its labels; what still waits for a prediction is left out."""
    kept = {METADATA: to_document(session), _IMAGE: image.name}
    labels.metadata = {**labels.metadata, **kept}


def annotated(image: Image | None, labels: Iterable[Labels]) -> Labels | None:
    """The first of some labels that a session of this image is kept with; None if none is."""
    if image is not None:
        for layer in labels:
            same = layer.metadata.get(_IMAGE) == image.name
            if same and METADATA in layer.metadata and layer.data.shape == image_shape(image):
                return layer
    return None


def open_session(
    shape: tuple[int, ...], normalisation: Normalisation, labels: Labels | None
) -> Session:
    """The session kept with some labels, or a new one.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image in labels.
    normalisation : Normalisation
        The range of intensities for a new session.
    labels : Labels or None
        The labels; None for a layer yet to be made.

    Raises
    ------
    SessionError
        If the labels have no number left for an object.
    """
    if labels is None:
        return Session(shape, normalisation)
    limits = max(int(labels.data.max()), 0), capacity(labels)
    stored = labels.metadata.get(METADATA)
    if stored is not None:
        try:
            return from_document(stored, shape, *limits)
        except SessionError as error:
            show_warning(f"The clicks kept in “{labels.name}” are left aside: {error}.")
    return Session(shape, normalisation, *limits)
