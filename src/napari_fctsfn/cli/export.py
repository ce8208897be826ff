"""The verb ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from napari_fctsfn.cli.errors import Debug
from napari_fctsfn.cli.options import check_output_file, one_of
from napari_fctsfn.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fctsfn.formats import About

Kind = Literal["ome-tiff", "ome-zarr", "coco", "rois", "csv"]


def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="LABELS", help="A label image, or the folder of a session."),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="ome-tiff|ome-zarr|coco|rois|csv",
            help="OME-TIFF, OME-Zarr, COCO JSON, zip of ImageJ ROIs, or table of measurements.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="PATH", help="What is written.")],
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="IMAGE", help="The image: its name, and intensities."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option("--scale", metavar="Z,Y,X", help="Size of a pixel along the last axes."),
    ] = None,
    unit: Annotated[
        str, typer.Option("--unit", metavar="UNIT", help="Of the scale.")
    ] = "micrometer",
    _debug: Debug = False,
) -> None:
    """Write labels or a session in the format of another program."""
    from napari_fctsfn import formats
    from napari_fctsfn._files import replace_file
    from napari_fctsfn.predict.images import read_image

    kind = one_of("--to", to, get_args(Kind))
    check_output_file("--output", output)
    for name, path in (("LABELS", source), ("--image", image)):
        if path is not None and path.resolve() == output.resolve():
            raise InputError(f"--output {output} is {name} itself; give another name")
    labels, about = _labels(source, image, _sizes(scale), unit)
    if kind == "csv":
        pixels = None if image is None else _fitting(read_image(image), labels, image)
        with replace_file(output) as temporary:
            text = formats.measurements(labels, pixels, about)
            temporary.write_text(text, encoding="utf-8", newline="")
    else:
        write = {
            "ome-tiff": formats.write_ome_tiff,
            "ome-zarr": formats.write_ome_zarr,
            "coco": formats.write_coco,
            "rois": formats.write_rois,
        }[kind]
        write(output, labels, about)
    typer.echo(f"{output}: {kind} of {source}")


def _labels(
    source: Path, image: Path | None, scale: tuple[float, ...], unit: str
) -> tuple[NDArray[Any], About]:
    """The labels and what is known of them."""
    from napari_fctsfn import __version__
    from napari_fctsfn.formats import About
    from napari_fctsfn.predict.images import read_labels

    provenance = {"program": f"napari-fctsfn {__version__}"}
    name = "" if image is None else image.name
    if not source.is_dir():
        labels = read_labels(source, stack=True)
        provenance["labels"] = source.name
        return labels, About(name, scale, unit, provenance=provenance)
    from napari_fctsfn.session import read_header, read_session

    session, labels = read_session(source)
    names, classes, origin = session.told()
    about = About(
        name or read_header(source).image.name, scale, unit, names, classes, provenance | origin
    )
    return labels, about


def _fitting(pixels: NDArray[Any], labels: NDArray[Any], path: Path) -> NDArray[Any]:
    sizes = zip(pixels.shape, labels.shape, strict=False)
    if pixels.shape != labels.shape and all(mine in (1, its) for its, mine in sizes):
        raise InputError(
            f"{path} has shape {pixels.shape}, and the labels are of all its channels together: "
            f"leave out --image, there are no intensities to measure"
        )
    if pixels.shape[: labels.ndim] != labels.shape or pixels.ndim - labels.ndim not in (0, 1):
        raise InputError(
            f"{path} has shape {pixels.shape}, the labels have shape {labels.shape}: give the "
            f"image that they are of"
        )
    return pixels


def _sizes(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        sizes = tuple(float(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or not all(0 < size < float("inf") for size in sizes):
        raise InputError(f"--scale {text} is no scale: give numbers above 0, such as 2,0.5,0.5")
    return sizes
