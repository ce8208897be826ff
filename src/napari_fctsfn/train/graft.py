"""A network that begins where one with another image stream left off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from napari_fctsfn.network import FCTSFN
from napari_fctsfn.network.layers import SplitConv2d
from napari_fctsfn.network.pyramid import STAGES
from napari_fctsfn.train.start import WeightsError

_RIDGE = 1e-4
"""Weight of the squared solution, in parts of the mean square of a feature."""


def graft(network: FCTSFN, parent: FCTSFN, images: Iterable[Tensor]) -> None:
    """Give a ``lite`` network the weights of another, all but those of its image stream.

    Late fusion makes this possible: the streams meet in 1x1 convolutions, and only their image
    halves read what the image stream gives. All else is copied; the image halves are fitted, by
    least squares with a small ridge, to give what those of the parent give.

    Parameters
    ----------
    network : FCTSFN
        Its image stream has weights already. Changed in place.
    parent : FCTSFN
        In evaluation mode.
    images : iterable of Tensor of float32, shape (batch, 3, rows, columns)
        RGB, 0..1, to fit on: in all several cells at stride 32 for each channel there.

    Raises
    ------
    WeightsError
        If the networks differ in more than the image model, or have no image stream of their own.
    """
    if replace(network.config, image_model=parent.config.image_model) != parent.config:
        raise WeightsError(
            f"{network.config.image_model} can take the place of {parent.config.image_model} only "
            f"in a network that is otherwise the same"
        )
    if network.config.image_blocks < STAGES:
        raise WeightsError(
            "a part of the image stream runs with every click: it cannot be replaced"
        )
    own, theirs = _image_halves(network), _image_halves(parent)
    fitted = {f"{name}.{kind}" for name in own for kind in ("weight", "bias")}
    copied = {
        name: value
        for name, value in parent.state_dict().items()
        if not name.startswith("image_stream.") and name not in fitted
    }
    network.load_state_dict(copied, strict=False)
    training = network.training
    network.eval()
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    with torch.no_grad(), _noted(own) as here, _noted(theirs) as there:
        for image in images:
            network.encode_image(image)
            parent.encode_image(image)
            for name in own:
                features, wanted = _rows(here[name][0]), _rows(there[name][1])
                features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
                new = features.T @ features, features.T @ wanted
                old = sums.get(name)
                sums[name] = new if old is None else (old[0] + new[0], old[1] + new[1])
        for name, (square, mixed) in sums.items():
            ridge = _RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
            solution = torch.linalg.solve(square + ridge, mixed)
            own[name].load_state_dict(
                {"weight": solution[:-1].T[:, :, None, None], "bias": solution[-1]}
            )
    network.train(training)


def _image_halves(network: FCTSFN) -> dict[str, nn.Conv2d]:
    """The convolutions that take image features, by name."""
    return {
        f"{name}.image": layer.image
        for name, layer in network.named_modules()
        if isinstance(layer, SplitConv2d)
    }


@contextmanager
def _noted(layers: dict[str, nn.Conv2d]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """What each layer took and gave in its last pass."""
    last = {}

    def note(name: str, layer: nn.Conv2d) -> RemovableHandle:
        def hook(_layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            last[name] = inputs[0], output

        return layer.register_forward_hook(hook)

    handles = [note(name, layer) for name, layer in layers.items()]
    try:
        yield last
    finally:
        for handle in handles:
            handle.remove()


def _rows(features: Tensor) -> Tensor:
    """One row of channels for each cell of each image, in double precision."""
    return features.permute(0, 2, 3, 1).flatten(0, 2).double()
