"""The annotator's document without Qt: objects, clicks, masks, and undo and redo of all of it."""

from napari_fctsfn.session.annotation import Annotation, Note, Replay
from napari_fctsfn.session.folders import (
    annotated_files,
    new_session_folder,
    newest_session,
    sessions_directory,
    sessions_of,
)
from napari_fctsfn.session.identity import ImageIdentity
from napari_fctsfn.session.journal import (
    Journal,
    Opened,
    is_empty,
    is_session,
    open_session,
    progress_of,
    read_header,
    read_session,
)
from napari_fctsfn.session.ledger import SessionError, Step
from napari_fctsfn.session.masks import Mask
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.plane import Plane
from napari_fctsfn.session.prompts import DrawnBox, box_clicks, clip_box, scribble_clicks
from napari_fctsfn.session.refinement import Refinement
from napari_fctsfn.session.replay import Replayer, rebuild
from napari_fctsfn.session.session import Session

__all__ = [
    "Annotation",
    "DrawnBox",
    "ImageIdentity",
    "Journal",
    "Mask",
    "Note",
    "Opened",
    "Patch",
    "Plane",
    "Refinement",
    "Replay",
    "Replayer",
    "Session",
    "SessionError",
    "Step",
    "annotated_files",
    "box_clicks",
    "clip_box",
    "is_empty",
    "is_session",
    "new_session_folder",
    "newest_session",
    "open_session",
    "progress_of",
    "read_header",
    "read_session",
    "rebuild",
    "scribble_clicks",
    "sessions_directory",
    "sessions_of",
]
