"""The modern recipe: iterative clicks, previous mask, normalized focal loss, deep supervision."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, shift
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from napari_fctsfn.clicks.click import Clicks
from napari_fctsfn.clicks.sampling import error_click, initial_clicks
from napari_fctsfn.models import LoadedModel, TrainingSet, load_model, resolve_model
from napari_fctsfn.network import FCTSFN, NetworkConfig, Scores, build_network, interaction_maps
from napari_fctsfn.predict.engine import choose_device
from napari_fctsfn.train.card import write_model
from napari_fctsfn.train.checkpoint import load_checkpoint, save_checkpoint
from napari_fctsfn.train.graft import graft
from napari_fctsfn.train.loop import (
    Outcome,
    ahead,
    deadline_after,
    descend,
    full_precision_large_kernels,
    resume_point,
    run,
    training_mode,
    warm_up_and_cool_down,
)
from napari_fctsfn.train.losses import boundary_weight, dice_loss, normalized_focal_loss
from napari_fctsfn.train.mixture import BANDS, MIXTURES, Crop, Mixture
from napari_fctsfn.train.start import grow, load_imagenet

_SIMULATION_STEP = 2
"""Simulated clicks look at every second pixel: half of the time for a click a pixel off."""

_CLICK_RADIUS = 3
"""Pixels around a click that count more, since a user expects a click to be obeyed."""

_CLICK_WEIGHT = 3.0
"""What they count in addition."""

_FIRST_WEIGHT = 1.5
"""What the first click counts, in parts of a later one: annotators judge a model by it."""

_CORRECTED = 0.08
"""Share of the crops of whole objects that begin with a mask to be corrected."""

_LATEST = 12
"""Clicks that a late step is ahead, at most."""

_GRAFTED = 960
"""Crops that another image stream is fitted on; the first ones of the training."""


LAPTOP = NetworkConfig(
    interaction_channels=(32, 48, 64, 128, 256), bottleneck_channels=(48, 32, 24), quality=True
)
"""On the knee of accuracy and time for a click (docs/quality.md, "Search")."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training with the modern recipe.

    Parameters
    ----------
    data : Path
        Folder of the data sets.
    output : Path
        Folder for checkpoint, log and model; made if missing. A checkpoint found there is resumed.
    steps : int
        Optimizer steps. While a training is in its constant phase the number may be changed.
    batch, size, states : int
        Crops in a step, their rows and columns, and the click states of each crop: a crop is
        encoded once and clicked `states` times.
    late : float
        Share of the steps that begin late in an interaction: after one to twelve clicks of the
        model's own errors, without a gradient. A stubborn object is learned that way.
    seed : int
        Of crops, clicks and initial weights.
    rate, backbone_rate : float
        AdamW learning rates of the new parts and of the image stream.
    cooldown : float
        Last part of the steps, in which the rates fall linearly to a fiftieth.
    average : float
        Decay of the exponential moving average of the weights that becomes the model.
    mixture : mapping of str to float
        Share of each data set, by folder name.
    network : NetworkConfig
        What to train.
    start : str
        Initial weights: ``imagenet`` or ``random`` for the image stream, or the name or path of a
        model for the whole network (phase two). The network may have more layers than the model;
        they begin by changing nothing. Or it may have another image stream, which begins with
        ImageNet weights (see `graft`).
    device : str
        ``auto`` (a GPU where there is one), or a name that torch knows.
    precision : {"bf16", "fp32"}
        Of the convolutions (autocast).
    workers : int
        Threads that make crops ahead, and as many that click.
    save_every : int
        Steps between checkpoints.
    minutes : float, optional
        Stop after so many minutes with a checkpoint; the same call again goes on.
    tensorboard : bool
        Whether to log for TensorBoard, too.
    """

    data: Path
    output: Path
    steps: int = 4000
    batch: int = 8
    size: int = 256
    states: int = 3
    late: float = 0.2
    seed: int = 0
    rate: float = 1e-3
    backbone_rate: float = 2e-4
    cooldown: float = 0.6
    average: float = 0.998
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(MIXTURES["default"]))
    network: NetworkConfig = LAPTOP
    start: str = "imagenet"
    device: str = "auto"
    precision: Literal["bf16", "fp32"] = "bf16"
    workers: int = 1
    save_every: int = 100
    minutes: float | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "states", "workers", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes must be above zero, not {self.minutes}")
        if self.size < 64 or self.size % 32:
            raise ValueError(f"size must be a multiple of 32 from 64 up, not {self.size}")
        with torch.device("meta"):  # an image model that is none is refused here
            build_network(self.network)

    def describe(self) -> dict[str, Any]:
        """What decides the result, as plain values for log and model card."""
        values = asdict(self)
        unimportant = (
            "data",
            "output",
            "workers",
            "save_every",
            "minutes",
            "device",
            "tensorboard",
        )
        for name in unimportant:
            del values[name]
        bands = {name: BANDS[name] for name in self.mixture if name in BANDS}
        return values | {
            **({"bands": bands} if bands else {}),
            "mixture": dict(self.mixture),
            "network": self.network.to_dict(),
            "start": Path(self.start).name,
        }


def train_model(settings: TrainSettings, name: str) -> Path | None:
    """Train, and write the averaged network with its card to ``NAME.safetensors`` in the output.

    Parameters
    ----------
    settings : TrainSettings
    name : str
        Name of the model.

    Returns
    -------
    Path or None
        The model file; None if the minutes were over before the last step.

    Raises
    ------
    DataSetError, CheckpointError, ModelError, WeightsError, InputError
        See `train`.
    """
    network = train(settings)
    if network is None:
        return None
    sources = Mixture(settings.data, settings.mixture, settings.size).sources
    learned = [
        TrainingSet(
            name=source.dataset.name,
            licence=source.dataset.licence,
            images=len(source.stems),
            share=share / sum(settings.mixture.values()),
        )
        for source, share in zip(sources, settings.mixture.values(), strict=True)
    ]
    return write_model(
        settings.output,
        name,
        network,
        recipe="modern",
        settings=settings.describe(),
        learned=learned,
        parent=_parent(settings),
    )


def _parent(settings: TrainSettings) -> LoadedModel | None:
    """The model that phase two starts from."""
    if settings.start in ("imagenet", "random"):
        return None
    return load_model(resolve_model(settings.start))


def train(settings: TrainSettings) -> FCTSFN | None:
    """Train a network, resuming a checkpoint in the output folder if there is one.

    Parameters
    ----------
    settings : TrainSettings

    Returns
    -------
    FCTSFN or None
        The averaged network, on the CPU, in evaluation mode; None if the minutes were over before
        the last step.

    Raises
    ------
    DataSetError
        If training data are missing or do not fit.
    CheckpointError
        If the checkpoint is damaged or belongs to other settings.
    ModelError, WeightsError
        If there is no such model to start from, or it has layers that the network does not have.
    InputError
        If the device is not available.
    """
    deadline = deadline_after(settings.minutes)
    settings = replace(settings, device=str(choose_device(settings.device)))
    parent = _parent(settings)
    settings.output.mkdir(parents=True, exist_ok=True)
    mixture = Mixture(settings.data, settings.mixture, settings.size)
    checkpoint = settings.output / "checkpoint.safetensors"

    def draw(step: int) -> list[Crop]:
        return [
            mixture.draw(np.random.default_rng([settings.seed, step, place]))
            for place in range(settings.batch)
        ]

    torch.manual_seed(settings.seed)
    network = build_network(settings.network)
    if settings.start == "imagenet":
        load_imagenet(network)
    elif parent is not None and not checkpoint.exists():
        _begin_from(network, parent.network.eval(), settings, draw)
    network.to(settings.device)
    average = copy.deepcopy(network).requires_grad_(False)
    if settings.device == "cpu" and settings.precision == "bf16":
        full_precision_large_kernels(network)
    backbone = list(network.image_stream.parameters())
    others = [p for n, p in network.named_parameters() if not n.startswith("image_stream.")]
    optimizer = torch.optim.AdamW(
        [
            {"params": backbone, "base": settings.backbone_rate},
            {"params": others, "base": settings.rate},
        ],
        weight_decay=0.01,
    )
    modules = {"network": network, "average": average}
    first = 0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint, modules, optimizer)
        first = _resume(state, settings)

    def take_step(step: int, crops: list[Crop]) -> Outcome:
        warm_up_and_cool_down(optimizer, step, settings.steps, settings.cooldown)
        loss, ious = _step(network, optimizer, crops, step, settings, users)
        _update_average(average, network, min(settings.average, (1 + step) / (10 + step)))
        shown = {"loss": f"{loss:.3f}", "iou": " ".join(f"{iou:.2f}" for iou in ious)}
        return Outcome({"step": step, "loss": loss, "iou": ious}, shown)

    def save(done: int) -> None:
        state = {"step": done, "settings": settings.describe()}
        save_checkpoint(checkpoint, modules, optimizer, state)

    batches = ahead(draw, first, settings.workers)
    with ThreadPoolExecutor(settings.workers) as users:
        complete = run(
            settings,
            first,
            batches,
            take_step,
            save,
            deadline=deadline,
            tensorboard=settings.tensorboard,
        )
    return average.cpu().eval() if complete else None


def _begin_from(
    network: FCTSFN, parent: FCTSFN, settings: TrainSettings, draw: Callable[[int], list[Crop]]
) -> None:
    """Fill a network from a model that is smaller, or that has another image stream."""
    if network.config.image_model == parent.config.image_model:
        grow(network, parent.state_dict())
        return
    load_imagenet(network)
    batches = range(math.ceil(_GRAFTED / settings.batch))
    images = (torch.stack([crop.image for crop in draw(step)]) for step in batches)
    graft(network, parent, tqdm(images, desc="image stream", total=len(batches)))


def _resume(state: dict[str, Any], settings: TrainSettings) -> int:
    """The step to go on from, if the checkpoint belongs to these settings."""
    return resume_point(state, settings.describe(), settings.output, settings.cooldown)


def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, value in zip(
        average.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _step(
    network: FCTSFN,
    optimizer: torch.optim.Optimizer,
    crops: list[Crop],
    step: int,
    settings: TrainSettings,
    users: Executor,
) -> tuple[float, list[float]]:
    """One optimizer step; mean loss and the mean IoU of each click state.

    Every crop has a user and chance of its own, so that nothing depends on the number of threads.
    """
    device = torch.device(settings.device)
    rng = np.random.default_rng([settings.seed, step, 10**6])
    chances = [np.random.default_rng([settings.seed, step, i, 10**6]) for i in range(len(crops))]
    truths = [crop.truth for crop in crops]
    image = torch.stack([crop.image for crop in crops]).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    truth = torch.from_numpy(np.stack(truths)).to(device, torch.float32)[:, None]
    valid = torch.from_numpy(np.stack([crop.valid for crop in crops])).to(device, torch.float32)
    valid = valid[:, None]
    previous, clicks = map(list, zip(*users.map(_begin, crops, chances), strict=True))
    weight = valid * boundary_weight(truth)
    training_mode(network)
    total = torch.zeros((), device=device)
    ious = []
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        features = network.encode_image(image)
    earlier = int(rng.integers(1, _LATEST + 1)) if rng.random() < settings.late else 0
    for state in range(-earlier, settings.states):
        maps = _maps(clicks, previous, settings, network.map_channels).to(device)
        with (
            torch.set_grad_enabled(state >= 0),
            torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"),
        ):
            scores = network.click(features, maps)
        masks = (scores.logit.detach() > 0)[:, 0].cpu().numpy()
        masks &= valid[:, 0].cpu().numpy() > 0
        if state >= 0:
            each = [_iou(m, t) for m, t in zip(masks, truths, strict=True)]
            ious.append(float(np.mean(each)))
            loss = click_loss(scores, truth, valid, weight, maps, each)
            first = _FIRST_WEIGHT if state == 0 and not earlier else 1.0
            total = total + first * loss / settings.states
        if state + 1 < settings.states:
            reactions = list(users.map(_react, masks, truths, clicks, chances))
            previous, clicks = map(list, zip(*reactions, strict=True))
    descend(total, optimizer, step, list(network.parameters()))
    return round(float(total.detach()), 4), [round(iou, 3) for iou in ious]


def click_loss(
    scores: Scores,
    truth: Tensor,
    valid: Tensor,
    weight: Tensor,
    maps: Tensor,
    ious: list[float],
) -> Tensor:
    """Loss of one click state: refined and coarse mask, and the predicted IoU.

    Parameters
    ----------
    scores : Scores
    truth, valid : Tensor of float, shape (batch, 1, rows, columns)
        The object, 0 or 1; 0 where nothing is known.
    weight : Tensor of float, same shape
        What a pixel counts for the refined mask.
    maps : Tensor of float, shape (batch, 2 or 3, rows, columns)
        Interaction maps that the scores were made with.
    ious : list of float
        IoU of each mask with its object.
    """
    near = (maps[:, :2].amin(dim=1, keepdim=True) < _CLICK_RADIUS).float()
    focal = normalized_focal_loss(scores.logit, truth, weight * (1 + _CLICK_WEIGHT * near))
    coarse = normalized_focal_loss(scores.coarse, truth, valid)
    loss = (focal + 0.5 * dice_loss(scores.logit, truth, valid) + 0.4 * coarse).mean()
    if scores.quality is not None:
        target = torch.tensor(ious, device=truth.device)
        loss = loss + 0.1 * binary_cross_entropy_with_logits(scores.quality.float(), target)
    return loss


def _initial_mask(crop: Crop, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mostly no previous mask; else the object as a model or somebody else might have drawn it."""
    truth = crop.truth
    if rng.random() > (0.9 if crop.close else _CORRECTED):
        return np.zeros_like(truth)
    kind = rng.integers(3)
    if kind == 0:
        change = binary_dilation if rng.random() < 0.5 else binary_erosion
        moved = shift(truth.astype(np.uint8), rng.integers(-8, 9, 2), order=0)
        return np.asarray(change(moved, iterations=int(rng.integers(1, 10))))
    if kind == 1:
        cells = int(rng.choice((4, 8, 16)))
        coarse = truth.reshape(len(truth) // cells, cells, -1, cells).mean(axis=(1, 3))
        noisy = coarse + rng.normal(0, 0.15, coarse.shape)
        return np.kron(noisy > 0.5, np.ones((cells, cells), dtype=bool))
    # right but for a few round places
    mask = truth.copy()
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    border = np.argwhere(truth & ~binary_erosion(truth))
    for _ in range(rng.integers(1, 4)):
        row, column = border[rng.integers(len(border))]
        radius = rng.uniform(3, 0.15 * len(truth))
        mask[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = rng.random() < 0.5
    return mask


def _begin(crop: Crop, rng: np.random.Generator) -> tuple[NDArray[np.bool_], Clicks]:
    """Previous mask and clicks at the start of an interaction."""
    previous = _initial_mask(crop, rng) & crop.valid
    return previous, _initial(crop, previous, rng)


def _react(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], clicks: Clicks, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], Clicks]:
    """Previous mask and clicks after a further one in the error of a mask."""
    click = error_click(mask, truth, rng, _SIMULATION_STEP)
    if click is not None:
        clicks = clicks.append(click)
    return mask if rng.random() > 0.1 else np.zeros_like(mask), clicks


def _initial(crop: Crop, previous: NDArray[np.bool_], rng: np.random.Generator) -> Clicks:
    """First clicks: on the object, or in the error of a mask that is there already."""

    def first() -> Clicks:
        return initial_clicks(crop.truth, rng, _SIMULATION_STEP, ~crop.valid)

    if not previous.any():
        return first()
    click = error_click(previous, crop.truth, rng, _SIMULATION_STEP)
    clicks = Clicks() if rng.random() < 0.5 else first()
    return clicks if click is None else clicks.append(click)


def _maps(
    clicks: list[Clicks],
    previous: list[NDArray[np.bool_]],
    settings: TrainSettings,
    channels: int,
) -> Tensor:
    """Interaction maps and previous masks, shape (batch, 2 or 3, size, size)."""
    longest = max(len(c) for c in clicks)
    pixels = torch.zeros(len(clicks), longest, 2)
    positive = torch.zeros(len(clicks), longest, dtype=torch.bool)
    valid = torch.zeros(len(clicks), longest, dtype=torch.bool)
    for i, row in enumerate(clicks):
        pixels[i, : len(row)] = torch.from_numpy(row.pixels())
        positive[i, : len(row)] = torch.tensor([click.positive for click in row])
        valid[i, : len(row)] = True
    maps = interaction_maps(pixels, positive, valid, (settings.size, settings.size))
    if channels == 3:
        mask = torch.from_numpy(np.stack(previous)).to(maps.dtype)[:, None]
        maps = torch.cat([maps, mask], dim=1)
    return maps.contiguous(memory_format=torch.channels_last)


def _iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))
