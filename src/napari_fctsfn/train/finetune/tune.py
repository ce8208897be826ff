"""A fine-tuning from start to end: split, learn, measure before and after, register."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from napari_fctsfn import __version__
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import (
    LoadedModel,
    ModelCard,
    ModelEntry,
    TrainingSet,
    data_directory,
    register_model,
    weights_licence,
)
from napari_fctsfn.network import FCTSFN
from napari_fctsfn.predict import Predictor
from napari_fctsfn.predict.engine import choose_device
from napari_fctsfn.train.finetune.learner import PARTS, Learner, Parts, Rates
from napari_fctsfn.train.finetune.looks import Look, Watched, drawn, interact, wander
from napari_fctsfn.train.finetune.measure import Example, Measured, example, measure
from napari_fctsfn.train.finetune.pictures import OWN, Picture, usable
from napari_fctsfn.train.finetune.replay import measuring_objects, replay_pictures
from napari_fctsfn.train.finetune.split import Fold, Item, split

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


class FineTuneError(InputError):
    """A fine-tuning that came to nothing; the message says why, and nothing was replaced."""


@dataclass(frozen=True)
class FineTuneSettings:
    """How to learn from corrections.

    Parameters
    ----------
    minutes : float
        Time for everything, the measuring included; a slow machine takes longer for the least.
    parts : {"refiner", "fusion", "interaction", "adapters", "all"}
        What learns: each of these and those before it. From ``adapters`` on, the image stream runs
        in every step, which takes a GPU.
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
    parts: Parts = "interaction"
    seed: int = 0
    steps: int | None = None
    device: str = "auto"
    rates: Rates = field(default_factory=Rates)

    def __post_init__(self) -> None:
        if not 0 < self.minutes < 10_000:
            raise InputError(f"minutes must be above 0, not {self.minutes}")
        if self.parts not in PARTS:
            raise InputError(f"parts must be one of {', '.join(PARTS)}, not {self.parts!r}")
        if self.seed < 0:
            raise InputError(f"the seed must be 0 or more, not {self.seed}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps must be 1 or more, not {self.steps}")


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


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning gave.

    Parameters
    ----------
    network : FCTSFN
        On the CPU, in evaluation mode.
    before, after : Measured or None
        On held-out objects; None where nothing could be held out.
    generic_before, generic_after : Measured
        On the pictures that come with the package.
    notes : tuple of str
        What the user should know.
    about : dict
        For the card: settings, and what was learned from.
    learned : tuple of TrainingSet
    parent : LoadedModel
    examples : tuple of Example
        Held-out objects after one click, before and after.
    cancelled : bool
        Whether it was ended before its time.
    """

    network: FCTSFN
    before: Measured | None
    after: Measured | None
    generic_before: Measured
    generic_after: Measured
    notes: tuple[str, ...]
    about: dict[str, Any]
    learned: tuple[TrainingSet, ...]
    parent: LoadedModel
    examples: tuple[Example, ...] = ()
    cancelled: bool = False

    @property
    def improved(self) -> bool:
        """Whether held-out objects need fewer clicks than before."""
        return (
            self.before is not None
            and self.after is not None
            and self.after.better_than(self.before)
        )

    def card(self, name: str, *, forced: bool = False) -> ModelCard:
        """The card of the model, which names its parent and all it has learned from."""
        base = self.parent.card
        known = {entry.name for entry in self.learned}
        inherited = tuple(
            entry.model_copy(update={"share": 0.0})
            for entry in base.training_data
            if entry.name not in known
        )
        licences = [entry.licence for entry in self.learned if entry.licence != OWN]
        metrics = {
            **({} if self.before is None else self.before.metrics("before")),
            **({} if self.after is None else self.after.metrics("after")),
            **self.generic_before.metrics("generic_before"),
            **self.generic_after.metrics("generic_after"),
        }
        return ModelCard(
            name=name,
            version=__version__,
            description=f"Fine-tuned from {base.name} on "
            + ", ".join(f"{entry.name} ({entry.images} pictures)" for entry in self.learned)
            + (", registered by force." if forced else "."),
            architecture=self.network.config.to_dict(),
            input=base.input,
            input_size=base.input_size,
            weights_licence=weights_licence([base.weights_licence, *licences]),
            training_data=(*self.learned, *inherited),
            training={
                "recipe": "finetune",
                "base": base.name,
                **self.about,
                "notes": list(self.notes),
                "improved": self.improved,
                "forced": forced,
            },
            metrics=metrics,
            parent=self.parent.sha256,
        )


def register(tuned: FineTuned, name: str, *, force: bool = False) -> ModelEntry:
    """Put a fine-tuned model into the registry, whole or not at all.

    Parameters
    ----------
    tuned : FineTuned
    name : str
    force : bool
        Whether a model that is not better is taken too, and one of that name replaced.

    Raises
    ------
    FineTuneError
        If the model is no better than its base and that is not forced, or cannot be written.
    ModelError
        If the name is not valid or taken.
    """
    if not (tuned.improved or force):
        raise FineTuneError(
            f"no improvement on held-out objects ({_compared(tuned)}): {tuned.parent.card.name} "
            f"stays as it is; correct more objects, or --force registers it anyway"
        )
    try:
        card = tuned.card(name, forced=force)
        return register_model(name, tuned.network, card, replace=force)
    except OSError as error:
        raise FineTuneError(
            f"the model {name!r} could not be written: {error.strerror or error}; make room and "
            f"train again"
        ) from error


def check_room(model: LoadedModel) -> None:
    """Refuse to train for a model that there is no room to write.

    Raises
    ------
    FineTuneError
        If the disk of the registry is nearly full.
    """
    folder = data_directory()
    while not folder.exists():
        folder = folder.parent
    needed = 8 * sum(value.numel() for value in model.network.state_dict().values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FineTuneError(
            f"{folder} has {free / 1e6:.0f} MB free and a model needs {needed / 1e6:.0f} MB: "
            f"make room first"
        )


def _compared(tuned: FineTuned) -> str:
    if tuned.before is None or tuned.after is None:
        return "there were none to measure on"
    return f"{tuned.before.noc85:.2f} clicks before, {tuned.after.noc85:.2f} after"


class _Clock:
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
        expected = self.spent * (1 - done) / done if done > 0.05 else self._budget * (1 - done)
        seconds = max(min(expected, self.left()), 0.0)
        self._tell(Progress(stage, min(done, 1.0), seconds, self.step, **more))


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
    clock = _Clock(settings.minutes, tell, proceed)
    run = _Run(base, kept, folds, settings, device, clock)
    return run.result(notes)


class _Run:
    """One fine-tuning."""

    def __init__(
        self,
        base: LoadedModel,
        pictures: list[Picture],
        folds: list[Fold],
        settings: FineTuneSettings,
        device: torch.device,
        clock: _Clock,
    ) -> None:
        self.base, self.pictures, self.folds = base, pictures, folds
        self.settings, self.device, self.clock = settings, device, clock
        self.everything = tuple(Item(i, v) for i, p in enumerate(pictures) for v in p.objects)
        self.generic = measuring_objects()
        self.notes: list[str] = []

    def result(self, notes: list[str]) -> FineTuned:
        """Measure, learn, measure."""
        clock, settings = self.clock, self.settings
        held = [
            _some(fold.held, _MEASURED // len(self.folds), settings.seed) for fold in self.folds
        ]
        clock.tell("before", 0.0)
        base = Predictor(self.base, str(self.device))
        enough = _MEASURING * 60 * settings.minutes / (1 + len(held))
        measured = [measure(base, self.pictures, items, clock.proceed, enough) for items in held]
        generic_before = measure(base, *self.generic, clock.proceed, enough)
        measuring = clock.spent
        before = [part for part in measured if part is not None]
        if generic_before is None or len(before) < len(held):
            raise FineTuneError("cancelled before anything was learned")
        clock.tell("looking", 0.15)
        objects = min((len(fold.train) for fold in self.folds), default=len(self.everything))
        if objects < _LITTLE:
            notes.append(
                f"{objects} objects to learn from are few: the training is short, so that it does "
                f"not learn them by heart"
            )
        runs = {0: 1, 1: 1, 2: 3}[len(self.folds)]
        reserve = min(1.3 * measuring, _RESERVED * 60 * settings.minutes)
        after: list[Measured] = []
        learned: list[tuple[FCTSFN, int]] = []
        for number, (fold, items) in enumerate(zip(self.folds, held, strict=True)):
            seconds = (clock.left() - reserve) / (runs - number)
            most = _steps(len(fold.train), settings)
            learned.append(self._learn(fold.train, fold.held, most, seconds, number, runs))
            # on the same objects as before
            same = items[: before[number].objects]
            after.append(self._measure(learned[-1][0], self.pictures, same))
            if clock.cancelled:
                break
        if len(learned) == 1:
            network, steps = learned[0]
        else:
            # Held out once each, now all are learned from, for as long as was best.
            reached = [steps for _, steps in learned] or [_steps(objects, settings)]
            most = max(round(float(np.mean(reached))), 1)
            seconds = clock.left() - reserve / 2
            network, steps = self._learn(self.everything, (), most, seconds, runs - 1, runs)
        del before[len(after) :]
        clock.tell("after", 0.92)
        pictures, items = self.generic
        generic_after = self._measure(network, pictures, items[: generic_before.objects])
        examples = self._examples(base, learned[0][0], held[0]) if held else ()
        clock.tell("after", 1.0)
        return FineTuned(
            network,
            Measured.pooled(before) if before else None,
            Measured.pooled(after) if after else None,
            generic_before,
            generic_after,
            (*notes, *self.notes),
            {
                "settings": {**asdict(settings), "device": str(self.device)},
                "pictures": len(self.pictures),
                "objects": len(self.everything),
                "held_out": sum(part.objects for part in after),
                "steps": steps,
                "seconds": round(clock.spent, 1),
            },
            _learned(self.pictures),
            self.base,
            examples,
            clock.cancelled,
        )

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

    def _measure(
        self, network: FCTSFN, pictures: Sequence[Picture], items: Sequence[Item]
    ) -> Measured:
        """After the learning, also after a cancelled one: it may be worth keeping."""
        model = LoadedModel(network, self.base.card, self.base.sha256)
        found = measure(Predictor(model, str(self.device)), pictures, items)
        assert found is not None
        return found

    def _learn(
        self,
        train: Sequence[Item],
        held: Sequence[Item],
        most: int,
        seconds: float,
        number: int,
        runs: int,
    ) -> tuple[FCTSFN, int]:
        """The best averaged weights, and the steps after which they were reached."""
        seed, clock = self.settings.seed, self.clock
        end = clock.spent + seconds
        rng = np.random.default_rng([seed, number, 1])
        share = 0.75 / runs
        start = 0.15 + share * number
        looks, held_looks, replay = self._looks(train, held, rng, end - 0.6 * seconds, start, share)
        rates = self.settings.rates
        learner = Learner(self.base.network, self.device, self.settings.parts, rates)
        best = _Best(learner, held_looks)
        for step in range(most):
            late = clock.spent > end and step >= _LEAST
            if late or not clock.proceed():
                break
            own, others = drawn(looks, rng, rates.batch), drawn(replay, rng, rates.replayed)
            loss = self._step(learner, own, others, rng)
            clock.step += 1
            last = step + 1 >= most or (clock.spent > end and step + 1 >= _LEAST)
            iou = best.score() if last or (step + 1) % _SCORE_EVERY == 0 else None
            part = max((step + 1) / most, 1 - max(end - clock.spent, 0) / max(seconds, 1e-9))
            clock.tell("learning", start + share * (0.3 + 0.7 * part), loss=loss, iou=iou)
            if best.since >= _PATIENCE:
                self.notes.append(f"stopped early after {step + 1} steps: it got no better")
                break
        if learner.steps == 0:
            raise FineTuneError("cancelled before anything was learned")
        if clock.spent > end and learner.steps < most:
            self.notes.append(
                f"time was over after {learner.steps} of {most} steps: more minutes may help"
            )
        return best.taken()

    def _step(
        self, learner: Learner, own: list[Look], replay: list[Look], rng: np.random.Generator
    ) -> float:
        """A step; where memory runs out with fewer looks, then on the CPU."""
        try:
            return learner.step(own, replay, rng)
        except FloatingPointError as error:
            raise FineTuneError(
                f"the learning diverged ({error}): it was stopped and nothing was replaced; "
                f"check the masks, or lower the rate"
            ) from None
        except (torch.OutOfMemoryError, MemoryError):
            if learner.spare():
                self._say(f"{self.device} is out of memory: features are kept no longer")
            elif learner.device.type != "cpu":
                learner.to(torch.device("cpu"))
                self.device = learner.device
                self._say("the device is out of memory: the training goes on on the CPU")
            else:
                raise FineTuneError(
                    "memory is not enough for one step: close other programs"
                ) from None
            return self._step(learner, own, replay, rng)

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
            warnings.warn(note, stacklevel=2)

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
            self.clock.tell("looking", start + 0.3 * share * number / count)
            if looks and enough(number):
                break
        if not looks:
            raise FineTuneError("none of the objects can be seen by the network: give larger ones")
        return looks, held_looks, replay


class _Best:
    """The weights that were best on held-out looks; the last where nothing is held out."""

    def __init__(self, learner: Learner, looks: list[Look]) -> None:
        self._learner, self._looks = learner, looks
        self._network, self._steps = learner.snapshot(), 0
        self._iou = learner.score(looks) if looks else 0.0
        self.since = 0

    def score(self) -> float | None:
        """Mean IoU on the held-out looks now; None where there are none."""
        if not self._looks:
            return None
        iou = self._learner.score(self._looks)
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


def _learned(pictures: Sequence[Picture]) -> tuple[TrainingSet, ...]:
    sources: dict[tuple[str, str], int] = {}
    for picture in pictures:
        key = (picture.source or OWN, picture.licence)
        sources[key] = sources.get(key, 0) + 1
    total = sum(sources.values())
    return tuple(
        TrainingSet(name=name[:200], licence=licence[:500], images=count, share=count / total)
        for (name, licence), count in sources.items()
    )
