"""Learning from looks with the image stream as it is: its features are computed once and kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import kl_div, logsigmoid

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.sampling import error_click
from napari_fctsfn.network import FCTSFN, ImageFeatures, Scores
from napari_fctsfn.predict.cache import ByteLRU
from napari_fctsfn.predict.engine import reduced_precision
from napari_fctsfn.train.finetune.looks import Look, maps_of, padded
from napari_fctsfn.train.loop import full_precision_large_kernels
from napari_fctsfn.train.losses import boundary_weight
from napari_fctsfn.train.modern import click_loss

Parts = Literal["refiner", "fusion", "interaction", "adapters", "all"]
"""What learns: each of these and those before it."""

PARTS: tuple[Parts, ...] = ("refiner", "fusion", "interaction", "adapters", "all")

CACHE_BYTES = 512 << 20
"""Features kept, at most: some 200 windows."""

_STEEPEST = 5.0
"""Largest norm of a gradient."""

_STEP = 2
"""Simulated clicks look at every second pixel."""


@dataclass(frozen=True)
class Rates:
    """How fast and how far a model moves.

    Parameters
    ----------
    rate : float
        AdamW's.
    stay : float
        Pull of every weight towards the base's, in parts of the rate.
    average : float
        Decay of the moving average of the weights.
    keep : float
        Part of the base in the weights that are given: between two models that are so near to each
        other, a mean of weights keeps more of both than either has of the other.
    batch, replayed : int
        Own looks and looks of the replay in a step.
    replay : float
        What the replay counts, in parts of the own looks.
    warm : int
        Steps over which the rate rises.
    """

    rate: float = 5e-4
    stay: float = 0.5
    average: float = 0.97
    keep: float = 0.25
    batch: int = 4
    replayed: int = 4
    replay: float = 6.0
    warm: int = 10


class Learner:
    """A copy of a network that learns, and the average of its weights that is given.

    Parameters
    ----------
    base : FCTSFN
        In evaluation mode; stays as it is.
    device : torch.device
    parts : {"refiner", "fusion", "interaction", "adapters", "all"}
        What learns. ``adapters`` are the scales and biases of the image stream's batch norms;
        with them or ``all`` the image stream runs in every step.
    rates : Rates
    """

    def __init__(self, base: FCTSFN, device: torch.device, parts: Parts, rates: Rates) -> None:
        self.rates, self.device = rates, device
        self._base = copy.deepcopy(base).to(device)
        self.average = copy.deepcopy(base).requires_grad_(False).to(device)
        self.network = copy.deepcopy(base).to(device)
        self._dtype = reduced_precision(device)
        if device.type == "cpu" and self._dtype is not None:
            full_precision_large_kernels(self.network)
        # Evaluation mode throughout: the statistics of the batch norms stay the base's.
        self.network.eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW([{"params": []}], lr=rates.rate, weight_decay=0.0)
        self._learning: list[nn.Parameter] = []
        self._start: list[Tensor] = []
        self._means: list[Tensor] = []
        self._given: list[Tensor] = []
        self._kept: ByteLRU[Look, list[Tensor]] = ByteLRU(
            CACHE_BYTES, lambda levels: sum(t.numel() * t.element_size() for t in levels)
        )
        self.steps = 0
        self.widen(parts)

    def widen(self, parts: Parts) -> None:
        """Let these parts learn from now on, too."""
        self.parts = parts
        self._frozen = PARTS.index(parts) < PARTS.index("adapters")
        if not self._frozen:
            self._kept.clear()
        chosen, given = _chosen(self.network, parts), dict(self.average.named_parameters())
        new = []
        for name, parameter in self.network.named_parameters():
            if name in chosen and not parameter.requires_grad:
                parameter.requires_grad_(True)
                new.append(parameter)
                self._start.append(parameter.detach().clone())
                self._means.append(parameter.detach().clone())
                self._given.append(given[name])
        self._learning += new
        self.optimizer.add_param_group({"params": new})

    def resume(self, steps: int) -> None:
        """Go on after so many steps, once the networks and the optimizer hold what they did then.

        For rates that `keep` nothing of the base in what is given.
        """
        self.steps = steps
        for mean, given in zip(self._means, self._given, strict=True):
            mean.copy_(given)

    def step(self, own: Sequence[Look], replay: Sequence[Look], rng: np.random.Generator) -> float:
        """Learn from some looks; gives the mean loss of the own ones.

        Parameters
        ----------
        own : sequence of Look
            With their truth.
        replay : sequence of Look
            Of other pictures, on which the base is the teacher.
        rng : Generator

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates.rate * min(1.0, (self.steps + 1) / self.rates.warm)
        shown = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        every = [(look, False) for look in own] + [(look, True) for look in replay]
        for look, teacher in every:
            weight = self.rates.replay / max(len(replay), 1) if teacher else 1 / len(own)
            loss = weight * (self._teach(look, rng) if teacher else self._learn(look, rng))
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss is {float(loss.detach())} at step {self.steps}")
            if not teacher:
                shown += float(loss.detach())
            # One look after the other: memory for one is enough.
            torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._learning, _STEEPEST)
        self.optimizer.step()
        self._pull()
        self.steps += 1
        return shown

    def _pull(self) -> None:
        """Back towards the base a little, and the average a little forward."""
        back = self.rates.stay * self.rates.rate
        decay = min(self.rates.average, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for parameter, start, mean, given in zip(
                self._learning, self._start, self._means, self._given, strict=True
            ):
                parameter.lerp_(start, back)
                mean.lerp_(parameter, 1 - decay)
                given.copy_(torch.lerp(start, mean, 1 - self.rates.keep))

    def _learn(self, look: Look, rng: np.random.Generator) -> Tensor:
        """Loss of the rounds of a look; the clicks after the first are in the model's errors."""
        truth, known = self._tensor(look.truth), self._tensor(look.known)
        weight = known * boundary_weight(truth)
        features = self._features(self.network, look, grad=True)
        clicks, previous = look.clicks, look.previous
        total = torch.zeros((), device=self.device)
        for left in range(look.rounds - 1, -1, -1):
            maps = self._maps(look, clicks, previous)
            scores = self._click(self.network, features, maps)
            mask = self._mask(look, scores) & look.known
            iou = _iou(mask, look.truth)
            total = total + click_loss(scores, truth, known, weight, maps, [iou]) / look.rounds
            click = error_click(mask, look.truth & look.known, rng, _STEP) if left else None
            if click is None:
                break
            clicks, previous = clicks.append(click), mask
        return total

    def _teach(self, look: Look, rng: np.random.Generator) -> Tensor:
        """How far the answer to a click is from the base's, which is the truth here."""
        clicks = _elsewhere(look, rng)
        maps = self._maps(look, clicks, look.previous)
        with torch.no_grad():
            wanted = self._click(self._base, self._features(self._base, look, grad=False), maps)
        scores = self._click(self.network, self._features(self.network, look, grad=True), maps)
        known = self._tensor(np.ones(look.size, dtype=bool))
        loss = _divergence(scores.logit, wanted.logit, known)
        loss = loss + 0.4 * _divergence(scores.coarse, wanted.coarse, known)
        if scores.quality is not None and wanted.quality is not None:
            ones = torch.ones_like(scores.quality)
            loss = loss + 0.1 * _divergence(scores.quality, wanted.quality, ones)
        return loss

    def score(self, looks: Sequence[Look]) -> float:
        """Mean IoU of the averaged weights over some looks and one further click each, 0..1."""
        ious = []
        for number, look in enumerate(looks):
            rng = np.random.default_rng([number, 11])
            with torch.no_grad():
                features = self._features(self.average, look, grad=False)
                clicks, previous = look.clicks, look.previous
                for _ in range(look.rounds):
                    scores = self._click(self.average, features, self._maps(look, clicks, previous))
                    previous = self._mask(look, scores) & look.known
                    ious.append(_iou(previous, look.truth & look.known))
                    click = error_click(previous, look.truth & look.known, rng, _STEP)
                    if click is None:
                        break
                    clicks = clicks.append(click)
        return float(np.mean(ious))

    def to(self, device: torch.device) -> None:
        """Go on on another device, with an empty store of features."""
        self.device = device
        self._kept.clear()
        for network in (self._base, self.average, self.network):
            network.to(device)
        self._start = [start.to(device) for start in self._start]
        self._means = [mean.to(device) for mean in self._means]
        for state in self.optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, Tensor) and key != "step":
                    state[key] = value.to(device)
        self._dtype = reduced_precision(device)

    def snapshot(self) -> FCTSFN:
        """The averaged weights as they are now."""
        return copy.deepcopy(self.average)

    def spare(self) -> bool:
        """Keep no more features, after memory ran out; False if none were kept."""
        kept = self._kept.max_bytes > 0
        self._kept.max_bytes = 0
        self._kept.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return kept

    def _levels(self, network: FCTSFN, look: Look) -> list[Tensor]:
        """Features of the image stream."""
        image = padded(look.image.float(), multiple=network.multiple)
        image = image.expand(-1, 3, -1, -1).to(self.device)
        with self._precision():
            levels: list[Tensor] = network.image_stream(
                image.contiguous(memory_format=torch.channels_last)
            )
        return levels

    def _features(self, network: FCTSFN, look: Look, *, grad: bool) -> ImageFeatures:
        """Image halves from what is kept of the image stream, or from all of it if that learns."""
        if self._frozen:
            found = self._kept.get(look)
            if found is None:
                with torch.no_grad():
                    levels = self._levels(network, look)
                kept = [level.to(self._dtype or level.dtype) for level in levels]
                found = self._kept.put(look, kept)
            levels = found
        else:
            with torch.set_grad_enabled(grad):
                levels = self._levels(network, look)
        size = tuple(-(-n // network.multiple) * network.multiple for n in look.size)
        with torch.set_grad_enabled(grad), self._precision():
            return ImageFeatures(
                network.fusion.image_halves(levels),
                network.refiner.image_halves(levels),
                (size[0], size[1]),
            )

    def _click(self, network: FCTSFN, features: ImageFeatures, maps: Tensor) -> Scores:
        with self._precision():
            return network.click(features, maps)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None)

    def _maps(self, look: Look, clicks: Clicks, previous: NDArray[np.bool_]) -> Tensor:
        network = self.network
        maps = maps_of(look, clicks, previous, network.map_channels, network.multiple)
        return maps.to(self.device).contiguous(memory_format=torch.channels_last)

    def _mask(self, look: Look, scores: Scores) -> NDArray[np.bool_]:
        rows, columns = look.size
        mask: NDArray[np.bool_] = (scores.logit.detach()[0, 0, :rows, :columns] > 0).cpu().numpy()
        return mask

    def _tensor(self, mask: NDArray[np.bool_]) -> Tensor:
        """A mask as 0 and 1, shape (1, 1, rows, columns), 0 where the window is continued."""
        multiple = self.network.multiple
        tensor = torch.from_numpy(mask.astype(np.float32))[None, None]
        return padded(tensor, 0.0, multiple).to(self.device)


def _chosen(network: FCTSFN, parts: Parts) -> set[str]:
    """Names of the parameters that learn."""
    prefixes = ["refiner.", "quality."]
    if not network.config.refines or parts != "refiner":
        prefixes.append("fusion.")
    if PARTS.index(parts) >= PARTS.index("interaction"):
        prefixes.append("interaction_stream.")
    if parts == "all":
        prefixes.append("image_stream.")
    names = {n for n, _ in network.named_parameters() if n.startswith(tuple(prefixes))}
    if parts == "adapters":
        for name, module in network.image_stream.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                names |= {f"image_stream.{name}.{part}" for part in ("weight", "bias")}
    return names


def _divergence(logit: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two foreground probabilities, a mean over known pixels."""
    logit, wanted = logit.float(), wanted.float()
    both = torch.stack([logsigmoid(logit), logsigmoid(-logit)])
    target = torch.stack([logsigmoid(wanted), logsigmoid(-wanted)])
    each = kl_div(both, target, reduction="none", log_target=True).sum(dim=0)
    return (each * known).sum() / known.sum()


def _elsewhere(look: Look, rng: np.random.Generator) -> Clicks:
    """The clicks of a look, or one to three anywhere."""
    if rng.random() < 0.5 or look.previous.any():
        return look.clicks
    rows, columns = look.size
    clicks = Clicks()
    for _ in range(int(rng.integers(1, 4))):
        positive = not len(clicks) or bool(rng.random() < 0.4)
        place = int(rng.integers(rows)), int(rng.integers(columns))
        clicks = clicks.append(Click(*place, positive))
    return clicks


def _iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    either = int((mask | truth).sum())
    return int((mask & truth).sum()) / either if either else math.nan
