"""What is known of one object in one slice, and how its mask follows from its clicks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.session.identity import writable
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.prompts import DrawnBox
from napari_fctsfn.session.refinement import USUAL, Refinement


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object in one slice.

    Parameters
    ----------
    clicks : Clicks
        Ordered, in data coordinates of the slice.
    mask : Mask
        The pixels that hold the object's label.
    given : Mask or None
        A mask that came from elsewhere (a brush, another tool) and from which the replay starts.
    base : int
        Number of clicks that had already been made when the mask was given.
    model : str
        SHA-256 of the model file that predicted the mask; empty if none did.
    box : (float, float, float, float) or None
        A box that was drawn, from which the replay starts in place of a given mask.
    refinement : Refinement
        How the mask was made from what the network saw.
    extent : float
        Longest side of objects accepted before it, in pixels, which its first look was told; 0 if
        there were too few.
    followed : bool
        Whether it was only propagated: nobody has clicked or painted there.
    """

    clicks: Clicks
    mask: Mask
    given: Mask | None = None
    base: int = 0
    model: str = ""
    box: DrawnBox | None = None
    refinement: Refinement = USUAL
    extent: float = 0.0
    followed: bool = False

    @property
    def nbytes(self) -> int:
        """Roughly the bytes it takes."""
        given = 0 if self.given is None else self.given.nbytes
        return 100 * len(self.clicks) + self.mask.nbytes + given


@dataclass(frozen=True, slots=True)
class Note:
    """What is said about an object.

    Parameters
    ----------
    name, category : str
        As the annotator calls it and its class; empty if not said.
    color : str
        As ``#rrggbb``; empty for the colour its label has anyway.
    reviewed, protected, hidden : bool
        Whether somebody has looked at it again; whether it is closed to changes; whether it is
        not shown.
    """

    name: str = ""
    category: str = ""
    color: str = ""
    reviewed: bool = False
    protected: bool = False
    hidden: bool = False

    def __post_init__(self) -> None:
        # what is pasted may hold half a character, which no file can hold
        for field in ("name", "category", "color"):
            object.__setattr__(self, field, writable(getattr(self, field)))


@dataclass(frozen=True, slots=True)
class Replay:
    """All that a mask depends on besides the image and the model.

    The mask after n clicks is predicted from the first n clicks and the prediction after n - 1
    clicks; the first prediction follows on `given`, or on nothing.

    Parameters
    ----------
    label : int
        The object.
    plane : Plane
        The slice.
    clicks : Clicks
        Ordered, in data coordinates of the slice.
    given : Mask or None
        The mask the replay starts from.
    base : int
        The first prediction is that of the first ``base + 1`` clicks.
    box : (float, float, float, float) or None
        A box it starts from.
    refinement : Refinement
        How the last mask is made. All before it are made in the usual way.
    extent : float
        Longest side of objects like this one, in pixels; 0 if it is not known.
    """

    label: int
    plane: Plane
    clicks: Clicks
    given: Mask | None
    base: int
    box: DrawnBox | None = None
    refinement: Refinement = USUAL
    extent: float = 0.0


def plan(
    label: int,
    plane: Plane,
    before: Annotation | None,
    clicks: Clicks,
    existing: Mask,
    box: DrawnBox | None = None,
    refinement: Refinement = USUAL,
    extent: float = 0.0,
) -> Replay:
    """How to come by the mask of an object in a slice once its clicks are others.

    Parameters
    ----------
    label : int
        The object.
    plane : Plane
        The slice.
    before : Annotation or None
        The object in the slice so far.
    clicks : Clicks
        Its new clicks.
    existing : Mask
        The pixels that hold its label now. Where they are not those that were written last,
        somebody has edited them: they become the mask that the replay starts from.
    box : (float, float, float, float), optional
        A box that has just been drawn, which the last of the clicks stand for.
        Its mask is made anew from there, unless somebody has edited it.
    refinement : Refinement
        How the mask is made.
    extent : float
        Longest side of objects like this one, in pixels, if the object is new in the slice.
    """
    extent = extent if before is None else before.extent
    edited = not existing.empty if before is None else existing != before.mask
    if box is not None and not edited:
        # the second of two looks, at what the first has found, is the better one
        base = max(len(clicks) - 2, 0)
        return Replay(label, plane, clicks, None, base, box, refinement, extent)
    given, base, known = None, 0, Clicks()
    if before is not None:
        given, base, known, box = before.given, before.base, before.clicks, before.box
    if edited:
        given, base, box = existing, len(known), None
    same = 0
    while same < min(len(known), len(clicks)) and known[same] == clicks[same]:
        same += 1
    if same < base:
        # a click that the given mask already contains was changed: ask the network once more,
        # instead of showing the given mask as if nothing had happened
        base = max(min(base, len(clicks) - 1), 0)
    return Replay(label, plane, clicks, given, base, box, refinement, extent)


def owned(
    replay: Replay,
    mask: NDArray[np.bool_],
    labels: NDArray[np.integer],
    origin: tuple[int, int] = (0, 0),
) -> NDArray[np.bool_]:
    """The pixels of a mask that an object gets: those that no other object has.

    Where others cut it to pieces, those without a click are dropped, all of them if the clicks and
    most of the mask are on other objects, unless the refinement keeps pieces or the replay starts
    from a given mask, whose pieces somebody may have drawn.

    Parameters
    ----------
    replay : Replay
    mask : array of bool, shape (rows, columns)
    labels : array of int, shape (rows, columns)
        Of the slice, or of the part of it that holds mask and clicks.
    origin : (int, int)
        Where mask and labels begin in the slice.
    """
    free: NDArray[np.bool_] = (labels == 0) | (labels == replay.label)
    mine: NDArray[np.bool_] = mask & free
    cut = int(mine.sum()) < int(mask.sum())
    if cut and replay.given is None and replay.refinement.drop_unclicked:
        # predict imports torch, which takes a second, and the session alone needs none of it
        from napari_fctsfn.predict.postprocess import beside_others

        return beside_others(mask, free, replay.clicks.scaled((1.0, 1.0), origin))
    return mine


def write(
    replay: Replay,
    mask: NDArray[np.bool_],
    labels: NDArray[np.integer],
    origin: tuple[int, int] = (0, 0),
    shape: tuple[int, int] | None = None,
) -> Patch | None:
    """The patch that puts a mask into the labels of its slice.

    Parameters
    ----------
    replay : Replay
        Names the object and the slice.
    mask : array of bool, shape (rows, columns)
        What the object gets of the new mask, from `owned`.
    labels : array of int, shape (rows, columns)
        The labels of the slice as they are.
    origin : (int, int)
        Where mask and labels begin, if they are a part of the slice that holds both masks.
    shape : (int, int), optional
        Of the slice; by default that of the labels.

    Returns
    -------
    Patch or None
        Over the union of the old and the new mask, only pixels that change; pixels of other
        objects are never among them. None if nothing changes.
    """
    own = labels == replay.label
    after = np.where(own & ~mask, 0, labels).astype(labels.dtype)
    after[mask & (labels == 0)] = replay.label
    return Patch.between(replay.plane, labels, after, origin, shape)
