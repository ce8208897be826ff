"""A session as plain data: what is kept with the labels and read back from there."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.session.annotation import Annotation
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.session import Session, SessionError

_Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MaskDocument(_Part):
    """A mask of a slice."""

    box: tuple[_Count, _Count, _Count, _Count] = Field(
        description="first row, first column, end row, end column"
    )
    bits: str = Field(description="pixels of the box, packed, zlib, base64")


class SliceDocument(_Part):
    """One object in one slice."""

    index: list[_Count | None] = Field(description="position on every axis, null on the open two")
    clicks: list[tuple[FiniteFloat, FiniteFloat, bool]] = Field(
        description="row, column, positive; in the order in which they were made"
    )
    mask: MaskDocument = Field(description="pixels that hold the label")
    given: MaskDocument | None = Field(description="the mask the replay starts from")
    base: _Count = Field(description="clicks made before the mask was given")
    model: str = Field(description="SHA-256 of the model file")


class ObjectDocument(_Part):
    """One object."""

    label: Annotated[int, Field(ge=1)] = Field(description="its number in the labels")
    slices: list[SliceDocument]


class SessionDocument(_Part):
    """A session."""

    schema_version: Literal[1] = 1
    shape: list[_Count] = Field(description="shape of the labels")
    normalisation: dict[str, Any] = Field(description="the intensity range the network saw")
    current: Annotated[int, Field(ge=1)] = Field(description="label of the object at work")
    objects: list[ObjectDocument]


def to_document(session: Session) -> dict[str, Any]:
    """A session as a dictionary of JSON types; steps that wait for a prediction are not in it."""
    return SessionDocument(
        shape=list(session.shape),
        normalisation=session.normalisation.to_dict(),
        current=session.current,
        objects=[
            ObjectDocument(
                label=label,
                slices=[_slice(plane, annotation) for plane, annotation in planes.items()],
            )
            for label, planes in session.objects.items()
        ],
    ).model_dump(mode="json")


def from_document(
    data: object, shape: tuple[int, ...], highest: int = 0, capacity: int = 65535
) -> Session:
    """The session of a dictionary that `to_document` made.

    Parameters
    ----------
    data : object
        The dictionary.
    shape : tuple of int
        Shape of the labels the session is re-opened on.
    highest, capacity : int
        As for `Session`.

    Raises
    ------
    SessionError
        If the dictionary is damaged, of a newer version, or of labels of another shape.
    """
    # predict imports torch, which takes a second, and the session alone needs none of it
    from napari_fctsfn.predict import Normalisation

    try:
        document = SessionDocument.model_validate(data)
        if tuple(document.shape) != shape:
            raise SessionError(
                f"it belongs to labels of shape {tuple(document.shape)} and these have {shape}"
            )
        session = Session(shape, Normalisation.from_dict(document.normalisation), highest, capacity)
        objects = {
            part.label: dict(_annotation(piece, shape) for piece in part.slices)
            for part in document.objects
        }
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise SessionError(f"it is damaged at {place}: {first['msg']}") from error
    session.restore(objects, document.current)
    return session


def _slice(plane: Plane, annotation: Annotation) -> SliceDocument:
    return SliceDocument(
        index=list(plane.index),
        clicks=[(click.row, click.column, click.positive) for click in annotation.clicks],
        mask=_packed(annotation.mask),
        given=None if annotation.given is None else _packed(annotation.given),
        base=annotation.base,
        model=annotation.model,
    )


def _packed(mask: Mask) -> MaskDocument:
    return MaskDocument(box=mask.box, bits=base64.b64encode(mask.bits).decode("ascii"))


def _annotation(piece: SliceDocument, shape: tuple[int, ...]) -> tuple[Plane, Annotation]:
    try:
        plane = Plane(tuple(piece.index))
        plane.check_inside(shape)
        clicks = Clicks(Click(*click) for click in piece.clicks)
        size = plane.shape(shape)
        clicks.check_inside(size)
        given = None if piece.given is None else _unpacked(piece.given, size)
        mask = _unpacked(piece.mask, size)
    except ValueError as error:
        raise SessionError(f"it is damaged: {error}") from error
    return plane, Annotation(clicks, mask, given, min(piece.base, len(clicks)), piece.model)


def _unpacked(document: MaskDocument, shape: tuple[int, int]) -> Mask:
    row, column, end_row, end_column = document.box
    if not (row <= end_row <= shape[0] and column <= end_column <= shape[1]):
        raise ValueError(f"mask box {document.box} does not fit into {shape}")
    mask = Mask(shape, document.box, base64.b64decode(document.bits, validate=True))
    mask.inner()
    return mask
