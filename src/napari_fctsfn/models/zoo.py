"""A model as a package of the BioImage Model Zoo, for other programs that run such models.

The format (https://bioimage.io, version 0.5) can hold several inputs, so the clicks are one: a list
of rows, columns and kinds, of any length, from which the exported network makes its own interaction
maps. What the format has no place for stays behind: features kept between clicks, the working
window, adjustment to clicks, graph cut. What is exported is one look at one window.
"""

from __future__ import annotations

import copy
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_fctsfn.models.card import RESEARCH_ONLY, ModelCard
from napari_fctsfn.models.store import LoadedModel, ModelError
from napari_fctsfn.network import FCTSFN, fold_norms

_FAR = 255.0
"""Largest distance of an interaction map, in pixels."""

_OPSET = 18
"""Of ONNX: what torch's exporter writes, and what runners of these years read."""

_MOST_CLICKS = 1024

_README = """\
# {name}

{description}

Interactive segmentation: an image and clicks go in, the mask of the object that was clicked on
comes out. A two-stream late-fusion network after Hu, Soltoggio, Lock and Carter, Neural Networks
109 (2019) 31-42, made with napari-fctsfn {version}.

- `image`, 1 x 3 x {side} x {side}: RGB, the display range scaled to 0..1; grey three times.
- `clicks`, 1 x number of clicks x 3: row, column (pixels of `image`, from 0) and kind, which is 1
  on the object, -1 on background, 0 for none.
{previous}- `probability`, 1 x 1 x {side} x {side}: of each pixel to be the object; its mask is 0.5
  and more.

Cut a window around the object out and scale it to this size. What napari-fctsfn adds (features
kept between clicks, a window that follows the object, masks that agree with every click, stacks) is
not in this package.

Weights: {licence}. SHA-256 of the model file: {sha256}.

## Training

{data}

## Validation

{metrics}
"""

_PREVIOUS = """\
- `previous`, 1 x 1 x {side} x {side}: the mask before the last click, 0 or 1; at first 0.
"""


class ClickedNetwork(nn.Module):
    """A network whose second input are clicks, for programs without interaction maps.

    Parameters
    ----------
    network : FCTSFN
        In evaluation mode; a copy with its batch norms folded computes.
    """

    def __init__(self, network: FCTSFN) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        fold_norms(self.network)

    def forward(self, image: Tensor, clicks: Tensor, previous: Tensor | None = None) -> Tensor:
        """Probability of the object.

        Parameters
        ----------
        image : Tensor, shape (batch, 3, rows, columns), 0..1
        clicks : Tensor, shape (batch, n, 3)
            Row, column, and kind: 1 positive, -1 negative, 0 none.
        previous : Tensor, shape (batch, 1, rows, columns), optional
            For networks that take the previous mask.

        Returns
        -------
        Tensor, shape (batch, 1, rows, columns), 0..1
        """
        rows = torch.arange(image.shape[2], device=image.device) - clicks[:, :, :1]
        columns = torch.arange(image.shape[3], device=image.device) - clicks[:, :, 1:2]
        distance = (rows[:, :, :, None] ** 2 + columns[:, :, None, :] ** 2).sqrt()
        maps = []
        for kind in (1, -1):
            other = (clicks[:, :, 2] != kind)[:, :, None, None]
            maps.append(distance.masked_fill(other, _FAR).clamp(max=_FAR).amin(1, keepdim=True))
        if previous is not None:
            maps.append(previous)
        probability: Tensor = self.network(image, torch.cat(maps, dim=1)).logit.sigmoid()
        return probability


def write_package(model: LoadedModel, path: Path) -> None:
    """Write a package for the BioImage Model Zoo: ONNX weights, description, test tensors.

    Parameters
    ----------
    model : LoadedModel
    path : Path
        The zip file.

    Raises
    ------
    ModelError
        If bioimageio.spec or onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401  torch's exporter is written in it
        from bioimageio.spec import save_bioimageio_package
    except ImportError as error:
        raise ModelError(
            f"the export needs {error.name}: pip install 'napari-fctsfn[zoo]'"
        ) from None
    # the library leaves what it has read open, which Windows does not delete
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        description = _describe(model, Path(folder))
        save_bioimageio_package(description, output_path=path, allow_invalid=False)


def _describe(model: LoadedModel, folder: Path) -> Any:
    """Write what the package holds into a folder, and describe it."""
    from bioimageio.spec.model import v0_5

    card, network = model.card, ClickedNetwork(model.network).eval()
    multiple = model.network.multiple
    side = -(-card.input_size // multiple) * multiple
    tensors = _example(side, model.network.config.previous_mask)
    number = torch.export.Dim("number", min=1, max=_MOST_CLICKS)
    with torch.no_grad():
        if "previous" in tensors:
            tensors["previous"] = (network(*tensors.values()) >= 0.5).float()
        probability = network(*tensors.values())
        program = torch.onnx.export(
            network,
            tuple(tensors.values()),
            input_names=list(tensors),
            output_names=["probability"],
            opset_version=_OPSET,
            dynamic_shapes=tuple({1: number} if name == "clicks" else {} for name in tensors),
            dynamo=True,
            verbose=False,
        )
    if program is None:  # only the older exporter, which is not asked, gives none
        raise ModelError("torch has exported nothing")
    program.save(folder / "weights.onnx", external_data=False)
    for name, tensor in {**tensors, "probability": probability}.items():
        np.save(folder / f"{name}.npy", tensor.numpy())
    (folder / "README.md").write_text(_readme(model, side), encoding="utf-8")
    _cover(folder / "cover.png", tensors["image"], probability)

    def file(name: str) -> Any:
        return v0_5.FileDescr(source=folder / name)

    def plane(axis: Any) -> list[Any]:
        return [axis(id=v0_5.AxisId(name), size=side) for name in "yx"]

    def channels(*names: str) -> Any:
        return v0_5.ChannelAxis(channel_names=[v0_5.Identifier(name) for name in names])

    def tensor_of(kind: Any, name: str, text: str, axes: list[Any], span: tuple[Any, Any]) -> Any:
        return kind(
            id=v0_5.TensorId(name),
            description=text,
            axes=axes,
            test_tensor=file(f"{name}.npy"),
            data=v0_5.IntervalOrRatioDataDescr(type="float32", range=span),
        )

    batch, one = v0_5.BatchAxis(size=1), channels("object")
    many = v0_5.IndexInputAxis(size=v0_5.ParameterizedSize(min=1, step=1))
    flat = plane(v0_5.SpaceInputAxis)
    inputs = [
        ("image", "RGB, 0 to 1", [batch, channels("red", "green", "blue"), *flat], (0, 1)),
        (
            "clicks",
            "row, column, kind: 1 on the object, -1 on background, 0 none",
            [batch, many, channels("row", "column", "kind")],
            (-1, side - 1),
        ),
        ("previous", "the mask before the last click; at first 0", [batch, one, *flat], (0, 1)),
    ]
    licence: Any = v0_5.LicenseId("CC-BY-4.0")
    if card.weights_licence != "CC BY 4.0":
        (folder / "LICENSE.txt").write_text(f"Weights: {card.weights_licence}.\n", encoding="utf-8")
        licence = file("LICENSE.txt")
    return v0_5.ModelDescr(
        name=_plain(card.name),
        description=f"Interactive segmentation by clicks. {card.description}"[:1024],
        documentation=file("README.md"),
        covers=[file("cover.png")],
        authors=[v0_5.Author(name="The napari-fctsfn developers")],
        cite=[
            v0_5.CiteEntry(
                text="Hu, Soltoggio, Lock and Carter: A fully convolutional two-stream fusion "
                "network for interactive image segmentation. Neural Networks 109 (2019) 31-42",
                doi=v0_5.Doi("10.1016/j.neunet.2018.10.009"),
            )
        ],
        license=licence,
        tags=["interactive-segmentation", "segmentation", "2d", "pytorch", "napari"],
        inputs=[tensor_of(v0_5.InputTensorDescr, *each) for each in inputs if each[0] in tensors],
        outputs=[
            tensor_of(
                v0_5.OutputTensorDescr,
                "probability",
                "of each pixel to be the object",
                [batch, one, *plane(v0_5.SpaceOutputAxis)],
                (0, 1),
            )
        ],
        weights=v0_5.WeightsDescr(
            onnx=v0_5.OnnxWeightsDescr(source=folder / "weights.onnx", opset_version=_OPSET)
        ),
    )


def _example(side: int, previous: bool) -> dict[str, Tensor]:
    """Test inputs: the sample of nuclei with a click on one and one beside it."""
    picture = iio.imread(files("napari_fctsfn").joinpath("data/nuclei.png").read_bytes())
    grey = torch.from_numpy(picture.astype(np.float32))[None, None]
    scaled = interpolate(grey / grey.max(), (side, side), mode="bilinear", align_corners=False)
    smooth = nn.functional.avg_pool2d(scaled, 9, stride=1, padding=4)
    places = [divmod(int(at), side) for at in (smooth.argmax(), smooth.argmin())]
    clicks = [[[*place, kind] for place, kind in zip(places, (1, -1), strict=True)]]
    example = {"image": scaled.expand(1, 3, -1, -1).contiguous(), "clicks": torch.Tensor(clicks)}
    if previous:
        example["previous"] = torch.zeros(1, 1, side, side)
    return example


def _cover(path: Path, image: Tensor, probability: Tensor) -> None:
    """The example with its mask in orange."""
    mask = (probability[0] >= 0.5).float()
    orange = torch.tensor([0.9, 0.6, 0.0])[:, None, None]
    drawn = image[0] * (1 - 0.5 * mask) + 0.5 * mask * orange
    iio.imwrite(path, (drawn.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))


def _plain(name: str) -> str:
    """A name of letters, numbers and what else the format allows in one."""
    plain = "".join(c if c.isalnum() or c in "_-+ ()" else "-" for c in f"FCTSFN {name}")
    return plain[:128]


def _readme(model: LoadedModel, side: int) -> str:
    card: ModelCard = model.card
    data = [f"- {each.name}: {each.images} pictures, {each.licence}" for each in card.training_data]
    metrics = [f"- {name}: {value:.3g}" for name, value in card.metrics.items()]
    return _README.format(
        name=card.name,
        description=card.description or "A model of napari-fctsfn.",
        version=card.version,
        side=side,
        previous=_PREVIOUS.format(side=side) if model.network.config.previous_mask else "",
        licence=card.weights_licence
        + (": see the terms of the data below" if card.weights_licence == RESEARCH_ONLY else ""),
        sha256=model.sha256,
        data="\n".join(data) or "Not written down.",
        metrics="\n".join(metrics) or "Not written down.",
    )
