"""Images of more than two axes in the dock: channels, lazy and huge images, places in the world."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_window import click, grey, notified
from napari.layers import Labels
from qtpy.QtWidgets import QApplication

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin import AnnotateDock
from napari_fctsfn.plugin.strokes import by_slice, spans
from napari_fctsfn.predict import Channels, Normalisation, Prediction, Settings, SliceView
from napari_fctsfn.session import (
    ImageIdentity,
    Plane,
    Session,
    SessionError,
    ledger,
    read_session,
)


def choose(dock: AnnotateDock, axis: int, *channels: int | None) -> None:
    chooser = dock.channels
    chooser.axis.setCurrentIndex(chooser.axis.findData(axis))
    for box, channel in zip(chooser.channels, channels, strict=True):
        box.setCurrentIndex(box.findData(channel) if channel is not None else 0)


def brought(image: np.ndarray) -> np.ndarray:
    """A channel as the network shall see it, by its own percentiles."""
    return Normalisation.from_array(image).apply(image)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_composite_of_channels_is_what_the_network_sees(
    open_dock: Any, predictor: Any, axis: int
) -> None:
    image = grey(4, 4, 40, 50)
    viewer, dock = open_dock(image, start=False)
    assert dock.channels.isVisibleTo(dock)
    choose(dock, axis, 3, 1, None)
    assert dock.start()
    viewer.dims.set_point(1 - axis, 2)
    viewer.dims.set_point(axis, 0)
    assert dock.wait_idle()
    shown = [2, 2, 10.0, 12.0]
    shown[axis] = 0
    click(dock, *shown)
    whole = np.moveaxis(image, axis, 0)
    seen = predictor.slices[-1]
    normalisation = predictor.normalisation
    assert (normalisation.low, normalisation.high) == (0, 1)
    assert seen.shape == (40, 50, 3)
    for colour, channel in enumerate((3, 1)):
        assert np.array_equal(seen[..., colour], brought(whole[channel])[2])
    assert not seen[..., 2].any()


@pytest.mark.parametrize("shown", [2, 3], ids=["a slice", "in 3-D"])
@pytest.mark.parametrize("tool", ["paint", "fill"])
def test_a_stroke_through_slices_is_one_step_and_saved(
    open_dock: Any, tool: str, shown: int
) -> None:
    viewer, dock = open_dock(grey(6, 40, 50))
    site = dock.annotator.site
    labels = site.labels
    labels.data[1:5, 5:9, 5:9] = 9  # somebody else's, which the fill goes through
    assert dock.start()
    site = dock.annotator.site
    viewer.dims.set_point(0, 2)
    click(dock, 2, 20, 20)
    viewer.dims.ndisplay = shown
    before = labels.data.copy()
    labels.n_edit_dimensions, labels.brush_size = 3, 5
    for _ in range(2):  # two strokes at once
        with labels.block_history():
            if tool == "paint":
                labels.paint((2, 25, 30), 12)
                labels.paint((3, 20, 21), 12)
            else:
                labels.fill((2, 6, 6), 12)
    assert dock.wait_idle()
    after = labels.data.copy()
    touched = {int(z) for z in np.nonzero(before != after)[0]}
    assert len(touched) > 3
    assert {plane.index[0] for plane in dock.annotator.session.objects[12]} == touched
    session, saved = read_session(site.journal.folder)
    assert (saved == after).all()
    assert session.objects[12] == dock.annotator.session.objects[12]
    dock.annotator.undo()
    assert (labels.data == before).all()
    dock.annotator.redo()
    assert (labels.data == after).all()


def test_a_stroke_through_a_protected_object_in_another_slice_is_taken_back(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(6, 40, 50))
    viewer.dims.set_point(0, 3)
    click(dock, 3, 20, 20)
    dock.annotator.next_object()
    viewer.dims.set_point(0, 1)
    click(dock, 1, 5, 40)
    dock.annotator.describe([1], protected=True)
    labels = dock.annotator.site.labels
    before = labels.data.copy()
    labels.n_edit_dimensions, labels.brush_size = 3, 7
    with notified("Object 1 is protected"):
        with labels.block_history():
            labels.paint((1, 20, 20), 2)
        assert dock.wait_idle()
    assert (labels.data == before).all()


@settings(deadline=None)
@given(st.data())
def test_what_napari_tells_of_strokes_is_what_was_changed(data: Any) -> None:
    """Every kind of history atom, slice by slice, gives back the labels before."""
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=3, max_size=4)))
    labels = Labels(np.random.default_rng(0).integers(0, 4, shape))
    atoms: list[Any] = []
    labels.events.paint.connect(lambda event: atoms.extend(event.value))
    before = labels.data.copy()
    labels.n_edit_dimensions = data.draw(st.integers(2, len(shape)))
    labels.brush_size = data.draw(st.integers(1, 4))
    for _ in range(data.draw(st.integers(1, 3))):
        place = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
        with labels.block_history():
            value = data.draw(st.integers(0, 5))
            how = data.draw(st.sampled_from(["paint", "fill", "places"]))
            if how == "places":  # as other plugins paint, and all tools of older versions
                labels.data_setitem(np.nonzero(labels.data == data.draw(st.integers(0, 5))), value)
            else:
                getattr(labels, how)(place, value)
    axes = data.draw(st.permutations(range(len(shape))))[:2]
    rows, columns = sorted(axes)
    undone = labels.data.copy()
    for atom in reversed(atoms):
        for plane, row, column, old in by_slice(atom, (rows, columns)):
            undone[plane.key][row, column] = old
        for (first, end), places in zip(spans(atom, shape), atom[0], strict=True):
            if not isinstance(places, slice):
                assert (first, end) == (np.min(places), np.max(places) + 1)
    assert (undone == before).all()


@pytest.mark.parametrize("shape", [(3, 40, 50), (2, 3, 40, 50)])
def test_channels_of_one_slice_are_no_stack(open_dock: Any, shape: tuple[int, ...]) -> None:
    _, dock = open_dock(grey(*shape), start=False)
    choose(dock, len(shape) - 3, 0, 1, 2)
    assert dock.start()
    click(dock, *[0] * (len(shape) - 2), 10, 12)
    stack = len(shape) > 3
    assert dock.follow_button.isVisibleTo(dock) is stack
    assert ("Propagate finds it" in dock.hint.text()) is stack
    assert ("in this slice" in dock.status.text()) is stack


def test_masks_and_clicks_are_those_of_all_channels(open_dock: Any, predictor: Any) -> None:
    viewer, dock = open_dock(grey(5, 3, 40, 50), start=False, scale=(2, 1, 0.5, 0.5))
    choose(dock, 1, 0, 1, 2)
    assert dock.start()
    site = dock.annotator.site
    ranges = viewer.dims.range
    assert site.labels.data.shape == (5, 1, 40, 50)
    viewer.dims.set_point(0, 4)
    for channel in range(3):
        viewer.dims.set_point(1, channel)
        world = (4.0, float(channel), 0.5 * 20, 0.5 * (10 + 10 * channel))
        click(dock, *site.prompts.positive.world_to_data(world))
        column = 10 + 10 * channel
        assert site.labels.get_value((4, channel, 10, 0.5 * column), world=True) == 1
        assert site.labels.data[2, 0, 20, column] == 1
    assert len(site.session.clicks(1, dock.annotator.source.plane())) == 3
    assert site.labels.data.sum() == 75
    assert viewer.dims.range == ranges
    # the points of every channel are shown in the last one
    values = [
        site.prompts.positive.get_value((4, 2, 10, 0.5 * c), world=True) for c in (10, 20, 30)
    ]
    assert None not in values
    dock.annotator.undo()
    assert viewer.dims.current_step[1] == 2
    assert site.labels.data.sum() == 50


def test_channels_are_kept_with_the_session(
    open_dock: Any, predictor: Any, isolated_home: Path
) -> None:
    image = grey(3, 4, 40, 50)
    viewer, dock = open_dock(image, start=False)
    choose(dock, 0, 2, 0, None)
    assert dock.start()
    click(dock, *dock.annotator.site.prompts.positive.world_to_data((0, 0, 10, 12)))
    channels, labels = dock.annotator.session.channels, dock.annotator.site.labels.data.copy()
    (folder,) = (isolated_home / "sessions").iterdir()
    shutil.copytree(folder, folder.with_name("99990101-000000 killed"))
    # in the same viewer the labels bring them along
    choose(dock, 0, 1, None, None)
    assert dock.start()
    assert dock.annotator.session.channels == channels
    assert dock.channels.choice == (0, (2, 0))
    dock.release()
    viewer.layers.clear()
    viewer.add_image(image)
    again = AnnotateDock(viewer)
    assert again.wait_idle()
    again.reopening.last_button.click()
    assert again.wait_idle()
    assert again.annotator.session.channels == channels
    assert again.channels.choice == (0, (2, 0))
    assert (again.annotator.site.labels.data == labels).all()
    click(again, *again.annotator.site.prompts.positive.world_to_data((0, 0, 30, 30)))
    assert np.array_equal(predictor.slices[-1][..., 0], brought(image[2])[0])
    again.close()


def test_displayed_channels_are_said_and_not_clicked(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(3, 40, 50), start=False)
    choose(dock, 0, 1, None, None)
    assert dock.start()
    viewer.dims.order = (1, 0, 2)
    assert dock.wait_idle()
    assert "xis 0 holds the channels" in dock.hint.text()
    viewer.dims.order = (0, 1, 2)
    click(dock, *dock.annotator.site.prompts.positive.world_to_data((1, 10, 12)))
    assert dock.annotator.site.labels.data[0, 10, 12] == 1


def test_images_without_channels_offer_none(open_dock: Any) -> None:
    viewer, dock = open_dock(grey(40, 50), start=False)
    assert not dock.channels.isVisibleTo(dock)
    assert dock.channels.choice is None
    dock.image.choose(viewer.add_image(grey(40, 50, 3), rgb=True))
    assert not dock.channels.isVisibleTo(dock)


def test_impossible_channels_are_refused() -> None:
    image = grey(3, 40, 50)
    with pytest.raises(InputError, match="channels 0 to 2"):
        Channels.of(image, 0, (5,))
    with pytest.raises(InputError, match="one to 3"):
        Channels.of(image, 0, (0, 1, 2, 1))
    with pytest.raises(InputError, match="no axis"):
        Channels.of(image[0], 0, (0,))
    with pytest.raises(InputError, match="are no channels"):
        Channels.from_dict({"axis": 0, "chosen": ["x"], "ranges": []})
    channels = Channels.of(image, 0, (2, 0))
    assert Channels.from_dict(channels.to_dict()) == channels


def test_a_slice_view_is_the_slice() -> None:
    stack = grey(5, 30, 40)
    index = (slice(None), 7, slice(None))
    view = SliceView(stack, index)
    assert view.shape == (5, 40)
    assert np.array_equal(np.asarray(view), stack[:, 7])
    assert np.array_equal(view[1:3, 5:9], stack[1:3, 7, 5:9])
    rgb = grey(4, 30, 40, 3)
    view = SliceView(rgb, (2, slice(None), slice(None)))
    assert view.shape == (30, 40, 3)
    assert np.array_equal(view[3:9, 2:4], rgb[2, 3:9, 2:4])


def scripted(seed: int) -> tuple[np.ndarray, Any]:  # noqa: C901
    """Labels and objects after random clicks, strokes, travels and edits."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((60, 70), np.uint16)
    labels[50:, 60:] = 3
    plane = Plane((None, None))
    session = Session((60, 70), Normalisation(0, 1), highest=3, clock=lambda: 0.0)

    def write(patches: Any) -> None:
        for patch in patches or ():
            patch.apply(labels)

    for _ in range(120):
        session.observe(plane, labels)
        what = rng.choice(["click", "stroke", "undo", "redo", "next", "delete", "merge", "select"])
        row, column = int(rng.integers(60)), int(rng.integers(70))
        objects = sorted(session.objects)
        try:
            if what == "click":
                clicks = (*session.clicks(session.current, plane), Click(row, column))
                session.edit_clicks(plane, Clicks(clicks))
                replay = session.job(lambda _: labels)
                mask = np.zeros(labels.shape, bool)
                for each in replay.clicks:
                    at = each.pixel
                    mask[max(at[0] - 4, 0) : at[0] + 5, max(at[1] - 4, 0) : at[1] + 5] = True
                patch = session.resolve(replay, mask, labels, "model")
                write([] if patch is None else [patch])
            elif what == "stroke":
                value = int(rng.choice([0, 3, session.current, *objects]))
                labels[row : row + 6, column : column + 3] = value
                session.painted((row, column, row + 6, column + 3))
            elif what in ("undo", "redo"):
                step = session.undo() if what == "undo" else session.redo()
                write(None if step is None else step.patches)
            elif what == "next":
                session.next_object()
            elif what == "select" and objects:
                session.select(int(rng.choice(objects)))
            elif what == "delete" and objects:
                write(session.delete([int(rng.choice(objects))], lambda _: labels))
            elif what == "merge" and len(objects) > 1:
                write(session.merge(objects[0], objects[:2], lambda _: labels))
        except SessionError:
            pass
    return labels, session.objects


@pytest.mark.parametrize("seed", range(8))
def test_large_slices_give_what_small_ones_give(monkeypatch: Any, seed: int) -> None:
    expected = scripted(seed)
    monkeypatch.setattr(ledger, "WHOLE", 0)
    monkeypatch.setattr(ledger, "_TILE", 16)
    labels, objects = scripted(seed)
    assert (labels == expected[0]).all()
    assert objects == expected[1]


class Watched:
    """A huge image that is never in memory: pixels are made where it is read, and counted."""

    dtype = np.dtype(np.uint16)

    def __init__(self, *shape: int) -> None:
        self.shape, self.ndim, self.size = shape, len(shape), int(np.prod(shape))
        self.read = self.largest = 0

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        index += (slice(None),) * (self.ndim - len(index))
        sizes = [
            len(range(*part.indices(n)))
            for part, n in zip(index, self.shape, strict=True)
            if isinstance(part, slice)
        ]
        pixels = int(np.prod(sizes))
        assert pixels <= 1 << 24, f"read as a whole: {index}"
        self.read += pixels
        self.largest = max(self.largest, pixels)
        return np.random.default_rng(0).integers(0, 999, sizes).astype(np.uint16)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[tuple(slice(None) for _ in self.shape)]


def real_replayer(name: str, device: str) -> Any:
    """A real predictor with a tiny network of random weights."""
    import torch

    from napari_fctsfn.models import LoadedModel, ModelCard
    from napari_fctsfn.network import NetworkConfig, build_network
    from napari_fctsfn.predict import Predictor
    from napari_fctsfn.session import Replayer

    torch.manual_seed(3)
    config = NetworkConfig(
        interaction_channels=(4, 4, 4, 4, 4),
        fusion_channels=8,
        fusion_blocks=0,
        bottleneck_channels=(4, 4, 4, 2),
    )
    card = ModelCard(
        name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=128
    )
    network = build_network(config).eval().requires_grad_(False)
    return Replayer(Predictor(LoadedModel(network, card, "0" * 64), "cpu"))


def by_windows(predictor: Any, monkeypatch: Any) -> None:
    """Let the stand-in read windows, as the real predictor does."""

    def set_image(image: Any, normalisation: Any = None, key: Any = None) -> None:
        predictor.image = image

    def predict(clicks: Any, previous: Any = None, settings: Any = None, **_: Any) -> Any:
        row, column = clicks[-1].pixel
        box = (max(row - 300, 0), max(column - 300, 0), row + 300, column + 300)
        pixels = predictor.image[box[0] : box[2], box[1] : box[3]]
        mask = np.zeros(pixels.shape, bool)
        if isinstance(previous, np.ndarray):
            mask |= previous[box[0] : box[2], box[1] : box[3]]
        for each in clicks:
            top, left = each.pixel[0] - box[0], each.pixel[1] - box[1]
            mask[top - 9 : top + 10, left - 9 : left + 10] = True
        return Prediction(mask, mask.astype(np.float32), box, predictor.image.shape)

    monkeypatch.setattr(predictor, "set_image", set_image)
    monkeypatch.setattr(predictor, "predict", predict)


def test_the_predictor_reads_windows_of_a_huge_slice() -> None:
    image = Watched(2, 20_000, 20_000)
    predictor = real_replayer("tiny", "cpu").predictor
    predictor.set_image(SliceView(image, (1, slice(None), slice(None))), Normalisation(0, 999))
    predictor.warm_up()
    assert image.read == 0
    settings = Settings(zoom=False, consistent=False)
    prediction = predictor.predict(Clicks([Click(15_000, 9_000)]), settings=settings)
    assert prediction.shape == (20_000, 20_000)
    assert image.read < 1 << 24


def test_a_huge_multiscale_image_is_never_read_as_a_whole(
    open_dock: Any, predictor: Any, monkeypatch: Any
) -> None:
    by_windows(predictor, monkeypatch)
    levels = [Watched(side, side) for side in (6000, 3000, 1500, 750)]
    viewer, dock = open_dock(start=False)
    viewer.add_image(levels, multiscale=True, contrast_limits=(0, 1000))
    assert dock.wait_idle()
    assert dock.start()
    labels = dock.annotator.site.labels
    click(dock, 5000, 4000)
    click(dock, 5010, 4000)
    # napari shows a coarse level: the first one is read around the clicks, and to know it again
    assert levels[0].read < levels[0].size / 2
    one = labels.data[4500:5500, 3500:4500].copy()
    assert one.any()
    labels.brush_size = 9
    labels.paint((5000, 4050), labels.selected_label)
    assert dock.wait_idle()
    click(dock, 5020, 4050)
    assert labels.data[5000, 4050] == 1
    assert labels.data[5020, 4050] == 1
    dock.annotator.undo()
    assert labels.data[5000, 4050] == 1
    dock.annotator.undo()
    assert (labels.data[4500:5500, 3500:4500] == one).all()
    dock.annotator.undo()
    dock.annotator.undo()
    assert not labels.data.any()


def test_percentiles_identity_and_channels_of_a_huge_image_read_little() -> None:
    image = Watched(20_000, 20_000)
    Normalisation.from_array(image)
    ImageIdentity.of("huge", image)
    assert image.read < 1 << 23
    stack = Watched(50, 3, 20_000, 20_000)
    Channels.of(stack, 1, (2, 0, 1))
    assert stack.read < 1 << 24
    view = SliceView(stack, (7, 0, slice(None), slice(None)))
    assert view[100:200, 100:300].shape == (100, 200)


def test_a_zarr_on_disk_is_read_by_windows(open_dock: Any, predictor: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    stack = zarr.create_array(
        store=str(tmp_path / "z"), shape=(4, 3, 40, 50), chunks=(1, 1, 40, 50), dtype="uint8"
    )
    stack[...] = grey(4, 3, 40, 50)
    viewer, dock = open_dock(stack, start=False, contrast_limits=(0, 255))
    choose(dock, 1, 2, 0, None)
    assert dock.start()
    viewer.dims.set_point(0, 3)
    click(dock, *dock.annotator.site.prompts.positive.world_to_data((3, 1, 10, 12)))
    assert dock.annotator.site.labels.data[3, 0, 10, 12] == 1
    assert np.array_equal(predictor.slices[-1][..., 1], brought(grey(4, 3, 40, 50)[:, 0])[3])


def test_neighbours_are_warmed_up_when_the_slider_rests(
    open_dock: Any, predictor: Any, monkeypatch: Any
) -> None:
    stack = grey(9, 40, 50)
    viewer, dock = open_dock(stack)
    warmed: list[np.ndarray] = []
    monkeypatch.setattr(predictor, "warm_up", lambda: warmed.append(predictor.image.copy()))
    for place in (1, 6, 7):
        viewer.dims.set_point(0, place)
    assert dock.wait_idle()
    places = [int(np.flatnonzero((stack == image).all(axis=(1, 2)))[0]) for image in warmed]
    assert places == [7, 8, 6]


def test_a_click_does_not_wait_for_neighbours_that_are_slow_to_read(
    open_dock: Any, predictor: Any
) -> None:
    da = pytest.importorskip("dask.array")
    gate, reading = threading.Event(), threading.Event()
    gate.set()

    def block(block_info: Any = None) -> np.ndarray:
        place = block_info[None]["chunk-location"][0]
        if place == 4:
            reading.set()
            assert gate.wait(20)
        return grey(1, 40, 50, seed=place)

    stack = da.map_blocks(block, chunks=((1,) * 8, (40,), (50,)), dtype=np.uint8)
    viewer, dock = open_dock(stack, contrast_limits=(0, 255))
    gate.clear()
    reading.clear()
    viewer.dims.set_point(0, 2)
    viewer.dims.set_point(0, 3)
    while not reading.is_set():
        QApplication.processEvents()
    site = dock.annotator.site
    site.prompts.positive.add([3, 10, 12])
    while not site.labels.data[3, 10, 12]:
        QApplication.processEvents()
    assert not gate.is_set()
    gate.set()
    assert dock.wait_idle()
