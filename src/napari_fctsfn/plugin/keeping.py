"""Where sessions come from and go: their folders, known to the labels by their metadata."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import show_warning

from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin.layers import capacity, full_data, image_shape
from napari_fctsfn.session import (
    ImageIdentity,
    Journal,
    Opened,
    Plane,
    Session,
    SessionError,
    annotated_files,
    is_empty,
    new_session_folder,
    open_session,
    progress_of,
    read_header,
    sessions_of,
)

if TYPE_CHECKING:
    from napari_fctsfn.predict import Channels, Normalisation

METADATA = "napari-fctsfn session"
"""Key of the session's folder in the metadata of its labels."""

_IMAGE = "napari-fctsfn image"
"""Key of the name of the image that was annotated."""

_OURS = (METADATA, _IMAGE)


def annotated(image: Image | None, labels: Iterable[Labels]) -> Labels | None:
    """The first of some labels that have a session of this image; None if none has."""
    if image is not None:
        for layer in labels:
            same = layer.metadata.get(_IMAGE) == image.name
            if same and METADATA in layer.metadata and _fits(layer.data.shape, image):
                return layer
    return None


def image_of(labels: Labels) -> str:
    """Name of the image that some labels were annotated on; empty if they were not."""
    return str(labels.metadata.get(_IMAGE, ""))


def left_behind(image: Image | None, labels: Iterable[Labels]) -> list[Path]:
    """The sessions that may be of this image and that none of some labels has, newest first."""
    if image is None:
        return []
    data = full_data(image)
    shape = tuple(int(n) for n in data.shape)
    shown = {layer.metadata.get(METADATA) for layer in labels}
    kept = sessions_of(shape, np.dtype(data.dtype).name, str(image.source.path or ""))
    return [folder for folder in kept if str(folder) not in shown]


def told(folder: Path) -> str:
    """A session in words: when something was last done in it, and how much in all."""
    steps, when = progress_of(folder)
    time = dt.datetime.fromtimestamp(when, dt.UTC).astimezone().strftime("%x %H:%M")
    return f"{time}, {steps} step{'' if steps == 1 else 's'} ({folder.name})"


def next_file(image: Image) -> Path:
    """The first file after an image's, in its folder and of its kind, that has no session.

    Raises
    ------
    InputError
        If the image is of no file, or there is none.
    """
    if not image.source.path:
        raise InputError(f"“{image.name}” was not opened from a file: open the next image yourself")
    path = Path(image.source.path)
    done = annotated_files()
    alike = sorted(path.parent.glob(f"*{path.suffix}"))
    # labels that were exported beside their image are none
    exported = tuple(f"{each.stem}_labels." for each in alike)
    later = [
        each
        for each in alike
        if each.name > path.name and each not in done and not each.name.startswith(exported)
    ]
    if not later:
        raise InputError(f"{path.parent} has no image after {path.name} that is not annotated yet")
    return later[0]


def begin(
    image: Image,
    normalisation: Normalisation,
    labels: Labels | None,
    channels: Channels | None = None,
) -> tuple[Session, Journal | None]:
    """The session of some labels, or a new one, and the journal that it writes.

    Parameters
    ----------
    image : Image
    normalisation : Normalisation
        The range of intensities for a new session.
    labels : Labels or None
        The labels; None for a layer yet to be made.
    channels : Channels, optional
        What the network sees of the image, for a new session.

    Raises
    ------
    SessionError
        If the labels have no number left for an object.
    """
    if labels is not None and METADATA in labels.metadata:
        try:
            opened = reopen(image, Path(labels.metadata[METADATA]))
        except (SessionError, TypeError) as error:
            show_warning(f"The clicks kept with “{labels.name}” are left aside: {error}.")
        else:
            opened.session.capacity = capacity(labels)
            _catch_up(opened, labels)
            return opened.session, opened.journal
    shape = image_shape(image, None if channels is None else channels.axis)
    if labels is None:
        session, data = (
            Session(shape, normalisation, channels=channels),
            np.zeros(shape, dtype=np.uint16),
        )
    else:
        data = labels.data
        if data.dtype.kind == "i" and data.min() < 0:
            raise SessionError(
                f"“{labels.name}” has the label {data.min()}: labels of objects are 1 and more"
            )
        highest = max(int(data.max()), 0)
        session = Session(shape, normalisation, highest, capacity(labels), channels=channels)
    try:
        return session, Journal.create(
            new_session_folder(image.name), session, _identity(image), data
        )
    except SessionError as error:
        show_warning(f"What you do now is not saved while you work: {error}.")
        return session, None


def reopen(image: Image, folder: Path) -> Opened:
    """Open a session of this image again.

    Raises
    ------
    SessionError
        If it cannot be opened, or is of another image.
    """
    opened = open_session(folder, _identity(image))
    if opened.warning:
        show_warning(opened.warning)
    return opened


def kept_channels(
    labels: Labels | None, chosen: tuple[int, tuple[int, ...]] | None
) -> tuple[int, tuple[int, ...]] | None:
    """Axis and channels of the session of some labels; `chosen` if they have none."""
    if labels is None or METADATA not in labels.metadata:
        return chosen
    # predict imports torch, which is loaded by the time somebody starts
    from napari_fctsfn.predict import Channels

    try:
        kept = read_header(Path(labels.metadata[METADATA])).channels
        channels = None if kept is None else Channels.from_dict(kept)
    except (ValueError, TypeError):
        return chosen
    return None if channels is None else (channels.axis, channels.chosen)


def attach(labels: Labels, image: Image, journal: Journal | None) -> None:
    """Let the labels know their session."""
    if journal is not None:
        kept = {METADATA: str(journal.folder), _IMAGE: image.name}
        labels.metadata = {**labels.metadata, **kept}


def end(session: Session, journal: Journal | None, labels: Labels) -> None:
    """Let a session's folder go; nothing stays of a session in which nothing was done."""
    session.journal = None
    if journal is None:
        return
    journal.close()
    if journal.error:
        show_warning(f"What was done last stays in “{labels.name}” alone: {journal.error}.")
    elif is_empty(journal.folder):
        shutil.rmtree(journal.folder, ignore_errors=True)
        kept = {key: value for key, value in labels.metadata.items() if key not in _OURS}
        labels.metadata = kept


def _fits(shape: tuple[int, ...], image: Image) -> bool:
    """Whether labels of this shape may be of an image, perhaps of all its channels at once."""
    sizes = image_shape(image)
    return len(shape) == len(sizes) and all(
        mine in (1, its) for mine, its in zip(shape, sizes, strict=True)
    )


def _identity(image: Image) -> ImageIdentity:
    path = image.source.path
    return ImageIdentity.of(
        image.name, full_data(image), channels=image.rgb, source="" if path is None else str(path)
    )


def _catch_up(opened: Opened, labels: Labels) -> None:
    """Take what was done to the labels since the session ended as a brush stroke."""
    opened.session.observe_all(
        (Plane((*index, None, None)), opened.labels[index], labels.data[index])
        for index in np.ndindex(*opened.labels.shape[:-2])
    )
