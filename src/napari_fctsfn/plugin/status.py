"""What the dock says: one line on what is going on, one on what to do next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari.layers import Image

from napari_fctsfn.plugin.keys import native
from napari_fctsfn.session.history import Operation, Select
from napari_fctsfn.session.refinement import USUAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fctsfn.plugin.annotate import Annotator
    from napari_fctsfn.plugin.site import Site
    from napari_fctsfn.session import Plane, Session, Step
    from napari_fctsfn.session.history import OperationKind

_OPERATIONS: dict[OperationKind, str] = {
    "brush": "a stroke on {}",
    "delete": "the deletion of {}",
    "merge": "the merging of {}",
    "renumber": "the renumbering",
    "describe": "a name, class or mark of {}",
    "propagate": "the propagation of {}",
    "adopt": "the mask taken up as {}",
    "accept": "the proposals accepted as {}",
}

_MANY = 3
"""After more clicks on the background than this a box is worth a try."""


def status(annotator: Annotator) -> str:
    """What is going on."""
    assistant, session = annotator.assistant, annotator.session
    if assistant.failure:
        return f"The model cannot be used: {assistant.failure}"
    if assistant.replayer is None:
        name = "" if assistant.model is None else f" “{assistant.model[0]}”"
        return f"Loading model{name}…"
    if session is None or annotator.site is None:
        return f"Ready ({assistant.replayer.predictor.device})"
    plane = annotator.source.plane()
    count = 0 if plane is None else len(session.clicks(session.current, plane))
    parts = [f"Object {session.current}", f"{count} click{'' if count == 1 else 's'}"]
    if session.has_slices:
        parts[-1] += " in this slice"
    if _others_seen(annotator):
        parts.insert(0, f"“{annotator.site.image.name}”")
    if session.refinement.threshold != USUAL.threshold:
        parts.append(f"threshold {session.refinement.threshold:.2f}")
    if session.busy:
        parts.append("working…")
    elif annotator.last is not None and annotator.last.replay.plane == plane:
        last = annotator.last
        # the network knows nothing of masks that are made in another way
        knows = assistant.replayer.predictor.card.knows_quality and session.refinement == USUAL
        quality = math.nan if last.prediction is None else last.prediction.quality
        if knows and not math.isnan(quality) and not _finished_there(annotator.site, plane):
            parts.append(f"overlap (IoU) about {quality:.2f}")
        # no line ends within it
        parts.append(f"{last.seconds * 1000:.0f} ms on {last.device}".replace(" ", "\xa0"))
    else:
        parts.append(f"{assistant.replayer.predictor.device}")
    return " · ".join(parts)


def travelled(how: str, step: Step | None, current: int) -> str:
    """What Undo or Redo did; empty where the picture shows it: a click, or another mask.

    Parameters
    ----------
    how : str
        "Undone", say.
    step : Step or None
    current : int
        The object at work now.
    """
    action = None if step is None else step.action
    if isinstance(action, Select):
        what = f"going on to object {action.label}; object {current} is the current one"
    elif isinstance(action, Operation):
        what = _OPERATIONS[action.kind].format(_objects(action.labels))
    else:
        return ""
    return f"{how}: {what}."


def _objects(labels: Sequence[int]) -> str:
    """A few objects by their numbers, many by how many they are."""
    if not labels:
        return "no object"
    if len(labels) == 1:
        return f"object {labels[0]}"
    if len(labels) > 4:
        return f"{len(labels)} objects"
    return f"objects {', '.join(map(str, labels[:-1]))} and {labels[-1]}"


def _others_seen(annotator: Annotator) -> bool:
    """Whether another image than the one that is annotated can be seen."""
    return any(
        isinstance(layer, Image)
        and layer.visible
        and layer is not annotator.source.layer
        and not annotator.looking.owns(layer)
        for layer in annotator.viewer.layers
    )


def hint(annotator: Annotator, chosen: Image | None, resumable: bool) -> str:
    """What to do next.

    Parameters
    ----------
    annotator : Annotator
    chosen : Image or None
        The image chosen in the dock.
    resumable : bool
        Whether a session of this image was left behind.
    """
    session, site = annotator.session, annotator.site
    if annotator.problem:
        return annotator.problem
    if session is None or site is None:
        return _first(annotator, chosen is not None, resumable)
    said = _warning(annotator, site, chosen, resumable) or _drawing(annotator, site)
    return said or _next_click(site, annotator.source.plane())


def _warning(annotator: Annotator, site: Site, chosen: Image | None, resumable: bool) -> str:
    """What the annotator should know before the next click; empty if nothing."""
    if site.journal is not None and site.journal.error:
        return (
            f"Nothing is lost yet, but {site.journal.error}. Make room there and go on: it is "
            "tried again with every step."
        )
    if chosen is not None and chosen != site.image:
        further = (
            f"Reopen last session goes over to “{chosen.name}” and what was done there, Start "
            "begins it anew"
            if resumable
            else f"press Start to go over to “{chosen.name}”"
        )
        return (
            f"“{site.image.name}” is being annotated: {further}, or Object goes on here; the "
            "objects here stay."
        )
    if annotator.told:
        return annotator.told
    if annotator.source.plane() is None:
        why = annotator.source.why_no_slice()
        return f"{why[0].upper()}{why[1:]}."
    if annotator.polarity is None:
        return "To click again, press Object or Background: another layer is active now."
    return ""


def _switch() -> str:
    return native("switch_polarity")


def _drawing(annotator: Annotator, site: Site) -> str:
    """What an outline shows or what to draw; empty if the next prompt is a click."""
    if annotator.looking.reason == "without":
        return "The yellow outline is the mask without the click under the mouse."
    if annotator.tool not in ("box", "scribble"):
        return ""
    label, plane = site.session.current, annotator.source.plane()
    annotation = None if plane is None else site.session.objects.get(label, {}).get(plane)
    begun = annotation is not None and not annotation.mask.empty
    further = f" {native('next_object')} goes on to the next object." if begun else ""
    if annotator.tool == "box":
        if begun:
            return f"Correct the mask by clicks: press Click, or Object.{further}"
        return f"Drag a box around object {label}."
    what = "object" if annotator.polarity else "background"
    return f"Drag along the {what}; {_switch()} switches Object and Background.{further}"


def _next_click(site: Site, plane: Plane | None) -> str:
    """Where to click in a slice."""
    session = site.session
    if plane is None:
        return ""
    clicks = session.clicks(session.current, plane)
    if not len(clicks):
        return _first_click(session, plane)
    there = _finished_there(site, plane)
    if there:
        return (
            f"The last click is on object {there}, which is finished and keeps its pixels. Undo "
            f"it, or press {native('take_up_pointed')} with the mouse over object {there} to "
            f"correct that one. What lies within it needs a labels layer of its own."
        )
    annotation = session.objects.get(session.current, {}).get(plane)
    if not clicks.positive and (annotation is None or annotation.mask.empty):
        return (
            f"These clicks say what object {session.current} is not: click on the object itself, "
            f"too ({_switch()} switches Object and Background)."
        )
    boxed = annotation is not None and annotation.box is not None
    if len(clicks.negative) > _MANY and not clicks[-1].positive and not boxed:
        return (
            "If background clicks do not help, take them back and draw a Box around the object: it "
            "may be a part of what the network took."
        )
    if session.has_slices:
        more = "Propagate finds it in other slices, "
    else:
        grow, shrink = native("grow_mask"), native("shrink_mask")
        more = f"{grow} and {shrink} grow and shrink all of it; "
    return (
        f"Click where the mask is wrong; {_switch()} switches Object and Background. "
        f"{more}{native('next_object')} goes on to the next object."
    )


def _finished_there(site: Site, plane: Plane | None) -> int:
    """The finished object that the last click in a slice shall be on; 0 if there is none."""
    current = site.session.current
    clicks = None if plane is None else site.session.clicks(current, plane)
    if plane is None or not clicks or not clicks[-1].positive:
        return 0
    there = int(site.labels_of(plane)[clicks[-1].pixel])
    return 0 if there == current else there


def _first_click(session: Session, plane: Plane) -> str:
    """Where to click first in a slice."""
    annotation = session.objects.get(session.current, {}).get(plane)
    if annotation is not None and annotation.given is not None:
        return f"Click where the mask of object {session.current} is wrong; the rest of it stays."
    if not any(True for _ in session.planes(session.current)):
        return f"Click on the thing to segment: it becomes object {session.current}."
    return (
        f"Click on object {session.current} in this slice, or {native('next_object')} for the next."
    )


def _first(annotator: Annotator, has_image: bool, resumable: bool) -> str:
    """What to do before anything else."""
    if not has_image:
        return (
            "Open an image first: File ▸ Open File(s)…, or File ▸ Open Sample ▸ FCTSFN click "
            "segmentation to try it out."
        )
    if annotator.assistant.replayer is None:
        return "You can start as soon as the model is loaded."
    if resumable:
        return (
            "This image seems to have been annotated before: Reopen last session goes on with its "
            "objects and clicks, Start begins anew."
        )
    return "Choose the image and press Start. Then click on the first thing."
