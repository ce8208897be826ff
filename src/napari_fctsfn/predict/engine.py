"""The network on a device: precision, feature cache, and what to do when memory runs out."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from napari_fctsfn.errors import InputError
from napari_fctsfn.network import FCTSFN, ImageFeatures, Scores, fold_norms, fold_padding
from napari_fctsfn.predict.cache import ByteLRU
from napari_fctsfn.predict.consistency import Adjustment, adjust, far_off, fit

T = TypeVar("T")

CELL = 4
"""Pixels of the network's input that `Engine.describe` takes together."""

CACHE_BYTES = 256 << 20
"""Features kept in memory, at most: 20 to 45 windows, by precision."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread meanwhile, since sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(name: str) -> torch.device:
    """The device to compute on.

    Parameters
    ----------
    name : str
        ``auto`` (CUDA, then MPS, then CPU) or a name that torch knows: ``cpu``, ``cuda``,
        ``cuda:1``, ``mps``.

    Raises
    ------
    InputError
        If the name is unknown or the device not there.
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in has.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if not has.get(device.type, False):
        there = ", ".join(kind for kind, found in has.items() if found)
        raise InputError(f"device {name!r} is not available; choose auto or one of: {there}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r} is not available: {torch.cuda.device_count()} GPUs found"
        )
    return device


def reduced_precision(device: torch.device) -> torch.dtype | None:
    """The reduced precision that is faster on `device`, if any."""
    if device.type == "cuda":
        return torch.float16
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if device.type == "cpu" and fast else None


class Engine:
    """A network on a device with a cache of image features.

    Parameters
    ----------
    network : FCTSFN
        In evaluation mode; what computes is a copy with its batch norms and paddings folded.
    device : torch.device
    input_size : int
        Longest side of a network input, in pixels.
    cache_bytes : int
        Bound of the feature cache.
    """

    def __init__(
        self, network: FCTSFN, device: torch.device, input_size: int, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._host_network = network
        self.input_size = input_size
        self.cache: ByteLRU[Hashable, ImageFeatures] = ByteLRU(
            cache_bytes, lambda features: features.nbytes
        )
        self._move(device)

    def _move(self, device: torch.device) -> None:
        self.device = device
        self._autocast = reduced_precision(device)
        self._network = copy.deepcopy(self._host_network)
        fold_norms(self._network)
        fold_padding(self._network)
        if self._autocast is not None:
            convert_weights(self._network, self._autocast)
        self._network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network.requires_grad_(False)

    @property
    def takes_previous(self) -> bool:
        """Whether the network takes the previous mask as a third interaction channel."""
        return self._network.config.previous_mask

    def features(self, key: Hashable, make_image: Callable[[], Tensor]) -> ImageFeatures:
        """Features of the image that `make_image` gives, from the cache if `key` is known.

        Parameters
        ----------
        key : hashable
            Stands for the content of the image and its windows.
        make_image : callable
            Gives a Tensor of shape (windows, 3, rows, columns), RGB, 0..1; called only when needed.
        """
        found = self.cache.get(key)
        if found is None:
            found = self._run(lambda: self._network.encode_image(self._padded(make_image())))
            self.cache.put(key, found)
        return found

    def look(
        self,
        features: ImageFeatures,
        maps: Tensor,
        consistent: bool = False,
        adjustment: Adjustment | None = None,
    ) -> list[tuple[Tensor, float]]:
        """Foreground probability of a click in each of the windows that were encoded together.

        Parameters
        ----------
        features : ImageFeatures
        maps : Tensor, shape (windows, 2 or 3, rows, columns)
            Interaction maps and previous mask; padded here as the image was.
        consistent : bool
            Whether a mask is adjusted where it contradicts a click that lies deep in it, or far
            from it.
        adjustment : Adjustment, optional
            From `fit`; the masks are then not adjusted to clicks.

        Returns
        -------
        list of (Tensor of float32, shape (rows, columns), on the CPU; float)
            Of each window the probability and the predicted IoU, 0..1, which is not a number where
            the network predicts none.
        """
        rows, columns = maps.shape[2:]
        padded = self._padded(maps)
        network = self._network

        def compute() -> list[Scores]:
            fused = network.fuse(features, padded)
            if adjustment is not None:
                return adjustment.refine(network, features, fused).each()
            every = network.refine(features, fused).each()
            if not consistent:
                return every
            # The distance to a click is zero there; padding repeats the border.
            clicks = padded[:, :2] == 0
            clicks[:, :, rows:] = clicks[:, :, :, columns:] = False
            positive, negative = clicks[:, :1] & ~clicks[:, 1:], clicks[:, 1:] & ~clicks[:, :1]
            for i, scores in enumerate(every):
                here = positive[i : i + 1], negative[i : i + 1]
                if far_off(scores.logit, *here):
                    every[i] = adjust(network, features.one(i), fused.one(i), *here)
            return every

        return [
            (
                scores.logit[0, 0, :rows, :columns].float().sigmoid().cpu(),
                math.nan if scores.quality is None else float(scores.quality.float().sigmoid()),
            )
            for scores in self._run(compute)
        ]

    def describe(self, features: ImageFeatures, size: tuple[int, int]) -> NDArray[np.float32]:
        """Image features of all depths but the finest, side by side.

        Parameters
        ----------
        features : ImageFeatures
        size : (int, int)
            Rows and columns of cells of `CELL` pixels; the padding beyond is left out.

        Returns
        -------
        array of float32, shape (rows, columns, channels)
        """
        cells = features.size[0] // CELL, features.size[1] // CELL
        layers = [
            resize(layer.float(), cells)
            for layer in (*features.fusion[-1:], *features.refiner)
            if layer.shape[2] <= 2 * cells[0]
        ]
        stacked = torch.cat(layers, dim=1)[0, :, : size[0], : size[1]]
        described: NDArray[np.float32] = stacked.permute(1, 2, 0).cpu().numpy()
        return described

    def fit(
        self, examples: Sequence[tuple[ImageFeatures, Tensor]], truths: Sequence[Tensor]
    ) -> Adjustment:
        """What makes looks come nearest to known masks.

        Parameters
        ----------
        examples : sequence of (ImageFeatures, Tensor)
            Features and maps, as for `look`; at least one.
        truths : sequence of Tensor of float32, shape (1, 1, rows, columns)
            The object in each, 0..1, of the maps' size.
        """

        def compute() -> Adjustment:
            fused = [
                (each, self._network.fuse(each, self._padded(maps))) for each, maps in examples
            ]
            return fit(self._network, fused, [truth.to(self.device) for truth in truths])

        return self._run(compute)

    def _padded(self, tensor: Tensor) -> Tensor:
        rows, columns = tensor.shape[2:]
        multiple = self._network.multiple
        tensor = pad(tensor, (0, -columns % multiple, 0, -rows % multiple), mode="replicate")
        return tensor.to(self.device).contiguous(memory_format=torch.channels_last)

    def _run(self, compute: Callable[[], T]) -> T:
        with (
            torch.no_grad(),
            torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None),
        ):
            return compute()

    def give_way(self) -> bool:
        """Free memory after the device ran out of it; called before trying again.

        Returns
        -------
        bool
            False if nothing is left to give up.
        """
        self.cache.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.input_size > 256 and self.device.type != "cpu":
            self.input_size //= 2
            warnings.warn(
                f"{self.device} is out of memory: working at {self.input_size} pixels from now on",
                stacklevel=2,
            )
            return True
        if self.device.type != "cpu":
            warnings.warn(f"{self.device} is out of memory: working on the CPU", stacklevel=2)
            self._move(torch.device("cpu"))
            return True
        return False


def convert_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert once, in place, what autocast would convert with every look."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.to(dtype)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bilinear resize of (1, channels, rows, columns) to `size`."""
    if tuple(image.shape[2:]) == size:
        return image
    shrinks = size[0] < image.shape[2] or size[1] < image.shape[3]
    return interpolate(image, size, mode="bilinear", align_corners=False, antialias=shrinks)
