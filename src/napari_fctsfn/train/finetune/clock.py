"""How far a fine-tuning is, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Progress:
    """How far a fine-tuning is.

    Parameters
    ----------
    stage : {"before", "looking", "learning", "after"}
        Measuring the base, clicking on the objects, learning, measuring what was learned.
    done : float
        Part of the whole, 0..1.
    seconds_left : float
        Estimated.
    step : int
        Of the learning, over all folds.
    loss : float or None
        Mean loss of the step.
    iou : float or None
        Mean IoU on held-out looks of the averaged weights, where it was just measured.
    """

    stage: Literal["before", "looking", "learning", "after"]
    done: float
    seconds_left: float
    step: int = 0
    loss: float | None = None
    iou: float | None = None


class Clock:
    """Time, and what is said of it; what the user holds up does not count.

    Parameters
    ----------
    minutes : float
    tell : callable
        Gets a `Progress`.
    proceed : callable
        Asked often; may wait, and returns False to end.
    """

    def __init__(
        self, minutes: float, tell: Callable[[Progress], None], proceed: Callable[[], bool]
    ) -> None:
        self._tell, self._proceed = tell, proceed
        self._began = time.monotonic()
        self._budget = 60 * minutes
        self.cancelled = False
        self.step = 0

    def proceed(self) -> bool:
        """Whether to go on; the time that the answer takes is added to the budget."""
        asked = time.monotonic()
        if not self.cancelled and not self._proceed():
            self.cancelled = True
        self._began += time.monotonic() - asked
        return not self.cancelled

    @property
    def spent(self) -> float:
        """Seconds."""
        return time.monotonic() - self._began

    def left(self) -> float:
        """Seconds of the budget."""
        return self._budget - self.spent

    def tell(self, stage: Any, done: float, **more: Any) -> None:
        """Say how far it is; `done` is the part of all the work, 0..1."""
        seconds = self.spent * (1 - done) / done if done > 0.05 else self._budget * (1 - done)
        if self.left() > 0:
            seconds = min(seconds, self.left())
        self._tell(Progress(stage, min(done, 1.0), seconds, self.step, **more))
