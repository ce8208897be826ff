"""Similar objects: proposed from features, never on top of others; and in the real window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_window import click
from scipy.ndimage import binary_dilation, label

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.plugin import tasks
from napari_fctsfn.plugin.samples import picture
from napari_fctsfn.predict import Normalisation, Prediction, Predictor, Settings
from napari_fctsfn.predict.region import Region
from napari_fctsfn.predict.similar import find_similar
from napari_fctsfn.session import Replayer


def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60, shape).astype(np.uint8)


class Bright:
    """A stand-in with the predictor's contract: the bright component that is clicked on."""

    settings = Settings()
    input_size = 320

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.parts, _ = label(image > 0.5)

    def describe(self, box: Any) -> np.ndarray:
        part = self.image[box[0] : box[2], box[1] : box[3]].astype(np.float32)
        return np.stack([part, part**2], axis=2)

    def predict(self, clicks: Clicks, settings: Any = None) -> Prediction:
        (only,) = clicks
        mask = (self.parts == self.parts[only.pixel]) & (self.parts[only.pixel] > 0)
        return Prediction(mask, mask.astype(np.float32), (0, 0, *mask.shape), mask.shape, 0.9)


def discs(seed: int, number: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs that do not touch, in noise; their labels."""
    rng = np.random.default_rng(seed)
    image, labels = rng.random((90, 110)) * 0.3, np.zeros((90, 110), int)
    rows, columns = np.indices(labels.shape)
    for _ in range(200):
        row, column = rng.uniform((0, 0), labels.shape)
        far = np.hypot(rows - row, columns - column)
        if labels.max() < number and not labels[far <= radius + 2].any():
            labels[far <= radius] = labels.max() + 1
    image[labels > 0] += 0.7
    return image, labels


def region_of(mask: np.ndarray) -> Region:
    region = Region.of(mask, (0, 0, *mask.shape))
    assert region is not None
    return region


def proposals(predictor: Any, accepted: list[np.ndarray], taken: np.ndarray) -> list[Any]:
    steps = list(find_similar(predictor, [region_of(mask) for mask in accepted], taken))
    windows, places = ([s for s in steps if s.places is places] for places in (False, True))
    assert steps == windows + places
    for part in (windows, places):
        assert [step.done for step in part] == list(range(1, len(part) + 1))
        assert {step.total for step in part} <= {len(part)}
    return [step.proposal for step in steps if step.proposal is not None]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 9), st.floats(4, 8))
def test_what_is_proposed_is_free_and_of_the_kind(seed: int, number: int, radius: float) -> None:
    image, labels = discs(seed, number, radius)
    accepted = [labels == 1]
    taken = (labels == 1) | (labels == 2)
    found = proposals(Bright(image), accepted, taken)
    covered = taken.astype(int)
    for each in found:
        top, left, bottom, right = each.bbox
        assert each.mask.shape == (bottom - top, right - left)
        covered[top:bottom, left:right] += each.mask
        assert each.mask[each.click.pixel[0] - top, each.click.pixel[1] - left]
        assert 0.4 * accepted[0].sum() <= each.mask.sum() <= 2.5 * accepted[0].sum()
        assert 0 <= each.score <= 1
    assert covered.max() <= 1
    # every whole disc that is neither accepted nor taken is found
    sizes = np.bincount(labels.ravel())
    for value in range(3, labels.max() + 1):
        if sizes[value] == sizes[1]:
            assert (covered[labels == value] == 1).all()


def test_larger_and_smaller_things_are_left_out() -> None:
    image, labels = np.zeros((120, 160)), np.zeros((120, 160), int)
    image += np.random.default_rng(0).random(image.shape) * 0.2
    rows, columns = np.indices(image.shape)
    for value, (row, column, radius) in enumerate(
        [(20, 20, 8), (20, 60, 8), (70, 40, 25), (30, 120, 3), (90, 130, 9)], 1
    ):
        labels[np.hypot(rows - row, columns - column) <= radius] = value
    image[labels > 0] += 0.8
    found = proposals(Bright(image), [labels == 1], labels == 1)
    assert {int(labels[each.click.pixel]) for each in found} == {2, 5}


def test_of_a_neighbour_that_is_taken_no_rim_is_left() -> None:
    image, labels = np.random.default_rng(0).random((90, 120)) * 0.2, np.zeros((90, 120), int)
    rows, columns = np.indices(image.shape)
    discs = [(20, 20, 10), (60, 30, 8), (60, 47, 8)]
    for value, (row, column, radius) in enumerate(discs, 1):
        labels[np.hypot(rows - row, columns - column) <= radius] = value
    image[labels > 0] += 0.8

    class Greedy(Bright):
        """Takes the neighbour in, and two pixels more all around."""

        def predict(self, clicks: Clicks, settings: Any = None) -> Prediction:
            mask = binary_dilation(labels >= 2, iterations=2)
            return Prediction(mask, mask.astype(np.float32), (0, 0, *mask.shape), mask.shape, 0.9)

    (found,) = proposals(Greedy(image), [labels == 1], (labels == 1) | (labels == 2))
    assert found.mask[labels == 3].all()
    far = np.hypot(rows - 60, columns - 47)
    assert far[found.mask].max() < 15  # the whole rim would reach 27
    assert (labels[found.mask] != 2).all()


def test_too_large_a_slice_is_refused() -> None:
    mask = np.zeros((5, 4100), dtype=bool)
    mask[2, 2] = True
    with pytest.raises(InputError, match="5 x 4100 pixels is too large"):
        next(find_similar(Bright(np.zeros((5, 4100))), [region_of(mask)], mask))


def test_features_of_a_window_are_those_of_its_image() -> None:
    predictor = Predictor.from_pretrained("default", "cpu")
    image = picture("nuclei")
    predictor.set_image(image, key="nuclei")
    whole = predictor.describe((0, 0, 256, 256))
    assert whole.dtype == np.float32
    assert whole.shape[:2] == (80, 80)
    assert (predictor.describe((0, 0, 256, 256)) == whole).all()
    part = predictor.describe((16, 0, 116, 70))
    assert part.shape[:2] == (75, 53)
    predictor.set_image(image[16:116, :70], Normalisation.from_array(image), key="part")
    assert (predictor.describe((0, 0, 100, 70)) == part).all()


@pytest.mark.timeout(300)
def test_most_nuclei_of_the_sample_are_found_from_three() -> None:
    image, truth = picture("nuclei"), iio.imread("tests/data/nuclei_labels.png").astype(int)
    predictor = Predictor.from_pretrained("default", "cpu")
    predictor.set_image(image, key="nuclei")
    sizes = np.bincount(truth.ravel())
    usual = [int(v) for v in np.argsort(-sizes[1:])[3:6] + 1]
    accepted = [truth == value for value in usual]
    found = proposals(predictor, accepted, np.any(accepted, axis=0))
    right = set()
    for each in found:
        top, left, bottom, right_ = each.bbox
        mask = np.zeros(truth.shape, dtype=bool)
        mask[top:bottom, left:right_] = each.mask
        value = int(np.bincount(truth[mask]).argmax())
        if value and (mask & (truth == value)).sum() / (mask | (truth == value)).sum() >= 0.5:
            right.add(value)
    assert len(found) >= 6
    assert len(right) >= 0.75 * len(found)
    assert not right & set(usual)


def squares() -> np.ndarray:
    """A grey picture with bright squares of five pixels, as the dock's stand-in finds them."""
    image = grey(60, 70)
    for row, column in ((10, 10), (10, 40), (35, 20), (45, 55)):
        image[row - 2 : row + 3, column - 2 : column + 3] = 200
    return image


def test_proposals_are_shown_rejected_and_accepted_in_one_step(open_dock: Any) -> None:
    viewer, dock = open_dock(squares())
    finding, row = dock.annotator.finding, dock.similar
    row.find_button.click()
    assert "no object in this slice yet" in dock.hint.text()
    click(dock, 10, 10)
    dock.annotator.next_object()
    row.find_button.click()
    assert dock.progress.isVisibleTo(dock)
    assert dock.wait_idle()
    assert row.accept_button.text() == "Accept 3"
    assert "Click on those proposals that are wrong" in dock.hint.text()
    assert dock.annotator.session.current == 2
    layer = finding.layer
    assert layer in viewer.layers
    assert len(np.unique(layer.data)) == 4
    before = dock.annotator.site.labels.data.copy()
    # a click on a proposal rejects it, another would bring it back
    first = finding.search.proposals[0].click
    viewer.cursor.position = (first.row, first.column)
    layer.mode = "pan_zoom"
    layer.mouse_drag_callbacks[0](layer, None)
    assert row.accept_button.text() == "Accept 2"
    assert len(np.unique(layer.data)) == 3
    row.accept_button.click()
    assert dock.wait_idle()
    labels = dock.annotator.site.labels.data
    assert sorted(np.unique(labels)) == [0, 1, 3, 4]
    assert labels[first.pixel] == 0
    assert layer not in viewer.layers
    assert dock.annotator.polarity is True  # clicks go on
    assert not row.accept_button.isVisibleTo(dock)
    assert [r.clicks for r in dock.objects.model.rows] == [1, 1, 1]
    dock.annotator.undo()
    assert (labels == before).all()
    dock.annotator.redo()
    assert sorted(np.unique(labels)) == [0, 1, 3, 4]
    # the number that was begun is not passed over
    dock.annotator.next_object()
    assert "click on object 2 before going on" in dock.hint.text()
    click(dock, 30, 60)
    dock.annotator.next_object()
    assert dock.annotator.session.current == 5


@pytest.mark.parametrize("begun", [True, False])
def test_after_accepting_it_says_where_the_next_click_goes(open_dock: Any, begun: bool) -> None:
    _, dock = open_dock(squares())
    click(dock, 10, 10)
    if not begun:
        dock.annotator.next_object()
    dock.annotator.finding.start()
    assert dock.wait_idle()
    dock.annotator.finding.accept()
    assert ("Object 1 is still the current one" in dock.hint.text()) is begun
    assert ("Click on the next thing" in dock.hint.text()) is not begun


def test_accepted_masks_are_made_as_they_were_when_the_search_began(open_dock: Any) -> None:
    _, dock = open_dock(squares())
    annotator = dock.annotator
    click(dock, 10, 10)
    before = annotator.session.refinement
    annotator.finding.start()
    assert dock.wait_idle()
    annotator.size_mask(larger=True)
    assert dock.wait_idle()
    assert annotator.session.refinement != before
    annotator.finding.accept()
    assert dock.wait_idle()
    found = {
        annotation.refinement
        for label, planes in annotator.session.objects.items()
        for annotation in planes.values()
        if label > 1
    }
    assert found == {before}


def test_how_long_a_search_takes_is_said_once_all_places_are_known(open_dock: Any) -> None:
    _, dock = open_dock(squares())
    click(dock, 10, 10)
    dock.annotator.finding.start()
    search, seen = dock.annotator.finding.search, []
    take = search.take

    def watched(step: Any) -> None:
        take(step)
        seen.append((search.unit, search.done, search.seconds_left))

    search.take = watched
    assert dock.wait_idle()
    assert {unit for unit, _, left in seen if np.isinf(left)} == {"windows", "places"}
    assert all(np.isinf(left) for unit, done, left in seen if unit == "windows" or done == 1)
    told = [left for unit, done, left in seen if unit == "places" and done > 1]
    assert min(told) == 0
    assert np.isfinite(told).all()


def test_what_is_annotated_meanwhile_is_not_offered_until_that_is_undone(open_dock: Any) -> None:
    _, dock = open_dock(squares())
    finding, row = dock.annotator.finding, dock.similar
    click(dock, 10, 10)
    dock.annotator.next_object()
    row.find_button.click()
    assert dock.wait_idle()
    assert row.accept_button.text() == "Accept 3"
    click(dock, 35, 20)
    assert row.accept_button.text() == "Accept 2"
    assert len(np.unique(finding.layer.data)) == 3
    dock.annotator.undo()
    assert dock.wait_idle()
    assert row.accept_button.text() == "Accept 3"
    assert len(np.unique(finding.layer.data)) == 4
    dock.annotator.redo()
    assert dock.wait_idle()
    row.accept_button.click()
    assert dock.wait_idle()
    # the square that was clicked on is one object, without a second one on what was left of it
    labels = dock.annotator.site.labels.data
    assert len(np.unique(labels)) == 5
    assert len(np.unique(labels[30:41, 15:26])) == 2


def test_undo_brings_back_what_was_rejected_last_before_it_takes_a_step_back(
    open_dock: Any,
) -> None:
    _, dock = open_dock(squares())
    click(dock, 10, 10)
    finding, before = dock.annotator.finding, dock.annotator.site.labels.data.copy()
    finding.start()
    assert dock.wait_idle()
    shown = finding.layer.data.copy()
    for number in (0, 2, 0):
        finding.toggle(number)
    assert finding.rejected == {2}
    for left in ({0, 2}, {0}, set()):
        dock.undo_button.click()
        assert finding.rejected == left
    assert np.array_equal(finding.layer.data, shown)
    assert np.array_equal(dock.annotator.site.labels.data, before)
    # what was done after a rejection is taken back before it
    finding.toggle(1)
    click(dock, 12, 12)
    finding.toggle(2)
    dock.undo_button.click()
    assert finding.rejected == {1}
    dock.undo_button.click()
    assert dock.wait_idle()
    assert finding.rejected == {1}
    assert np.array_equal(dock.annotator.site.labels.data, before)
    dock.undo_button.click()
    assert not finding.rejected
    finding.toggle(1)
    finding.reject()
    # nothing of it is left: this is the click
    dock.annotator.undo()
    assert dock.wait_idle()
    assert not dock.annotator.site.labels.data.any()


@pytest.mark.parametrize(("classes", "theirs"), [(("axon", "axon"), "axon"), (("axon", ""), "")])
def test_accepted_objects_have_the_class_that_all_of_the_slice_have(
    open_dock: Any, classes: tuple[str, str], theirs: str
) -> None:
    _, dock = open_dock(squares())
    annotator = dock.annotator
    for number, (category, place) in enumerate(zip(classes, ((10, 10), (10, 60)), strict=True), 1):
        click(dock, *place)
        annotator.describe([number], category=category)
        annotator.next_object()
    annotator.finding.start()
    assert dock.wait_idle()
    annotator.finding.accept()
    assert dock.wait_idle()
    session = annotator.session
    found = sorted(set(session.objects) - {1, 2})
    assert found
    assert {session.note(number).category for number in found} == {theirs}
    annotator.undo()
    assert {session.note(number).category for number in found} == {""}


def test_one_model_does_all_of_a_search(open_dock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from conftest import SquarePredictor

    used = {"default": SquarePredictor(), "broken": SquarePredictor()}
    for name, each in used.items():
        each.sha256 = name

    def load(name: str, device: str) -> Replayer:
        return Replayer(used[name])

    monkeypatch.setattr(tasks, "load_replayer", load)
    _, dock = open_dock(squares())
    click(dock, 10, 10)
    dock.annotator.finding.start()
    dock.model.setCurrentText("broken")
    assert dock.wait_idle()
    assert dock.annotator.assistant.replayer.predictor.sha256 == "broken"
    dock.annotator.finding.accept()
    assert dock.wait_idle()
    models = [
        annotation.model
        for planes in dock.annotator.session.objects.values()
        for annotation in planes.values()
    ]
    assert models == ["default"] * 4
    assert used["broken"].predicted == 0


def test_proposals_are_dropped_and_a_search_is_cancelled(open_dock: Any, predictor: Any) -> None:
    viewer, dock = open_dock(squares())
    click(dock, 10, 10)
    before = dock.annotator.site.labels.data.copy()
    dock.annotator.finding.start()
    assert dock.wait_idle()
    layers = len(viewer.layers)
    assert "proposals" in dock.hint.text()
    dock.similar.reject_button.click()
    assert len(viewer.layers) == layers - 1
    assert "proposals" not in dock.hint.text()
    predictor.gate.clear()
    dock.annotator.finding.start()
    dock.cancel_button.click()
    predictor.gate.set()
    assert dock.wait_idle()
    assert "Cancelled" in dock.hint.text()
    assert (dock.annotator.site.labels.data == before).all()
    # an error ends the search and is said; the session goes on
    predictor.describe = None
    dock.annotator.finding.start()
    assert dock.wait_idle()
    assert not dock.annotator.finding.under_way
    click(dock, 35, 20)
    assert dock.annotator.site.labels.data[35, 20] == 1


def test_masks_are_made_with_the_settings_of_the_dock(open_dock: Any, predictor: Any) -> None:
    _, dock = open_dock(squares())
    click(dock, 10, 10)
    used = []
    inner = predictor.predict

    def predict(clicks: Any, previous: Any = None, settings: Any = None, **kwargs: Any) -> Any:
        used.append(settings)
        return inner(clicks, previous, settings, **kwargs)

    predictor.predict = predict
    refinement = replace(dock.annotator.session.refinement, fill_holes=False)
    dock.annotator.refine(refinement)
    assert dock.wait_idle()
    used.clear()
    dock.annotator.finding.start()
    assert dock.wait_idle()
    assert used
    assert all(each.extent == 5 and not each.fill_holes for each in used)
