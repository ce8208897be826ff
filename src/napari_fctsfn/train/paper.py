"""The training as published (paper, sections 3.3 and 4.1): heavy learning in four stages.

What the paper leaves open is as in the authors' solver files: their rates, for a loss that is a sum
over pixels, are given for a mean; see `STAGES`.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from napari_fctsfn.models import LoadedModel, TrainingSet
from napari_fctsfn.network import FCTSFN, NetworkConfig, build_network, paper_config
from napari_fctsfn.network.config import Backbone
from napari_fctsfn.train.card import write_model
from napari_fctsfn.train.checkpoint import load_checkpoint, save_checkpoint
from napari_fctsfn.train.distributed import Processes, join
from napari_fctsfn.train.loop import (
    Outcome,
    ahead,
    deadline_after,
    descend,
    full_precision_large_kernels,
    is_pretrained,
    resume_point,
    run,
    training_mode,
    warm_up_and_cool_down,
)
from napari_fctsfn.train.losses import softmax_loss
from napari_fctsfn.train.samples import Example, Samples
from napari_fctsfn.train.start import WeightsError, load_start, origin


class Stage(NamedTuple):
    """What the paper and the authors' solver files say of a stage.

    Attributes
    ----------
    stride : int
        Of the network's score.
    rate : float
        Of SGD for a mean over pixels: the solver's 1e-10, 1e-12 and 1e-14 times 375 x 500, and
        1e-8 times 240 x 320.
    steps : int
        Iterations that the authors used; of the ``msrn``, which stops early, the most there are.
    batch : int
        Examples of an iteration.
    input : str
        ``native``, or rows and columns that pictures are resized to.
    patience : int
        Validations without improvement after which the training stops; 0: it does not.
    drops : tuple of int
        Iterations at which the rate falls to a tenth.
    """

    stride: int
    rate: float
    steps: int
    batch: int = 1
    input: str = "native"
    patience: int = 0
    drops: tuple[int, ...] = ()


STAGES = {
    "tslfn32": Stage(32, 1.9e-5, 600_000),
    "tslfn16": Stage(16, 1.9e-7, 300_000),
    "tslfn8": Stage(8, 1.9e-9, 950_000),
    "msrn": Stage(8, 7.7e-4, 30_000, 3, "240x320", 5, (10_000, 20_000)),
}
"""The stages in their order; each starts from the one before."""

VARIANTS = (
    "ssfcn",
    "tslfn-minus",
    "layerwise",
    "tslfn-1",
    "tslfn-2",
    "tslfn-3",
    "tslfn-4",
    "tslfn-5",
)
"""Networks of `paper_config` that the stages ``tslfn32``, ``tslfn16`` and ``tslfn8`` train."""

_PUBLISHED = {"vgg16": "tslfn-4", "lite": "tslfn-5"}
"""The TSLFN that a refiner is built for, by backbone."""

_ADAMW_RATES = {"vgg16": (2e-4, 2e-5), "lite": (1e-3, 2e-4)}
"""AdamW's rates by backbone: of what begins randomly, and of what begins pretrained."""

_COOLDOWN = 0.3
"""Last part of the steps, in which AdamW's rates fall."""

_FROM_VGG16 = ("image_stream.", "interaction_stream.", "fusion.conv")
"""Parts of ``vgg16`` networks that begin with VGG16's weights; fc6 and fc7 may be narrower."""

_STEMS = ("stem", "stem2")

_NATIVE = (512, 512)
"""Input for which a network is said to be that was trained on VOC's pictures as they are."""


@dataclass(frozen=True)
class PaperSettings:
    """Settings of one stage; `of` fills in what the paper says.

    Parameters
    ----------
    data, output : Path
        Folder of the data sets; folder for checkpoint, log and model. A checkpoint found there is
        resumed.
    stage : {"tslfn32", "tslfn16", "tslfn8", "msrn"}
        The TSLFN at stride 32, 16 or 8, or the MSRN on a TSLFN that stays as it is.
    variant : str
        One of `VARIANTS`. The examples of a step never depend on it.
    steps, batch : int
        Optimizer steps, and examples in a step of each process.
    rate, backbone_rate : float
        Learning rates of what begins randomly and of the rest; with ``sgd`` they are one.
    input : str
        ``native`` or ROWSxCOLUMNS, what pictures are resized to.
    augment : bool
        Whether examples are cropped, rotated and translated.
    patience : int
        See `Stage`.
    start : str
        ``imagenet`` (``lite``), ``random``, a file with VGG16's weights (``vgg16``) or those of
        `image_model` (``lite``), or the model of the stage before, by name or file.
    set : str
        Folder name of the data set; its list ``train.txt`` gives training and validation.
    backbone : {"vgg16", "lite"}
    fusion_channels : int, optional
        See `paper_config`.
    image_model : str
        See `NetworkConfig`; only for ``lite``.
    optimizer : {"sgd", "adamw"}
        ``sgd`` with momentum 0.99 and weight decay 5e-4, in the stage ``msrn`` with Nesterov's
        momentum, as published. ``adamw`` with warm-up and cool-down, for few steps.
    validate_every : int
        Steps between validations.
    seed : int
        Of initial weights, order, clicks, augmentation and dropout.
    device : str
        A torch device.
    precision : {"fp32", "bf16"}
        Of the convolutions (autocast).
    workers, save_every : int
        Threads that make examples ahead; steps between checkpoints.
    minutes : float, optional
        Stop after so many minutes with a checkpoint; the same call again goes on.
    tensorboard : bool
        Whether to log for TensorBoard, too.

    Raises
    ------
    ValueError
        If a value is unknown or out of range, or values do not go together.
    """

    data: Path
    output: Path
    stage: str
    variant: str
    steps: int
    batch: int
    rate: float
    backbone_rate: float
    input: str
    augment: bool
    patience: int
    start: str
    set: str = "voc_subset"
    backbone: Backbone = "vgg16"
    fusion_channels: int | None = None
    image_model: str = ""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    validate_every: int = 1000
    seed: int = 0
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    workers: int = 1
    save_every: int = 1000
    minutes: float | None = None
    tensorboard: bool = False

    @classmethod
    def of(
        cls,
        stage: str,
        *,
        backbone: Backbone = "vgg16",
        optimizer: Literal["sgd", "adamw"] = "sgd",
        **given: Any,
    ) -> PaperSettings:
        """Settings of a stage: as published but for what is `given`.

        The variant is by default the TSLFN whose streams the backbone's refiner takes.

        Raises
        ------
        ValueError
            As the class does, or if no weights to start from are given where there are no others.
        """
        if stage not in STAGES:
            raise ValueError(f"stage {stage!r} is unknown; choose {' or '.join(STAGES)}")
        if backbone not in _PUBLISHED:
            raise ValueError(f"unknown backbone {backbone!r}; known are {' and '.join(_PUBLISHED)}")
        if "start" not in given and (stage != "tslfn32" or backbone == "vgg16"):
            stages = list(STAGES)
            needed = f"the model of the stage {stages[stages.index(stage) - 1]}"
            if stage == "tslfn32":
                needed = "a file with VGG16's weights (.safetensors or .pth)"
            raise ValueError(f"the stage {stage} starts from {needed}: name it with --start")
        published = STAGES[stage]
        rate = backbone_rate = given.get("rate", published.rate)
        if optimizer == "adamw":
            rate, backbone_rate = _ADAMW_RATES[backbone]
        own = {
            "variant": _PUBLISHED[backbone],
            "steps": published.steps,
            "batch": published.batch,
            "rate": rate,
            "backbone_rate": backbone_rate,
            "input": published.input,
            "augment": stage == "msrn",
            "patience": published.patience,
            "start": "imagenet",
        }
        return cls(stage=stage, backbone=backbone, optimizer=optimizer, **(own | given))

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "workers", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, not {self.seed}")
        for name in ("rate", "backbone_rate", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"{name} must be above zero, not {value}")
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, not {self.patience}")
        if self.optimizer not in ("sgd", "adamw"):
            raise ValueError(f"unknown optimizer {self.optimizer!r}; known are sgd and adamw")
        if self.optimizer == "sgd" and self.rate != self.backbone_rate:
            raise ValueError("sgd has one rate for all, as published: backbone_rate is adamw's")
        if self.size is None and self.batch > 1:
            raise ValueError(
                f"pictures of native size cannot share a batch of {self.batch}: "
                f"choose an input such as 240x320"
            )
        self._check_variant()
        self._check_start()

    def _check_variant(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"unknown variant {self.variant!r}; known: {', '.join(VARIANTS)}")
        published = _PUBLISHED[self.backbone]
        if self.stage == "msrn" and self.variant != published:
            raise ValueError(
                f"the stage msrn is for {published} of a {self.backbone} network: the refiner "
                f"needs the published streams at every scale, which {self.variant} does not have"
            )
        config = self.network  # an impossible width is refused here
        if self.image_model:
            with torch.device("meta"):
                build_network(config)

    def _check_start(self) -> None:
        if self.start == "imagenet" and self.backbone == "vgg16":
            raise ValueError(
                "a vgg16 network starts from a file with VGG16's weights: name it with --start"
            )
        if self.stage == "msrn" and self.start in ("imagenet", "random"):
            raise ValueError(
                f"the stage msrn trains no TSLFN: it starts from a trained one's model, "
                f"not from {self.start}"
            )

    @property
    def network(self) -> NetworkConfig:
        """What to train."""
        name = "fctsfn" if self.stage == "msrn" else self.variant
        config = paper_config(name, self.backbone, self.fusion_channels)
        if self.image_model:
            config = replace(config, image_model=self.image_model)
        return replace(config, stride=STAGES[self.stage].stride)

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and columns that pictures are resized to; None if they are not."""
        if self.input == "native":
            return None
        rows, _, columns = self.input.partition("x")
        if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
            raise ValueError(f"input {self.input!r} is neither native nor ROWSxCOLUMNS")
        if not 64 <= max(int(rows), int(columns)) <= 4096:
            raise ValueError(f"input {self.input}: the longer side must be from 64 to 4096")
        return int(rows), int(columns)

    def describe(self) -> dict[str, Any]:
        """What decides the result, as plain values for log and model card."""
        values = asdict(self)
        unimportant = ("data", "output", "workers", "save_every", "minutes", "device")
        for name in (*unimportant, "tensorboard", "backbone", "fusion_channels", "image_model"):
            del values[name]
        return values | {"start": Path(self.start).name, "network": self.network.to_dict()}


class EarlyStopping:
    """Remembers the best validation, and how many have followed it (section 3.3).

    Parameters
    ----------
    patience : int
        Validations without improvement after which it is over; 0: never.
    best : float
        Accuracy of the best one so far; below zero if there is none.
    misses : int
        Validations since then.
    """

    def __init__(self, patience: int, best: float = -1.0, misses: int = 0) -> None:
        self.patience, self.best, self.misses = patience, best, misses

    def improved(self, accuracy: float) -> bool:
        """Take note of a validation; whether it is the best one."""
        better = accuracy > self.best
        self.best, self.misses = (accuracy, 0) if better else (self.best, self.misses + 1)
        return better

    @property
    def over(self) -> bool:
        """Whether the training should stop."""
        return 0 < self.patience <= self.misses


def train_paper_model(settings: PaperSettings, name: str) -> Path | None:
    """Train a stage, and write the network with its card to ``NAME.safetensors`` in the output.

    In several processes (``torchrun``) each draws examples of its own, gradients are averaged, and
    the first one logs and writes.

    Parameters
    ----------
    settings : PaperSettings
    name : str
        Name of the model.

    Returns
    -------
    Path or None
        The model file; None if the minutes were over before the training was complete.

    Raises
    ------
    DataSetError
        If training data are missing or do not fit.
    CheckpointError
        If the checkpoint is damaged or belongs to other settings.
    WeightsError, ModelError
        If there are no weights to start from, or they are another network's.
    """
    with join(settings.device) as processes:
        training = _Training(settings, processes)
        network = training.run()
        if network is None:
            return None
        path = settings.output / f"{name}.safetensors"
        if processes.main:
            samples = training.samples
            learned = TrainingSet(
                name=samples.dataset.name,
                licence=samples.dataset.licence,
                images=samples.pictures,
                share=1.0,
            )
            write_model(
                settings.output,
                name,
                network,
                recipe="paper",
                settings=settings.describe() | {"origin": training.origin},
                learned=[learned],
                parent=training.parent,
                input_size=max(settings.size or _NATIVE),
                metrics=training.metrics,
            )
    return path


class _Training:
    """One stage, in one of the processes.

    Parameters
    ----------
    settings : PaperSettings
    processes : Processes
    """

    def __init__(self, settings: PaperSettings, processes: Processes) -> None:
        self.settings, self.processes = settings, processes
        self.deadline = deadline_after(settings.minutes)
        settings.output.mkdir(parents=True, exist_ok=True)
        config = settings.network
        folder = settings.data / settings.set
        self.samples = Samples(
            folder, settings.size, settings.augment, settings.seed, config.multiple
        )
        torch.manual_seed(settings.seed)
        self.network = build_network(config)
        self.parent: LoadedModel | None = load_start(self.network, settings.start)
        self.origin = origin(settings.start, self.parent)
        self.network.to(processes.device)
        self.trained = trained_part(self.network, settings.stage)
        if settings.stage == "msrn":
            _check_tslfn(self.network, self.trained, self.parent)
        self.network.requires_grad_(False)
        self.trained.requires_grad_(True)
        self.modules: dict[str, nn.Module] = {"network": self.network}
        if settings.patience:
            self.modules["best"] = copy.deepcopy(self.trained).requires_grad_(False)
        if processes.device == "cpu" and settings.precision == "bf16":
            full_precision_large_kernels(self.network)
        self.pretrained = self.origin != "random"
        self.optimizer = _optimizer(self.network, settings, self.pretrained)
        self.stopping = EarlyStopping(settings.patience)
        self.accuracy = 0.0

    def run(self) -> FCTSFN | None:
        """Train to the end, on the CPU and in evaluation mode then; None if time was over."""
        settings = self.settings
        first = self._resume()
        self.wrapped = self.processes.wrap(self.network)
        batches = ahead(self._draw, first, settings.workers)
        if not self.stopping.over and not run(
            settings,
            first,
            batches,
            self._take_step,
            self._save,
            deadline=self.deadline,
            processes=self.processes,
            tensorboard=settings.tensorboard,
        ):
            return None
        if settings.patience:
            self.trained.load_state_dict(self.modules["best"].state_dict())
        return self.network.cpu().eval()

    @property
    def metrics(self) -> dict[str, float]:
        """Mean IoU on the validation pictures, of the weights that `run` gives."""
        accuracy = self.stopping.best if self.settings.patience else self.accuracy
        return {"validation_iou": round(accuracy, 4)}

    def _describe(self) -> dict[str, Any]:
        described = {"recipe": "paper", **self.settings.describe()}
        return described | {"processes": self.processes.size}

    @property
    def _checkpoint(self) -> Path:
        return self.settings.output / "checkpoint.safetensors"

    def _resume(self) -> int:
        if not self._checkpoint.exists():
            return 0
        state = load_checkpoint(self._checkpoint, self.modules, self.optimizer)
        cooldown = _COOLDOWN if self.settings.optimizer == "adamw" else 0.0
        first = resume_point(state, self._describe(), self.settings.output, cooldown)
        self.stopping = EarlyStopping(self.settings.patience, state["best"], state["misses"])
        self.accuracy = state["accuracy"]
        return first

    def _save(self, done: int) -> None:
        state = {
            "step": done,
            "settings": self._describe(),
            "best": self.stopping.best,
            "misses": self.stopping.misses,
            "accuracy": self.accuracy,
        }
        save_checkpoint(self._checkpoint, self.modules, self.optimizer, state)

    def _draw(self, step: int) -> list[Example]:
        """Examples of a step: other ones in each process, the same for every variant."""
        batch = self.settings.batch
        first = (step * self.processes.size + self.processes.rank) * batch
        return [self.samples.draw(first + place) for place in range(batch)]

    def _take_step(self, step: int, examples: list[Example]) -> Outcome:
        settings = self.settings
        set_rates(self.optimizer, step, settings)
        loss, accuracy = self._learn(step, examples)
        record = {
            "step": step,
            "loss": round(loss, 4),
            "iou": round(accuracy, 3),
            "rate": self.optimizer.param_groups[-1]["lr"],
        }
        if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
            self.accuracy = self._validate()
            record["validation_iou"] = round(self.accuracy, 4)
            if self.stopping.improved(self.accuracy) and settings.patience:
                self.modules["best"].load_state_dict(self.trained.state_dict())
        shown = {"loss": f"{loss:.3f}", "iou": f"{accuracy:.2f}", "val": f"{self.accuracy:.3f}"}
        return Outcome(record, shown, self.stopping.over)

    def _learn(self, step: int, examples: list[Example]) -> tuple[float, float]:
        """One optimizer step; mean loss and IoU of this process's examples before it."""
        if self.settings.stage == "msrn":
            self.network.eval()
            self.trained.train()
        elif self.pretrained:
            training_mode(self.network)
        else:
            self.network.train()
        # Dropout depends on seed, step and rank alone, so that nothing of it need be kept.
        state = np.random.SeedSequence([self.settings.seed, step, self.processes.rank])
        torch.manual_seed(int(state.generate_state(1, np.uint64)[0]))
        image, maps, truth, valid = self._batch(examples)
        with self._autocast():
            logit = self.wrapped(image, maps).logit
        clip = list(self.trained.parameters()) if self.settings.optimizer == "adamw" else []
        loss = softmax_loss(logit, truth, valid).mean()
        descend(loss, self.optimizer, step, clip)
        return float(loss.detach()), float(_iou(logit.detach(), truth, valid).mean())

    def _validate(self) -> float:
        """Mean IoU over the validation pictures, each of which one process looks at."""
        self.processes.share_buffers(self.network)
        self.network.eval()
        mine = range(self.processes.rank, len(self.samples.validation), self.processes.size)
        found = []
        for index in mine:
            image, maps, truth, valid = self._batch([self.samples.validate(index)])
            with torch.no_grad(), self._autocast():
                logit = self.network(image, maps).logit
            found.append((index, float(_iou(logit, truth, valid))))
        # Sorted, so that the mean is the same whoever found the parts.
        return float(np.mean([iou for _, iou in sorted(self.processes.gather(found))]))

    def _batch(self, examples: list[Example]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, maps, truths and known pixels on the device."""

        def stack(name: str) -> Tensor:
            tensor = torch.stack([getattr(example, name) for example in examples])
            return tensor.to(self.processes.device).contiguous(memory_format=torch.channels_last)

        return stack("image"), stack("maps"), stack("truth"), stack("valid")

    def _autocast(self) -> torch.autocast:
        kind = torch.device(self.processes.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.settings.precision == "bf16")


def trained_part(network: FCTSFN, stage: str) -> nn.ModuleDict:
    """What a stage trains: the network, or in ``msrn`` only what it has beyond the TSLFN.

    That is the refiner; in ``lite`` networks the stems of the image stream, too, which feed the
    refiner alone.
    """
    if stage != "msrn":
        return nn.ModuleDict({"network": network})
    parts: dict[str, nn.Module] = {"refiner": network.refiner}
    children = dict(network.image_stream.named_children())
    return nn.ModuleDict(parts | {name: children[name] for name in _STEMS if name in children})


def _check_tslfn(network: FCTSFN, trained: nn.Module, parent: LoadedModel | None) -> None:
    """Raise if the refiner would be trained on a TSLFN that has not been trained as a whole."""
    if parent is None:
        raise WeightsError(
            "the stage msrn starts from the model of a trained TSLFN, not from VGG16's weights"
        )
    new = {id(parameter) for parameter in trained.parameters()}
    learned = parent.network.state_dict().keys()
    missing = [n for n, p in network.named_parameters() if id(p) not in new and n not in learned]
    if missing:
        raise WeightsError(
            f"the stage msrn starts from the model of the stage tslfn8, but {parent.card.name} "
            f"has no {missing[0].rpartition('.')[0]}"
        )


def _optimizer(network: FCTSFN, settings: PaperSettings, pretrained: bool) -> torch.optim.Optimizer:
    """SGD as published, or AdamW with a rate of its own for what begins pretrained, if any."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            [p for _, p in named],
            lr=settings.rate,
            momentum=0.99,
            weight_decay=5e-4,
            nesterov=settings.stage == "msrn",
        )
    begun: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in named:
        lite = settings.backbone == "lite"
        known = is_pretrained(name) if lite else name.startswith(_FROM_VGG16)
        begun[pretrained and known].append(parameter)
    rates = {True: settings.backbone_rate, False: settings.rate}
    groups = [{"params": begun[key], "base": rates[key]} for key in (True, False) if begun[key]]
    return torch.optim.AdamW(groups, weight_decay=0.01)


def set_rates(optimizer: torch.optim.Optimizer, step: int, settings: PaperSettings) -> None:
    """Rates of a step: with ``sgd`` the stage's, with ``adamw`` warm-up and cool-down."""
    if settings.optimizer == "adamw":
        warm_up_and_cool_down(optimizer, step, settings.steps, _COOLDOWN)
        return
    drops = sum(step >= drop for drop in STAGES[settings.stage].drops)
    for group in optimizer.param_groups:
        group["lr"] = settings.rate * 0.1**drops


def _iou(logit: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """IoU of each example's mask, among the known pixels, shape (batch,)."""
    mask, known = logit > 0, valid > 0
    both = (mask & (truth > 0) & known).sum(dim=(1, 2, 3))
    either = ((mask | (truth > 0)) & known).sum(dim=(1, 2, 3))
    return both / either.clamp(min=1)
