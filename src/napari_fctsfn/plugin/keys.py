"""What the Annotate dock can do, by name, and the keys that do it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_fctsfn._directories import data_directory
from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError


@dataclass(frozen=True)
class Action:
    """Something that the dock can do.

    Parameters
    ----------
    title : str
        As menus and the command palette call it.
    key : str
        Its key unless the user has chosen another; empty for none.
    """

    title: str
    key: str = ""


ACTIONS = {
    "start": Action("Start annotating"),
    "resume": Action("Put removed layers back"),
    "reopen": Action("Reopen the last session"),
    "next_image": Action("Open the next image of the folder"),
    "switch_polarity": Action("Switch between object and background", "T"),
    "next_object": Action("Next object", "N"),
    "take_up_pointed": Action("Take up the object under the cursor", "U"),
    "undo": Action("Undo", "Control-Z"),
    "redo": Action("Redo", "Control-Shift-Z"),
    "grow_mask": Action("Grow the mask", "G"),
    "shrink_mask": Action("Shrink the mask", "Shift-G"),
    "click": Action("Prompt with clicks"),
    "box": Action("Prompt with a box"),
    "scribble": Action("Prompt with scribbles"),
    "propagate_both": Action("Propagate the object to both ends"),
    "propagate_up": Action("Propagate the object to higher slices"),
    "propagate_down": Action("Propagate the object to lower slices"),
    "propagate_between": Action("Propagate the object between annotated slices"),
    "cancel": Action("Cancel the propagation or search"),
    "doubtful_slice": Action("Go to a doubtful slice"),
    "find_similar": Action("Find similar objects"),
    "accept_similar": Action("Accept the proposed objects"),
    "reject_similar": Action("Reject the proposed objects"),
    "take_up": Action("Take up the chosen object"),
    "show": Action("Show the chosen object"),
    "merge": Action("Merge the chosen objects"),
    "delete": Action("Delete the chosen objects"),
    "delete_all": Action("Delete all objects"),
    "reviewed": Action("Mark the chosen objects as reviewed, or not"),
    "protect": Action("Protect the chosen objects, or not"),
    "hide": Action("Hide the chosen objects, or show them"),
    "classify": Action("Give the chosen objects a class"),
    "colour": Action("Colour the chosen objects"),
    "renumber": Action("Number all objects without gaps"),
    "export_ome_tiff": Action("Export as OME-TIFF"),
    "export_ome_zarr": Action("Export as OME-Zarr"),
    "export_coco": Action("Export as COCO JSON"),
    "export_rois": Action("Export as ImageJ ROIs"),
    "export_csv": Action("Export measurements"),
    "choose_keys": Action("Choose keys"),
}
"""Everything the dock can do, in the order of menus."""


def chosen_keys() -> dict[str, str]:
    """The key of each action, those of the user's choice included; empty for none.

    A file of keys that is damaged, or of another version, counts for what can be read of it.
    """
    path = _file()
    return dict(_read(path, path.stat().st_mtime_ns if path.is_file() else 0))


@lru_cache(maxsize=1)
def _read(path: Path, _changed: int) -> dict[str, str]:
    keys = {name: action.key for name, action in ACTIONS.items()}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found = {n: k for n, k in found.items() if n in keys and isinstance(k, str)}
        check_keys(keys | found)
    except (OSError, ValueError, AttributeError):
        return keys
    return keys | found


def choose_keys(keys: Mapping[str, str]) -> None:
    """Remember keys of the user's choice.

    Raises
    ------
    InputError
        If there is no such action, two have the same key, or a key is none that napari knows.
    OSError
        If they cannot be written.
    """
    whole = {name: action.key for name, action in ACTIONS.items()} | dict(keys)
    check_keys(whole)
    changed = {name: key for name, key in whole.items() if key != ACTIONS[name].key}
    _file().parent.mkdir(parents=True, exist_ok=True)
    with replace_file(_file()) as temporary:
        temporary.write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")


def check_keys(keys: Mapping[str, str]) -> None:
    """Refuse keys that cannot be.

    Raises
    ------
    InputError
        If there is no such action, two have the same key, or a key is none that napari knows.
    """
    from app_model.types import KeyBinding

    taken: dict[Any, str] = {}
    for name, key in keys.items():
        if name not in ACTIONS:
            raise InputError(f"{name!r} is no action: actions are {', '.join(ACTIONS)}")
        if not key:
            continue
        binding = KeyBinding.from_str(key.replace("Control", "Ctrl").replace("-", "+"))
        if not str(binding) or str(binding).endswith("+"):
            raise InputError(f"{key!r} is no key: give one such as N or Control-Shift-Z")
        other = taken.setdefault(binding, name)
        if other != name:
            raise InputError(
                f"{key} is the key of {ACTIONS[other].title!r} and {ACTIONS[name].title!r}: give "
                f"one of them another"
            )


def _file() -> Path:
    return data_directory() / "keys.json"


_QT = {
    "Control": "Ctrl",
    "Delete": "Del",
    "Insert": "Ins",
    "Escape": "Esc",
    "PageUp": "PgUp",
    "PageDown": "PgDown",
    "Enter": "Return",
}
"""What Qt calls keys, by napari's names."""


def to_qt(key: str) -> Any:
    """A key as napari writes it, as a QKeySequence."""
    from qtpy.QtGui import QKeySequence

    return QKeySequence("+".join(_QT.get(part, part) for part in key.split("-")))


def from_qt(sequence: Any) -> str:
    """The first key of a QKeySequence as napari writes it; empty for none."""
    first = sequence.toString(type(sequence).SequenceFormat.PortableText).split(", ")[0]
    names = {theirs: ours for ours, theirs in _QT.items()}
    return "-".join(names.get(part, part) for part in first.split("+"))


def native(name: str) -> str:
    """The key of an action as the platform writes it (Command on macOS, Ctrl elsewhere).

    Of an action without a key it is its title in quotes.
    """
    sequence = to_qt(chosen_keys()[name])
    text: str = sequence.toString(type(sequence).SequenceFormat.NativeText)
    return text or f"“{ACTIONS[name].title}”"


def tip(text: str, name: str) -> str:
    """A tooltip with the key of an action, if it has one."""
    return f"{text} ({native(name)})" if chosen_keys()[name] else text


@dataclass(frozen=True)
class _Bound:
    target: Any
    key: str


class Keys:
    """Binds actions to keys.

    napari asks the active layer before the viewer, and its Labels layers have keys for undo and
    redo of their own; so every action is bound to each of our layers as well.

    Parameters
    ----------
    actions : dict of str to callable
        What each action does, by its name; the callables take no argument.
    """

    def __init__(self, actions: Mapping[str, Callable[[], object]]) -> None:
        self._actions = actions
        self._targets: list[Any] = []
        self._bound: list[_Bound] = []

    def bind(self, targets: Iterable[Any]) -> None:
        """Bind all keys to viewers or layers."""
        keys = chosen_keys()
        for target in targets:
            self._targets.append(target)
            for name, action in self._actions.items():
                if keys[name]:
                    target.bind_key(keys[name], _taking_target(action), overwrite=True)
                    self._bound.append(_Bound(target, keys[name]))

    def release(self) -> None:
        """Take all keys off again."""
        for bound in self._bound:
            bound.target.bind_key(bound.key, None)
        self._bound.clear()
        self._targets.clear()

    def again(self) -> None:
        """Bind the same viewers and layers to the keys that are chosen now."""
        targets = list(self._targets)
        self.release()
        self.bind(targets)


def _taking_target(action: Callable[[], object]) -> Callable[[Any], None]:
    def pressed(_target: Any) -> None:
        action()

    return pressed
