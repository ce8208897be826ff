"""Data sets as their owners publish them: found by their files, read as they are meant."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_fctsfn.evaluate import DataSetError, ObjectReference, open_dataset
from napari_fctsfn.evaluate.coco import CocoInstances
from napari_fctsfn.evaluate.datasets import DataSet
from napari_fctsfn.evaluate.layouts import Berkeley, GrabCut, PascalVoc

SHAPE = (20, 30)
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[2:10, 3:12], LABELS[11:18, 14:28] = 1, 2
LABELS[10, :] = 255


def photograph(path: Path, shape: tuple[int, int] = SHAPE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8))


def named(objects: list[ObjectReference]) -> list[tuple[str, int]]:
    return [(item.stem, item.value) for item in objects]


# -- Pascal VOC ------------------------------------------------------------------------------------


def make_voc(root: Path, splits: dict[str, list[str]]) -> Path:
    """VOCdevkit/VOC2012 with palette masks, as the archive unpacks."""
    voc = root / "VOCdevkit" / "VOC2012"
    (voc / "SegmentationObject").mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, stems in splits.items():
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(stems) + "\n")
        for stem in stems:
            photograph(voc / "JPEGImages" / f"{stem}.jpg")
            mask = Image.fromarray(LABELS)
            mask.putpalette([(7 * index) % 256 for index in range(768)])
            mask.save(voc / "SegmentationObject" / f"{stem}.png")
    return voc


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return make_voc(tmp_path, {"train": ["2007_000032"], "val": ["2007_000033", "2007_000042"]})


def test_voc_has_the_instances_of_its_split_and_ignores_void(voc: Path) -> None:
    data = open_dataset(voc.parents[1])
    assert isinstance(data, PascalVoc)
    objects = data.objects()
    assert named(objects) == [(f"2007_0000{n}", value) for n in (33, 42) for value in (1, 2)]
    data.check(objects)
    scene = data.scene("2007_000033")
    assert scene.image.shape == (*SHAPE, 3)
    for value in (1, 2):
        assert (scene.truth(value) == (value == LABELS)).all()
    assert scene.ignore is not None
    assert (scene.ignore == (LABELS == 255)).all()


def test_voc_is_found_at_any_depth_and_has_splits_and_lists(voc: Path, tmp_path: Path) -> None:
    for folder in (voc, voc.parent, voc.parents[1]):
        assert {item.stem for item in open_dataset(folder, "train").objects()} == {"2007_000032"}
    (tmp_path / "list.txt").write_text("2007_000042 2\n2007_000032\n")
    objects = open_dataset(voc).objects(tmp_path / "list.txt")
    assert named(objects) == [("2007_000042", 2), ("2007_000032", 1), ("2007_000032", 2)]
    with pytest.raises(DataSetError, match=r"Segmentation.nothing\.txt; its layout is VOCdevkit"):
        open_dataset(voc, "nothing").objects()


def test_the_first_ten_missing_files_are_named_with_the_layout(tmp_path: Path) -> None:
    voc = make_voc(tmp_path, {"val": [f"p{number:02}" for number in range(14)]})
    for number in range(1, 14):
        (voc / "JPEGImages" / f"p{number:02}.jpg").unlink()
    (voc / "SegmentationObject" / "p01.png").unlink()
    with pytest.raises(DataSetError) as error:
        open_dataset(voc).objects()
    text = str(error.value)
    named = [number for number in range(14) if f"{voc / 'JPEGImages'}/p{number:02}(" in text]
    assert named == list(range(1, 10))
    assert f"{voc / 'SegmentationObject'}/p01(" in text
    assert "and 4 more; its layout is VOCdevkit/VOC2012 with JPEGImages/STEM.jpg" in text


# -- GrabCut and Berkeley --------------------------------------------------------------------------


def write_mask(path: Path, how: str) -> np.ndarray:
    """A mask with an object, and a grey rim where `how` can hold one."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:14, 5:21] = 255
    if how != "bilevel":
        mask[4, 5:21] = 128
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "palette":
        # Indices say nothing: 0 is white, 1 grey, 2 black.
        image = Image.fromarray(np.select([mask == 255, mask == 128], [0, 1], 2).astype(np.uint8))
        image.putpalette([*[255] * 3, *[128] * 3, *[0] * 3])
    else:
        image = Image.fromarray(mask)
        if how != "grey":
            image = image.convert("1" if how == "bilevel" else "RGB")
    image.save(path)
    return mask


@pytest.mark.parametrize("how", ["grey", "palette", "colour", "bilevel"])
def test_grabcut_masks_are_read_however_they_are_stored(tmp_path: Path, how: str) -> None:
    for name in ("flower.jpg", "banana1.bmp", "scissors.JPG"):
        photograph(tmp_path / "data_GT" / name)
        mask = write_mask(tmp_path / "boundary_GT" / f"{name.split('.')[0]}.bmp", how)
    (tmp_path / "data_GT" / "Thumbs.db").write_bytes(b"what Windows leaves behind")
    (tmp_path / "data_GT" / "._flower.jpg").write_bytes(b"what macOS leaves behind")
    data = open_dataset(tmp_path)
    assert isinstance(data, GrabCut)
    objects = data.objects()
    assert named(objects) == [("banana1", 255), ("flower", 255), ("scissors", 255)]
    data.check(objects)
    scene = data.scene("flower")
    assert (scene.truth(255) == (mask == 255)).all()
    assert scene.ignore is not None
    assert (scene.ignore == (mask == 128)).all()


def test_berkeley_has_one_object_in_each_mask(tmp_path: Path) -> None:
    for stem in ("239007", "239007a"):
        photograph(tmp_path / "images" / f"{stem}.jpg")
        mask = write_mask(tmp_path / "masks" / f"{stem}.png", "bilevel")
    data = open_dataset(tmp_path)
    assert isinstance(data, Berkeley)
    assert named(data.objects()) == [("239007", 255), ("239007a", 255)]
    scene = data.scene("239007a")
    assert (scene.truth(255) == (mask == 255)).all()
    assert scene.ignore is None


def test_a_picture_without_mask_and_a_mask_without_picture_are_told(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "1.jpg")
    write_mask(tmp_path / "masks" / "2.png", "grey")
    with pytest.raises(DataSetError, match=r"masks/1\(.*images/2\(.*images/STEM\.jpg and masks"):
        open_dataset(tmp_path).objects()


def test_folders_without_a_picture_are_told(tmp_path: Path) -> None:
    for name in ("data_GT", "boundary_GT"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataSetError, match="has no picture; its layout is data_GT"):
        open_dataset(tmp_path).objects()


# -- COCO ------------------------------------------------------------------------------------------


def runs(mask: np.ndarray) -> list[int]:
    """Lengths of runs, column by column, the first of background."""
    counts, last = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != last:
            counts.append(0)
            last = bool(pixel)
        counts[-1] += 1
    return counts


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def polygon(top: int, left: int, bottom: int, right: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def make_coco(
    root: Path, annotations: list[dict[str, Any]], images: int = 2, split: str = "val2017"
) -> Path:
    listed = []
    for number in range(1, images + 1):
        name = f"{number:012}.jpg"
        photograph(root / split / name)
        about = {"id": number, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
        listed.append({**about, "license": 3, "coco_url": "http://nowhere"})
    (root / "annotations").mkdir(exist_ok=True)
    text = json.dumps({"info": {}, "images": listed, "annotations": annotations})
    (root / "annotations" / f"instances_{split}.json").write_text(text)
    return root


def annotation(number: int, image: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    about = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 5.5}
    return {**about, "segmentation": segmentation, **more}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as coco

    made = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": made["size"], "counts": made["counts"].decode()}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    plain = {"size": list(SHAPE), "counts": runs(box(1, 1, 9, 9))}
    return make_coco(
        tmp_path,
        [
            annotation(31, 2, plain),
            annotation(30, 2, compressed(box(5, 4, 15, 20))),
            annotation(12, 1, [polygon(2, 3, 10, 12), polygon(12, 20, 18, 28)]),
            annotation(900100000001, 1, plain, iscrowd=1),
            annotation(13, 1, [[1.0, 1.0, 2.0, 2.0]]),  # a line
        ],
    )


def test_coco_masks_of_all_kinds_are_read_and_crowds_left_out(coco: Path) -> None:
    data = open_dataset(coco)
    assert isinstance(data, CocoInstances)
    objects = data.objects()
    first, second = f"{1:012}", f"{2:012}"
    assert named(objects) == [(first, 12), (second, 30), (second, 31)]
    data.check(objects)
    scene = data.scene(second)
    assert scene.image.shape == (*SHAPE, 3)
    assert scene.ignore is None
    # They overlap, which one label image could not say.
    assert (scene.truth(31) == box(1, 1, 9, 9)).all()
    assert (scene.truth(30) == box(5, 4, 15, 20)).all()
    assert (data.scene(first).truth(12) == (box(2, 3, 10, 12) | box(12, 20, 18, 28))).all()


def test_coco_has_no_band(coco: Path) -> None:
    with pytest.raises(DataSetError, match=r"a band \(2\) can be left out of label images only"):
        open_dataset(coco, band=2)


def test_coco_lists_may_name_annotations(coco: Path) -> None:
    (coco / "list.txt").write_text(f"{2:012} 31\n{1:012}\n")
    objects = open_dataset(coco).objects(Path("list.txt"))
    assert named(objects) == [(f"{2:012}", 31), (f"{1:012}", 12)]
    (coco / "list.txt").write_text("nothing\n")
    with pytest.raises(DataSetError, match=r"line 1: COCO val2017 has no file .*val2017/nothing"):
        open_dataset(coco).objects(Path("list.txt"))


def test_a_coco_reader_can_be_sent_to_another_process(coco: Path) -> None:
    data = pickle.loads(pickle.dumps(open_dataset(coco)))
    assert (data.scene(f"{2:012}").truth(31) == box(1, 1, 9, 9)).all()


def many(root: Path, images: int = 30) -> Path:
    """Category 1 in every image, twice in some; 7 in three images; 8 is a crowd."""
    shape = [polygon(2, 3, 10, 12)]
    annotations = [annotation(number, number, shape) for number in range(1, images + 1)]
    annotations += [annotation(100 + number, number, shape) for number in range(1, images, 2)]
    annotations += [annotation(200 + n, n, shape, category_id=7) for n in (4, 5, 6)]
    annotations += [annotation(300, 9, shape, category_id=8, iscrowd=1)]
    return make_coco(root, annotations, images)


@pytest.mark.parametrize("sample", ["paper", "mval"])
def test_samples_of_coco_take_so_many_of_each_category(tmp_path: Path, sample: Any) -> None:
    data = open_dataset(many(tmp_path), sample=sample)
    objects = data.objects(seed=3)
    assert objects == data.objects(seed=3)
    assert objects != data.objects(seed=4)
    assert objects == sorted(objects, key=lambda item: (item.stem, item.value))
    common = [item for item in objects if item.value < 200]
    rare = [item for item in objects if item.value >= 200]
    assert [item.value for item in rare] == [204, 205, 206]
    if sample == "mval":
        assert len(common) == 10
    else:
        stems = {item.stem for item in common}
        assert len(stems) == 20
        # All objects of the category in each of the images.
        every = open_dataset(tmp_path).objects()
        assert common == [item for item in every if item.stem in stems and item.value < 200]


def test_a_sample_needs_only_its_own_images(tmp_path: Path) -> None:
    data = open_dataset(many(tmp_path), sample="mval")
    needed = {item.stem for item in data.objects()}
    for path in (tmp_path / "val2017").iterdir():
        if path.stem not in needed:
            path.unlink()
    assert {item.stem for item in data.objects()} == needed
    missing = min(needed)
    (tmp_path / "val2017" / f"{missing}.jpg").unlink()
    with pytest.raises(DataSetError, match=rf"has no file .*{missing}\.jpg; its layout is annot"):
        data.objects()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_runs_of_any_mask_are_read(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    bits = data.draw(st.integers(0, 2 ** (SHAPE[0] * SHAPE[1]) - 1).filter(bool))
    mask = np.array([bits >> place & 1 for place in range(SHAPE[0] * SHAPE[1])], bool)
    mask = mask.reshape(SHAPE)
    plain = {"size": list(SHAPE), "counts": runs(mask)}
    root = make_coco(
        tmp_path_factory.mktemp("coco"),
        [annotation(1, 1, plain), annotation(2, 1, compressed(mask))],
        images=1,
    )
    scene = open_dataset(root).scene(f"{1:012}")
    assert (scene.truth(1) == mask).all()
    assert (scene.truth(2) == mask).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [3, 4], "counts": [12]}, "annotation 1 of 000000000001 .* is damaged"),
        ({"size": list(SHAPE), "counts": [12]}, "do not fill an image of 20 x 30"),
        ({"size": list(SHAPE), "counts": "TTTTTT0"}, "do not fill an image of 20 x 30"),
        ({"size": list(SHAPE)}, r"damaged: annotations\.0\.segmentation"),
        ([["x"]], r"damaged: annotations\.0\.segmentation"),
    ],
)
def test_damaged_annotations_are_refused(tmp_path: Path, segmentation: Any, message: str) -> None:
    make_coco(tmp_path, [annotation(1, 1, segmentation)])
    with pytest.raises(DataSetError, match=message):
        open_dataset(tmp_path).objects()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": []}', "[" * 100_000])
def test_files_that_are_no_annotations_are_refused(tmp_path: Path, text: str) -> None:
    make_coco(tmp_path, [])
    (tmp_path / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(DataSetError, match=r"instances_val2017\.json is damaged"):
        open_dataset(tmp_path)


def test_annotations_of_unknown_images_and_pictures_of_other_sizes_are_refused(
    coco: Path,
) -> None:
    data = open_dataset(coco)
    photograph(coco / "val2017" / f"{1:012}.jpg", (7, 8))
    with pytest.raises(DataSetError, match=r"shape \(7, 8\), its annotations \(20, 30\)"):
        data.check(data.objects())
    make_coco(coco, [annotation(1, 77, [polygon(1, 1, 9, 9)])])
    with pytest.raises(DataSetError, match="annotation 1 is of image 77"):
        open_dataset(coco)


def test_other_splits_of_coco(coco: Path) -> None:
    make_coco(coco, [annotation(5, 1, [polygon(1, 1, 9, 9)])], split="train2017")
    assert named(open_dataset(coco, "train2017").objects()) == [(f"{1:012}", 5)]
    with pytest.raises(DataSetError, match=r"no file .*instances_val2014\.json; its layout is"):
        open_dataset(coco, "val2014")


def test_coco_says_what_to_install(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_fctsfn.evaluate.coco.find_spec", lambda _name: None)
    with pytest.raises(DataSetError, match=r"pip install 'napari-fctsfn\[coco\]'"):
        open_dataset(coco)


# -- which is which --------------------------------------------------------------------------------


def test_our_own_layout_is_known_by_its_file_and_needs_a_list(voc: Path) -> None:
    folder = voc.parents[1]
    (folder / "dataset.json").write_text('{"kind": "instances", "name": "mine"}')
    data = open_dataset(folder)
    assert type(data) is DataSet
    with pytest.raises(DataSetError, match="mine has no list of its own: name one with --list"):
        data.objects()
    with pytest.raises(DataSetError, match="has no splits"):
        open_dataset(folder, "val")


def test_what_is_no_data_set_is_told_with_all_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="there is no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataSetError) as error:
        open_dataset(tmp_path)
    for word in ("dataset.json", "JPEGImages", "instances_SPLIT.json", "boundary_GT", "masks/"):
        assert word in str(error.value)


def test_splits_and_samples_are_for_those_that_have_them(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"a sample .mval. is drawn from COCO only"):
        open_dataset(voc, sample="mval")
    write_mask(tmp_path / "x" / "masks" / "2.png", "grey")
    photograph(tmp_path / "x" / "images" / "2.jpg")
    with pytest.raises(DataSetError, match=r"has no splits .val.: only VOC and COCO have"):
        open_dataset(tmp_path / "x", "val")
