"""Polishing: a trained model learns on from what the predictor shows it, click after click.

The modern recipe learns on crops that it draws itself. At use the network sees other things: the
windows that the predictor chooses, and the masks that it made there before. Learning on the states
that a policy itself comes to is known as dataset aggregation (Ross, Gordon and Bagnell, AISTATS
2011); fine-tuning does the same with a user's pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from napari_fctsfn.errors import InputError
from napari_fctsfn.models import LoadedModel, TrainingSet, load_model, resolve_model
from napari_fctsfn.network import FCTSFN
from napari_fctsfn.predict.engine import choose_device
from napari_fctsfn.train.card import write_model
from napari_fctsfn.train.checkpoint import load_checkpoint, save_checkpoint
from napari_fctsfn.train.finetune import PARTS, Parts, Picture, Rates, pictures_of_dataset, usable
from napari_fctsfn.train.finetune.learner import Learner
from napari_fctsfn.train.finetune.looks import Look, Watched, interact
from napari_fctsfn.train.loop import Outcome, ahead, deadline_after, resume_point, run
from napari_fctsfn.train.mixture import BANDS, MIXTURES

_CLICKS = (1, 2, 3, 5, 9)
"""Clicks of an interaction, each as likely: what the first one shows is learned most."""

_GROUP = 4
"""Steps whose looks are shuffled, so that those of an object are in different steps."""

_REFRESH = 48
"""Steps after which the predictor gets the weights as they are then."""

_FRUITLESS = 100
"""Interactions in a row that show nothing to learn from, at most."""


@dataclass(frozen=True)
class PolishSettings:
    """Settings of a polishing.

    Parameters
    ----------
    data : Path
        Folder of the data sets, each with a list ``train.txt``.
    output : Path
        Folder for checkpoint, log and model; made if missing. A checkpoint found there is resumed.
    start : str
        Name or path of the model to go on from.
    steps : int
        Optimizer steps. Before the rate falls the number may be changed.
    batch : int
        Looks in a step.
    seed : int
        Of objects and clicks.
    rate : float
        AdamW learning rate.
    parts : {"refiner", "fusion", "interaction", "adapters", "all"}
        What learns: each of these and those before it. With the last two the image stream runs
        forward and backward in every step.
    cooldown : float
        Last part of the steps, in which the rate falls linearly to a fiftieth.
    average : float
        Decay of the exponential moving average of the weights that becomes the model.
    mixture : mapping of str to float
        Share of each data set in the objects, by folder name.
    holes : float
        Share of the interactions that end with a background click well inside the object, 0..1;
        see `interact`.
    device : str
        ``auto`` (a GPU where there is one), or a name that torch knows.
    workers : int
        Threads in which a predictor is clicked on ahead; the more, the older its weights.
    save_every : int
        Steps between checkpoints.
    minutes : float, optional
        Stop after so many minutes with a checkpoint; the same call again goes on.
    tensorboard : bool
        Whether to log for TensorBoard, too.

    Raises
    ------
    ValueError
        If a number or the parts are impossible; the message names them.
    """

    data: Path
    output: Path
    start: str = "default"
    steps: int = 2000
    batch: int = 8
    seed: int = 0
    rate: float = 3e-4
    parts: Parts = "interaction"
    cooldown: float = 0.5
    average: float = 0.99
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(MIXTURES["default"]))
    holes: float = 0.25
    device: str = "auto"
    workers: int = 1
    save_every: int = 100
    minutes: float | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "workers", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if _GROUP * (self.workers + 1) > _REFRESH:
            raise ValueError(f"workers must be less than {_REFRESH // _GROUP}, not {self.workers}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes must be above zero, not {self.minutes}")
        if not 0 <= self.holes <= 1:
            raise ValueError(f"holes must lie between 0 and 1, not {self.holes}")
        if self.parts not in PARTS:
            raise ValueError(f"parts must be one of {', '.join(PARTS)}, not {self.parts}")

    def describe(self) -> dict[str, Any]:
        """What decides the result, as plain values for checkpoint and model card."""
        values = asdict(self)
        for name in ("data", "output", "save_every", "minutes", "device", "tensorboard"):
            del values[name]
        bands = {name: BANDS[name] for name in self.mixture if name in BANDS}
        return values | {
            **({"bands": bands} if bands else {}),
            "mixture": dict(self.mixture),
            "start": Path(self.start).name,
        }


def polish_model(settings: PolishSettings, name: str) -> Path | None:
    """Polish a model, and write it with its card to ``NAME.safetensors`` in the output folder.

    Parameters
    ----------
    settings : PolishSettings
    name : str
        Name of the new model.

    Returns
    -------
    Path or None
        The model file; None if the minutes were over before the last step.

    Raises
    ------
    DataSetError, CheckpointError, ModelError, InputError
        See `polish`.
    """
    settings = replace(settings, device=str(choose_device(settings.device)))
    base = load_model(resolve_model(settings.start))
    sets = _read(settings)
    network = polish(settings, base, sets)
    if network is None:
        return None
    total = sum(settings.mixture.values())
    learned = [
        TrainingSet(
            name=pictures[0].source,
            licence=pictures[0].licence,
            images=len(pictures),
            share=settings.mixture[folder] / total,
        )
        for folder, pictures in sets.items()
    ]
    return write_model(
        settings.output,
        name,
        network,
        recipe="polish",
        settings=settings.describe(),
        learned=learned,
        parent=base,
        input_size=base.card.input_size,
    )


def _read(settings: PolishSettings) -> dict[str, list[Picture]]:
    """The pictures to learn from, by the folder of their set."""
    if not settings.mixture or min(settings.mixture.values()) <= 0:
        raise InputError(f"the mixture {dict(settings.mixture)} needs positive shares")
    sets = {}
    for name in tqdm(settings.mixture, desc="reading", unit="set", delay=1):
        folder = settings.data / name
        every = pictures_of_dataset(folder, folder / "train.txt", BANDS.get(name, 0))
        sets[name], _ = usable(every)
    return sets


def polish(
    settings: PolishSettings, base: LoadedModel, sets: Mapping[str, list[Picture]]
) -> FCTSFN | None:
    """Let a network learn from what a predictor with its own weights looks at.

    Parameters
    ----------
    settings : PolishSettings
    base : LoadedModel
        Stays as it is.
    sets : mapping of str to list of Picture
        Pictures of each set of the mixture.

    Returns
    -------
    FCTSFN or None
        The averaged network, on the CPU, in evaluation mode; None if the minutes were over before
        the last step.

    Raises
    ------
    CheckpointError
        If the checkpoint in the output folder is damaged or belongs to other settings.
    InputError
        If the device is not available, or nothing of the objects can be seen.
    FloatingPointError
        If the loss is not finite.
    """
    deadline = deadline_after(settings.minutes)
    settings.output.mkdir(parents=True, exist_ok=True)
    return _Polishing(settings, base, sets).run(deadline)


class _Polishing:
    """The network that learns, and the weights that look.

    These are a little older, so that it does not matter how far ahead the threads are.
    """

    def __init__(
        self, settings: PolishSettings, base: LoadedModel, sets: Mapping[str, list[Picture]]
    ) -> None:
        self.settings, self.base, self.sets = settings, base, sets
        self.device = torch.device(settings.device)
        rates = Rates(rate=settings.rate, stay=0.0, keep=0.0, average=settings.average, warm=20)
        self.learner = Learner(base.network.eval(), self.device, settings.parts, rates)
        self.learner.spare()  # No look comes twice.
        self.checkpoint = settings.output / "checkpoint.safetensors"
        # Weights that look, older ones first, and the steps after which they were taken.
        self.eyes = [(0, self.learner.snapshot()), (0, self.learner.snapshot())]
        self.first = 0
        if self.checkpoint.exists():
            self.first = self._resume()

    def run(self, deadline: float | None) -> FCTSFN | None:
        complete = run(
            self.settings,
            self.first,
            self._batches(),
            self._step,
            self._save,
            deadline=deadline,
            tensorboard=self.settings.tensorboard,
        )
        return self.learner.snapshot().cpu().eval() if complete else None

    def _batches(self) -> Iterator[list[Look]]:
        group, done = divmod(self.first, _GROUP)
        for batches in ahead(self._draw, group, self.settings.workers):
            yield from batches[done:]
            done = 0

    def _draw(self, group: int) -> list[list[Look]]:
        """Looks of the steps of a group."""
        settings, rng = self.settings, np.random.default_rng([self.settings.seed, group])
        watched = Watched(self._watching(group), str(self.device))
        names = list(settings.mixture)
        shares = np.array(list(settings.mixture.values()))
        wanted, fruitless = _GROUP * settings.batch, 0
        looks: list[Look] = []
        while len(looks) < wanted:
            pictures = self.sets[names[rng.choice(len(names), p=shares / shares.sum())]]
            picture = pictures[rng.integers(len(pictures))]
            value, clicks = int(rng.choice(picture.objects)), int(rng.choice(_CLICKS))
            seen = interact(watched, picture, value, rng, clicks, holes=settings.holes)
            fruitless = 0 if seen else fruitless + 1
            if fruitless == _FRUITLESS:
                raise InputError(
                    f"none of {_FRUITLESS} objects in {', '.join(names)} can be seen by the "
                    f"network: give larger ones"
                )
            looks += seen
        order = rng.permutation(len(looks))[:wanted]
        return [[looks[i] for i in order[step::_GROUP]] for step in range(_GROUP)]

    def _watching(self, group: int) -> LoadedModel:
        """The model that looks in a group: of the last steps that are done whenever it is drawn."""
        done = _GROUP * (group - self.settings.workers - 1)
        (_, older), (taken, newer) = self.eyes
        network = newer if taken <= max(done, 0) else older
        return LoadedModel(network, self.base.card, self.base.sha256)

    def _step(self, step: int, looks: list[Look]) -> Outcome:
        settings, learner = self.settings, self.learner
        left = (settings.steps - step) / max(settings.cooldown * settings.steps, 1)
        learner.rates = replace(learner.rates, rate=settings.rate * max(min(left, 1.0), 0.02))
        loss = learner.step(looks, [], np.random.default_rng([settings.seed, step, 1]))
        if (step + 1) % _REFRESH == 0:
            self.eyes = [self.eyes[-1], (step + 1, learner.snapshot())]
        return Outcome({"step": step, "loss": round(loss, 4)}, {"loss": f"{loss:.3f}"})

    def _modules(self) -> dict[str, FCTSFN]:
        (_, older), (_, newer) = self.eyes
        learner = self.learner
        return {
            "network": learner.network,
            "average": learner.average,
            "older": older,
            "newer": newer,
        }

    def _save(self, done: int) -> None:
        state = {
            "step": done,
            "settings": self.settings.describe(),
            "eyes": [step for step, _ in self.eyes],
        }
        save_checkpoint(self.checkpoint, self._modules(), self.learner.optimizer, state)

    def _resume(self) -> int:
        state = load_checkpoint(self.checkpoint, self._modules(), self.learner.optimizer)
        settings = self.settings
        done = resume_point(state, settings.describe(), settings.output, settings.cooldown)
        self.learner.resume(done)
        self.eyes = [
            (int(step), network)
            for step, (_, network) in zip(state["eyes"], self.eyes, strict=True)
        ]
        return done
