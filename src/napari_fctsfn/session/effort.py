"""How many clicks objects have taken, over time: whether learning pays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_fctsfn.session.history import Command, Operation
from napari_fctsfn.session.journal import read_history
from napari_fctsfn.session.ledger import Entry, SessionError


@dataclass(frozen=True)
class Effort:
    """What one object has taken.

    Parameters
    ----------
    session : str
        Name of the session's folder.
    label : int
    time : float
        When it was begun, in seconds since 1970.
    clicks : float
        Clicks, the mean over the slices in which somebody has clicked on it.
    model : str
        SHA-256 of the model that was clicked with.
    """

    session: str
    label: int
    time: float
    clicks: float
    model: str


def efforts(folder: Path) -> list[Effort]:
    """The objects of all sessions in a folder, by the time they were begun.

    Those without a click (painted, propagated, of another tool) and those that were proposed and
    accepted as they were say nothing of clicks and are left out, as are sessions that cannot be
    read.

    Parameters
    ----------
    folder : Path
        See `sessions_directory`.
    """
    found: list[Effort] = []
    for each in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            found += _of_session(each)
        except SessionError:
            continue
    return sorted(found, key=lambda effort: effort.time)


def _of_session(folder: Path) -> list[Effort]:
    begun: dict[int, float] = {}
    proposed: set[int] = set()

    def see(entry: Entry) -> None:
        if isinstance(entry, Command):
            for edit in entry.edits:
                begun.setdefault(edit.label, entry.time)
            if isinstance(entry.action, Operation) and entry.action.kind == "accept":
                proposed.update(entry.action.labels)

    session = read_history(folder, see)
    found = []
    for label, planes in session.objects.items():
        clicked = [each for each in planes.values() if len(each.clicks)]
        total = sum(len(each.clicks) for each in clicked)
        if not clicked or (label in proposed and total == 1):
            continue
        mean = total / len(clicked)
        found.append(Effort(folder.name, label, begun[label], mean, clicked[0].model))
    return found
