"""Images done chunk by chunk: no seams, the same everywhere, nothing read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops
from typer.testing import CliRunner

from napari_fctsfn import batch
from napari_fctsfn.batch.chunks import chunks_of
from napari_fctsfn.batch.pictures import read_picture
from napari_fctsfn.batch.readers import read_zarr
from napari_fctsfn.cli import app
from napari_fctsfn.clicks import Click, ClickRecord, Clicks, write_clicks
from napari_fctsfn.predict import Normalisation, Predictor
from napari_fctsfn.predict.engine import one_thread

pytest.importorskip("zarr")

SHAPE = (200, 170)


def spots(shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Bright discs on a dim ground, and where they are."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    image = rng.normal(20, 2, shape)
    places = []
    for top in range(24, shape[0] - 16, 36):
        for left in range(24, shape[1] - 16, 36):
            row, column = top + int(rng.integers(-4, 5)), left + int(rng.integers(-4, 5))
            image[np.hypot(rows - row, columns - column) < 8] += 100
            places.append((row, column))
    return np.clip(image, 0, 255).astype(np.uint8), places


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, places = spots(SHAPE)
    tifffile.imwrite("big.tif", image, tile=(64, 64), compression="zlib")
    records = [ClickRecord(Click(*place), object=n) for n, place in enumerate(places, 1)]
    write_clicks(tmp_path / "big_clicks.json", records)
    return tmp_path


def job(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "inputs": {"images": ["big.tif"], "chunk": 96, "halo": 40},
        "clicks": {"from": "files"},
        "normalisation": {"low": 0, "high": 200},
        "outputs": {"folder": "out", "probability": True},
        **changes,
    }


def run(document: dict[str, Any], *options: str, status: int = 0) -> str:
    Path("job.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    result = CliRunner().invoke(app, ["batch", "job.yaml", *options])
    assert result.exit_code == status, result.output
    return result.output + (result.stderr or "")


def contents(folder: str) -> dict[str, bytes]:
    other = {"manifest.jsonl", "summary.json", "job.yaml", "index.html"}
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir()) if p.name not in other}


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(0, 3),
    st.integers(64, 200),
    st.integers(0, 90),
)
def test_cores_cover_every_pixel_once_and_regions_their_halo(rows, columns, planes, size, halo):
    shape = (planes, rows, columns) if planes else (rows, columns)
    if shape[-1] in (3, 4):
        return
    count = np.zeros(shape, int)
    for number, chunk in enumerate(chunks_of(np.empty(shape), size, halo)):
        assert chunk.number == number
        count[(*chunk.index, *chunk.core)] += 1
        for core, region, extent in zip(chunk.core, chunk.region, (rows, columns), strict=True):
            assert region.start == max(core.start - halo, 0)
            assert region.stop == min(core.start + size + halo, extent)
    assert (count == 1).all()


def test_objects_on_borders_have_no_seams(folder):
    """Each object, alone, is what the predictor makes of the region of the chunk it lies in."""
    run(job())
    labels, image = tifffile.imread("out/big_labels.tif"), tifffile.imread("big.tif")
    probability = tifffile.imread("out/big_probability.tif")
    _, places = spots(SHAPE)
    predictor = Predictor.from_pretrained("default", "cpu")
    expected = np.zeros(SHAPE, np.uint8)
    chances = np.zeros(SHAPE, np.float32)
    crossed = 0
    for label, (row, column) in enumerate(places, 1):
        top, left = max(row // 96 * 96 - 40, 0), max(column // 96 * 96 - 40, 0)
        region = image[top : row // 96 * 96 + 136, left : column // 96 * 96 + 136]
        predictor.set_image(region, Normalisation(0, 200), key=(label,))
        with one_thread():
            found = predictor.replay(Clicks([Click(row - top, column - left)]))[-1]
        whole = np.zeros(SHAPE, bool)
        whole[top : top + region.shape[0], left : left + region.shape[1]] = found.full_mask()
        expected[whole & (expected == 0)] = label
        part = chances[top : top + region.shape[0], left : left + region.shape[1]]
        np.maximum(part, found.full_probability(), out=part)
        rows, columns = np.nonzero(whole)
        crossed += len({(r // 96, c // 96) for r, c in zip(rows, columns, strict=True)}) > 1
    assert crossed >= 5
    assert (labels == expected).all()
    assert (probability == chances).all()
    assert not Path("out/.chunks").exists()
    # the table is that of the whole image
    lines = Path("out/big_measurements.csv").read_text().splitlines()
    header, *rows = (line.split(",") for line in lines)
    for row, region in zip(rows, regionprops(labels, image), strict=True):
        found = dict(zip(header, row, strict=True))
        assert int(found["label"]) == region.label
        assert float(found["area"]) == region.area
        assert [int(found[f"bbox-{n}"]) for n in range(4)] == list(region.bbox)
        centre = [float(found["centroid-0"]), float(found["centroid-1"])]
        assert np.allclose(centre, region.centroid)
        assert float(found["intensity_mean"]) == region.intensity_mean


def test_one_chunk_is_the_whole_image(folder):
    run(job(inputs={"images": ["big.tif"]}, outputs={"folder": "whole"}))
    run(job(inputs={"images": ["big.tif"], "chunk": 512}, outputs={"folder": "one"}))
    assert contents("one") == contents("whole")


def test_the_same_in_processes_on_a_cluster_and_after_a_stop(folder):
    distributed = pytest.importorskip("distributed")
    outputs = {"labels": "ome-zarr", "overlay": False}
    run(job(outputs={**outputs, "folder": "here"}))

    def read(name: str) -> tuple[bytes, bytes]:
        labels = np.asarray(read_zarr(Path(name, "big_labels.ome.zarr"))[0])
        return labels.tobytes(), Path(name, "big_measurements.csv").read_bytes()

    expected = read("here")
    # stopped after some chunks, then gone on with in two processes
    document = batch.parse_job(job(outputs={**outputs, "folder": "two"}))
    asked = iter(range(100))
    planned = batch.plan(document, folder)
    assert list(batch.execute(planned, stop=lambda: next(asked) >= 3)) == []
    assert len(list(folder.glob("two/.chunks/big/*.npz"))) == 3
    steps: list[float] = []
    (entry,) = batch.execute(batch.plan(document, folder), workers=2, advance=steps.append)
    assert not entry.error
    assert sum(steps) == pytest.approx(1)
    assert len(steps) == 4
    assert read("two") == expected
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        run(job(outputs={**outputs, "folder": "dask"}), "--scheduler", cluster.scheduler_address)
    assert read("dask") == expected


def test_torn_pieces_are_made_again(folder):
    run(job(outputs={"folder": "here", "probability": True}))
    document = batch.parse_job(job())
    asked = iter(range(100))
    assert list(batch.execute(batch.plan(document, folder), stop=lambda: next(asked) >= 3)) == []
    torn, *_ = sorted(folder.glob("out/.chunks/big/*.npz"))
    torn.write_bytes(torn.read_bytes()[:100])
    assert [entry.error for entry in batch.execute(batch.plan(document, folder))] == [""]
    assert contents("out") == contents("here")


@pytest.mark.parametrize("method", ["log", "maxima"])
def test_seeds_are_found_once_each_and_numbered_in_order(folder, method):
    source = {"from": "seeds", "method": method, "radius": 8, "threshold": 0.2}
    run(job(clicks=source, outputs={"folder": "out"}))
    records = json.loads(Path("out/big_clicks_used.json").read_text())["clicks"]
    _, places = spots(SHAPE)
    assert len(records) == len(places)
    found = np.array([[record["row"], record["column"]] for record in records])
    away = np.hypot(*(found[:, None] - np.array(places)[None]).transpose(2, 0, 1))
    assert sorted(away.argmin(axis=1)) == list(range(len(places)))
    assert away.min(axis=1).max() <= 3
    labels = tifffile.imread("out/big_labels.tif")
    for record in records:
        assert labels[round(record["row"]), round(record["column"])] == record["object"]


def test_masks_are_refined_wherever_their_chunk(folder):
    _, places = spots(SHAPE)
    masks = np.zeros(SHAPE, np.uint16)
    rows, columns = np.indices(SHAPE)
    for label, (row, column) in enumerate(places, 1):
        masks[np.hypot(rows - row - 1, columns - column) < 7] = label
    tifffile.imwrite("big_masks.tif", masks)
    source = {"from": "masks", "path": "{stem}_masks.tif"}
    run(job(clicks=source, outputs={"folder": "out"}))
    labels = tifffile.imread("out/big_labels.tif")
    for label, (row, column) in enumerate(places, 1):
        truth = np.hypot(rows - row, columns - column) < 8
        mask = labels == label
        assert (mask & truth).sum() / (mask | truth).sum() > 0.7
    # a mask that no chunk holds is named
    masks[:, 100:110] = 999
    tifffile.imwrite("big_masks.tif", masks)
    said = run(job(clicks=source, outputs={"folder": "out"}), status=3)
    assert "the mask of object 999 is too large for its chunks" in said


def test_a_stack_in_a_zarr_with_channels_slice_by_slice(folder):
    import zarr

    image, places = spots((140, 150))
    pixels = np.stack([np.zeros((3, 140, 150), np.uint8), np.stack([image] * 3)])
    group = zarr.open_group("stack.ome.zarr", mode="w", zarr_format=2)
    axes = [{"name": name, "type": "space"} for name in "czyx"]
    step = {"type": "scale", "scale": [1, 2.0, 0.5, 0.5]}
    datasets = [{"path": "0", "coordinateTransformations": [step]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    group.create_array("0", data=pixels, chunks=(1, 1, 64, 64))
    clicks = [
        ClickRecord(Click(*place), (z,), n) for z in (0, 2) for n, place in enumerate(places[:3], 1)
    ]
    write_clicks(folder / "stack_clicks.json", clicks)
    inputs = {"images": ["stack.ome.zarr"], "channel": 1}
    run(job(inputs=inputs, outputs={"folder": "whole"}))
    run(job(inputs={**inputs, "chunk": 256}, outputs={"folder": "one"}))
    assert contents("one") == contents("whole")
    run(job(inputs={**inputs, "chunk": 96}, outputs={"folder": "more", "labels": "ome-zarr"}))
    labels, names, scale, _ = read_zarr(Path("more/stack_labels.ome.zarr"))
    assert (names, scale) == ("zyx", (2.0, 0.5, 0.5))
    assert [sorted(set(plane.ravel().tolist())) for plane in labels] == [
        [0, 1, 2, 3],
        [0],
        [0, 1, 2, 3],
    ]


@pytest.mark.parametrize("name", ["big.tif", "big.zarr"])
def test_only_what_is_asked_for_is_read(folder, name):
    import zarr

    image = tifffile.imread("big.tif")
    zarr.create_array("big.zarr", data=image, chunks=(64, 64))
    pixels = read_picture(Path(name), lazy=True).pixels
    assert (pixels.shape, pixels.dtype, pixels.ndim) == (image.shape, image.dtype, 2)
    if name == "big.zarr":  # chunks that are not asked for may be torn
        for path in Path("big.zarr/c/3").iterdir():
            path.write_bytes(b"torn")
    else:
        with tifffile.TiffFile(name) as file:
            offset, count = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
        with Path(name).open("r+b") as file:
            file.seek(offset)
            file.write(bytes(count))
    assert (pixels[10:120, 30:150:2] == image[10:120, 30:150:2]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clicks": {"from": "session", "folder": "x"}}, "does not go with clicks from session"),
        ({"inputs": {"images": ["big.tif"], "chunk": 10}}, "greater than or equal to 64"),
        ({"inputs": {"images": ["big.tif"], "chunk": 128, "halo": -1}}, "inputs.halo"),
    ],
)
def test_what_cannot_be_is_said(folder, changes, message):
    assert message in run(job(**changes), status=2)


def test_clicks_beyond_the_halo_are_named(folder):
    clicks = [ClickRecord(Click(10, 10), object=1), ClickRecord(Click(150, 10, False), object=1)]
    write_clicks(folder / "big_clicks.json", clicks)
    assert "the clicks on object 1 reach beyond the halo" in run(job(), status=3)
    assert [path.name for path in folder.glob("out/big*")] == []


@pytest.mark.parametrize("normalisation", ["image", "job"])
@pytest.mark.parametrize("name", ["torn.tif", "torn.zarr"])
def test_a_damaged_image_fails_alone(folder, name, normalisation):
    import zarr

    image = tifffile.imread("big.tif")
    if name == "torn.tif":
        tifffile.imwrite(name, image, tile=(64, 64), compression="zlib")
        with tifffile.TiffFile(name) as file:
            offset, count = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
        with Path(name).open("r+b") as file:
            file.seek(offset)
            file.write(bytes(count))
    else:
        zarr.create_array(name, data=image, chunks=(64, 64))
        Path(name, "c", "0", "1").write_bytes(b"torn")
    write_clicks(folder / "torn_clicks.json", [ClickRecord(Click(10, 10))])
    inputs = {"images": ["big.tif", name], "chunk": 96, "halo": 40}
    output = run(job(inputs=inputs, normalisation=normalisation), status=3)
    assert f"{name} cannot be read: it is damaged" in output
    assert "1 done, 0 done before, 1 failed" in output
