"""A fine-tuning from start to end: split, measure, learn, measure again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from napari_fctsfn.errors import InputError
from napari_fctsfn.models import LoadedModel
from napari_fctsfn.network import FCTSFN
from napari_fctsfn.predict import Predictor
from napari_fctsfn.predict.engine import choose_device
from napari_fctsfn.train.finetune.clock import Clock, Progress
from napari_fctsfn.train.finetune.learner import PARTS, Learner, Parts, Rates
from napari_fctsfn.train.finetune.looks import Look, Watched, drawn, interact, wander
from napari_fctsfn.train.finetune.measure import Example, Measured, example, measure
from napari_fctsfn.train.finetune.outcome import FineTuned, FineTuneError, learned_from
from napari_fctsfn.train.finetune.pictures import Picture, usable
from napari_fctsfn.train.finetune.replay import measuring_objects, replay_pictures
from napari_fctsfn.train.finetune.split import Fold, Item, split

_NOTHING = "cancelled before anything was learned"

_USUAL: Parts = "interaction"
_WIDER: tuple[Parts, ...] = ("adapters", "all")
"""What learns where nobody has said it, and then on a GPU if that stalls."""

_CLICKS = 4
"""Clicks of an interaction that is learned from."""

_INTERACTIONS = (6, 48)
"""Interactions to learn from, at least and at most; objects are repeated if there are fewer."""

_PER_OBJECT = 4
"""Interactions for each object, where there are few."""

_HELD_INTERACTIONS = 8
"""Interactions on held-out objects by which the best weights are known."""

_REPLAYED = 30
"""Interactions on replayed pictures."""

_MEASURED = 12
"""Held-out objects that are measured before and after, at most."""

_MEASURING = 0.15
"""Part of the time in which the base is measured, unless that is on two objects of each kind."""

_RESERVED = 0.3
"""Part of the time that is kept for measuring afterwards, at most."""

_LEAST = 5
"""Steps that are made even if time is over, so that a slow machine learns something."""

_EXAMPLES = 4
"""Held-out objects that are shown before and after."""

_STEPS = (20, 80)
"""Steps, at least and at most."""

_STEPS_PER_OBJECT = 5
"""Steps for each object to learn from, so that little data is learned from for a short time."""

_LITTLE = (_STEPS[1] - _STEPS[0]) // _STEPS_PER_OBJECT
"""With fewer objects the training is shorter than it could be."""

_SCORE_EVERY = 10
_PATIENCE = 6
"""Scores without improvement before it stops early."""

_STALLED = 2
"""Scores without improvement before more of the network learns, where a GPU can do that."""

T = TypeVar("T")


@dataclass(frozen=True)
class FineTuneSettings:
    """How to learn from corrections.

    Parameters
    ----------
    minutes : float
        Time for everything, the measuring included; a slow machine takes longer for the least.
    parts : {"refiner", "fusion", "interaction", "adapters", "all"}, optional
        What learns: each of these and those before it. From ``adapters`` on, the image stream runs
        in every step, which takes a GPU. By default ``interaction``, and on a GPU, where pictures
        are held out and get no better, first ``adapters``, then ``all``.
    seed : int
        Of the split, clicks and order. The same seed and number of steps give the same weights
        on the same machine with the same number of threads.
    steps : int, optional
        At most so many; by default as many as suits the number of objects.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.
    rates : Rates

    Raises
    ------
    InputError
        If a value is out of range.
    """

    minutes: float = 3.0
    parts: Parts | None = None
    seed: int = 0
    steps: int | None = None
    device: str = "auto"
    rates: Rates = field(default_factory=Rates)

    def __post_init__(self) -> None:
        if not 0 < self.minutes < 10_000:
            raise InputError(f"minutes must be above 0, not {self.minutes}")
        if self.parts not in (None, *PARTS):
            raise InputError(f"parts must be one of {', '.join(PARTS)}, not {self.parts!r}")
        if self.seed < 0:
            raise InputError(f"the seed must be 0 or more, not {self.seed}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps must be 1 or more, not {self.steps}")


def fine_tune(
    base: LoadedModel,
    pictures: Sequence[Picture],
    settings: FineTuneSettings | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
    proceed: Callable[[], bool] = lambda: True,
) -> FineTuned:
    """Teach a model the objects of some pictures; nothing is written.

    Parameters
    ----------
    base : LoadedModel
        Stays as it is.
    pictures : sequence of Picture
    settings : FineTuneSettings, optional
    tell : callable
        Gets a `Progress` after every step.
    proceed : callable
        Asked before every step. It may wait, which is a pause; False ends the learning, and the
        best weights so far are measured and given.

    Returns
    -------
    FineTuned

    Raises
    ------
    InputError
        If there is nothing to learn from, or a setting or device is not there.
    FineTuneError
        If the loss diverges, or it was cancelled before anything was learned.
    """
    settings = settings or FineTuneSettings()
    device = choose_device(settings.device)
    kept, notes = usable(pictures)
    folds, said = split(kept, settings.seed)
    notes += said
    clock = Clock(settings.minutes, tell, proceed)
    run = _Run(base, kept, folds, settings, device, clock)
    try:
        return run.result(notes)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise FineTuneError(
            f"memory is not enough for the training ({str(error) or 'out of memory'}): close other "
            f"programs, and try again"
        ) from error


def _out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; on the CPU torch and oneDNN have no error of their own for that."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(said in str(error) for said in ("can't allocate", "could not create a primitive"))


class _Learned(NamedTuple):
    """What a training gave.

    Attributes
    ----------
    network : FCTSFN
        The best averaged weights, on the CPU.
    steps : int
        After which they were reached.
    parts : str
        What learned.
    """

    network: FCTSFN
    steps: int
    parts: Parts


class _Run:
    """One fine-tuning."""

    def __init__(
        self,
        base: LoadedModel,
        pictures: list[Picture],
        folds: list[Fold],
        settings: FineTuneSettings,
        device: torch.device,
        clock: Clock,
    ) -> None:
        self.base, self.pictures, self.folds = base, pictures, folds
        self.settings, self.device, self.clock = settings, device, clock
        self.everything = tuple(Item(i, v) for i, p in enumerate(pictures) for v in p.objects)
        self.generic = measuring_objects()
        self.runs = {0: 1, 1: 1, 2: 3}[len(folds)]
        self.notes: dict[str, str] = {}

    def result(self, notes: list[str]) -> FineTuned:
        """Measure, learn, measure."""
        clock, settings = self.clock, self.settings
        held = [
            _some(fold.held, _MEASURED // len(self.folds), settings.seed) for fold in self.folds
        ]
        base = Predictor(self.base, str(self.device))
        enough = _MEASURING * 60 * settings.minutes / (1 + len(held))
        pictures, generic = self.generic
        asked = self._measuring("before", 0.0, 0.15, sum(map(len, held)) + len(generic))
        measured = [measure(base, self.pictures, items, asked, enough) for items in held]
        generic_before = measure(base, pictures, generic, asked, enough)
        measuring = clock.spent
        before = [part for part in measured if part is not None]
        if generic_before is None or len(before) < len(held):
            raise FineTuneError(_NOTHING)
        objects = min((len(fold.train) for fold in self.folds), default=len(self.everything))
        if objects < _LITTLE:
            notes.append(
                f"there is little to learn from (objects: {objects}): the training is short, so "
                f"that it does not learn them by heart"
            )
        reserve = min(1.3 * measuring, _RESERVED * 60 * settings.minutes)
        learned, after = self._learn_folds(held, before, reserve)
        whole = None
        if len(self.folds) != 1 and not clock.cancelled:
            # Held out once each, now all are learned from, for as long as was best.
            reached = [each.steps for each in learned] or [_steps(objects, settings)]
            most = max(round(float(np.mean(reached))), 1)
            seconds = clock.left() - reserve / 2
            number, share = len(self.folds), 0.77 / self.runs
            start = 0.15 + share * number
            whole = self._learn(self.everything, (), most, seconds, number, start, share)
        if whole is None:
            if not learned:
                raise FineTuneError(_NOTHING)
            # What was learned before it was cancelled, and that alone is told.
            whole = learned[0]
            del before[1:], after[1:]
        same = generic[: generic_before.objects]
        generic_after = self._measure(whole.network, pictures, same, "after", 0.92, 0.08)
        examples = self._examples(base, learned[0].network, held[0]) if held else ()
        if clock.cancelled:
            self._note("cancelled", "it was cancelled: this is what was learned until then")
        clock.tell("after", 1.0)
        return FineTuned(
            whole.network,
            Measured.pooled(before) if before else None,
            Measured.pooled(after) if after else None,
            generic_before,
            generic_after,
            (*notes, *self.notes.values()),
            {
                "settings": {**asdict(settings), "device": str(self.device)},
                "pictures": len(self.pictures),
                "objects": len(self.everything),
                "held_out": sum(part.objects for part in after),
                "parts": whole.parts,
                "steps": whole.steps,
                "seconds": round(clock.spent, 1),
            },
            learned_from(self.pictures),
            self.base,
            examples,
            clock.cancelled,
        )

    def _learn_folds(
        self, held: Sequence[Sequence[Item]], before: Sequence[Measured], reserve: float
    ) -> tuple[list[_Learned], list[Measured]]:
        """Learn from each fold and measure on what it holds out, until it is cancelled."""
        clock, share = self.clock, 0.77 / self.runs
        learned: list[_Learned] = []
        after: list[Measured] = []
        for number, (fold, items) in enumerate(zip(self.folds, held, strict=True)):
            seconds = (clock.left() - reserve) / (self.runs - number)
            most = _steps(len(fold.train), self.settings)
            start = 0.15 + share * number
            found = self._learn(fold.train, fold.held, most, seconds, number, start, 0.9 * share)
            if found is None:
                break
            learned.append(found)
            # on the same objects as before
            same = items[: before[number].objects]
            measures = "after", start + 0.9 * share, 0.1 * share
            after.append(self._measure(found.network, self.pictures, same, *measures))
            if clock.cancelled:
                break
        return learned, after

    def _examples(
        self, base: Predictor, network: FCTSFN, items: Sequence[Item]
    ) -> tuple[Example, ...]:
        model = LoadedModel(network, self.base.card, self.base.sha256)
        tuned = Predictor(model, str(self.device))
        chosen = list({item.picture: item for item in items}.values())
        chosen += [item for item in items if item not in chosen]
        return tuple(
            example(base, tuned, self.pictures[item.picture], item.value)
            for item in chosen[:_EXAMPLES]
        )

    def _measuring(self, stage: str, start: float, share: float, count: int) -> Callable[[], bool]:
        """What is asked before each of some objects that are measured; it says how far it is."""
        number = -1

        def proceed() -> bool:
            nonlocal number
            number += 1
            self.clock.tell(stage, start + share * number / max(count, 1))
            return self.clock.proceed()

        return proceed

    def _measure(
        self,
        network: FCTSFN,
        pictures: Sequence[Picture],
        items: Sequence[Item],
        stage: str,
        start: float,
        share: float,
    ) -> Measured:
        """After the learning, also after a cancelled one: it may be worth keeping."""
        model = LoadedModel(network, self.base.card, self.base.sha256)
        asked = self._measuring(stage, start, share, len(items))
        found = measure(
            Predictor(model, str(self.device)), pictures, items, lambda: asked() or True
        )
        assert found is not None
        return found

    def _learn(
        self,
        train: Sequence[Item],
        held: Sequence[Item],
        most: int,
        seconds: float,
        number: int,
        start: float,
        share: float,
    ) -> _Learned | None:
        """Learn from some objects; None if it was cancelled before the first step."""
        settings, clock = self.settings, self.clock
        end = clock.spent + seconds
        rng = np.random.default_rng([settings.seed, number, 1])
        looks, held_looks, replay = self._looks(train, held, rng, end - 0.6 * seconds, start, share)
        rates = settings.rates
        learner = Learner(self.base.network, self.device, settings.parts or _USUAL, rates)
        best = _Best(learner, held_looks, self._fitting)
        wider = list(_WIDER) if settings.parts is None and len(self.folds) == 1 else []
        span = most
        while learner.steps < most:
            late = clock.spent > end and learner.steps >= _LEAST
            if late or not clock.proceed():
                break
            loss = self._step(learner, looks, replay, rng)
            clock.step += 1
            step = learner.steps
            last = step >= most or (clock.spent > end and step >= _LEAST)
            iou = best.score() if last or step % _SCORE_EVERY == 0 else None
            part = max(step / most, 1 - max(end - clock.spent, 0) / max(seconds, 1e-9))
            clock.tell("learning", start + share * (0.3 + 0.7 * part), loss=loss, iou=iou)
            if wider and best.since >= _STALLED and _is_fast(learner.device):
                learner.widen(wider.pop(0))
                best.since, most = 0, step + span
                self._note(learner.parts, f"it got no better: {learner.parts} learned too")
            elif best.since >= _PATIENCE:
                self._note("early", f"stopped early after {step} steps: it got no better")
                break
        if learner.steps == 0:
            return None
        if clock.cancelled:
            best.score()
        elif clock.spent > end and learner.steps < most:
            self._note(
                "late",
                f"time was over after {learner.steps} of {most} steps: more minutes may help",
            )
        network, steps = best.taken()
        return _Learned(network, steps, learner.parts)

    def _step(
        self,
        learner: Learner,
        looks: list[Look],
        replay: list[Look],
        rng: np.random.Generator,
    ) -> float:
        """A step on looks by chance."""
        own = drawn(looks, rng, learner.rates.batch)
        others = drawn(replay, rng, learner.rates.replayed)
        try:
            return self._fitting(learner, lambda: learner.step(own, others, rng))
        except FloatingPointError as error:
            raise FineTuneError(
                f"the learning diverged ({error}): it was stopped and nothing was replaced; "
                f"check the masks, or lower the rate"
            ) from None

    def _fitting(self, learner: Learner, compute: Callable[[], T]) -> T:
        """What `compute` gives; where memory runs out without kept features, then on the CPU."""
        while True:
            try:
                return compute()
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if learner.spare():
                    self._note("memory", f"{self.device} is out of memory: features are not kept")
                elif learner.device.type != "cpu":
                    learner.to(torch.device("cpu"))
                    self._note("CPU", f"{self.device} is out of memory: it went on on the CPU")
                    self.device = learner.device
                else:
                    raise

    def _note(self, kind: str, text: str) -> None:
        """Something the user should know, once of each kind."""
        self.notes.setdefault(kind, text)

    def _looks(
        self,
        train: Sequence[Item],
        held: Sequence[Item],
        rng: np.random.Generator,
        end: float,
        start: float,
        share: float,
    ) -> tuple[list[Look], list[Look], list[Look]]:
        """Looks to learn from, held-out ones, and those of the replay."""
        watched = Watched(self.base, str(self.device))

        def enough(number: int) -> bool:
            return not self.clock.proceed() or (number >= 3 and self.clock.spent > end)

        replay: list[Look] = []
        pictures = replay_pictures()
        for number in range(_REPLAYED):
            replay += wander(watched, pictures[number % len(pictures)], rng)
            self.clock.tell("looking", start + 0.1 * share * number / _REPLAYED)
            if replay and enough(number):
                break
        held_looks: list[Look] = []
        own = np.random.default_rng([self.settings.seed, 77])
        for number, item in enumerate(_turns(held, own, _HELD_INTERACTIONS)):
            picture = self.pictures[item.picture]
            held_looks += interact(watched, picture, item.value, own, _CLICKS - 1, vary=False)
            if held_looks and enough(number):
                break
        looks: list[Look] = []
        count = int(np.clip(_PER_OBJECT * len(train), *_INTERACTIONS))
        for number, item in enumerate(_turns(train, rng, count)):
            picture = self.pictures[item.picture]
            looks += interact(watched, picture, item.value, rng, _CLICKS)
            self.clock.tell("looking", start + share * (0.1 + 0.2 * number / count))
            if looks and enough(number):
                break
        if not looks:
            raise FineTuneError("none of the objects can be seen by the network: give larger ones")
        return looks, held_looks, replay


class _Best:
    """The weights that were best on held-out looks; the last where nothing is held out."""

    def __init__(
        self,
        learner: Learner,
        looks: list[Look],
        fitting: Callable[[Learner, Callable[[], float]], float],
    ) -> None:
        self._learner, self._looks, self._fitting = learner, looks, fitting
        self._network, self._steps = learner.snapshot(), 0
        self._iou = self._scored() if looks else 0.0
        self.since = 0

    def _scored(self) -> float:
        return self._fitting(self._learner, lambda: self._learner.score(self._looks))

    def score(self) -> float | None:
        """Mean IoU on the held-out looks now; None where there are none."""
        if not self._looks:
            return None
        iou = self._scored()
        self.since += 1
        if iou > self._iou:
            self._network, self._steps = self._learner.snapshot(), self._learner.steps
            self._iou, self.since = iou, 0
        return iou

    def taken(self) -> tuple[FCTSFN, int]:
        """The weights, on the CPU, and the steps after which they were reached."""
        if not self._looks:
            self._network, self._steps = self._learner.snapshot(), self._learner.steps
        return self._network.cpu().eval(), self._steps


def _is_fast(device: torch.device) -> bool:
    """Whether the image stream may run in every step."""
    return device.type != "cpu"


def _turns(items: Sequence[Item], rng: np.random.Generator, count: int) -> Iterator[Item]:
    """So many objects, pictures in turn, objects of a picture in random order."""
    if not items:
        return
    waiting: dict[int, list[Item]] = {}
    order = [int(i) for i in rng.permutation(list(dict.fromkeys(item.picture for item in items)))]
    for number in range(count):
        place = order[number % len(order)]
        if not waiting.get(place):
            own = [item for item in items if item.picture == place]
            waiting[place] = [own[int(i)] for i in rng.permutation(len(own))]
        yield waiting[place].pop()


def _some(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """At most so many different objects, pictures in turn."""
    rng = np.random.default_rng([seed, 13])
    turns = _turns(items, rng, 4 * max(count, 1))
    return list(dict.fromkeys(turns))[: max(count, 1)]


def _steps(objects: int, settings: FineTuneSettings) -> int:
    if settings.steps is not None:
        return settings.steps
    return int(np.clip(_STEPS[0] + _STEPS_PER_OBJECT * objects, *_STEPS))
