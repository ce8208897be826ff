"""What the dock says: one line on what is going on, one on what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fctsfn.plugin.keys import NEXT, POLARITY, native

if TYPE_CHECKING:
    from napari_fctsfn.plugin.annotate import Annotator


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
    if len(session.shape) > 2:
        parts[-1] += " in this slice"
    if session.busy:
        parts.append("working…")
    elif annotator.last is not None:
        last = annotator.last
        parts.append(f"{last.seconds * 1000:.0f} ms on {last.device}")
    else:
        parts.append(f"{assistant.replayer.predictor.device}")
    return " · ".join(parts)


def hint(annotator: Annotator, has_image: bool) -> str:
    """What to do next."""
    session = annotator.session
    if annotator.problem:
        return annotator.problem
    if session is None:
        return _first(annotator, has_image)
    plane = annotator.source.plane()
    if plane is None:
        why = annotator.source.why_no_slice()
        return f"{why[0].upper()}{why[1:]}."
    if not any(True for _ in session.planes(session.current)):
        return f"Click on the thing that object {session.current} shall be."
    return (
        f"Click where the mask is wrong; {native(POLARITY)} switches between object and "
        f"background. {native(NEXT)} goes on to the next object."
    )


def _first(annotator: Annotator, has_image: bool) -> str:
    """What to do before anything else."""
    if not has_image:
        return (
            "Open an image first: File ▸ Open File(s)…, or File ▸ Open Sample ▸ FCTSFN click "
            "segmentation to try it out."
        )
    if annotator.assistant.replayer is None:
        return "You can start as soon as the model is loaded."
    return "Choose the image and press Start. Then click on the first thing."
