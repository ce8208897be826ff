"""Images of every format, with their axes in order and the size of their pixels kept."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_fctsfn import batch
from napari_fctsfn._files import remove_parts, replace_file, replace_folder
from napari_fctsfn.batch.job import Outputs
from napari_fctsfn.batch.outputs import names, write_all
from napari_fctsfn.batch.pictures import Picture, arranged, digest, read_picture, stem_of
from napari_fctsfn.batch.run import find_images
from napari_fctsfn.batch.work import Segmented
from napari_fctsfn.clicks import Click, ClickRecord, write_clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import ModelCard, save_model
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.predict import Normalisation

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)

VOLUME = np.random.default_rng(0).integers(0, 4000, (3, 20, 25)).astype(np.int16)


@given(st.permutations("tczyx"), st.integers(0, 1))
def test_axes_are_put_in_order_and_a_channel_is_chosen(order, channel):
    sizes = dict(zip("tczyx", (4, 2, 3, 5, 6), strict=True))
    whole = np.arange(720).reshape([sizes[a] for a in "tczyx"])
    mixed = whole.transpose(["tczyx".index(a) for a in order])
    scale = tuple(float(sizes[a]) for a in order)
    found = arranged(Picture(mixed, "".join(order), scale, "micrometer"), None, channel)
    lead = "".join(a for a in order if a in "tz")
    expected = whole[:, channel] if lead == "tz" else whole[:, channel].swapaxes(0, 1)
    assert (found.pixels == expected).all()
    assert found.axes == f"{lead}yx"
    assert found.scale == tuple(float(sizes[a]) for a in found.axes)


@pytest.mark.parametrize(
    ("axes", "channel", "message"),
    [("yczx", 3, "channels 0 to 2"), ("yx", None, "name each axis once"), (None, 1, "needs")],
)
def test_axes_that_do_not_fit_are_refused(axes, channel, message):
    with pytest.raises(InputError, match=message):
        arranged(Picture(np.zeros((4, 3, 5, 2))), axes, channel)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.ome.zarr", "a"), ("a.b.tif", "a.b"), ("a.nii.gz", "a"), ("s", "s"), (".nii.gz", ".nii")],
)
def test_the_stem_is_without_double_endings(name, stem):
    assert stem_of(Path(name)) == stem


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_with_channels(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=version)
    both = np.stack([VOLUME, VOLUME + 1])
    group.create_array("full", data=both, chunks=(1, 1, 10, 10))
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    step = {"type": "scale", "scale": [1.0, 2.0, 0.5, 0.25]}
    about = {"axes": axes, "datasets": [{"path": "full", "coordinateTransformations": [step]}]}
    document = {"multiscales": [about]}
    group.attrs.update({"ome": document} if version == 3 else document)
    found = read_picture(path, channel=1)
    assert (found.pixels == VOLUME + 1).all()
    assert (found.axes, found.scale, found.unit) == ("zyx", (2.0, 0.5, 0.25), "micrometer")


def test_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "a.nii.gz"
    image = nibabel.Nifti1Image(VOLUME.T, np.diag([0.5, 0.7, 3.0, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    found = read_picture(path)
    assert (found.pixels == VOLUME).all()
    assert found.pixels.dtype == VOLUME.dtype
    assert found.scale == pytest.approx((3.0, 0.7, 0.5))
    assert found.unit == "millimeter"


def write_series(folder, count=3, series="1.2.3"):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    folder.mkdir(exist_ok=True)
    for number in range(count):
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = f"{series}.{number + 1}"
        part = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        part.SOPClassUID = SecondaryCaptureImageStorage
        part.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        part.SeriesInstanceUID = series
        part.Rows, part.Columns = VOLUME.shape[1:]
        part.SamplesPerPixel, part.PhotometricInterpretation = 1, "MONOCHROME2"
        part.BitsAllocated = part.BitsStored = 16
        part.HighBit, part.PixelRepresentation = 15, 1
        part.PixelSpacing = [0.7, 0.5]
        part.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        part.ImagePositionPatient = [0, 0, 4.0 * number]
        part.RescaleSlope, part.RescaleIntercept = 2, -1000
        part.PixelData = VOLUME[number].tobytes()
        # names in another order than the slices
        part.save_as(folder / f"{series}-{count - number}.dcm", enforce_file_format=True)


def test_a_dicom_series_is_stacked_by_place_in_hounsfield_units(tmp_path):
    write_series(tmp_path / "s")
    found = read_picture(tmp_path / "s")
    assert (found.pixels == VOLUME.astype(np.float32) * 2 - 1000).all()
    assert (found.axes, found.scale, found.unit) == ("zyx", (4.0, 0.7, 0.5), "millimeter")
    write_series(tmp_path / "s", 1, "1.2.4")
    with pytest.raises(InputError, match="2 DICOM series"):
        read_picture(tmp_path / "s")


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_axes_and_sizes_in_a_tiff(tmp_path, kind):
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    both = np.stack([VOLUME, VOLUME + 1], axis=1)
    if kind == "ome":
        sizes = {f"PhysicalSize{a}": s for a, s in zip("ZYX", (2.0, 0.5, 0.25), strict=True)}
        tifffile.imwrite(path, both, ome=True, metadata={"axes": "ZCYX", **sizes})
    else:
        about = {"axes": "ZCYX", "unit": "um", "spacing": 2.0}
        tifffile.imwrite(
            path, both.astype(np.uint16), imagej=True, resolution=(4, 2), metadata=about
        )
    found = read_picture(path, channel=1)
    assert (found.pixels == VOLUME + 1).all()
    assert (found.axes, found.scale, found.unit) == ("zyx", (2.0, 0.5, 0.25), "micrometer")
    assert read_picture(path).axes == "zcyx"


def test_what_a_reader_plugin_of_napari_reads(tmp_path):
    import npe2

    (tmp_path / "a.strange").write_bytes(b"?")
    manager = npe2.PluginManager.instance()
    manager.discover()
    with npe2.DynamicPlugin("strange-reader", plugin_manager=manager) as plugin:

        @plugin.contribute.reader(filename_patterns=["*.strange"])
        def get_reader(path):
            return lambda path: [(VOLUME, {"scale": (2.0, 0.5, 0.25), "units": "um"}, "image")]

        found = read_picture(tmp_path / "a.strange")
    assert (found.pixels == VOLUME).all()
    assert (found.scale, found.unit) == ((2.0, 0.5, 0.25), "micrometer")
    with pytest.raises(InputError, match="cannot be read"):
        read_picture(tmp_path / "a.strange")


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "ome.zarr"])
def test_damaged_files_are_told_in_one_sentence(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    if ending == "ome.zarr":
        path.mkdir()
        (path / ".zgroup").write_text('{"zarr_format": 2}')
    else:
        path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError) as error:
        read_picture(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["tiff", "ome-tiff", "ome-zarr"])
def test_labels_lie_where_the_image_lies_and_have_the_same_bytes_each_time(tmp_path, kind):
    if kind == "ome-zarr":
        pytest.importorskip("zarr")
    labels = (VOLUME % 3).astype(np.uint8)
    outputs = Outputs(folder="out", labels=kind, clicks=False, overlay=False)
    picture = Picture(VOLUME, "zyx", (2.0, 0.5, 0.25), "micrometer")
    found = Segmented(labels, None, {})
    arguments = (tmp_path, outputs, "a", picture, Normalisation(0, 4000), {}, found, {"model": "m"})
    digests = [write_all(*arguments) for _ in range(2)]
    assert digests[0] == digests[1]
    name = names(outputs, "a")["labels"]
    assert digests[0][name] == digest(tmp_path / name)
    again = read_picture(tmp_path / name)
    assert (again.pixels == labels).all()
    assert (again.axes, again.scale, again.unit) == ("zyx", (2.0, 0.5, 0.25), "micrometer")
    header, first, *_ = (tmp_path / "a_measurements.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert float(row["area_physical"]) == float(row["area"]) * 0.125
    assert row["unit"] == "micrometer"


def test_zarr_and_series_are_images_of_a_job(tmp_path):
    zarr = pytest.importorskip("zarr")
    (tmp_path / "in").mkdir()
    card = ModelCard(
        name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=64
    )
    save_model(tmp_path / "tiny.safetensors", build_network(TINY).eval(), card)
    zarr.save_array(str(tmp_path / "in" / "a.zarr"), VOLUME)
    write_series(tmp_path / "in" / "b")
    for stem in "ab":
        write_clicks(tmp_path / "in" / f"{stem}_clicks.json", [ClickRecord(Click(9, 9), (1,))])
    document = {
        "version": 1,
        "inputs": {"images": ["in/**/*"]},
        "clicks": {"from": "files"},
        "model": {"name": "tiny.safetensors"},
        "outputs": {"folder": "out", "labels": "ome-zarr"},
    }
    job = batch.parse_job({**document, "inputs": {"images": ["in/a.zarr", "in/b"]}})
    planned = batch.plan(job, tmp_path)
    assert [Path(task.image).name for task in planned.tasks] == ["a.zarr", "b"]
    entries = list(batch.execute(planned))
    assert [entry.error for entry in entries] == ["", ""]
    batch.finish(planned, entries, 0)
    assert read_picture(tmp_path / "out" / "b_labels.ome.zarr").scale == (4.0, 0.7, 0.5)
    assert not batch.plan(job, tmp_path).pending
    array = zarr.open_array(tmp_path / "out" / "a_labels.ome.zarr" / "0", mode="r")
    assert (array.shape, array.chunks) == ((3, 20, 25), (1, 20, 25))
    inner = next(p for p in (tmp_path / "out" / "a_labels.ome.zarr").rglob("*") if p.is_file())
    inner.write_bytes(b"changed")
    assert [Path(t.image).name for t in batch.plan(job, tmp_path).pending] == ["a.zarr"]
    found, _ = find_images(batch.parse_job(document), tmp_path)
    assert [path.name for path in found] == ["a.zarr", "a_clicks.json", "b", "b_clicks.json"]


def test_a_folder_is_replaced_whole_and_what_a_kill_left_is_removed(tmp_path):
    path = tmp_path / "a.zarr"
    for text in ("one", "two"):
        with replace_folder(path) as temporary:
            (temporary / text).write_text(text)
    assert [p.name for p in path.iterdir()] == ["two"]
    with pytest.raises(ZeroDivisionError), replace_folder(path) as temporary:
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]
    (tmp_path / ".a.tif.0f.part").write_text("")
    (tmp_path / ".b.tif.0f.part").write_text("")
    (tmp_path / ".a.zarr.0f.part").mkdir()
    remove_parts(tmp_path, ["a.tif", "a.zarr"])
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.tif.0f.part", "a.zarr"]


@pytest.mark.parametrize("lazy", [False, True])
def test_colours_in_planes_are_put_last_once(tmp_path, lazy):
    if lazy:
        pytest.importorskip("zarr")
    planes = np.random.default_rng(0).integers(0, 255, (3, 20, 25)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    found = read_picture(tmp_path / "a.tif", lazy=lazy)
    assert found.axes == "yxs"
    assert (found.pixels[:] == np.moveaxis(planes, 0, -1)).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_grey_with_alpha_and_cmyk_keep_their_axes(tmp_path, planar):
    image = np.random.default_rng(0).integers(0, 255, (20, 25, 4)).astype(np.uint8)
    stored = image if planar == "contig" else np.moveaxis(image, -1, 0)
    tifffile.imwrite(tmp_path / "cmyk.tif", stored, photometric="separated", planarconfig=planar)
    found = read_picture(tmp_path / "cmyk.tif")
    rest = 255 - image.astype(float)
    expected = rest[..., :3] * rest[..., 3:] / 255
    assert found.axes == "yxs"
    assert np.abs(found.pixels - expected).max() <= 1
    with pytest.raises(InputError, match="save it as RGB, or leave out"):
        read_picture(tmp_path / "cmyk.tif", lazy=True)
    stored = image[..., :2] if planar == "contig" else np.moveaxis(image[..., :2], -1, 0)
    about = {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": planar}
    tifffile.imwrite(tmp_path / "grey.tif", stored, **about)
    found = read_picture(tmp_path / "grey.tif")
    assert found.axes == "yx"
    assert (found.pixels == image[..., 0]).all()


def test_a_linked_folder_is_replaced_where_it_is(tmp_path):
    (tmp_path / "disk" / "a.zarr").mkdir(parents=True)
    link = tmp_path / "link.zarr"
    link.symlink_to(tmp_path / "disk" / "a.zarr")
    with replace_folder(link) as temporary:
        (temporary / "new").write_text("")
    assert link.is_symlink()
    assert sorted(p.name for p in (tmp_path / "disk").rglob("*")) == ["a.zarr", "new"]


@pytest.mark.parametrize("name", ["a" * 217, "ä" * 125 + ".tif", "a" * 255])
def test_names_may_be_as_long_as_files_may_have_them(tmp_path, name):
    with replace_file(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "whole"
    with suppress(FileNotFoundError), replace_file(tmp_path / name) as temporary:
        remove_parts(tmp_path, [name[1:]])
        assert temporary.exists()
        remove_parts(tmp_path, [name])
        assert not temporary.exists()
    (tmp_path / name).unlink()
    with replace_folder(tmp_path / name):
        pass
    assert (tmp_path / name).is_dir()


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path):
    with pytest.raises(OSError, match="too long"), replace_file(tmp_path / ("a" * 256)):
        pytest.fail("the work has begun")


def test_without_a_channel_channels_count_as_slices():
    pixels = np.arange(24).reshape(4, 2, 3)
    found = arranged(Picture(pixels), "ycx")
    assert (found.pixels == pixels.transpose(1, 0, 2)).all()
    assert found.axes == "cyx"


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("samples", "axes", "shape"),
    [(2, "yx", (20, 25)), (3, "yxs", (20, 25, 3)), (5, "cyx", (5, 20, 25))],
)
def test_samples_are_alpha_colours_or_channels(tmp_path, samples, axes, shape, lazy):
    if lazy:
        pytest.importorskip("zarr")
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (20, 25, samples)).astype(np.uint8)
    about = {"photometric": "rgb" if samples == 3 else "minisblack", "planarconfig": "contig"}
    extra = {} if samples == 3 else {"extrasamples": [0] * (samples - 1)}
    tifffile.imwrite(path, pixels, **about, **extra)
    found = read_picture(path, lazy=lazy)
    assert (found.axes, found.pixels.shape) == (axes, shape)
    expected = {2: pixels[..., 0], 3: pixels, 5: np.moveaxis(pixels, -1, 0)}[samples]
    assert (found.pixels[:] == expected).all()
    if samples == 5:
        assert (read_picture(path, None, 3, lazy).pixels[:] == expected[3]).all()
        with pytest.raises(InputError, match="5 samples in each pixel and an axis c"):
            arranged(Picture(pixels[None]), "cyxs")
