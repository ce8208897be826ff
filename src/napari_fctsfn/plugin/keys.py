"""Keys of the dock, bound to the viewer and to our own layers and taken off again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

POLARITY = "T"
NEXT = "N"
TAKE_UP = "U"
UNDO = "Control-Z"
REDO = "Control-Shift-Z"
KEYS = (POLARITY, NEXT, TAKE_UP, UNDO, REDO)
"""All keys of the dock."""


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
        What each key does; the callables take no argument.
    """

    def __init__(self, actions: dict[str, Callable[[], object]]) -> None:
        self._actions = actions
        self._bound: list[_Bound] = []

    def bind(self, targets: Iterable[Any]) -> None:
        """Bind all keys to viewers or layers."""
        for target in targets:
            for key, action in self._actions.items():
                target.bind_key(key, _taking_target(action), overwrite=True)
                self._bound.append(_Bound(target, key))

    def release(self) -> None:
        """Take all keys off again."""
        for bound in self._bound:
            bound.target.bind_key(bound.key, None)
        self._bound.clear()


def _taking_target(action: Callable[[], object]) -> Callable[[Any], None]:
    def pressed(_target: Any) -> None:
        action()

    return pressed


def native(key: str) -> str:
    """A key as the platform writes it: Command on macOS, Ctrl elsewhere."""
    from qtpy.QtGui import QKeySequence

    sequence = QKeySequence(key.replace("Control", "Ctrl").replace("-", "+"))
    return sequence.toString(QKeySequence.SequenceFormat.NativeText)
