"""The bundled model without a window: the clicks decide, on any thread, alone or in company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.sampling import hole_click
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.evaluate import iou
from napari_fctsfn.models import load_model, resolve_model
from napari_fctsfn.predict import Predictor, engine

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("default", "cpu")


@pytest.fixture(scope="module")
def nuclei():
    """Picture and true labels."""
    picture = iio.imread(ROOT / "src" / "napari_fctsfn" / "data" / "nuclei.png")
    return picture, np.asarray(iio.imread(ROOT / "tests" / "data" / "nuclei_labels.png"))


def largest_apart(labels: np.ndarray, count: int) -> list[int]:
    """Values of the largest objects that touch no other object."""
    alone = []
    for value in range(1, int(labels.max()) + 1):
        mask = labels == value
        near = mask.copy()
        for axis in (0, 1):
            near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
        if set(np.unique(labels[near])) <= {0, value}:
            alone.append((int(mask.sum()), value))
    return [value for _, value in sorted(alone, reverse=True)[:count]]


def test_its_card_says_that_it_ranks_masks_and_names_no_path():
    card = load_model(resolve_model("default")).card
    assert card.knows_quality
    assert card.training["start"] == Path(card.training["start"]).name


def test_moving_the_click_to_another_object_moves_the_mask(predictor, nuclei):
    picture, labels = nuclei
    predictor.set_image(picture)
    values = largest_apart(labels, 5)
    masks = {}
    for value in values:
        click = next_click(np.zeros_like(labels, bool), labels == value, Clicks(), "ritm")
        masks[value] = predictor.predict(Clicks([click])).full_mask()
    for value, mask in masks.items():
        best = max(values, key=lambda other: iou(mask, labels == other))
        assert best == value
        assert iou(mask, labels == value) > 0.5


def test_glances_find_small_things_in_a_large_view(predictor, nuclei, monkeypatch):
    borders = ((900, 900), (900, 900))
    picture, labels = np.pad(nuclei[0], borders, mode="reflect"), np.pad(nuclei[1], borders)
    predictor.set_image(picture)
    objects = [labels == value for value in largest_apart(labels, 12)]
    nothing = np.zeros_like(objects[0])
    clicks = [Clicks([next_click(nothing, each, Clicks(), "ritm")]) for each in objects]

    def quality() -> float:
        masks = [predictor.predict(click).full_mask() for click in clicks]
        return float(np.mean([iou(*pair) for pair in zip(masks, objects, strict=True)]))

    with_glances = quality()
    monkeypatch.setattr("napari_fctsfn.predict.windows.sides", lambda whole: [])
    assert with_glances > 0.75
    # without them it finds most by itself (docs/quality.md says what they gain on real views)
    assert with_glances > quality() > 0.65


def test_a_known_size_helps_first_masks(predictor, nuclei):
    borders = ((400, 500), (600, 300))
    picture, labels = np.pad(nuclei[0], borders, mode="reflect"), np.pad(nuclei[1], borders)
    predictor.set_image(picture)

    def size(mask: np.ndarray) -> float:
        return max(float(np.ptp(places)) + 1 for places in np.nonzero(mask))

    usual = 20.0  # what these nuclei have, in pixels
    off: dict[float, list[float]] = {0.0: [], usual: []}
    for value in range(1, int(labels.max()) + 1, 2):
        truth = labels == value
        click = next_click(np.zeros_like(truth), truth, Clicks(), "ritm")
        for extent, found in off.items():
            settings = replace(predictor.settings, extent=extent)
            mask = predictor.predict(Clicks([click]), None, settings).full_mask()
            found.append(abs(np.log2(size(mask) / size(truth))))
    assert np.mean(off[usual]) < np.mean(off[0.0])


def test_a_background_click_inside_an_object_takes_a_small_place(predictor, nuclei):
    picture, labels = zoom(nuclei[0], 3, order=1), np.kron(nuclei[1], np.ones((3, 3), int))
    predictor.set_image(picture)
    rows, columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
    taken = []
    for value in largest_apart(labels, 8):
        truth = labels == value
        clicks = Clicks([next_click(np.zeros_like(truth), truth, Clicks(), "ritm")])
        before = predictor.predict(clicks)
        click, reach = hole_click(before.full_mask(), truth, clicks, np.random.default_rng(0))
        after = predictor.predict(clicks.append(click), before).full_mask()
        assert not after[click.pixel]
        farther = np.hypot(rows - click.row, columns - click.column) > reach
        rest = before.full_mask() & truth & farther
        taken.append((rest & ~after).sum() / rest.sum())
    assert np.mean(taken) < 0.2


def test_the_last_click_is_obeyed(predictor, nuclei):
    picture, labels = nuclei
    predictor.set_image(picture)
    value = largest_apart(labels, 1)[0]
    rows, columns = (round(c.mean()) for c in np.nonzero(labels == value))
    clicks = Clicks([Click(rows, columns)])
    first = predictor.predict(clicks)
    assert first.full_mask()[rows, columns]
    second = predictor.predict(clicks.append(Click(rows, columns, positive=False)), first)
    assert second.full_probability()[rows, columns] < first.full_probability()[rows, columns]


def test_every_click_is_obeyed(predictor, nuclei):
    picture, labels = nuclei
    predictor.set_image(picture)
    for value in largest_apart(labels, 8):
        rows, columns = np.nonzero(labels == value)
        centre = (round(rows.mean()), round(columns.mean()))
        lower = (round((centre[0] + rows.max()) / 2), centre[1])
        clicks = Clicks([Click(*centre), Click(*lower, positive=False)])
        mask = predictor.replay(clicks)[-1].full_mask()
        assert mask[centre]
        assert not mask[lower]


def test_reduced_precision_changes_next_to_nothing(predictor, nuclei, monkeypatch):
    picture, labels = nuclei
    monkeypatch.setattr(engine, "reduced_precision", lambda device: None)
    exact = Predictor.from_pretrained("default", "cpu")
    for value in largest_apart(labels, 5):
        click = next_click(np.zeros_like(labels, bool), labels == value, Clicks(), "ritm")
        masks = []
        for which in (predictor, exact):
            which.set_image(picture)
            masks.append(which.predict(Clicks([click])).full_mask())
        assert iou(*masks) > 0.95


def test_weights_converted_once_answer_like_weights_converted_at_every_look(monkeypatch):
    monkeypatch.setattr(engine, "reduced_precision", lambda device: torch.bfloat16)
    network = load_model(resolve_model("default")).network
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 96, 128, generator=generator)
    maps = 100 * torch.rand(1, 3, 96, 128, generator=generator)
    once = engine.Engine(network, torch.device("cpu"), 128)
    ((probability, quality),) = once.look(once.features("picture", lambda: image), maps)
    monkeypatch.setattr(engine, "convert_weights", lambda network, dtype: None)
    always = engine.Engine(network, torch.device("cpu"), 128)
    (expected,) = always.look(always.features("picture", lambda: image), maps)
    assert torch.equal(probability, expected[0])
    assert quality == expected[1]


def test_threads_do_not_change_the_mask_much_and_never_at_the_same_count(predictor, nuclei):
    picture, _ = nuclei
    clicks = Clicks([Click(60, 150), Click(200, 80)])
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            predictor.set_image(picture)
            results.append(predictor.replay(clicks)[-1].probability)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(results[0], results[2])
    assert np.abs(results[0] - results[1]).max() < 0.05
