"""A session as plain data: what stands in its folder and is read back from there."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.session.annotation import Annotation, Note
from napari_fctsfn.session.history import (
    ClickEdit,
    Command,
    Edit,
    NoteEdit,
    Operation,
    OperationKind,
    Refine,
    Select,
)
from napari_fctsfn.session.identity import ImageIdentity
from napari_fctsfn.session.ledger import Entry, SessionError, Way
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.patch import Change, Patch
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.refinement import USUAL, Refinement
from napari_fctsfn.session.session import Session

VERSION = 1
"""Of the folder's layout; a session of a newer one is refused."""

_Count = Annotated[int, Field(ge=0)]
_Label = Annotated[int, Field(ge=1)]
_Index = list[_Count | None]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Header(_Part):
    """``session.json``: what a session is of. Written once."""

    schema_version: int = VERSION
    program: str = Field(description="version of napari-fctsfn that wrote it")
    created: str = Field(description="UTC, ISO 8601")
    image: ImageIdentity
    shape: list[_Count] = Field(min_length=2, description="shape of the labels")
    dtype: str = Field(pattern="^u?int(8|16|32|64)$", description="data type of the labels")
    normalisation: dict[str, Any] = Field(description="the intensity range the network saw")
    channels: dict[str, Any] | None = Field(
        default=None, description="axis, channels and ranges, where the network saw channels"
    )


class _Mask(_Part):
    """A mask of a slice."""

    box: tuple[_Count, _Count, _Count, _Count]
    bits: str = Field(description="pixels of the box, packed, zlib, base64")


class _Annotation(_Part):
    """One object in one slice."""

    clicks: list[tuple[FiniteFloat, FiniteFloat, bool]] = Field(
        description="row, column, positive; in the order in which they were made"
    )
    mask: _Mask
    given: _Mask | None = None
    base: _Count = 0
    model: str = ""
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        None, description="that was drawn: first row and column, last row and column"
    )
    refinement: Refinement = USUAL
    extent: FiniteFloat = Field(0.0, ge=0, description="of objects accepted before, in pixels")
    followed: bool = Field(False, description="whether it was only propagated")


class _Edit(_Part):
    label: _Label
    index: _Index
    after: _Annotation | None


class _Note(_Part):
    label: _Label
    name: str = ""
    category: str = ""
    color: str = ""
    reviewed: bool = False
    protected: bool = False
    hidden: bool = False


class _Patch(_Part):
    index: _Index
    changes: list[tuple[_Count, _Count, _Mask]] = Field(description="old label, new label, where")


class _Travel(_Part):
    """A step back or forth."""

    do: Way


class _Record(_Part):
    """A command."""

    do: Literal["clicks", "refine", "select"] | OperationKind
    time: float = 0.0
    labels: list[_Label] = []
    index: _Index | None = None
    current: tuple[_Label, _Label] | None = None
    refinement: Refinement | None = None
    edits: list[_Edit] = []
    notes: list[_Note] = []
    patches: list[_Patch] = []


_LINE: TypeAdapter[_Travel | _Record] = TypeAdapter(
    Annotated[_Travel | _Record, Field(discriminator="do")]
)
"""A line of the journal."""


def encode(entry: Entry) -> str:
    """An entry of a journal as one line of JSON."""
    if not isinstance(entry, Command):
        return json.dumps({"do": entry})
    action = entry.action
    if isinstance(action, ClickEdit):
        about: dict[str, Any] = {"do": "clicks", "labels": [action.label]}
    elif isinstance(action, Refine):
        about = {"do": "refine", "labels": [action.label], "refinement": action.after}
    elif isinstance(action, Select):
        about = {"do": "select", "labels": [action.label]}
        if action.after != action.before:
            about["refinement"] = action.after
    else:
        about = {"do": action.kind, "labels": list(action.labels)}
    plane = None if isinstance(action, Select) else action.plane
    record = _Record(
        **about,
        time=round(entry.time, 3),
        index=None if plane is None else list(plane.index),
        current=entry.current,
        edits=[
            _Edit(
                label=edit.label,
                index=list(edit.plane.index),
                after=None if edit.after is None else _describe(edit.after),
            )
            for edit in entry.edits
        ],
        notes=[
            _Note(label=note.label, **{key: getattr(note.after, key) for key in Note.__slots__})
            for note in entry.notes
        ],
        patches=[
            _Patch(
                index=list(patch.plane.index),
                changes=[(c.old, c.new, _packed(c.pixels)) for c in patch.changes],
            )
            for patch in entry.patches
        ],
    )
    return record.model_dump_json(exclude_defaults=True)


def decode(line: str | bytes, session: Session) -> Entry:
    """The entry of a line that `encode` made, as the next one of a session.

    Raises
    ------
    SessionError
        If the line is damaged or does not fit the session.
    """
    try:
        record = _LINE.validate_json(line)
        return record.do if isinstance(record, _Travel) else _command(record, session)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise SessionError(f"it is damaged at {place}: {first['msg']}") from error
    except ValueError as error:
        raise SessionError(f"it is damaged: {error}") from error


def _command(record: _Record, session: Session) -> Command:
    def plane(index: _Index) -> Plane:
        found = Plane(tuple(index))
        found.check_inside(session.shape)
        return found

    objects = session.objects
    edits = []
    for edit in record.edits:
        where = plane(edit.index)
        size = where.shape(session.shape)
        after = None if edit.after is None else _annotation(edit.after, size)
        edits.append(Edit(edit.label, where, objects.get(edit.label, {}).get(where), after))
    notes = [
        NoteEdit(note.label, session.note(note.label), Note(**note.model_dump(exclude={"label"})))
        for note in record.notes
    ]
    patches = []
    for patch in record.patches:
        where = plane(patch.index)
        size = where.shape(session.shape)
        changes = (Change(old, new, _unpacked(mask, size)) for old, new, mask in patch.changes)
        patches.append(Patch(where, tuple(changes)))
    action: ClickEdit | Refine | Select | Operation
    if record.do == "clicks":
        if len(edits) != 1:
            raise ValueError(f"clicks change {len(edits)} annotations and not one")
        clicked = edits[0]
        clicks = Clicks() if clicked.after is None else clicked.after.clicks
        box = None if clicked.after is None else clicked.after.box
        action = ClickEdit(clicked.label, clicked.plane, clicks, box)
    elif record.do == "refine":
        if record.refinement is None or len(record.labels) != 1:
            raise ValueError("a refinement says not what it is or of which object")
        of = None if record.index is None else plane(record.index)
        action = Refine(record.labels[0], of, session.refinement, record.refinement)
    elif record.do == "select":
        if record.current is None:
            raise ValueError("a selection names no object")
        now = session.refinement
        action = Select(*record.current, now, record.refinement or now)
    else:
        of = None if record.index is None else plane(record.index)
        action = Operation(record.do, tuple(record.labels), of)
    return Command(action, tuple(edits), tuple(notes), tuple(patches), record.current, record.time)


def _describe(annotation: Annotation) -> _Annotation:
    return _Annotation(
        clicks=[(click.row, click.column, click.positive) for click in annotation.clicks],
        mask=_packed(annotation.mask),
        given=None if annotation.given is None else _packed(annotation.given),
        base=annotation.base,
        model=annotation.model,
        box=annotation.box,
        refinement=annotation.refinement,
        extent=annotation.extent,
        followed=annotation.followed,
    )


def _packed(mask: Mask) -> _Mask:
    return _Mask(box=mask.box, bits=base64.b64encode(mask.bits).decode("ascii"))


def _annotation(piece: _Annotation, size: tuple[int, int]) -> Annotation:
    clicks = Clicks(Click(*click) for click in piece.clicks)
    clicks.check_inside(size)
    given = None if piece.given is None else _unpacked(piece.given, size)
    mask = _unpacked(piece.mask, size)
    base = min(piece.base, len(clicks))
    return Annotation(
        clicks,
        mask,
        given,
        base,
        piece.model,
        piece.box,
        piece.refinement,
        piece.extent,
        piece.followed,
    )


def _unpacked(document: _Mask, shape: tuple[int, int]) -> Mask:
    row, column, end_row, end_column = document.box
    if not (row <= end_row <= shape[0] and column <= end_column <= shape[1]):
        raise ValueError(f"mask box {document.box} does not fit into {shape}")
    mask = Mask(shape, document.box, base64.b64decode(document.bits, validate=True))
    mask.inner()
    return mask
