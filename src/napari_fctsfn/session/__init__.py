"""The annotator's document without Qt: objects, clicks, masks, and undo and redo of all of it."""

from napari_fctsfn.session.annotation import Annotation, Replay
from napari_fctsfn.session.document import from_document, to_document
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.replay import Replayer, rebuild
from napari_fctsfn.session.session import Session, SessionError, Step

__all__ = [
    "Annotation",
    "Patch",
    "Plane",
    "Replay",
    "Replayer",
    "Session",
    "SessionError",
    "Step",
    "from_document",
    "rebuild",
    "to_document",
]
