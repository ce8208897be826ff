"""Would ONNX Runtime compute the two halves of the network faster than torch?

    pip install onnx onnxruntime onnxscript
    python benchmarks/onnx_runtime.py [--model default] [--size 320] [--threads 2] [--rounds 40]

The image half and the click half are exported, compared in one run (rounds in turn, medians) with
torch in single precision and in bf16, and their answers with torch's in single precision: largest
difference of the probability, and share of the pixels that change sides. With ``int8`` the weights
are quantized by ONNX Runtime, statically, over random clicks on the bundled pictures.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quant_pre_process,
    quantize_static,
)
from torch import Tensor, nn

from napari_fctsfn.models import load_model, resolve_model
from napari_fctsfn.network import FCTSFN, ImageFeatures, fold_norms, interaction_maps
from napari_fctsfn.predict.engine import convert_weights, resize
from napari_fctsfn.train.finetune.replay import replay_pictures

Arrays = dict[str, NDArray[np.float32]]
Ways = dict[str, Any]


class ImageHalf(nn.Module):
    """From a picture to the features that the click half takes."""

    def __init__(self, network: FCTSFN) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of both fusion net and refiner."""
        features = self.network.encode_image(image)
        return (*features.fusion, *features.refiner)


class ClickHalf(nn.Module):
    """From features and maps to the foreground logit."""

    def __init__(self, network: FCTSFN, fusion: int, size: int) -> None:
        super().__init__()
        self.network, self.fusion, self.size = network, fusion, (size, size)

    def forward(self, maps: Tensor, *features: Tensor) -> Tensor:
        """The logit at full resolution."""
        halves = ImageFeatures(features[: self.fusion], features[self.fusion :], self.size)
        return self.network.click(halves, maps).logit


class Recorded(CalibrationDataReader):
    """Inputs to calibrate the quantization with."""

    def __init__(self, inputs: list[Arrays]) -> None:
        self._inputs: Iterator[Arrays] = iter(inputs)

    def get_next(self) -> Arrays | None:
        """The next one."""
        return next(self._inputs, None)


def examples(size: int, count: int) -> list[tuple[Tensor, Tensor]]:
    """Bundled pictures with a few clicks anywhere, as the network takes them."""
    rng = np.random.default_rng(0)
    pictures = replay_pictures()
    found = []
    for number in range(count):
        pixels = pictures[number % len(pictures)].image
        rgb = np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels
        image = torch.from_numpy(rgb[..., :3].astype(np.float32) / 255).permute(2, 0, 1)[None]
        clicks = int(rng.integers(1, 6))
        places = torch.from_numpy(rng.integers(0, size, (1, clicks, 2)).astype(np.float32))
        positive = torch.from_numpy(rng.random((1, clicks)) < 0.6)
        positive[:, 0] = True
        known = torch.ones_like(positive)
        maps = interaction_maps(places, positive, known, (size, size))
        found.append(
            (resize(image, (size, size)), torch.cat([maps, torch.zeros_like(maps[:, :1])], 1))
        )
    return found


class InTorch:
    """Both halves in torch, as the predictor runs them."""

    def __init__(self, network: FCTSFN, size: int, dtype: torch.dtype | None) -> None:
        network = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if dtype is not None:
            convert_weights(network, dtype)
        self.network, self.size, self.dtype = network, (size, size), dtype

    def image(self, image: Tensor) -> ImageFeatures:
        """Features of a picture."""
        with torch.autocast("cpu", self.dtype, enabled=self.dtype is not None):
            return self.network.encode_image(image.contiguous(memory_format=torch.channels_last))

    def click(self, maps: Tensor, features: ImageFeatures) -> Tensor:
        """The probability."""
        with torch.autocast("cpu", self.dtype, enabled=self.dtype is not None):
            logit = self.network.click(features, maps.contiguous(memory_format=torch.channels_last))
        return logit.logit.float().sigmoid()


class Exported:
    """Both halves in ONNX Runtime."""

    def __init__(self, image_half: Path, click_half: Path, threads: int) -> None:
        self._image, self._click = session(image_half, threads), session(click_half, threads)

    def image(self, image: Tensor) -> list[NDArray[np.float32]]:
        """Features of a picture."""
        features: list[NDArray[np.float32]] = self._image.run(None, {"input0": image.numpy()})
        return features

    def click(self, maps: Tensor, features: Sequence[NDArray[np.float32]]) -> Tensor:
        """The probability."""
        return torch.from_numpy(self._click.run(None, feed([maps.numpy(), *features]))[0]).sigmoid()


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """An exported half, ready to run on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait busily for the next run would slow down whatever is timed in between.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feed(arrays: Sequence[NDArray[np.float32]]) -> Arrays:
    """Inputs by name."""
    return {f"input{k}": array for k, array in enumerate(arrays)}


def export(half: nn.Module, inputs: list[list[Tensor]], path: Path) -> tuple[Path, Path]:
    """Write a half as ONNX, in single precision and with weights and activations of 8 bits."""
    names = list(feed([t.numpy() for t in inputs[0]]))
    torch.onnx.export(
        half.eval(), tuple(inputs[0]), str(path), input_names=names, dynamo=True, verbose=False
    )
    ready, small = path.with_suffix(".pre.onnx"), path.with_suffix(".int8.onnx")
    quant_pre_process(str(path), str(ready))
    quantize_static(
        str(ready),
        str(small),
        Recorded([feed([t.numpy() for t in each]) for each in inputs]),
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    return path, small


def medians(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each way, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 3):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number >= 3:
                taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(times) for name, times in taken.items()}


def ways_of(network: FCTSFN, pairs: list[tuple[Tensor, Tensor]], size: int, threads: int) -> Ways:
    """The same network in four ways."""
    halves = network.encode_image(pairs[0][0])
    looked = [ImageHalf(network)(image) for image, _ in pairs]
    clicked = [[maps, *each] for (_, maps), each in zip(pairs, looked, strict=True)]
    with tempfile.TemporaryDirectory() as name:
        images = export(ImageHalf(network), [[each] for each, _ in pairs], Path(name, "i.onnx"))
        click_half = ClickHalf(network, len(halves.fusion), size)
        clicks = export(click_half, clicked, Path(name, "c.onnx"))
        return {
            "torch fp32": InTorch(network, size, None),
            "torch bf16": InTorch(network, size, torch.bfloat16),
            "ONNX Runtime fp32": Exported(images[0], clicks[0], threads),
            "ONNX Runtime int8": Exported(images[1], clicks[1], threads),
        }


def main() -> None:
    """Export, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    network = copy.deepcopy(load_model(resolve_model(chosen.model)).network).requires_grad_(False)
    fold_norms(network)
    pairs = examples(chosen.size, 24)
    calibration, tested = pairs[:12], pairs[12:]
    with torch.no_grad():
        ways = ways_of(network, calibration, chosen.size, chosen.threads)
        image, maps = tested[0]
        images = {name: partial(way.image, image) for name, way in ways.items()}
        clicks = {name: partial(way.click, maps, way.image(image)) for name, way in ways.items()}
        taken = medians(images, chosen.rounds), medians(clicks, chosen.rounds)
        answers = {
            name: [way.click(m, way.image(i)) for i, m in tested] for name, way in ways.items()
        }
    exact = torch.stack(answers["torch fp32"])
    for name, found in answers.items():
        difference = (torch.stack(found) - exact).abs().amax(dim=(1, 2, 3, 4)).median()
        changed = ((torch.stack(found) > 0.5) != (exact > 0.5)).float().mean()
        print(
            f"{name}: image {taken[0][name]:.1f} ms, click {taken[1][name]:.1f} ms; probability "
            f"differs by {difference:.4f} at most (median of {len(tested)} looks), "
            f"{100 * changed:.2f} % of the pixels change sides"
        )


if __name__ == "__main__":
    main()
