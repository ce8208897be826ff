"""Labels in other programs' formats, read again by those who own the formats."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.measure import points_in_poly, regionprops
from typer.testing import CliRunner

from napari_fctsfn.cli import app
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.formats import (
    About,
    measurements,
    outlines,
    write_coco,
    write_ome_tiff,
    write_ome_zarr,
    write_rois,
)
from napari_fctsfn.predict import Normalisation
from napari_fctsfn.session import ImageIdentity, Journal, Note, Plane, Session

pytestmark = pytest.mark.filterwarnings(
    # pycocotools, on its own behalf
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7))
MASKS = arrays(bool, SHAPES)
LABELS = arrays(np.int64, SHAPES, elements=st.sampled_from([-1, 0, 1, 2, 1000, 2**40]))
ABOUT = About(
    "cells.tif",
    (2.0, 0.5, 0.25),
    "micrometer",
    {1: "first", 5: ""},
    {1: "nucleus", 5: ""},
    {"model": "abc", "program": "napari-fctsfn 0"},
)


def filled(loops: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie within an odd number of loops."""
    centres = np.stack(np.mgrid[: shape[0], : shape[1]], axis=-1).reshape(-1, 2) + 0.5
    inside = np.zeros(len(centres), bool)
    for loop in loops:
        inside ^= points_in_poly(centres, loop)
    return inside.reshape(shape)


def winding(loops: list[np.ndarray]) -> list[float]:
    """Area of each loop, positive if it runs clockwise on the screen."""
    return [
        float(np.sum(loop[:, 1] * np.roll(loop[:, 0], -1) - np.roll(loop[:, 1], -1) * loop[:, 0]))
        / 2
        for loop in loops
    ]


def some_labels(*leading: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    labels = np.zeros((*leading, 30, 40), np.uint16)
    for index in np.ndindex(*leading):
        labels[index][5:15, 5:20] = 1
        labels[index][8:12, 8:12] = 0
        labels[index][20:28, 10:35] = 5 * (rng.random((8, 25)) > 0.3)
    return labels


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_outlines_hold_exactly_the_mask(mask):
    loops = outlines(mask)
    assert np.array_equal(filled(loops, mask.shape), mask)
    assert sum(winding(loops)) == mask.sum()
    for loop in loops:
        steps = np.diff(np.concatenate([loop, loop[:1]]), axis=0)
        assert (np.count_nonzero(steps, axis=1) == 1).all()
        assert (steps[:-1].astype(bool) != steps[1:].astype(bool)).all()


@settings(max_examples=100, deadline=None)
@given(mask=MASKS)
def test_coco_reads_the_same_masks(tmp_path_factory, mask):
    mask_api = pytest.importorskip("pycocotools.mask")
    path = tmp_path_factory.getbasetemp() / "coco.json"
    write_coco(path, mask.astype(np.uint8) * 3)
    annotations = json.loads(path.read_text())["annotations"]
    assert len(annotations) == mask.any()
    for annotation in annotations:
        runs = mask_api.frPyObjects(annotation["segmentation"], *mask.shape)
        assert np.array_equal(mask_api.decode(runs).astype(bool), mask)
        assert mask_api.area(runs) == annotation["area"]
        assert mask_api.toBbox(runs).tolist() == annotation["bbox"]


@settings(max_examples=300, deadline=None)
@given(labels=LABELS)
def test_coco_holds_each_object_of_the_slice_once(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "coco.json"
    write_coco(path, labels)
    annotations = json.loads(path.read_text())["annotations"]
    assert [a["object"] for a in annotations] == np.unique(labels[labels != 0]).tolist()
    for annotation in annotations:
        mask = labels == annotation["object"]
        runs = annotation["segmentation"]["counts"]
        assert all(runs[1:])  # then no other list of runs gives the same mask
        flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        assert np.array_equal(flat.reshape(annotation["segmentation"]["size"], order="F"), mask)
        rows, columns = np.nonzero(mask)
        assert annotation["bbox"][:2] == [columns.min(), rows.min()]
        assert annotation["bbox"][2:] == [np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["area"] == len(rows)


def test_coco_looks_at_the_boxes_of_objects_alone(tmp_path):
    labels = np.zeros((1000, 1000), np.int64)
    labels[2:6, 3:9] = 1
    tracemalloc.start()
    write_coco(tmp_path / "a.json", labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labels.size


def test_coco_has_an_image_for_each_slice_and_a_category_for_each_class(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    labels = some_labels(3)
    write_coco(tmp_path / "a.json", labels, ABOUT)
    document = coco.COCO(tmp_path / "a.json")
    assert [image["slice"] for image in document.dataset["images"]] == [[0], [1], [2]]
    assert {c["name"] for c in document.dataset["categories"]} == {"nucleus", "object"}
    nucleus = document.getCatIds(["nucleus"])
    for image in document.dataset["images"]:
        (annotation,) = document.loadAnns(document.getAnnIds(image["id"], nucleus))
        plane = labels[tuple(image["slice"])]
        assert (document.annToMask(annotation).astype(bool) == (plane == 1)).all()
        assert annotation["name"] == "first"


def test_rois_hold_the_masks_with_their_holes(tmp_path):
    roifile = pytest.importorskip("roifile")
    labels = some_labels(2)
    write_rois(tmp_path / "a.zip", labels, ABOUT)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == ["first-0", "5-0", "first-1", "5-1"]
    for roi, (z, label) in zip(rois, [(0, 1), (0, 5), (1, 1), (1, 5)], strict=True):
        loops = [path[:, ::-1] for path in roi.coordinates(multi=True)]
        assert (filled(loops, (30, 40)) == (labels[z] == label)).all()
        assert roi.position == z + 1


@settings(max_examples=100, deadline=None)
@given(labels=LABELS.filter(np.any))
def test_rois_are_the_outlines_in_the_slice(tmp_path_factory, labels):
    roifile = pytest.importorskip("roifile")
    path = tmp_path_factory.getbasetemp() / "rois.zip"
    write_rois(path, labels)
    rois = roifile.roiread(path)
    assert [int(roi.name) for roi in rois] == np.unique(labels[labels != 0]).tolist()
    for roi in rois:
        loops = outlines(labels == int(roi.name))
        steps: list[float] = []
        for loop in loops:
            for row, column in loop.tolist():
                steps += [1, column, row]
            steps[-3 * len(loop)] = 0
            steps.append(4)
        assert roi.multi_coordinates.tolist() == steps
        corners = np.concatenate(loops)
        assert [roi.top, roi.left] == corners.min(axis=0).tolist()
        assert [roi.bottom, roi.right] == corners.max(axis=0).tolist()


def test_rois_are_sought_in_the_boxes_of_objects_alone(tmp_path, monkeypatch):
    pytest.importorskip("roifile")
    looked_at = []

    def spy(mask):
        looked_at.append(mask.shape)
        return outlines(mask)

    monkeypatch.setattr("napari_fctsfn.formats.labels.outlines", spy)
    write_rois(tmp_path / "a.zip", some_labels())
    assert looked_at == [(10, 15), (8, 25)]


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_ome_tiff_keeps_labels_scale_and_provenance(tmp_path, leading):
    labels = some_labels(*leading)
    path = tmp_path / "a.ome.tif"
    write_ome_tiff(path, labels, ABOUT)
    first = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert (file.series[0].asarray() == labels).all()
        text = file.ome_metadata
    assert 'PhysicalSizeX="0.25"' in text
    assert 'PhysicalSizeY="0.5"' in text
    assert ('PhysicalSizeZ="2.0"' in text) == bool(leading)
    assert "abc" in text
    write_ome_tiff(path, labels, ABOUT)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("given", "highest", "written"),
    [
        ("bool", 1, "uint8"),
        ("uint64", 255, "uint8"),
        ("int64", 256, "uint16"),
        ("int64", 2**32 - 1, "uint32"),
        ("int64", -1, "int8"),
        ("int32", -1, "int32"),
        ("uint16", 1, "uint16"),
    ],
)
def test_ome_tiff_holds_labels_of_every_type(tmp_path, given, highest, written):
    labels = np.zeros((4, 5), given)
    labels[1, 2] = highest
    write_ome_tiff(tmp_path / "a.ome.tif", labels)
    found = tifffile.imread(tmp_path / "a.ome.tif")
    assert found.dtype == written
    assert (found == labels).all()


@pytest.mark.parametrize("columns", [3, 4])
def test_few_columns_of_labels_are_no_colours(tmp_path, columns):
    labels = np.arange(5 * 64 * columns, dtype=np.uint16).reshape(5, 64, columns)
    write_ome_tiff(tmp_path / "a.ome.tif", labels)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.series[0].axes == "ZYX"
        assert (file.series[0].asarray() == labels).all()


def test_ome_tiff_is_sound_whatever_the_name_of_the_image(tmp_path):
    name = "".join(map(chr, range(128)))
    write_ome_tiff(tmp_path / "a.ome.tif", some_labels(), About(name))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        (image,) = ET.fromstring(file.ome_metadata).iterfind("{*}Image")
    assert image.get("Name") == name[32:]


def test_an_image_whose_name_is_no_utf_8_is_exported(tmp_path):
    # What Linux makes of such a name has lone surrogates.
    about = About("caf\udce9.tif\ufffe", names={1: "caf\udce9"})
    for name, write in (("a.tif", write_ome_tiff), ("a.json", write_coco), ("a.zip", write_rois)):
        if name == "a.zip":
            pytest.importorskip("roifile")
        write(tmp_path / name, some_labels(), about)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        (image,) = ET.fromstring(file.ome_metadata).iterfind("{*}Image")
    assert image.get("Name") == "caf.tif"


def test_memory_for_an_ome_tiff_does_not_grow_with_the_stack(tmp_path):
    labels = np.zeros((20, 300, 300), np.uint16)
    tracemalloc.start()
    write_ome_tiff(tmp_path / "a.ome.tif", labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < labels.nbytes / 2


@pytest.mark.parametrize("highest", [2**32, 2**63])
def test_labels_too_large_for_ome_tiff_are_refused(tmp_path, highest):
    with pytest.raises(InputError, match=f"from 0 to {highest} do not fit"):
        write_ome_tiff(tmp_path / "a.ome.tif", np.array([[0, highest]], np.uint64))
    assert not list(tmp_path.iterdir())


def test_a_mask_is_the_object_1_in_every_format(tmp_path):
    roifile, zarr = pytest.importorskip("roifile"), pytest.importorskip("zarr")
    mask = some_labels() == 1
    for name, write in (("a.json", write_coco), ("a.zip", write_rois), ("a.zarr", write_ome_zarr)):
        write(tmp_path / name, mask)
    (annotation,) = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert annotation["object"] is not True
    (roi,) = roifile.roiread(tmp_path / "a.zip")
    assert roi.name == "1"
    assert zarr.open_group(tmp_path / "a.zarr", mode="r")["0"].dtype == np.uint8
    (row,) = csv.DictReader(io.StringIO(measurements(mask)))
    assert (row["label"], float(row["area"])) == ("1", mask.sum())


def test_rois_of_objects_of_one_name_have_different_names(tmp_path):
    roifile = pytest.importorskip("roifile")
    labels = np.arange(1, 7).reshape(2, 3)[:, None] * np.ones((2, 1), int)
    names = {1: "cell", 2: "cell", 3: "cell-2", 4: "6", 5: "cell"}
    write_rois(tmp_path / "a.zip", labels, About(names=names))
    rois = roifile.roiread(tmp_path / "a.zip")
    shown = [f"{name}-0" for name in ("cell", "cell-2", "cell-2-3")]
    shown += [f"{name}-1" for name in ("6", "cell-5", "6-6")]
    assert [roi.name for roi in rois] == shown


def test_rois_lie_flat_in_their_zip_whatever_their_names(tmp_path):
    roifile = pytest.importorskip("roifile")
    names = {1: "../../x", 2: "a/b", 3: "a_b", 4: "c:\\d\0\n"}
    write_rois(tmp_path / "a.zip", np.array([[1, 2, 3, 4]]), About(names=names))
    flat = [".._.._x", "a_b", "a_b-3", "c__d__"]
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == [f"{name}.roi" for name in flat]
    assert [roi.name for roi in roifile.roiread(tmp_path / "a.zip")] == flat


@pytest.mark.parametrize("leading", [(), (2, 3)])
def test_ome_zarr_keeps_labels_scale_and_provenance(tmp_path, leading):
    zarr = pytest.importorskip("zarr")
    labels = some_labels(*leading)
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, labels, ABOUT)
    group = zarr.open_group(path, mode="r")
    multiscale = group.attrs["ome"]["multiscales"][0]
    (dataset,) = multiscale["datasets"]
    assert (group[dataset["path"]][...] == labels).all()
    assert [axis["name"] for axis in multiscale["axes"]] == list("tzyx")[-labels.ndim :]
    (transformation,) = dataset["coordinateTransformations"]
    assert transformation["scale"] == [1.0, 2.0, 0.5, 0.25][-labels.ndim :]
    named = {p["label-value"]: p for p in group.attrs["ome"]["image-label"]["properties"]}
    assert named[1]["name"] == "first"
    assert set(named) == {1, 5}
    assert group.attrs["napari-fctsfn"]["model"] == "abc"
    with pytest.raises(ValueError, match="there already"):
        write_ome_zarr(path, labels, ABOUT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr"]


def test_of_folders_only_what_this_program_wrote_is_replaced(tmp_path):
    zarr = pytest.importorskip("zarr")
    labels = some_labels()
    ours, theirs, folder = (tmp_path / name for name in ("ours.zarr", "theirs.zarr", "folder.zarr"))
    write_ome_zarr(ours, labels)
    write_ome_zarr(ours, labels * 2, overwrite=True)
    assert (zarr.open_group(ours, mode="r")["0"][...] == labels * 2).all()
    zarr.open_group(theirs, mode="w", attributes={"ome": {}}).create_array("0", data=labels)
    folder.mkdir()
    (folder / "zarr.json").write_text("[]")
    before = sorted(tmp_path.rglob("*"))
    for path in (theirs, folder):
        with pytest.raises(InputError, match="choose another name, or remove it first"):
            write_ome_zarr(path, labels, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert (zarr.open_group(theirs, mode="r")["0"][...] == labels).all()


def test_measurements_are_in_pixels_and_areas_in_the_unit_too():
    labels = some_labels(2)
    image = np.arange(labels.size, dtype=float).reshape(labels.shape)
    rows = list(csv.DictReader(io.StringIO(measurements(labels, image, ABOUT))))
    assert len(rows) == 4
    for row in rows:
        mask = labels[int(row["slice-0"])] == int(row["label"])
        assert float(row["area"]) == mask.sum()
        assert float(row["area_physical"]) == pytest.approx(mask.sum() * 0.5 * 0.25)
        (region,) = regionprops(mask.astype(int))
        assert [float(row[f"centroid-{n}"]) for n in (0, 1)] == pytest.approx(region.centroid)
        assert [int(row[f"bbox-{n}"]) for n in range(4)] == list(region.bbox)
        plane = image[int(row["slice-0"])]
        assert float(row["intensity_max"]) == plane[mask].max()
        assert row["class"] == ("nucleus" if row["label"] == "1" else "")
    assert "intensity_mean" not in measurements(labels)
    assert measurements(np.zeros((4, 4), np.uint8)).count("\n") == 1


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-2, 4))
)
def test_large_labels_are_measured_as_small_ones_are(labels):
    large = np.where(labels > 0, labels * 1000, labels)
    small, found = (
        [dict(row) for row in csv.DictReader(io.StringIO(measurements(each, labels)))]
        for each in (labels, large)
    )
    for row in small:
        row["label"] += "000"
    assert found == small
    assert [int(row["label"]) for row in found] == np.unique(large[large > 0]).tolist()


def test_labels_of_all_64_bits_are_measured():
    labels = np.array([[0, 7, 2**63, 2**63, 2**64 - 1]], np.uint64)
    rows = csv.DictReader(io.StringIO(measurements(labels)))
    assert {int(row["label"]): float(row["area"]) for row in rows} == {
        7: 1,
        2**63: 2,
        2**64 - 1: 1,
    }


def test_memory_for_measurements_does_not_grow_with_the_labels():
    labels = some_labels().astype(np.uint32)
    rows = measurements(labels).splitlines()
    labels[labels == 5] = 5_000_000
    tracemalloc.start()
    found = measurements(labels).splitlines()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    assert found == [*rows[:2], rows[2].replace("5,", "5000000,", 1)]


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["export", *arguments])
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.stderr.strip()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("labels.tif", some_labels(3), photometric="minisblack")
    tifffile.imwrite("image.tif", some_labels(3), photometric="minisblack")
    return tmp_path


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("ome-tiff", "a.ome.tif"),
        ("ome-zarr", "a.zarr"),
        ("coco", "a.json"),
        ("rois", "a.zip"),
        ("csv", "a.csv"),
    ],
)
def test_every_format_is_exported_by_the_command_line(here, to, name):
    options = ["--image", "image.tif", "--scale", "2,0.5,0.5"]
    run("labels.tif", "--to", to, "--output", name, *options)
    assert Path(name).exists()
    assert not list(here.glob(".*"))


def test_labels_in_a_palette_are_its_indices(here):
    labels = some_labels()
    picture = Image.fromarray(labels.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 230, 159, 0, 86, 180, 233] + [9] * 759)
    picture.save("palette.png")
    run("palette.png", "--to", "csv", "--output", "a.csv")
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_text())))
    assert {int(row["label"]): float(row["area"]) for row in rows} == {
        int(label): int((labels == label).sum()) for label in np.unique(labels) if label
    }


def test_a_session_is_exported_with_its_names(here):
    image = some_labels()
    session = Session(image.shape, Normalisation(0, 5))
    labels: np.ndarray[Any, Any] = np.zeros(image.shape, np.uint16)
    identity, plane = ImageIdentity.of("cells.tif", image), Plane((None, None))
    with Journal.create(here / "session", session, identity, labels):
        session.edit_clicks(plane, Clicks([Click(3, 4)]))
        replay = session.job(lambda _: labels)
        session.resolve(replay, image == 1, labels, "ab" * 32).apply(labels)
        session.describe({1: Note("my nucleus", "nucleus")})
    run("session", "--to", "coco", "--output", "a.json")
    document = json.loads(Path("a.json").read_text())
    (annotation,) = document["annotations"]
    assert (annotation["name"], annotation["area"]) == ("my nucleus", int((image == 1).sum()))
    assert document["images"][0]["file_name"] == "cells.tif"
    assert document["info"]["models"] == "ab" * 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels.tif", "--to", "svg", "--output", "a.svg"], "--to svg is unknown"),
        (["labels.tif", "--to", "csv", "--output", "labels.tif"], "is LABELS itself"),
        (["labels.tif", "--to", "csv", "--output", "no/a.csv"], "there is no folder no"),
        (["float.tif", "--to", "csv", "--output", "a.csv"], "is no label image"),
        (["labels.tif", "--to", "csv", "--output", "a.csv", "--scale", "x"], "--scale x"),
        (
            ["labels.tif", "--to", "csv", "--output", "a.csv", "--image", "small.png"],
            "has shape (3, 4)",
        ),
        (["empty.tif", "--to", "rois", "--output", "a.zip"], "all labels are 0"),
        (["here", "--to", "csv", "--output", "a.csv"], "is no session"),
        (["colours.png", "--to", "csv", "--output", "a.csv"], "is no label image"),
        (
            ["labels.tif", "--to", "csv", "--output", "a.csv", "--image", "channels.tif"],
            "of all its channels together: leave out --image",
        ),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_sentence(here, arguments, message):
    tifffile.imwrite("float.tif", np.ones((4, 4), np.float32))
    tifffile.imwrite("empty.tif", np.zeros((4, 4), np.uint8))
    iio.imwrite("small.png", np.zeros((3, 4), np.uint8))
    iio.imwrite("colours.png", np.zeros((3, 4, 3), np.uint8))
    if "channels.tif" in arguments:
        tifffile.imwrite("labels.tif", some_labels(1), photometric="minisblack")
        tifffile.imwrite("channels.tif", some_labels(2), photometric="minisblack")
    Path("here").mkdir()
    before = sorted(here.rglob("*"))
    error = run(*arguments, status=2)
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(here.rglob("*")) == before
