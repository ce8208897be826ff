"""The authors' Caffe files: every layer equals Caffe's, and other or damaged files are refused.

The prototxt and the caffemodel of these tests are written here, byte by byte, and what Caffe
computes from them is computed here in NumPy, after what Caffe documents of each layer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from napari_fctsfn.cli import app
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import (
    ModelError,
    import_caffe,
    list_models,
    load_model,
    read_caffe,
    read_card,
)
from napari_fctsfn.network import FCTSFN, NetworkConfig, build_network, msrn, vgg16
from napari_fctsfn.network.layers import deconvolve
from napari_fctsfn.predict import Predictor, engine

BLOCKS = ((2, 3), (2, 4), (3, 5), (3, 6), (3, 7))
REFINED = 4
FUSED = 5
BOTTLENECK = 3
NETWORKS = ("fctsfn", "tslfn-8s", "tslfn-16s", "tslfn-32s")


@pytest.fixture(autouse=True)
def thin(monkeypatch):
    """The published network, but with a few channels in each layer."""
    monkeypatch.setattr(vgg16, "BLOCKS", BLOCKS)
    monkeypatch.setattr(msrn, "WIDTH", REFINED)


# -- the authors' files: their networks, written as Caffe writes them


@dataclass
class Layer:
    name: str
    type: str
    bottoms: tuple[str, ...]
    top: str
    parameter: str = ""
    values: dict[str, object] = field(default_factory=dict)
    blobs: list[np.ndarray] = field(default_factory=list)

    def text(self) -> str:
        """As a prototxt has it, with settings that do not change what a network computes."""
        lines = [f'name: "{self.name}"', f'type: "{self.type}"']
        lines += [f'bottom: "{bottom}"' for bottom in self.bottoms] + [f'top: "{self.top}"']
        lines += ["param {\n lr_mult: 0.0\n }"] * len(self.blobs)
        if self.parameter:
            values = "\n".join(f"{key}: {value}" for key, value in self.values.items())
            lines.append(f"{self.parameter} {{\n{values}\n}}")
        return "layer {\n  " + "\n  ".join(lines) + "\n}\n"


class Published:
    """The layers of one of the authors' networks, with random weights."""

    def __init__(self, name: str, seed: int = 0, fused: int = FUSED) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers: list[Layer] = []
        self.channels = {"img": 3, "click": 2}
        for suffix, source in (("", "img"), ("_fea", "click")):
            self.block(1, source, suffix)
            for block in range(2, 5):
                self.block(block, f"pool{block - 1}{suffix}", suffix)
        self.concat("pool4_fea_comb", "pool4", "pool4_fea")
        self.block(5, "pool4_fea_comb", "")
        source = "pool5"
        for number, kernel in ((6, 7), (7, 1)):
            top = f"fc{number}-conv"
            self.conv(top, source, fused, kernel, relu=f"relu{number}")
            self.add(f"drop{number}", "Dropout", (top,), top, "dropout_param", dropout_ratio=0.5)
            source = top
        self.conv("score_fr", source, 2, 1)
        self.score(name)
        if name == "fctsfn":
            self.refiner()

    def add(self, name, kind, bottoms, top, parameter="", blobs=(), **values) -> None:
        self.layers.append(Layer(name, kind, bottoms, top, parameter, values, list(blobs)))
        self.channels.setdefault(top, self.channels[bottoms[0]])

    def conv(self, name, source, outputs, kernel, pad=0, bias=True, relu=None) -> None:
        shape = (outputs, self.channels[source], kernel, kernel)
        std = np.sqrt(2 / np.prod(shape[1:]))
        blobs = [self.rng.normal(0, std, shape)]
        if bias:
            blobs.append(self.rng.normal(0, 3, outputs))
        values = {"num_output": outputs, "pad": pad, "kernel_size": kernel, "stride": 1}
        if not bias:
            values["bias_term"] = "false"
        self.channels[name] = outputs
        self.add(name, "Convolution", (source,), name, "convolution_param", blobs, **values)
        if relu:
            self.add(relu, "ReLU", (name,), name)

    def block(self, block, source, suffix) -> None:
        depth, width = BLOCKS[block - 1]
        for number in range(1, depth + 1):
            name = f"{block}_{number}{suffix}"
            pad = 100 if (block, number) == (1, 1) else 1
            self.conv(f"conv{name}", source, width, 3, pad, relu=f"relu{name}")
            source = f"conv{name}"
        pool = f"pool{block}{suffix}"
        sizes = {"pool": "MAX", "kernel_size": 2, "stride": 2}
        self.add(pool, "Pooling", (source,), pool, "pooling_param", **sizes)

    def concat(self, name, *sources) -> None:
        self.channels[name] = sum(self.channels[source] for source in sources)
        self.add(name, "Concat", sources, name)

    def deconv(self, name, source, stride) -> None:
        channels = self.channels[source]
        place = (np.arange(2 * stride) - (stride - 0.5)) / stride
        kernel = np.outer(1 - abs(place), 1 - abs(place))
        blob = np.zeros((channels, channels, 2 * stride, 2 * stride))
        blob[range(channels), range(channels)] = kernel
        values = {"num_output": channels, "bias_term": "false"}
        values |= {"kernel_size": 2 * stride, "stride": stride}
        self.add(name, "Deconvolution", (source,), name, "convolution_param", [blob], **values)

    def crop(self, name, source, like, offset) -> None:
        self.add(name, "Crop", (source, like), name, "crop_param", axis=2, offset=offset)

    def score(self, name) -> None:
        if name == "tslfn-32s":
            self.deconv("upscore", "score_fr", 32)
            return self.crop("score", "upscore", "img", 19)
        self.deconv("upscore2", "score_fr", 2)
        self.conv("score_pool4", "pool4_fea_comb", 2, 1)
        self.crop("score_pool4c", "score_pool4", "upscore2", 5)
        self.sum("fuse_pool4", "upscore2", "score_pool4c")
        if name == "tslfn-16s":
            self.deconv("upscore16", "fuse_pool4", 16)
            return self.crop("score", "upscore16", "img", 27)
        self.deconv("upscore_pool4", "fuse_pool4", 2)
        self.concat("pool3_fea_comb", "pool3", "pool3_fea")
        self.conv("score_pool3", "pool3_fea_comb", 2, 1)
        self.crop("score_pool3c", "score_pool3", "upscore_pool4", 9)
        self.sum("fuse_pool3", "upscore_pool4", "score_pool3c")
        self.deconv("upscore8", "fuse_pool3", 8)
        return self.crop("score", "upscore8", "img", 31)

    def sum(self, name, *sources) -> None:
        self.add(name, "Eltwise", sources, name, "eltwise_param", operation="SUM")

    def norm(self, norm, scale, source, spread) -> None:
        channels, factor = self.channels[source], 999.98
        mean = self.rng.normal(0, 0.1 * spread, channels)
        variance = self.rng.uniform(0.5, 2, channels) * spread**2
        blobs = [mean * factor, variance * factor, np.array([factor])]
        top = norm.replace("coarse_scale", "coarse_bn")
        eps = {"eps": "9.99999974738e-06"}
        self.add(norm, "BatchNorm", (source,), top, "batch_norm_param", blobs, **eps)
        blobs = [self.rng.uniform(0.5, 2, channels), self.rng.normal(0, 0.5, channels)]
        self.add(scale, "Scale", (top,), top, "scale_param", blobs, bias_term="true")

    def refiner(self) -> None:
        scales = []
        levels = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")
        offsets = (99, 100, 101, 103, 107)
        for number, level, offset in zip(range(1, 6), levels, offsets, strict=True):
            name, source = f"fea_comb_{number}", level
            if number < 5:
                self.concat(name, level, f"{level}_fea")
                source = name
            self.conv(f"conv_btnk_{name}", source, BOTTLENECK, 1, bias=False)
            top = f"conv_btnk_bn_{name}"
            self.norm(top, f"conv_btnk_scale_{name}", f"conv_btnk_{name}", 100)
            self.add(f"relu_btnk_{name}", "ReLU", (top,), top)
            if number > 1:
                self.deconv(f"{name}_up", top, 2 ** (number - 1))
                top = f"{name}_up"
            self.crop(f"{name}_c", top, "img", offset)
            scales.append(f"{name}_c")
        self.norm("score_coarse_bn", "score_coarse_scale", "score", 200)
        self.sum("fea_all_scale_sum", *scales)
        source = "fea_all_scale_comb"
        self.concat(source, "fea_all_scale_sum", "score_coarse_bn")
        for number, kernel in enumerate((7, 5, 3, 3, 3), 1):
            name = f"conv_fea_all_comb_{number}"
            self.conv(name, source, REFINED, kernel, kernel // 2, bias=False)
            source = f"conv_fea_all_comb_bn_{number}"
            self.norm(source, f"conv_fea_all_comb_scale_{number}", name, 2)
            self.add(f"relu_fea_all_comb_{number}", "ReLU", (source,), source)
            drop = f"drop_fea_all_comb_{number}"
            self.add(drop, "Dropout", (source,), source, "dropout_param", dropout_ratio=0.5)
        self.conv("score_f", source, 2, 1)

    def layer(self, name: str) -> Layer:
        (layer,) = [layer for layer in self.layers if layer.name == name]
        return layer

    def text(self) -> str:
        inputs = [
            f'layer {{ name: "input_{name}" type: "Input" top: "{name}"\n input_param '
            f"{{ shape {{ dim: 1 dim: {channels} dim: 300 dim: 500 }} }} }}\n"
            for name, channels in (("img", 3), ("click", 2))
        ]
        end = 'layer { name: "prob" type: "Softmax" bottom: "score_f" top: "prob" }\n'
        return "".join([*inputs, *(layer.text() for layer in self.layers), end])

    def write(self, folder: Path) -> tuple[Path, Path]:
        folder.mkdir(exist_ok=True)
        files = folder / "deploy.prototxt", folder / "published.caffemodel"
        files[0].write_text(self.text())
        files[1].write_bytes(caffemodel(self.layers))
        return files


def varint(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def chunk(number: int, content: bytes | str) -> bytes:
    """A field of protobuf that has a length."""
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray) -> bytes:
    shape = chunk(7, chunk(1, b"".join(map(varint, array.shape))))
    return chunk(5, array.astype("<f4").tobytes()) + shape


def old_blob(array: np.ndarray) -> bytes:
    """As before Caffe had shapes of any number of axes, and in double precision."""
    shape = (1,) * (4 - array.ndim) + array.shape
    axes = (varint(number << 3) + varint(length) for number, length in enumerate(shape, 1))
    return b"".join(axes) + chunk(8, array.astype("<f4").astype("<f8").tobytes())


def caffemodel(layers: Iterable[Layer], old: bool = False) -> bytes:
    """A file of weights; an old one has layers of the type before the present one."""
    messages = [chunk(1, "FCTSFN")]
    for layer in layers:
        if old:
            content = chunk(4, layer.name) + b"".join(chunk(6, old_blob(b)) for b in layer.blobs)
            messages.append(chunk(2, content))
        else:
            content = chunk(1, layer.name) + chunk(2, layer.type)
            content += b"".join(chunk(7, blob(array)) for array in layer.blobs)
            messages.append(chunk(100, content + varint(10 << 3) + varint(1)))
    return b"".join(messages)


# -- what Caffe computes


def shifted(x: np.ndarray, kernel: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Of each place of a kernel the part of the features that it meets."""
    rows, columns = x.shape[1] - kernel + 1, x.shape[2] - kernel + 1
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, x[:, i : i + rows, j : j + columns]


def bordered(x: np.ndarray, pad: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (pad, pad), (pad, pad)))


def naive_convolution(x, weight, pad):
    parts = shifted(bordered(x, pad), weight.shape[2])
    return sum(np.tensordot(weight[:, :, i, j], part, axes=1) for i, j, part in parts)


def naive_deconvolution(x, weight, stride):
    kernel, (_, rows, columns) = weight.shape[2], x.shape
    size = (stride * (rows - 1) + kernel, stride * (columns - 1) + kernel)
    total = np.zeros((weight.shape[1], *size))
    for i in range(kernel):
        for j in range(kernel):
            part = np.tensordot(weight[:, :, i, j].T, x, axes=1)
            ends = i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1
            total[:, i : ends[0] : stride, j : ends[1] : stride] += part
    return total


def naive_pool(x):
    """Windows of two at every second place that the features have, the last one cut off."""
    _, rows, columns = x.shape
    even = np.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2)), constant_values=-np.inf)
    return np.max([even[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)


def naive_crop(x, like, offset):
    (_, rows, columns), cropped = like.shape, x[:, offset:, offset:]
    assert cropped.shape[1] >= rows
    assert cropped.shape[2] >= columns
    return cropped[:, :rows, :columns]


def naive_norm(x, mean, variance, factor):
    """Caffe divides by the factor in single precision."""
    share = np.float32(0) if factor[0] == 0 else np.float32(1) / factor[0]
    mean, variance = (mean * share).astype(float), (variance * share).astype(float)
    return (x - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]


def compute(layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    """What a layer of Caffe gives, in double precision but for what Caffe computes once."""
    x, values = inputs[0], layer.values
    single = [array.astype("<f4") for array in layer.blobs]
    blobs = [array.astype(float) for array in single]
    shifts = [array[:, None, None] for array in blobs if array.ndim == 1]
    by_type = {
        "Convolution": lambda: naive_convolution(x, blobs[0], values["pad"]) + sum(shifts),
        "Deconvolution": lambda: naive_deconvolution(x, blobs[0], values["stride"]),
        "ReLU": lambda: np.maximum(x, 0),
        "Pooling": lambda: naive_pool(x),
        "Concat": lambda: np.concatenate(inputs),
        "Eltwise": lambda: np.sum(inputs, axis=0),
        "Crop": lambda: naive_crop(*inputs, values["offset"]),
        "BatchNorm": lambda: naive_norm(x, *single),
        "Scale": lambda: x * shifts[0] + shifts[1],
        "Dropout": lambda: x,
    }
    return by_type[layer.type]()


def caffe(layers: list[Layer], image: np.ndarray, click: np.ndarray) -> dict[str, np.ndarray]:
    """What each layer gives, by its name."""
    tops, results = {"img": image, "click": click}, {}
    for layer in layers:
        tops[layer.top] = compute(layer, [tops[bottom] for bottom in layer.bottoms])
        results[layer.name] = tops[layer.top]
    return results


def probability(score: np.ndarray) -> np.ndarray:
    """Softmax's second channel."""
    powers = np.exp(score - score.max(axis=0))
    return powers[1] / powers.sum(axis=0)


# -- what we compute


def pictures(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture in RGB and two maps, 0..255."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (3, rows, columns)), rng.uniform(0, 255, (2, rows, columns))


def prepared(image: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the authors' data layer makes of them: BGR, and means subtracted."""
    means = np.float32([104.00699, 116.66877, 122.67892, 166.90557, 147.47697]).astype(float)
    return image[::-1] - means[:3, None, None], maps - means[3:, None, None]


def tensors(image: np.ndarray, maps: np.ndarray, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    return torch.tensor(image / 255)[None].to(dtype), torch.tensor(maps)[None].to(dtype)


class Recorded:
    """Results of a function in the order of its calls."""

    def __init__(self, function) -> None:
        self.function, self.results = function, []

    def __call__(self, *arguments):
        self.results.append(self.function(*arguments))
        return self.results[-1]


def modules_of(network: FCTSFN) -> dict[str, torch.nn.Module]:
    """The modules of ours that are a layer of the authors'."""
    modules = {"score_fr": network.fusion.score_fr}
    for suffix, stream in (("", network.image_stream), ("_fea", network.interaction_stream)):
        for block, (depth, _) in enumerate(BLOCKS[:4], 1):
            for number in range(depth):
                for step, kind in enumerate(("conv", "relu")):
                    name = f"{kind}{block}_{number + 1}{suffix}"
                    modules[name] = stream.blocks[block - 1][2 * number + step]
    fusion, refiner = network.fusion, network.refiner
    modules |= {"conv5_1": fusion.conv5_1, "pool5": fusion.pool}
    modules |= {"conv5_2": fusion.conv5[0], "relu5_2": fusion.conv5[1]}
    modules |= {"conv5_3": fusion.conv5[2], "relu5_3": fusion.conv5[3]}
    modules |= {"fc6-conv": fusion.fc[0], "relu6": fusion.fc[1]}
    modules |= {"fc7-conv": fusion.fc[3], "relu7": fusion.fc[4]}
    modules |= {"score_pool4": fusion.score_pool4, "score_pool3": fusion.score_pool3}
    for number in range(1, 6):
        name = f"fea_comb_{number}"
        modules[f"conv_btnk_scale_{name}"] = refiner.norms[number - 1]
        modules[f"conv_btnk_{name}"] = [*refiner.bottlenecks, refiner.bottleneck5][number - 1]
        for step, name in enumerate(
            (f"conv_{{}}_{number}", f"conv_{{}}_scale_{number}", f"relu_{{}}_{number}")
        ):
            modules[name.format("fea_all_comb")] = refiner.refine[4 * (number - 1) + step]
    modules["score_coarse_scale"] = refiner.score_norm
    return modules | {"score_f": refiner.score}


def ours(network: FCTSFN, image, maps, monkeypatch) -> dict[str, torch.Tensor]:
    """What each layer of ours gives, by the name of the authors' layer."""
    results: dict[str, torch.Tensor] = {}
    for name, module in modules_of(network).items():
        module.register_forward_hook(
            lambda _, __, result, name=name: results.update({name: result.clone()})
        )
    network.refiner.refine.register_forward_pre_hook(
        lambda _, inputs: results.update(fea_all_scale_comb=inputs[0].clone())
    )
    functions = {
        (module, name): Recorded(getattr(module, name))
        for module in (vgg16, msrn)
        for name in ("deconvolve", "crop")
    }
    for (module, name), recorded in functions.items():
        monkeypatch.setattr(module, name, recorded)
    with torch.inference_mode():
        features = network.encode_image(image)
        fused = network.fuse(features, maps)
        scores = network.refine(features, fused)
        for suffix, levels in (
            ("", network.image_stream(image)),
            ("_fea", network.interaction_stream(maps)),
        ):
            results |= {f"pool{block}{suffix}": levels[block] for block in range(1, 5)}
    results |= {"relu5_1": results["conv5_1"].relu(), "fuse_pool3": fused.coarse}
    results |= {
        f"relu_btnk_fea_comb_{number}": results[f"conv_btnk_scale_fea_comb_{number}"].relu()
        for number in range(1, 6)
    }
    results["fea_comb_1_c"] = results["relu_btnk_fea_comb_1"]
    numbers = range(2, 6)
    for function, names in (
        ((vgg16, "deconvolve"), ("upscore2", "upscore_pool4", "upscore8")),
        ((vgg16, "crop"), ("score_pool4c", "score_pool3c", "score")),
        ((msrn, "deconvolve"), [f"fea_comb_{number}_up" for number in numbers]),
        ((msrn, "crop"), [f"fea_comb_{number}_c" for number in numbers]),
    ):
        results |= dict(zip(names, functions[function].results, strict=True))
    assert torch.equal(results["fea_all_scale_comb"][:, -2:], results["score_coarse_scale"])
    return results | {"prob": scores.logit.sigmoid(), "coarse": scores.coarse}


@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)]
)
@pytest.mark.parametrize("size", [(37, 53), (64, 33), (1, 2)])
def test_every_layer_equals_caffe(size, precision, tolerance, tmp_path, monkeypatch):
    published = Published("fctsfn")
    image, maps = pictures(*size)
    expected = caffe(published.layers, *prepared(image, maps))
    network = load_model(import_caffe(*published.write(tmp_path)).path).network.to(precision)
    found = ours(network, *tensors(image, maps, precision), monkeypatch)
    left_out = {name for name in expected if name not in found}
    # Concatenations are two halves here, and a batch norm is one with its scale.
    rest = {"pool4_fea_comb", "pool3_fea_comb", "fuse_pool4", "fea_all_scale_sum"}
    rest |= {f"fea_comb_{number}" for number in range(1, 5)}
    rest |= {layer.name for layer in published.layers if layer.type in ("BatchNorm", "Dropout")}
    assert left_out == rest
    for name, result in found.items():
        if name in ("prob", "coarse"):
            continue
        wanted = expected[name]
        if name.endswith("fea_comb_1"):
            wanted = wanted[:, 99:-99, 99:-99]
        difference = abs(result[0].numpy() - wanted)
        assert difference.max() <= tolerance * max(1, abs(wanted).max()), name
    assert expected["score_f"].std() > 0.1
    wanted = probability(expected["score_f"])
    np.testing.assert_allclose(found["prob"][0, 0], wanted, rtol=0, atol=tolerance)
    wanted = expected["score"][1] - expected["score"][0]
    np.testing.assert_allclose(found["coarse"][0, 0], wanted, atol=tolerance * abs(wanted).max())


@pytest.mark.parametrize("name", NETWORKS[1:])
def test_networks_without_refiner_equal_caffe(name, tmp_path):
    published = Published(name)
    image, maps = pictures(37, 53)
    expected = caffe(published.layers, *prepared(image, maps))
    found, network = read_caffe(*published.write(tmp_path))
    assert found == name
    with torch.inference_mode():
        scores = network.double()(*tensors(image, maps, torch.float64))
    assert torch.equal(scores.logit, scores.coarse)
    wanted = probability(expected["score"])
    np.testing.assert_allclose(scores.logit[0, 0].sigmoid(), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
def test_deconvolution_is_caffes(stride):
    published = Published("fctsfn")
    published.channels["x"] = 2
    published.deconv("up", "x", stride)
    x = np.random.default_rng(1).normal(size=(2, 3, 5))
    expected = compute(published.layer("up"), [x])
    found = deconvolve(torch.tensor(x)[None], stride)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_streams_stay_apart(tmp_path):
    _, network = read_caffe(*Published("fctsfn").write(tmp_path))
    image, maps = tensors(*pictures(37, 53), torch.float32)
    streams = []
    for stream in (network.image_stream, network.interaction_stream):
        stream.register_forward_hook(lambda stream, *_: streams.append(type(stream).__name__))
    with torch.inference_mode():
        whole = network(image, maps)
        features = network.encode_image(image)
        streams.clear()
        again = network.click(features.expand(2), maps.expand(2, -1, -1, -1))
    assert streams == ["InteractionStream"]
    torch.testing.assert_close(again.logit[1:], whole.logit)
    assert network.config.to_dict()["caffe"]


def test_the_dock_and_the_shell_can_use_it(tmp_path, monkeypatch):
    published = Published("fctsfn")
    model = load_model(import_caffe(*published.write(tmp_path)).path)
    image, maps = pictures(37, 53)
    expected = probability(caffe(published.layers, *prepared(image, maps))["score_f"])
    with monkeypatch.context() as exactly:
        exactly.setattr(engine, "reduced_precision", lambda device: None)
        exact = engine.Engine(model.network, torch.device("cpu"), 512)
    pixels, both = tensors(image, maps, torch.float32)
    features = exact.features("picture", lambda: pixels)
    ((found, _),) = exact.look(features, both)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    predictor = Predictor.from_pretrained("fctsfn", "cpu")
    predictor.set_image(image.transpose(1, 2, 0).astype(np.uint8))
    assert predictor.predict(Clicks([Click(18, 20)])).full_mask().shape == (37, 53)


# -- files that Caffe takes, too


def equal(network: FCTSFN, other: FCTSFN) -> bool:
    state, others = network.state_dict(), other.state_dict()
    return state.keys() == others.keys() and all(torch.equal(state[k], others[k]) for k in state)


def test_old_files_are_read_and_the_order_of_layers_is_free(tmp_path):
    published = Published("fctsfn")
    _, network = read_caffe(*published.write(tmp_path))
    old = tmp_path / "old.caffemodel"
    old.write_bytes(caffemodel(published.layers, old=True))
    assert equal(read_caffe(tmp_path / "deploy.prototxt", old)[1], network)
    old.write_bytes(caffemodel(published.layers[::-1]))
    assert equal(read_caffe(tmp_path / "deploy.prototxt", old)[1], network)


def test_a_validation_file_is_as_good(tmp_path):
    published = Published("tslfn-16s")
    deploy, weights = published.write(tmp_path)
    _, network = read_caffe(deploy, weights)
    start = (
        "layer { name: 'img' type: 'Python' top: 'img' top: 'click' top: 'label'\n"
        "python_param { module: 'layers' param_str: \"{\\'mean\\': (104.0, 116.7)}\" } }\n"
    )
    end = "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'score' bottom: 'label' }"
    text = published.text().replace("kernel_size: 2\n", "kernel_h: 2 kernel_w: 2\n")
    deploy.write_text(start + text[text.index('layer {\n  name: "conv1_1"') :] + end)
    assert equal(read_caffe(deploy, weights)[1], network)


@pytest.mark.parametrize("fused", [1, 9])
def test_widths_are_read_from_the_file(fused, tmp_path):
    _, network = read_caffe(*Published("fctsfn", fused=fused).write(tmp_path))
    assert network.config.fusion_channels == fused
    assert network.config.bottleneck_channels == (BOTTLENECK,)


def test_a_batch_norm_without_statistics_has_none(tmp_path):
    published = Published("fctsfn")
    published.layer("score_coarse_bn").blobs[2][:] = 0
    _, network = read_caffe(*published.write(tmp_path))
    assert not network.refiner.score_norm.running_mean.any()
    assert not network.refiner.score_norm.running_var.any()


# -- the model


def test_a_model_is_registered_with_its_sources(tmp_path):
    files = Published("fctsfn").write(tmp_path)
    result = CliRunner().invoke(app, ["models", "import-caffe", *map(str, files), "--name", "hu"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("hu is registered: ")
    (entry,) = [entry for entry in list_models() if not entry.bundled]
    card = read_card(entry.path)
    assert card.name == entry.name == "hu"
    assert card.weights_licence.startswith("research use only")
    assert "BSD-3-Clause" in card.weights_licence
    assert [item.name for item in card.training_data] == [
        "Pascal VOC 2012, as published by the authors"
    ]
    assert card.training["caffemodel"] == "published.caffemodel"
    assert len(card.training["caffemodel_sha256"]) == 64
    assert str(tmp_path) not in card.model_dump_json()
    model = load_model(entry.path)
    assert equal(model.network, read_caffe(*files)[1])
    again = CliRunner().invoke(app, ["models", "import-caffe", *map(str, files), "--name", "hu"])
    assert again.exit_code == 2
    assert "the model 'hu' exists already" in again.output
    with pytest.raises(ModelError, match="no valid model name"):
        import_caffe(*files, "n" * 65)


def test_weights_that_half_precision_cannot_hold_are_kept(tmp_path):
    published = Published("fctsfn")
    published.layer("score_coarse_bn").blobs[1][:] = 1e9
    files = published.write(tmp_path)
    network = load_model(import_caffe(*files, "large").path).network
    assert (network.refiner.score_norm.running_var > 9e5).all()


# -- files that are refused


def refused(deploy: Path, weights: Path) -> str:
    """Why; nothing may be registered."""
    result = CliRunner().invoke(app, ["models", "import-caffe", str(deploy), str(weights)])
    assert result.exit_code == 2, result.output
    assert [entry for entry in list_models() if not entry.bundled] == []
    assert len(result.output.splitlines()) == 1
    return result.output


def test_another_architecture_is_told_layer_by_layer(tmp_path):
    published = Published("fctsfn")
    deploy, weights = published.write(tmp_path)
    text = published.text()
    changed = text.replace("pad: 100", "pad: 1", 1).replace("offset: 107", "offset: 106")
    changed = changed.replace("fc7-conv", "fc8-conv").replace('"MAX"', '"AVE"')
    deploy.write_text(changed)
    message = refused(deploy, weights)
    assert "is not the authors' fctsfn: 5 layers differ: " in message
    assert "conv1_1 (expected padding 100, found padding 1), " in message
    assert "fea_comb_5_c (expected offset 107, found offset 106), " in message
    assert "fc7-conv (expected Convolution, found none), " in message
    assert "fc8-conv (expected none, found Convolution)" in message
    assert "relu7 (expected input fc7-conv, found input fc8-conv), " in message
    deploy.write_text(text.replace("kernel_size: 3\n", "kernel_size: 5\n"))
    message = refused(deploy, weights)
    assert message.count("(expected kernel 3, found kernel 5)") == 10
    assert "26 layers differ" in message
    assert message.endswith(", and 16 more\n")
    deploy.write_text('name: "LeNet" layer { name: "ip" type: "InnerProduct" bottom: "data" }')
    message = refused(deploy, weights)
    assert "conv1_1 (expected Convolution, found none)" in message
    assert message.count("expected") == 10


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("pool: MAX", "pool: AVE", "pool1 (expected method MAX, found method AVE)"),
        ("pool: MAX", "round_mode: FLOOR", "pool1 (expected rounding CEIL, found rounding FLOOR)"),
        ("kernel_size: 2\n", "kernel_size: 2 kernel_size: 3\n", "found kernel 2x3"),
        ("operation: SUM", "coeff: 0.01 coeff: 1", "found factors 0.01)"),
        ("eps: 9.99999974738e-06", "eps: 0.001", "found eps 0.001)"),
        ("bias_term: true", "axis: 2", "(expected axis 1, bias yes, found axis 2, bias no)"),
        ('bottom: "pool4"\n', 'bottom: "pool3"\n', "found input pool3 and pool4_fea)"),
        ("pool: MAX", "pool: MIN", "is not a prototxt file of Caffe: "),
        ("layer {", "layer }", "is not a prototxt file of Caffe: "),
        ("layer {", "\udcff", "is not a prototxt file of Caffe: "),
        ("num_output: 5\n", "num_output: 5000\n", "fc6-conv (expected outputs 4096"),
    ],
)
def test_one_difference_is_enough(old, new, reason, tmp_path):
    published = Published("fctsfn")
    deploy, weights = published.write(tmp_path)
    text = published.text()
    place = text.index('"fc6-conv"') if old.startswith("num") else 0
    changed = text[:place] + text[place:].replace(old, new, 1)
    assert changed != text
    deploy.write_bytes(changed.encode(errors="surrogateescape"))
    assert reason in refused(deploy, weights)


def test_weights_of_another_network_are_told(tmp_path):
    published = Published("fctsfn")
    deploy, weights = published.write(tmp_path)
    for name, change, reason in (
        ("fc6-conv", {}, "has no weights of the layer fc6-conv: "),
        ("conv3_2", {0: np.ones((5, 4, 3, 3))}, "weights of shape 5x4x3x3 and 5, expected are 5x5"),
        ("conv1_1_fea", {1: np.full(3, np.nan)}, "conv1_1_fea has weights that are not finite"),
        ("conv1_1_fea", {1: np.full(3, np.inf)}, "conv1_1_fea has weights that are not finite"),
        ("score_coarse_bn", {1: -np.ones(2)}, "score_coarse_bn has a variance that cannot be"),
        ("upscore2", {0: np.ones((2, 2, 4, 4))}, "upscore2 are not the bilinear upsampling"),
    ):
        blobs = list(published.layer(name).blobs)
        for place, array in change.items():
            blobs[place] = array
        layers = [
            replace(layer, blobs=blobs if change else []) if layer.name == name else layer
            for layer in published.layers
        ]
        weights.write_bytes(caffemodel(layers))
        assert reason in refused(deploy, weights)
    shape = chunk(
        100, chunk(1, "conv1_1") + chunk(7, chunk(5, b"12345678") + chunk(7, b"\x08\x03"))
    )
    weights.write_bytes(shape)
    assert "the weights of 'conv1_1' do not have the shape it says" in refused(deploy, weights)
    assert "cannot be read" in refused(deploy, tmp_path / "missing")
    assert "cannot be read" in refused(tmp_path, weights)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg16, "BLOCKS", BLOCKS)
        patch.setattr(msrn, "WIDTH", REFINED)
        return Published("fctsfn").write(tmp_path_factory.mktemp("caffe"))


@settings(max_examples=40, deadline=None)
@given(part=st.floats(0, 1, exclude_max=True), layers=st.booleans())
def test_a_file_cut_off_anywhere_is_refused(files, tmp_path_factory, part, layers):
    deploy, weights = files
    content = weights.read_bytes()
    cut = int(part * len(content))
    if layers:
        cut = content.rfind(chunk(100, b"")[:2], 0, cut + 1)
    short = tmp_path_factory.getbasetemp() / "short.caffemodel"
    short.write_bytes(content[: max(cut, 0)])
    with pytest.raises(ModelError, match=r"cut off|damaged"):
        import_caffe(deploy, short)
    assert [entry for entry in list_models() if not entry.bundled] == []


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1), value=st.integers(1, 255))
def test_a_damaged_file_is_refused_or_read(files, tmp_path_factory, places, value):
    deploy, weights = files
    damaged = tmp_path_factory.getbasetemp() / "damaged"
    for file in (deploy, weights):
        content = bytearray(file.read_bytes())
        for place in places:
            content[int(place * len(content))] ^= value
        damaged.write_bytes(content)
        pair = (damaged, weights) if file is deploy else (deploy, damaged)
        with suppress(ModelError):
            _, network = read_caffe(*pair)
            assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_protobuf_is_asked_for(tmp_path, monkeypatch):
    files = Published("fctsfn").write(tmp_path)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(InputError, match=r"pip install 'napari-fctsfn\[caffe\]'"):
        import_caffe(*files)


# -- the configuration


@pytest.mark.parametrize(
    "values",
    [
        {"backbone": "lite"},
        {"previous_mask": True},
        {"quality": True},
        {"interaction": "resized", "bottleneck_channels": []},
        {"stream_blocks": 3, "bottleneck_channels": []},
    ],
)
def test_the_authors_geometry_is_for_their_networks(values):
    config = NetworkConfig() if "backbone" in values else NetworkConfig.vgg16(FUSED)
    assert "caffe" not in config.to_dict()
    with pytest.raises(ValueError, match="caffe is for vgg16 networks"):
        NetworkConfig.from_dict(config.to_dict() | {"caffe": True} | values)
    with pytest.raises(ValueError, match="caffe must be true or false"):
        NetworkConfig.from_dict(config.to_dict() | {"caffe": 1} | values)


def test_ordinary_networks_still_want_whole_cells():
    network = build_network(NetworkConfig.vgg16(FUSED)).eval()
    assert network.multiple == 32
    with pytest.raises(ValueError, match="multiples of 32"):
        network.encode_image(torch.zeros(1, 3, 37, 53))
