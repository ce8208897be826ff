"""Make the pictures of the docks, and of what single clicks give, for the documentation anew.

    scripts/with-display.sh .venv/bin/python scripts/pictures.py docs/images [NAME ...]

Needs no data but the bundled samples; the pictures are to be looked at before they are committed.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import napari
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from qtpy.QtWidgets import QApplication
from skimage.measure import regionprops
from superqt import QCollapsible

from napari_fctsfn import Click, Clicks, Predictor
from napari_fctsfn.plugin import samples
from napari_fctsfn.plugin.layers import object_colors
from napari_fctsfn.plugin.prompts import POSITIVE_COLOR
from napari_fctsfn.train.finetune.replay import measuring_objects

_LABELS = Path(__file__).parents[1] / "tests/data/nuclei_labels.png"
_COLORS = 192
"""Of a picture in the documentation: flat surfaces stay small files."""


def main() -> None:
    """Make every picture in a window of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="of the pictures; all if not given")
    options = parser.parse_args()
    if not options.names or "one-click" in options.names:
        _one_click(options.folder / "one-click.jpg")
    for name, size, kind, act in (
        ("annotate", (1280, 860), "Annotate", _annotate),
        ("objects", (1050, 780), "Annotate", _objects),
        ("prompts", (1280, 800), "Annotate", _prompts),
        ("similar", (1280, 860), "Annotate", _similar),
        ("channels", (1280, 800), "Annotate", _channels),
        ("models", (1280, 960), "Models", _models),
        ("finetune", (1180, 960), "Fine-tune", _fine_tune),
    ):
        if options.names and name not in options.names:
            continue
        viewer = napari.Viewer()
        viewer.open_sample("napari-fctsfn", "nuclei")
        viewer.window.resize(*size)
        _, dock = viewer.window.add_plugin_dock_widget("napari-fctsfn", kind)
        assert dock.wait_idle(300_000)
        if kind == "Annotate":
            assert dock.start()
        viewer.reset_view()
        act(viewer, dock)
        _save(viewer, options.folder / f"{name}.png")
        viewer.close()


_CLICKED = {
    "nuclei, fluorescence": (
        (140, 256, 30, 205),
        ((173, 151), (190, 55), (190, 87), (219, 60), (239, 105), (250, 132), (211, 145)),
    ),
    "nuclei, stained": (
        (45, 185, 60, 280),
        ((100, 76), (73, 194), (102, 168), (160, 234), (108, 260), (125, 107), (134, 257)),
    ),
    "chloroplasts, electron microscope": (
        (60, 300, 120, 480),
        ((255, 175), (140, 255), (95, 385), (220, 420), (245, 355)),
    ),
    "neuron, bright field": ((60, 410, 200, 640), ((164, 488),)),
    "cat, photograph": ((0, 300, 0, 451), ((160, 240),)),
}
"""Bundled pictures, the part that is shown (rows, then columns), and the places that are clicked
on, each once."""


def _one_click(path: Path) -> None:
    """What a single click on each of some things gives, whatever it is."""
    nuclei, stained, chloroplasts, cat = (
        make()[0][0]
        for make in (samples.nuclei, samples.stained_nuclei, samples.chloroplasts, samples.cat)
    )
    (neuron,) = (each.image for each in measuring_objects()[0] if each.name == "neuron")
    pictures = (nuclei, stained, chloroplasts, neuron, cat)
    predictor = Predictor.from_pretrained()
    colors = object_colors().colors[1:]
    figure = Figure(figsize=(13, 2.1), layout="constrained")
    panels = figure.subplots(1, len(_CLICKED))
    for panel, picture, (title, clicked) in zip(panels, pictures, _CLICKED.items(), strict=True):
        (top, bottom, left, right), places = clicked
        predictor.set_image(picture)
        panel.imshow(picture, cmap="gray")
        for color, (row, column) in zip(colors, places, strict=False):
            found = predictor.predict(Clicks([Click(row, column)])).full_mask()
            panel.contour(found, [0.5], colors=[color], linewidths=1.5)
            panel.plot(column, row, "o", color=POSITIVE_COLOR, mec="white", ms=4)
        panel.set(xlim=(left, right), ylim=(bottom, top))
        panel.set_title(title, fontsize=9)
        panel.set_axis_off()
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 88})


def _click(dock: Any, *point: float, positive: bool = True) -> None:
    prompts = dock.annotator.site.prompts
    (prompts.positive if positive else prompts.negative).add([list(point)])
    assert dock.wait_idle(60_000)


def _some(dock: Any, points: list[tuple[int, int]]) -> None:
    for number, point in enumerate(points):
        if number:
            dock.next_button.click()
        _click(dock, *point)
        for other in _nuclei(100):
            # what touches is clicked away, as anybody would
            if other != point and dock.annotator.site.labels.data[other] == number + 1:
                _click(dock, *other, positive=False)


def _nuclei(count: int) -> list[tuple[int, int]]:
    """The middles of the largest nuclei of the sample."""
    nuclei = sorted(regionprops(iio.imread(_LABELS)), key=lambda nucleus: -nucleus.area)
    return [(round(n.centroid[0]), round(n.centroid[1])) for n in nuclei[:count]]


def _annotate(_viewer: Any, dock: Any) -> None:
    _some(dock, _nuclei(10))


def _objects(_viewer: Any, dock: Any) -> None:
    _some(dock, _nuclei(8))
    note = dock.annotator.session.note
    notes = {
        1: replace(note(1), category="nucleus"),
        2: replace(note(2), category="nucleus", name="the long one"),
        3: replace(note(3), reviewed=True),
        5: replace(note(5), hidden=True),
    }
    dock.annotator.do(lambda site: site.session.describe(notes))
    dock.objects.choose([2, 3])
    assert dock.wait_idle()


def _prompts(_viewer: Any, dock: Any) -> None:
    _some(dock, _nuclei(8)[4:])
    dock.next_button.click()
    for part in dock.findChildren(QCollapsible):
        part.expand(animate=False)
    dock.annotator.shaping.use("box")
    shapes = dock.annotator.shaping.layer
    row, column = _nuclei(2)[1]
    corners = [(row + r, column + c) for r, c in ((-14, -13), (-14, 13), (14, 13), (14, -13))]
    shapes.add(np.array(corners), shape_type="rectangle")
    assert dock.wait_idle(60_000)


def _similar(_viewer: Any, dock: Any) -> None:
    _some(dock, _nuclei(3))
    dock.similar.find_button.click()
    assert dock.wait_idle(60_000)


def _channels(viewer: Any, dock: Any) -> None:
    """The stained tissue as an image of three channels."""
    viewer.layers.clear()
    viewer.open_sample("napari-fctsfn", "stained_nuclei")
    (layer,) = viewer.layers
    channels = np.moveaxis(np.asarray(layer.data)[..., :3], 2, 0)
    viewer.layers.clear()
    viewer.add_image(channels, name="tissue", axis_labels=("c", "y", "x"))
    dock.channels.axis.setCurrentIndex(1)
    assert dock.start()
    assert dock.wait_idle(60_000)
    viewer.reset_view()
    dock.findChildren(QCollapsible)[0].expand(animate=False)
    _click(dock, 0, 102, 169)


def _models(viewer: Any, dock: Any) -> None:
    viewer.add_labels(np.asarray(iio.imread(_LABELS)), name="true masks")
    dock.objects.setValue(8)
    dock.select("default", "photo")
    dock.try_layers()
    assert dock.wait_idle(300_000)
    dock.select("default")


def _fine_tune(viewer: Any, dock: Any) -> None:
    """Nine parts of the sample, as a stack."""
    side = 85
    corners = [(r, c) for r in range(0, 171, side) for c in range(0, 171, side)]
    parts = [
        np.stack([whole[r : r + side, c : c + side] for r, c in corners])
        for whole in (viewer.layers[0].data, np.asarray(iio.imread(_LABELS)))
    ]
    viewer.layers.clear()
    viewer.add_image(parts[0], name="nuclei")
    viewer.add_labels(parts[1], name="corrected")
    viewer.dims.set_current_step(0, 2)
    dock.add_layers()
    assert dock.wait_idle(60_000)
    dock.base.setCurrentText("photo")
    dock.minutes.setValue(15)
    assert dock.start()
    assert dock.wait_idle(1_500_000)
    for _ in range(50):
        QApplication.processEvents()


def _save(viewer: Any, path: Path) -> None:
    for _ in range(10):
        QApplication.processEvents()
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        viewer.screenshot(str(shot), canvas_only=False, flash=False)
        picture = Image.fromarray(iio.imread(shot)[..., :3])
    picture.quantize(_COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
