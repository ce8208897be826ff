"""Evaluation: data sets as they lie on disk, the measures, and the simulated user's round."""

from __future__ import annotations

import contextlib
import csv
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.evaluate import (
    DataSet,
    DataSetError,
    ObjectReference,
    clustered_interval,
    evaluate_objects,
    iou,
    number_of_clicks,
    open_dataset,
    protocol_settings,
    summarise,
    write_results,
)
from napari_fctsfn.predict import Prediction, Settings
from napari_fctsfn.predict.images import ImageFileError, read_image, read_labels, write_tiff

SHAPE = (24, 30)


def make_set(folder: Path, stems: dict[str, np.ndarray], **about: Any) -> DataSet:
    """A data set with these labels; the image is bright on all that is labelled."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number, (stem, labels) in enumerate(stems.items()):
        image = np.where(labels > 0, 200, 20).astype(np.uint8)
        iio.imwrite(folder / "images" / f"{stem}.{('png', 'jpg')[number % 2]}", image)
        iio.imwrite(folder / "labels" / f"{stem}.png", labels)
    values = {"name": "made", "kind": "instances", "licence": "CC0", "modality": "boxes", **about}
    (folder / "dataset.json").write_text(json.dumps(values))
    return DataSet.open(folder)


def boxes(*values: int, dtype: Any = np.uint8) -> np.ndarray:
    """Labels with a box of each value, side by side."""
    labels = np.zeros(SHAPE, dtype)
    for number, value in enumerate(values):
        labels[5:15, 2 + 7 * number : 7 + 7 * number] = value
    return labels


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return make_set(tmp_path / "set", {"a": boxes(1, 4, 9), "b": boxes(2), "c d 7": boxes(3, 5)})


def listed(data: DataSet, text: str, **kwargs: Any) -> list[tuple[str, int]]:
    """Objects of a list with this text."""
    path = data.folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    return [(item.stem, item.value) for item in data.objects(path, **kwargs)]


def test_lists_mix_whole_images_and_single_objects(data: DataSet) -> None:
    assert listed(data, "a 9\nb\n\n  a  \nb 2\n") == [("a", 9), ("b", 2), ("a", 1), ("a", 4)]
    assert listed(data, "\ufeffa 4\r\nb\r\n") == [("a", 4), ("b", 2)]


def test_a_stem_may_have_blanks_and_end_like_a_value(data: DataSet) -> None:
    assert listed(data, "c d 7\n") == [("c d 7", 3), ("c d 7", 5)]
    assert listed(data, "c d 7 5\n") == [("c d 7", 5)]


@pytest.mark.parametrize(
    ("about", "values"),
    [
        ({"kind": "instances"}, [1, 4, 255]),
        ({"kind": "parts"}, [1, 4, 255]),
        ({"kind": "regions"}, [1, 4, 255]),
        ({"kind": "binary", "foreground": 255, "ignore": 4}, [255]),
        ({"kind": "instances", "ignore": 255}, [1, 4]),
        ({"kind": "instances", "background": 4}, [0, 1, 255]),
    ],
)
def test_kind_foreground_and_ignore_are_honoured(
    tmp_path: Path, about: dict[str, Any], values: list[int]
) -> None:
    data = make_set(tmp_path / "set", {"a": boxes(1, 4, 255)}, **about)
    assert listed(data, "a") == [("a", value) for value in values]


@given(
    hnp.arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 0, 0, 0, 3, 7, 255])),
    st.integers(0, 5),
    st.sampled_from([None, 255]),
)
def test_a_band_of_background_around_objects_does_not_count(
    labels: np.ndarray, band: int, ignore: int | None
) -> None:
    data = DataSet(Path(), "made", "instances", ignore=ignore, band=band)
    objects = [p for p in np.argwhere(labels) if labels[tuple(p)] != ignore]
    ignored = data.ignored(labels)
    if ignored is None:
        assert not band or not objects
        assert ignore is None
        return
    for place in np.ndindex(*labels.shape):
        near = any(np.hypot(*(place - other)) <= band for other in objects)
        outside = labels[place] in (0, ignore)
        expected = labels[place] == ignore or bool(band and outside and near)
        assert ignored[place] == expected


def test_a_band_is_read_or_given(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": boxes(1)}, band=3).folder
    for wanted, width in ((None, 3), (0, 0), (2, 2)):
        data = open_dataset(folder, band=wanted)
        ignored = data.scene("a").ignore
        assert data.band == width
        assert (0 if ignored is None else ignored[10].sum()) == (width + min(width, 2))
    make_set(tmp_path / "bad", {"a": boxes(1)})
    (tmp_path / "bad" / "dataset.json").write_text('{"kind": "instances", "band": -2}')
    with pytest.raises(DataSetError, match="a band of -2 pixels must be 0 or more"):
        DataSet.open(tmp_path / "bad")


def test_other_folders_and_large_ids_are_read(tmp_path: Path) -> None:
    data = make_set(tmp_path / "set", {"a": boxes(1, 40000, dtype=np.uint16)}, labels="truth")
    (data.folder / "labels").rename(data.folder / "truth")
    assert listed(data, "a") == [("a", 1), ("a", 40000)]


def test_a_palette_image_is_read_as_indices(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    labels = boxes(1, 2, 3)
    image = pytest.importorskip("PIL.Image").fromarray(labels)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    image.save(path)
    assert (read_labels(path) == labels).all()
    assert read_image(path).shape == (*SHAPE, 3)
    image.convert("PA").save(tmp_path / "palette", "TIFF")
    assert (read_labels(tmp_path / "palette") == labels).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 50), st.integers(0, 2**32))
def test_a_subset_depends_on_list_and_seed_and_grows_with_the_limit(
    tmp_path_factory: pytest.TempPathFactory, count: int, limit: int, more: int, seed: int
) -> None:
    labels = np.zeros((8, 8), np.uint8)
    labels.flat[:count] = np.arange(1, count + 1)
    data = make_set(tmp_path_factory.mktemp("sets") / "set", {"a": labels})
    chosen = listed(data, "a", limit=limit, seed=seed)
    assert chosen == listed(data, "a", limit=limit, seed=seed)
    assert len(chosen) == min(limit, count)
    everything = listed(data, "a")
    assert [item for item in everything if item in set(chosen)] == chosen
    assert set(chosen) <= set(listed(data, "a", limit=limit + more, seed=seed))


def test_seeds_choose_differently(tmp_path: Path) -> None:
    labels = np.arange(100, dtype=np.uint8).reshape(10, 10)
    data = make_set(tmp_path / "set", {"a": labels})
    subsets = {tuple(listed(data, "a", limit=5, seed=seed)) for seed in range(10)}
    assert len(subsets) > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("nothing", r"line 1: made has no file .*nothing"),
        ("b\nnothing 3", r"line 2: made has no file .*nothing"),
        ("a 5", r"line 1: a of made has no object 5; its objects are 1, 4, 9"),
        ("a five", "'a five' is neither STEM nor STEM ID"),
        ("a -1", "neither"),
        ("a " + "9" * 5000, "neither"),
        ("x" * 5000, "has no file"),
        ("a\0b", "has no file"),
    ],
)
def test_lists_that_do_not_fit_are_refused(data: DataSet, text: str, message: str) -> None:
    with pytest.raises(DataSetError, match=message):
        listed(data, text)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_lists_that_cannot_be_read_are_refused(data: DataSet, content: bytes | None) -> None:
    path = data.folder / "strange.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataSetError, match=r"strange\.txt cannot be read"):
        data.objects(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"dataset\.json"),
        ("{", r"dataset\.json"),
        ("[" * 100_000, r"dataset\.json"),
        ("[]", "must name its kind"),
        ('{"kind": "cells"}', "one of: instances, regions, parts, binary"),
        ('{"kind": []}', "must name its kind"),
        ('{"kind": "binary"}', "must name its 'foreground'"),
        ('{"kind": "instances", "ignore": "128"}', "'128'.*whole numbers"),
        ('{"kind": "instances", "ignore": true}', "whole numbers"),
        ('{"kind": "instances", "stacks": ["a*"]}', r"pattern of stems for each name, not \['a"),
    ],
)
def test_folders_that_are_no_data_set_are_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataSetError, match=message):
        DataSet.open(tmp_path)


@pytest.mark.parametrize(
    ("about", "stacks"),
    [
        ({}, ["", "", ""]),
        ({"stack": "z"}, ["made", "made", "made"]),
        ({"stack": "z", "stacks": {"one": "a_*", "two": "b_*"}}, ["one", "two", ""]),
    ],
)
def test_the_stack_of_a_slice(tmp_path: Path, about: dict[str, Any], stacks: list[str]) -> None:
    data = make_set(tmp_path / "set", {}, **about)
    assert [data.stack(stem) for stem in ("a_0", "b_0", "c_0")] == stacks


def spoil_image(data: DataSet) -> None:
    (data.folder / "images" / "a.png").write_bytes(b"no picture")


def empty_image(data: DataSet) -> None:
    (data.folder / "images" / "a.png").write_bytes(b"")


def other_shape(data: DataSet) -> None:
    iio.imwrite(data.folder / "images" / "a.png", np.zeros((3, 4), np.uint8))


def coloured_labels(data: DataSet) -> None:
    iio.imwrite(data.folder / "labels" / "a.png", np.zeros((24, 30, 3), np.uint8))


def stack(data: DataSet) -> None:
    (data.folder / "images" / "a.png").unlink()
    write_tiff(data.folder / "images" / "a.tif", np.zeros((5, 24, 30), np.uint8))


def test_a_negative_value_is_no_object(data: DataSet) -> None:
    labels = data.labels("a").astype(np.int16)
    labels[0, 0] = -1
    (data.folder / "labels" / "a.png").unlink()
    tifffile.imwrite(data.folder / "labels" / "a.tif", labels)
    with pytest.raises(DataSetError, match="the value -1, which is no object: name it as 'ignore'"):
        listed(data, "a")
    assert listed(replace(data, ignore=-1), "a") == [("a", 1), ("a", 4), ("a", 9)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_image, r"a\.png cannot be read as an image"),
        (empty_image, r"a\.png is an empty file"),
        (other_shape, r"shape \(3, 4\), its labels \(24, 30\)"),
        (coloured_labels, r"no label image: it has shape \(24, 30, 3\)"),
        (stack, r"no single picture: its shape is \(5, 24, 30\)"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_before_the_first_click(
    data: DataSet, spoil: Any, message: str
) -> None:
    spoil(data)
    with pytest.raises(DataSetError, match=message):
        data.check([ObjectReference("b", 2), ObjectReference("a", 1)])


# -- measures --------------------------------------------------------------------------------------

_masks = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30)


@given(_masks)
def test_iou_is_the_ratio_of_counts(pixels: list[tuple[bool, bool, bool]]) -> None:
    mask, truth, ignore = np.array(pixels).T[:, :, None]
    both = sum(m and t and not i for m, t, i in pixels)
    either = sum((m or t) and not i for m, t, i in pixels)
    expected = both / either if either else 1.0
    assert iou(mask, truth, ignore) == pytest.approx(expected)
    assert iou(mask, truth) == iou(mask, truth, np.zeros_like(mask))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 1))
def test_noc_is_the_first_click_that_reaches(ious: list[float], threshold: float) -> None:
    count, reached = number_of_clicks(ious, threshold)
    assert reached == (max(ious) >= threshold)
    if reached:
        assert ious[count - 1] >= threshold
        assert all(value < threshold for value in ious[: count - 1])
    else:
        assert count == len(ious)


def test_the_protocols_score_what_they_should() -> None:
    base = Settings(graph_cut_strength=2.0)
    raw = protocol_settings(base, "ritm")
    assert (raw.threshold, raw.graph_cut, raw.drop_unclicked, raw.fill_holes) == (
        0.49,
        False,
        False,
        False,
    )
    assert raw.zoom
    published = protocol_settings(base, "fctsfn")
    assert published == Settings(
        graph_cut=True,
        graph_cut_strength=2.0,
        zoom=False,
        consistent=False,
        steady=0,
        drop_unclicked=False,
        fill_holes=False,
    )
    assert protocol_settings(base, "ritm", "paper") == published
    assert protocol_settings(base, "fctsfn", "default") == base
    assert protocol_settings(base, "fctsfn", "none") == raw
    assert protocol_settings(base, "ritm", "none") == raw
    assert protocol_settings(base, "ritm", "default") == base


# -- the simulated user ----------------------------------------------------------------------------


@dataclass
class GrowingPredictor:
    """Finds `gain` more rows of the object with every click; remembers what it was asked."""

    truth: np.ndarray
    gain: int
    settings: Settings = field(default_factory=Settings)
    calls: list[tuple[Clicks, Prediction | None, Settings]] = field(default_factory=list)
    images: int = 0

    def set_image(self, image: np.ndarray, normalisation: Any = None, key: Any = None) -> None:
        assert image.shape[:2] == self.truth.shape
        self.images += 1

    def predict(self, clicks: Clicks, previous: Any, settings: Settings) -> Prediction:
        self.calls.append((clicks, previous, settings))
        mask = self.truth.copy()
        mask[5 + self.gain * len(clicks) :] = False
        return Prediction(mask, mask.astype(np.float32), (0, 0, *SHAPE), SHAPE)


def test_every_object_runs_all_clicks_from_mask_to_mask(data: DataSet) -> None:
    truth = boxes(2) == 2
    predictor = GrowingPredictor(truth, gain=1)
    objects = data.objects(_list(data, "b"))
    (result,) = evaluate_objects(predictor, data, objects, "ritm", 8)  # type: ignore[arg-type]
    assert result.area == 50
    assert result.ious == pytest.approx([n / 10 for n in range(1, 9)])
    assert result.clicks == 8
    assert [len(clicks) for clicks, _, _ in predictor.calls] == list(range(1, 9))
    assert predictor.calls[0][1] is None
    assert all(previous is not None for _, previous, _ in predictor.calls[1:])
    assert predictor.calls[0][2] == protocol_settings(Settings(), "ritm")
    assert all(click.positive for click in predictor.calls[-1][0])


def test_a_perfect_mask_is_not_clicked_again_and_keeps_its_iou(data: DataSet) -> None:
    predictor = GrowingPredictor(boxes(2) == 2, gain=5)
    objects = data.objects(_list(data, "b"))
    (result,) = evaluate_objects(predictor, data, objects, "ritm", 6)  # type: ignore[arg-type]
    assert result.ious == pytest.approx([0.5, 1, 1, 1, 1, 1])
    assert result.clicks == len(predictor.calls) == 2


def test_ignored_pixels_neither_count_nor_draw_clicks(tmp_path: Path) -> None:
    labels = boxes(255)
    labels[10:15, 2:7] = 128
    data = make_set(tmp_path / "s", {"b": labels}, kind="binary", foreground=255, ignore=128)
    predictor = GrowingPredictor(boxes(1) == 1, gain=10)
    (result,) = evaluate_objects(  # type: ignore[arg-type]
        predictor, data, data.objects(_list(data, "b")), "fctsfn", 3
    )
    assert result.area == 25
    assert result.ious == (1.0, 1.0, 1.0)
    assert result.clicks == 1


def _list(data: DataSet, text: str) -> Path:
    path = data.folder / "list.txt"
    path.write_text(text)
    return path


@given(st.lists(st.floats(0, 20), min_size=2, max_size=30))
def test_an_interval_holds_the_mean_of_equal_clusters_and_is_wider_for_few(
    values: list[float],
) -> None:
    alone = clustered_interval(values, range(len(values)))
    assert min(values) - 1e-9 <= alone[0] <= alone[1] <= max(values) + 1e-9
    # Ten copies of an object within a picture say no more than one.
    copies = clustered_interval(values * 10, [*range(len(values))] * 10)
    assert copies == pytest.approx(alone)
    assert clustered_interval(values, ["one picture"] * len(values)) is None


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        pictures = np.repeat(np.arange(25), 4)
        values = rng.normal(size=25)[pictures] + rng.normal(size=100)
        low, high = clustered_interval(values.tolist(), pictures.tolist(), draws=400)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_summary_and_table(data: DataSet, tmp_path: Path) -> None:
    predictor = GrowingPredictor(boxes(2) == 2, gain=1)
    objects = data.objects(_list(data, "b"))
    results = list(evaluate_objects(predictor, data, objects, "ritm", 9))  # type: ignore[arg-type]
    predictor.gain = 3
    results += evaluate_objects(predictor, data, objects, "ritm", 9)  # type: ignore[arg-type]
    summary = summarise(results, 9)
    assert summary["noc85"] == (9 + 3) / 2
    assert summary["noc90"] == (9 + 3) / 2
    assert summary["unreached85"] == 0
    assert summary["unreached90"] == 0
    assert summary["miou1"] == pytest.approx((0.1 + 0.3) / 2)
    assert summary["miou5"] == pytest.approx((0.5 + 1) / 2)
    assert summary["miou10"] is None
    assert summary["objects"] == 2
    assert summary["harmful"] == 0
    assert summary["intervals"] == dict.fromkeys(["noc85", "noc90", "miou1", "miou3", "miou5"])
    write_results(tmp_path / "out", results, summary, 9)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    with (tmp_path / "out" / "objects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stem"] for row in rows] == ["b", "b"]
    assert [float(rows[1][f"iou_{k}"]) for k in (1, 2, 9)] == pytest.approx([0.3, 0.6, 1], abs=1e-4)
    assert rows[0]["noc90"] == "9"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "objects.csv",
        "summary.json",
    ]


def test_the_share_that_is_never_reached(data: DataSet) -> None:
    predictor = GrowingPredictor(boxes(2) == 2, gain=1)
    objects = data.objects(_list(data, "b"))
    summary = summarise(
        list(evaluate_objects(predictor, data, objects, "ritm", 5)),  # type: ignore[arg-type]
        5,
    )
    assert (summary["noc85"], summary["unreached85"]) == (5, 1)


# -- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.TIFF", "p.bmp"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_pictures_are_read_as_stored(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    iio.imwrite(tmp_path / name, image)
    assert (read_image(tmp_path / name) == image).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, bool])
def test_tiff_stacks_keep_their_type(tmp_path: Path, dtype: Any) -> None:
    image = np.random.default_rng(0).integers(0, 2, (4, 5, 7)).astype(dtype)
    write_tiff(tmp_path / "s.tif", image)
    again = read_image(tmp_path / "s.tif")
    assert again.dtype == image.dtype
    assert (again == image).all()


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiffs_of_other_programs_are_read(tmp_path: Path, compression: str) -> None:
    image = np.random.default_rng(0).integers(0, 9, (3, 40, 50)).astype(np.uint8)
    pillow = pytest.importorskip("PIL.Image")
    first, *rest = [pillow.fromarray(page) for page in image]
    first.save(tmp_path / "s.tif", save_all=True, append_images=rest, compression=compression)
    assert (read_image(tmp_path / "s.tif") == image).all()


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.jpg", "p"])
@pytest.mark.parametrize("content", [b"", b"II*\0", b"\x89PNG\r\n\x1a\n", b"hello", b"\0" * 500])
def test_files_that_are_no_picture_are_refused(
    tmp_path: Path, name: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageFileError, match=name):
        read_image(tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "said"), [("missing.png", "there is no image file"), (".", "is a folder: name an")]
)
def test_what_is_no_file_is_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ImageFileError, match=said) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_tiff_that_claims_to_be_huge_is_refused_before_reading(tmp_path: Path) -> None:
    write_tiff(tmp_path / "s.tif", np.zeros((70, 90), np.uint8))
    with tifffile.TiffFile(tmp_path / "s.tif", mode="r+b") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(2**16 - 1)
    with pytest.raises(ImageFileError, match="claims a picture of 65535 x 65535 pixels"):
        read_image(tmp_path / "s.tif")


def test_damage_inside_a_compressed_tiff_is_not_told_behind_our_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    path = tmp_path / "s.tif"
    pytest.importorskip("PIL.Image").fromarray(image).save(path, compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    for seed in range(20):
        damaged = content.copy()
        damaged[8:600] = np.random.default_rng(seed).bytes(592)
        path.write_bytes(damaged)
        with contextlib.suppress(ImageFileError):
            assert read_image(path).ndim == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(("pages", "back_to"), [(1, 0), (3, 1), (150, 7)])
def test_pages_that_lead_in_a_circle_are_refused(
    tmp_path: Path, bigtiff: bool, byteorder: Any, pages: int, back_to: int
) -> None:
    path = tmp_path / "s.tif"
    image = np.zeros((pages, 5, 7), np.uint8)
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as writer:
        for page in image:
            writer.write(page, contiguous=False)
    assert (read_image(path) == np.squeeze(image)).all()
    with tifffile.TiffFile(path) as file:
        offsets = [page.offset for page in file.pages]
        tags = len(file.pages[-1].tags)
    content = bytearray(path.read_bytes())
    size, order = (8 if bigtiff else 4), ("little" if byteorder == "<" else "big")
    place = offsets[-1] + (8 + 20 * tags if bigtiff else 2 + 12 * tags)
    assert not any(content[place : place + size])
    content[place : place + size] = offsets[back_to].to_bytes(size, order)
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match="comes an earlier one again"):
        read_image(path)


@pytest.mark.parametrize(("name", "mode"), [("m.png", "1"), ("m.tif", "1"), ("p.png", "P")])
def test_large_masks_of_one_bit_are_read_from_small_files(
    tmp_path: Path, name: str, mode: str
) -> None:
    mask = np.zeros((8200, 8200), bool)
    mask[100:8000, 300:900] = True
    picture = pytest.importorskip("PIL.Image").fromarray(mask).convert(mode)
    picture.save(tmp_path / name, compression="group4", bits=1)
    assert (read_labels(tmp_path / name).astype(bool) == mask).all()
    assert mode == "P" or (read_image(tmp_path / name) == mask).all()


@pytest.mark.parametrize(
    ("mode", "plain"),
    [("LA", "L"), ("PA", "L"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("LAB", "RGB")],
)
def test_channels_become_those_of_grey_or_of_colours(tmp_path: Path, mode: str, plain: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    picture = pytest.importorskip("PIL.Image").fromarray(image).convert(mode)
    picture.save(tmp_path / "p", "TIFF")
    assert np.array_equal(read_image(tmp_path / "p"), np.asarray(picture.convert(plain)))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize(("mode", "plain"), [("LA", "L"), ("CMYK", "RGB"), ("LAB", "RGB")])
def test_a_tiff_of_other_channels_is_read_as_a_png_is(
    tmp_path: Path, mode: str, plain: str, compression: str | None
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    pictures = [
        pytest.importorskip("PIL.Image").fromarray(one).convert(mode)
        for one in (image, 255 - image)
    ]
    expected = [np.asarray(picture.convert(plain)) for picture in pictures]
    pictures[0].save(tmp_path / "p.tif", compression=compression)
    assert np.array_equal(read_image(tmp_path / "p.tif"), expected[0])
    more = {"save_all": True, "append_images": pictures[1:]}
    pictures[0].save(tmp_path / "p.tif", compression=compression, **more)
    assert np.array_equal(read_image(tmp_path / "p.tif"), expected)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_a_tiff_of_luma_and_chroma_is_read_as_its_colours(
    tmp_path: Path, compression: str | None
) -> None:
    colours = np.zeros((32, 48, 3), np.uint8)
    colours[:16], colours[16:] = (200, 30, 40), (10, 90, 220)
    picture = pytest.importorskip("PIL.Image").fromarray(colours).convert("YCbCr")
    picture.save(tmp_path / "p.tif", compression=compression)
    found = read_image(tmp_path / "p.tif")
    # libtiff and Pillow round differently
    assert np.abs(found.astype(int) - colours).max() <= 3


def test_cmyk_with_alpha_is_refused_in_a_sentence(tmp_path: Path) -> None:
    about = {"photometric": "separated", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((20, 30, 5), np.uint8), **about)
    with pytest.raises(ImageFileError, match=r"p\.tif has alpha beside colours that are no RGB"):
        read_image(tmp_path / "p.tif")


@pytest.mark.parametrize("leading", [(), (2,)])
def test_colours_in_planes_of_a_tiff_come_last(tmp_path: Path, leading: tuple[int, ...]) -> None:
    planes = np.random.default_rng(0).integers(0, 255, (*leading, 3, 20, 30)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "p.tif"), np.moveaxis(planes, -3, -1))


@pytest.mark.parametrize("read", [read_image, read_labels])
def test_alpha_of_a_grey_picture_is_dropped(tmp_path: Path, read: Any) -> None:
    grey = boxes(1, 2, 3)
    pillow = pytest.importorskip("PIL.Image")
    pillow.merge("LA", [pillow.fromarray(band) for band in (grey, 255 - grey)]).save(
        tmp_path / "p.png"
    )
    assert np.array_equal(read(tmp_path / "p.png"), grey)


def test_large_pictures_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    for name in ("p.png", "p.tif"):
        pillow.fromarray(image).save(tmp_path / name, compression="tiff_lzw")
    # As if there were more than the 179 million pixels at which Pillow stops.
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 100)
    for name in ("p.png", "p.tif"):
        assert np.array_equal(read_image(tmp_path / name), image)
    assert pillow.MAX_IMAGE_PIXELS == 100


def test_a_picture_that_does_not_fit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("L", (20, 30)).save(tmp_path / "p.png")

    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    for name in ("open", "Image.load"):
        with monkeypatch.context() as patch:
            patch.setattr(f"PIL.Image.{name}", full)
            with pytest.raises(ImageFileError, match=r"p\.png is larger than the memory: crop it"):
                read_image(tmp_path / "p.png")


def test_a_blank_webp_is_read_from_few_bytes(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("RGB", (4800, 4800), (9, 8, 7)).save(tmp_path / "p.webp", lossless=True, method=0)
    assert (tmp_path / "p.webp").stat().st_size < 4096
    found = read_image(tmp_path / "p.webp")
    assert found.shape == (4800, 4800, 3)
    assert (found == (9, 8, 7)).all()


def test_a_picture_that_claims_to_be_huge_is_refused_before_reading(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "p.gif", np.zeros((5, 7), np.uint8))
    content = bytearray((tmp_path / "p.gif").read_bytes())
    for place in (6, 8, content.index(b"\x2c") + 5, content.index(b"\x2c") + 7):
        content[place : place + 2] = (12_000).to_bytes(2, "little")
    (tmp_path / "p.gif").write_bytes(content)
    with pytest.raises(ImageFileError, match="claims a picture of 12000 x 12000 pixels"):
        read_image(tmp_path / "p.gif")
