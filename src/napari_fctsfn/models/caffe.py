"""The authors' weights: their Caffe files become a model of the registry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_fctsfn import __version__
from napari_fctsfn.models.caffe_files import Layer, read_caffemodel, read_prototxt
from napari_fctsfn.models.caffe_layers import convolutions, norms, published_layers
from napari_fctsfn.models.card import ModelCard, TrainingSet, weights_licence
from napari_fctsfn.models.registry import ModelEntry, register_model
from napari_fctsfn.models.store import ModelError
from napari_fctsfn.network import FCTSFN, build_network, paper_config

_LARGEST_WIDTH = 4096
_MOST_SHOWN = 10

_NETWORKS = {
    "score_f": "fctsfn",
    "upscore8": "tslfn-8s",
    "upscore16": "tslfn-16s",
    "upscore": "tslfn-32s",
}
"""The layer by which each of the authors' networks is known, and the paper's name for it."""

_LEARNED = TrainingSet(
    name="Pascal VOC 2012, as published by the authors",
    licence="VOC2012: Flickr terms of use, research",
    images=1264,
)


def import_caffe(deploy: Path, weights: Path, name: str | None = None) -> ModelEntry:
    """Register the authors' published network under a name.

    Parameters
    ----------
    deploy : Path
        Its prototxt: of the FCTSFN or of a TSLFN it was trained from, for deployment or validation.
    weights : Path
        Its caffemodel.
    name : str, optional
        In the registry; by default the paper's name, for example ``fctsfn``.

    Returns
    -------
    ModelEntry
        The model's file holds the weights in single precision, as they are.

    Raises
    ------
    ModelError
        As `read_caffe` does, and if the name is not free; nothing is registered then.
    """
    paper_name, network = read_caffe(deploy, weights)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = ModelCard(
        name=paper_name,
        version=__version__,
        description=f"The authors' published {paper_name.upper()} (Hu et al., 2019), imported from "
        "their Caffe files with its geometry; it was trained from VGG16 of ImageNet.",
        architecture=network.config.to_dict(),
        input_size=512,
        weights_licence=f"{weights_licence([_LEARNED.licence])}; the authors' repository, "
        "cyh4/FCTSFN, says BSD-3-Clause",
        training_data=(_LEARNED,),
        training={
            "recipe": "the authors', in Caffe",
            "prototxt": deploy.name,
            "caffemodel": weights.name,
            "caffemodel_sha256": digest,
        },
    )
    return register_model(name or paper_name, network, card, half=False)


def read_caffe(deploy: Path, weights: Path) -> tuple[str, FCTSFN]:
    """The authors' published network, with the geometry and the weights of their files.

    Returns
    -------
    name : str
        The paper's name for it.
    network : FCTSFN
        In evaluation mode.

    Raises
    ------
    InputError
        If protobuf is missing.
    ModelError
        If a file cannot be read, the prototxt is of another architecture, or the caffemodel is
        damaged, cut off or of another network.
    """
    found = read_prototxt(deploy)
    name = next((name for layer, name in _NETWORKS.items() if layer in found), "fctsfn")
    config = replace(
        paper_config(name, fusion_channels=_width(found.get("fc6-conv"), 4096)), caffe=True
    )
    if config.refines:
        width = _width(found.get("conv_btnk_fea_comb_1"), *config.bottleneck_channels)
        config = replace(config, bottleneck_channels=(width,))
    expected = {layer.name: layer for layer in published_layers(config)}
    if found != expected:
        raise ModelError(f"{deploy} is not the authors' {name}: {_differences(expected, found)}")
    blobs = _Blobs(weights)
    network = build_network(config).eval()
    network.load_state_dict(_state(network, expected.values(), blobs))
    return name, network


def _width(layer: Layer | None, published: int) -> int:
    """The outputs of a layer, or those published where a network cannot have as many."""
    outputs = layer.settings.get("outputs") if layer else None
    if isinstance(outputs, int) and 1 <= outputs <= _LARGEST_WIDTH:
        return outputs
    return published


def _differences(expected: Mapping[str, Layer], found: Mapping[str, Layer]) -> str:
    """The first ten layers that differ, as a sentence shows them."""
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    shown = []
    for name in names[:_MOST_SHOWN]:
        wanted, got = expected.get(name), found.get(name)
        if wanted and got and wanted.type == got.type:
            keys = [key for key in wanted.settings if wanted.settings[key] != got.settings[key]]
            texts = [
                ", ".join(f"{key} {layer.settings[key]}" for key in keys) for layer in (wanted, got)
            ]
        else:
            texts = [layer.type if layer else "none" for layer in (wanted, got)]
        wish, truth = (text[:100] for text in texts)
        shown.append(f"{name[:60]} (expected {wish}, found {truth})")
    count = "1 layer differs" if len(names) == 1 else f"{len(names)} layers differ"
    more = f", and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{count}: {', '.join(shown)}{more}"


class _Blobs:
    """The blobs of a caffemodel, checked as they are taken.

    Parameters
    ----------
    path : Path
        The caffemodel.

    Raises
    ------
    ModelError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._weights = read_caffemodel(path)

    def take(self, layer: str, *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
        """The blobs of a layer, in these shapes; leading axes of length one do not count.

        Raises
        ------
        ModelError
            If they are missing, of other shapes or not finite.
        """
        blobs = self._weights.get(layer)
        if blobs is None:
            raise ModelError(
                f"{self.path} has no weights of the layer {layer}: "
                f"it is cut off or of another network"
            )
        found = [_without_ones(blob.shape) for blob in blobs]
        if found != [_without_ones(shape) for shape in shapes]:
            raise ModelError(
                f"{self.path}: the layer {layer} has weights of shape "
                f"{_shapes(blob.shape for blob in blobs)}, expected are {_shapes(shapes)}"
            )
        if not all(np.isfinite(blob).all() for blob in blobs):
            raise ModelError(f"{self.path} is damaged: {layer} has weights that are not finite")
        return [blob.reshape(shape) for blob, shape in zip(blobs, shapes, strict=True)]


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without leading ones, which older files of Caffe fill shapes up with to four axes."""
    first = next((place for place, length in enumerate(shape) if length != 1), len(shape))
    return shape[first:]


def _shapes(shapes: Iterable[tuple[int, ...]]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes) or "none"


def _state(network: FCTSFN, layers: Iterable[Layer], blobs: _Blobs) -> dict[str, Tensor]:
    """The state dict that `network` gets from a caffemodel."""
    own = network.state_dict()
    state = {key: value for key, value in own.items() if key.endswith(".num_batches_tracked")}
    for layer, module in convolutions(network.config):
        halves = [f"{module}.weight"]
        if halves[0] not in own:
            halves = [f"{module}.image.weight", f"{module}.interaction.weight"]
        inputs = [own[half].shape[1] for half in halves]
        outputs, _, *kernel = own[halves[0]].shape
        bias = halves[0].removesuffix("weight") + "bias"
        shapes = [(outputs, sum(inputs), *kernel), *([(outputs,)] if bias in own else [])]
        weight, *rest = blobs.take(layer, *shapes)
        parts = np.split(weight, np.cumsum(inputs)[:-1], axis=1)
        state |= {half: torch.tensor(part) for half, part in zip(halves, parts, strict=True)}
        if rest:
            state[bias] = torch.tensor(rest[0])
    for norm, scale, module in norms(network.config):
        shape = tuple(own[f"{module}.weight"].shape)
        mean, variance, factor = blobs.take(norm, shape, shape, (1,))
        # Caffe keeps sums with decaying weights; the factor is what the weights add up to.
        with np.errstate(over="ignore"):
            share = np.float32(0) if factor[0] == 0 else 1 / factor[0]
            mean, variance = mean * share, variance * share
        if not np.isfinite([mean, variance]).all() or variance.min() < 0:
            raise ModelError(f"{blobs.path} is damaged: {norm} has a variance that cannot be")
        weight, shift = blobs.take(scale, shape, shape)
        state[f"{module}.running_mean"] = torch.tensor(mean)
        state[f"{module}.running_var"] = torch.tensor(variance)
        state[f"{module}.weight"] = torch.tensor(weight)
        state[f"{module}.bias"] = torch.tensor(shift)
    for deconvolution in layers:
        if deconvolution.type == "Deconvolution":
            _check_bilinear(deconvolution, blobs)
    return state


def _check_bilinear(layer: Layer, blobs: _Blobs) -> None:
    """Refuse a deconvolution whose weights are not the authors' fixed ones.

    Raises
    ------
    ModelError
        If they are not each channel's bilinear upsampling.
    """
    outputs, size = int(layer.settings["outputs"]), int(layer.settings["kernel"])
    (weight,) = blobs.take(layer.name, (outputs, outputs, size, size))
    centred = (np.arange(size) + 0.5) / (size // 2) - 1
    kernel = np.outer(1 - abs(centred), 1 - abs(centred))
    if not np.allclose(weight, np.eye(outputs)[:, :, None, None] * kernel, rtol=0, atol=1e-6):
        raise ModelError(
            f"{blobs.path}: the weights of {layer.name} are not the bilinear upsampling "
            f"of the authors' networks"
        )
