"""The predictor: pure, any real image from 1 x 1 up, bounded cost, sound when memory runs out."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_fctsfn.clicks import Click, Clicks, interaction_maps
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import LoadedModel, ModelCard
from napari_fctsfn.network import PAPER_NETWORKS, NetworkConfig, build_network, paper_config
from napari_fctsfn.predict import Normalisation, Prediction, Predictor, Settings, windows
from napari_fctsfn.predict.consistency import Adjustment, _Adam, far_off
from napari_fctsfn.predict.region import Region

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)


def tiny_predictor(input_size=128, config=TINY, seed=3, **kwargs):
    torch.manual_seed(seed)
    card = ModelCard(
        name="tiny", version="0", architecture={}, weights_licence="MIT", input_size=input_size
    )
    network = build_network(config).eval().requires_grad_(False)
    return Predictor(LoadedModel(network, card, "0" * 64), "cpu", **kwargs)


@pytest.fixture(scope="module")
def predictor():
    return tiny_predictor()


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(0, 255, (150, 210)).astype(np.uint8)


def same(a: Prediction, b: Prediction) -> bool:
    return (
        a.bbox == b.bbox
        and np.array_equal(a.mask, b.mask)
        and np.array_equal(a.probability, b.probability)
    )


CLICKS = Clicks([Click(40, 50), Click(100.4, 20.6, False), Click(90, 170)])


def test_a_prediction_is_a_pure_function(predictor, picture):
    predictor.set_image(picture)
    steps = predictor.replay(CLICKS)
    predictor.set_image(picture.T.copy())
    predictor.predict(Clicks([Click(3, 3)]))
    predictor.set_image(picture)
    again: list[Prediction] = []
    worker = threading.Thread(target=lambda: again.extend(predictor.replay(CLICKS)))
    worker.start()
    worker.join()
    assert all(same(a, b) for a, b in zip(steps, again, strict=True))
    assert same(predictor.predict(CLICKS, steps[1]), steps[2])
    other = tiny_predictor()
    other.set_image(picture)
    assert all(same(a, b) for a, b in zip(steps, other.replay(CLICKS), strict=True))


def test_clicks_on_the_background_alone_find_nothing_and_do_not_hold_back_what_follows(
    predictor, picture
):
    predictor.set_image(picture, key="picture")
    negative, positive = Click(100, 20, False), Click(40, 50)
    nothing = predictor.predict(Clicks([negative, Click(10, 10, False)]))
    assert not nothing.full_probability().any()
    assert not nothing.mask.any()
    assert np.isnan(nothing.quality)
    clicks = Clicks([negative, positive])
    found = predictor.predict(clicks, predictor.predict(clicks[:1]))
    assert same(found, predictor.predict(clicks))
    assert found.full_mask()[40, 50]
    assert not found.full_mask()[100, 20]
    drawn = np.zeros(picture.shape, dtype=bool)
    drawn[60:140, 5:80] = True
    assert predictor.predict(clicks[:1], drawn).probability.any()


def test_a_previous_mask_may_be_an_array(predictor, picture):
    """Its probability is not known then, so nothing is drawn to it."""
    predictor.set_image(picture)
    first = predictor.predict(CLICKS[:1])
    unsteady = Settings(steady=0, consistent=False)
    alone = predictor.predict(CLICKS[:2], first, unsteady)
    assert same(alone, predictor.predict(CLICKS[:2], first.full_mask(), unsteady))
    assert not same(alone, predictor.predict(CLICKS[:2], first))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 300),
    rgb=st.booleans(),
    dtype=st.sampled_from(
        ["bool", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
    ),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_any_real_image_from_one_pixel_up(predictor, rows, columns, rgb, dtype, where):
    rng = np.random.default_rng(rows * columns)
    shape = (rows, columns, 3) if rgb else (rows, columns)
    image = (rng.random(shape) * 200).astype(dtype)
    if image.dtype.kind == "f" and image.size > 3:
        image.flat[:3] = np.nan, np.inf, -np.inf
    predictor.set_image(image)
    clicks = Clicks(
        [
            Click(where[0] * (rows - 1), where[1] * (columns - 1)),
            Click(where[2] * (rows - 1), where[3] * (columns - 1), False),
        ]
    )
    for step in predictor.replay(clicks):
        assert step.full_mask().shape == (rows, columns)
        assert step.mask.shape == step.probability.shape
        assert np.isfinite(step.probability).all()
        assert 0 <= step.probability.min() <= step.probability.max() <= 1


class Recording:
    """An array that remembers which part of it was read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, 0

    def __getitem__(self, index):
        part = self.array[index]
        self.read += part.size
        return part


def test_of_a_huge_slice_only_the_surroundings_of_the_clicks_are_read(predictor):
    image = Recording(np.zeros((9000, 9000), np.uint16))
    predictor.set_image(image, Normalisation(0, 1000))
    step = predictor.predict(Clicks([Click(8000, 4000)]))
    assert image.read <= 3 * 2048**2 * 1.2
    assert step.probability.size <= 2048**2 * 1.2
    assert step.bbox[0] <= 8000 < step.bbox[2]
    assert step.bbox[1] <= 4000 < step.bbox[3]


@settings(max_examples=300, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_windows_hold_the_object_and_stay_inside(shape, corners):
    rows = sorted((int(corners[0] * (shape[0] - 1)), int(corners[2] * (shape[0] - 1))))
    columns = sorted((int(corners[1] * (shape[1] - 1)), int(corners[3] * (shape[1] - 1))))
    box = (rows[0], columns[0], rows[1] + 1, columns[1] + 1)
    clicks = Clicks([Click(rows[0], columns[0]), Click(rows[1], columns[1])])
    beside = windows.beside(shape, box, 64, 384)
    assert beside.height >= min(64, shape[0])
    assert beside.width >= min(64, shape[1])
    for window in (windows.around(shape, box, 384), windows.overview(shape, clicks, 384), beside):
        top, left, bottom, right = window.box
        assert 0 <= top <= box[0] < box[2] <= bottom <= shape[0]
        assert 0 <= left <= box[1] < box[3] <= right <= shape[1]
        assert 1 <= window.rows <= 384
        assert 1 <= window.columns <= 384
        for click in window.project(clicks):
            assert click.inside((window.rows, window.columns))


@settings(max_examples=200, deadline=None)
@given(
    first=arrays(bool, (9, 12)),
    second=arrays(bool, (9, 12)),
    place=st.tuples(*[st.integers(0, 6)] * 2),
)
def test_the_overlap_of_regions_is_that_of_their_pixels(first, second, place):
    slices = np.zeros((2, 20, 20), bool)
    regions = []
    for whole, part, (top, left) in zip(slices, (first, second), ((3, 2), place), strict=True):
        whole[top : top + 9, left : left + 12] = part
        regions.append(Region.of(part, (top, left, top + 9, left + 12)))
    empty = [not part.any() for part in (first, second)]
    assert [region is None for region in regions] == empty
    for region, whole in zip(regions, slices, strict=True):
        if region is not None:
            assert np.array_equal(region.within((0, 0, 20, 20)), whole)
    if not any(empty):
        both, either = (slices[0] & slices[1]).sum(), (slices[0] | slices[1]).sum()
        assert regions[0].iou(regions[1]) == regions[1].iou(regions[0]) == both / either


def test_the_predicted_quality_is_a_number_where_the_network_predicts_it(predictor, picture):
    predictor.set_image(picture)
    assert np.isnan(predictor.predict(Clicks([Click(30, 40)])).quality)
    other = tiny_predictor(config=replace(TINY, quality=True))
    other.set_image(picture)
    assert 0 <= other.predict(Clicks([Click(30, 40)])).quality <= 1


@pytest.mark.parametrize("zoom", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_clicks_are_obeyed(picture, seed, zoom):
    predictor = tiny_predictor(seed=seed)
    predictor.set_image(picture)
    before = {key: value.clone() for key, value in predictor._engine._network.state_dict().items()}
    rng = np.random.default_rng(seed)
    left = {True: 0, False: 0}
    for _ in range(10):
        points = rng.integers(0, picture.shape[:2], (4, 2))
        clicks = Clicks([Click(int(r), int(c), n % 2 == 0) for n, (r, c) in enumerate(points)])
        for consistent in left:
            way = Settings(zoom=zoom, consistent=consistent).raw(0.5)
            for count, step in enumerate(predictor.replay(clicks, None, way), start=1):
                mask = step.full_mask()
                wrong = [mask[click.pixel] != click.positive for click in clicks[:count]]
                left[consistent] += sum(wrong)
    assert left[False] > 10
    assert left[True] == 0
    after = predictor._engine._network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("zoom", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_click_on_the_object_takes_nothing_away_and_one_on_the_background_adds_nothing(
    picture, seed, zoom
):
    predictor = tiny_predictor(seed=seed)
    predictor.set_image(picture)
    rng = np.random.default_rng(seed)
    against = {True: 0, False: 0}
    for _ in range(4):
        points = rng.integers(0, picture.shape[:2], (5, 2))
        clicks = Clicks([Click(int(r), int(c), bool(rng.integers(2))) for r, c in points])
        for consistent in against:
            way = Settings(zoom=zoom, consistent=consistent).raw(0.5)
            masks = [step.full_mask() for step in predictor.replay(clicks, None, way)]
            for before, after, click in zip(masks, masks[1:], clicks[1:], strict=False):
                wrong = before & ~after if click.positive else after & ~before
                against[consistent] += int(wrong.sum())
    assert against[False] > 0
    assert against[True] == 0


@pytest.mark.parametrize("seed", range(1, 4))
def test_features_are_adjusted_to_clicks_far_from_the_outline(picture, seed):
    engine = tiny_predictor(seed=seed)._engine
    image = torch.from_numpy(picture / 255.0).float().expand(1, 3, -1, -1)
    features = engine.features("a", lambda: image)
    rng = np.random.default_rng(seed)
    left = {True: 0, False: 0}
    for _ in range(10):
        points = rng.integers(0, picture.shape[:2], (4, 2))
        clicks = Clicks([Click(int(r), int(c), n % 2 == 0) for n, (r, c) in enumerate(points)])
        maps = torch.from_numpy(interaction_maps(clicks, picture.shape[:2]))[None]
        maps = torch.cat([maps, torch.zeros(1, 1, *picture.shape[:2])], dim=1)
        for consistent in left:
            ((probability, _),) = engine.look(features, maps, consistent)
            left[consistent] += sum(
                bool(probability[click.pixel] > 0.5) != click.positive for click in clicks
            )
    # eight random features cannot tell four random places apart, but they come nearer
    assert left[True] <= 0.7 * left[False]


def test_adjustments_go_downhill_as_torchs_adam_does():
    torch.manual_seed(6)
    fused = SimpleNamespace(features=torch.zeros(1, 5, 2, 2))
    ours, theirs = Adjustment.none(fused), Adjustment.none(fused)
    pull, aim = torch.rand(2, 5) ** 4, torch.randn(2, 5)

    def loss(at):
        stacked = torch.stack([at.scale.flatten(), at.bias.flatten()])
        return (pull * (stacked - aim).square()).sum()

    optimizer, reference = _Adam(ours, 0.2), torch.optim.Adam([theirs.scale, theirs.bias], lr=0.2)
    for _ in range(30):
        optimizer.step(loss(ours))
        reference.zero_grad()
        loss(theirs).backward()
        reference.step()
        torch.testing.assert_close((ours.scale, ours.bias), (theirs.scale, theirs.bias))
    assert loss(ours) < 0.5 * loss(Adjustment.none(fused))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_click_is_far_off_where_no_pixel_of_its_kind_is_near(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 24, 2))
    logit = np.where(rng.random(shape) < rng.choice([0.02, 0.5, 0.98]), 1.5, -1.5)
    kinds = rng.choice(3, shape, p=(0.9, 0.05, 0.05))
    positive, negative, given_ = (
        torch.from_numpy(np.ascontiguousarray(each))[None, None]
        for each in (kinds == 1, kinds == 2, logit)
    )
    expected = False
    for row, column in np.argwhere(kinds):
        sign = 1 if kinds[row, column] == 1 else -1
        near = logit[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        expected |= bool((sign * near < 0).all())
    assert far_off(given_, positive, negative) == expected


@pytest.mark.parametrize("name", PAPER_NETWORKS)
def test_every_network_takes_contradicted_clicks_and_known_masks(name, picture):
    config = paper_config(name, backbone="lite", fusion_channels=8)
    predictor = tiny_predictor(config=config)
    predictor.set_image(picture)
    clicks = Clicks([Click(40, 50), Click(42, 52, False), Click(90, 170), Click(92, 172, False)])
    known = np.zeros(picture.shape, bool)
    known[30:80, 40:120] = True
    first = predictor.predict(clicks, known)
    adjustment = predictor.adapt([(clicks, known)], known)
    adjusted = predictor.predict(clicks, known, adjustment=adjustment)
    assert adjusted.probability.shape == first.probability.shape


def test_an_adjustment_finds_the_known_mask_and_leaves_the_network_alone(picture):
    predictor = tiny_predictor()
    predictor.set_image(picture)
    clicks = Clicks([Click(50, 60), Click(100, 150, False)])
    known = np.zeros(picture.shape, bool)
    known[20:110, 30:120] = True

    def loss(adjustment=None):
        seen = predictor.predict(clicks, known, adjustment=adjustment)
        top, left, bottom, right = seen.bbox
        wrong = np.where(known[top:bottom, left:right], 1 - seen.probability, seen.probability)
        return float(-np.log(np.clip(1 - wrong, 1e-6, 1)).mean())

    before = loss()
    adjustment = predictor.adapt([(clicks, known)], known)
    assert loss(adjustment) < 0.9 * before
    assert loss() == before


def test_with_flips_the_mirror_image_has_the_mirrored_mask(predictor, picture):
    settings = Settings(zoom=False, flip=True, consistent=False)
    click, width = Click(30, 40), picture.shape[1]
    found = []
    for image, where in [
        (picture, click),
        (picture[:, ::-1].copy(), Click(30, width - 1 - 40)),
    ]:
        predictor.set_image(image)
        found.append(predictor.predict(Clicks([where]), None, settings).probability)
    np.testing.assert_allclose(found[0], found[1][:, ::-1], atol=0.02)


def test_small_changes_of_the_object_keep_the_window():
    kept = [
        windows.around((1000, 1000), (400 + d, 300, 500 + d, 420), 384).box for d in range(-3, 4)
    ]
    assert len(set(kept)) <= 2


@pytest.mark.parametrize("consistent", [False, True])
def test_windows_looked_at_together_answer_like_each_alone(consistent):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 60, 90, generator=generator)
    clicks = Clicks([Click(10, 20), Click(30, 50, False), Click(50, 80)])
    maps = torch.from_numpy(interaction_maps(clicks, (60, 90)))[None]
    maps = torch.cat([maps, torch.zeros(1, 1, 60, 90)], dim=1).repeat(3, 1, 1, 1)
    maps[1, :2] += 20  # no click is in sight of the second window
    engine = tiny_predictor(seed=4)._engine
    together = engine.look(engine.features("together", lambda: images), maps, consistent)
    plain = engine.look(engine.features("together", lambda: images), maps)
    for i, (probability, quality) in enumerate(together):
        features = engine.features(i, lambda i=i: images[i : i + 1])
        ((alone, its_quality),) = engine.look(features, maps[i : i + 1], consistent)
        np.testing.assert_allclose(probability, alone, atol=0.02)
        np.testing.assert_equal(quality, its_quality)
        changed = not torch.equal(probability, plain[i][0])
        assert changed == (consistent and i != 1)


def test_the_features_of_named_slices_are_found_again(predictor, picture, monkeypatch):
    encoded = []
    encode = type(predictor._engine._network).encode_image

    def counting(network, image):
        encoded.append(image.shape)
        return encode(network, image)

    monkeypatch.setattr(type(predictor._engine._network), "encode_image", counting)
    for key in ("a", "b", "a", "b"):
        predictor.set_image(picture, Normalisation(0, 255), key=("named", key))
        predictor.warm_up()
    assert len(encoded) == 2


def test_out_of_memory_frees_the_cache_and_ends_on_the_cpu(picture, monkeypatch):
    predictor = tiny_predictor(input_size=512)
    predictor.set_image(picture)
    expected = predictor.predict(CLICKS[:1])
    engine = predictor._engine
    engine.cache.clear()
    # A GPU is played: the engine believes to be on one until it moves away.
    moved = []

    def move(device):
        moved.append(device)
        engine.device = device

    run = engine._run
    monkeypatch.setattr(engine, "_move", move)

    def failing(compute):
        if engine.device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return run(compute)

    monkeypatch.setattr(engine, "_run", failing)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: moved.append("emptied"))
    engine.device = torch.device("cuda")
    with pytest.warns(UserWarning, match="out of memory") as said:
        survived = predictor.predict(CLICKS[:1])
    assert [str(w.message).split(": ")[1] for w in said] == [
        "working at 256 pixels from now on",
        "working on the CPU",
    ]
    assert moved[-1] == torch.device("cpu")
    assert survived.shape == expected.shape


def test_out_of_memory_ahead_of_a_click_looks_at_less(picture, monkeypatch):
    predictor = tiny_predictor(input_size=512)
    predictor.set_image(picture)
    engine = predictor._engine
    run, sizes = engine._run, []

    def failing(compute):
        if engine.input_size > 256:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        sizes.append(engine.input_size)
        engine.device = torch.device("cpu")
        return run(compute)

    monkeypatch.setattr(engine, "_run", failing)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    for ask in (predictor.warm_up, lambda: predictor.describe((0, 0, *picture.shape[:2]))):
        engine.cache.clear()
        engine.device, engine.input_size = torch.device("cuda"), 512
        with pytest.warns(UserWarning, match="working at 256 pixels"):
            ask()
    assert set(sizes) == {256}


def test_memory_of_the_cache_is_bounded(picture):
    predictor = tiny_predictor()
    engine = predictor._engine
    predictor.set_image(picture)
    predictor.warm_up()
    one = engine.cache.nbytes
    engine.cache.max_bytes = 3 * one
    for key in range(10):
        predictor.set_image(picture, key=key)
        predictor.warm_up()
    assert one <= engine.cache.nbytes <= 3 * one


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_the_graph_cut_starts_from_the_threshold(predictor, threshold):
    # Where nothing but the probability speaks, the cut is the threshold.
    predictor.set_image(np.zeros((100, 100), np.uint8), Normalisation(0, 255))
    cut = Settings(
        threshold=threshold,
        graph_cut=True,
        graph_cut_strength=1e4,
        drop_unclicked=False,
        fill_holes=False,
    )
    clicks = Clicks([Click(50, 50)])
    prediction = predictor.predict(clicks, None, cut)
    expected = prediction.probability > threshold
    differing = np.argwhere(prediction.mask != expected) + prediction.bbox[:2]
    assert differing.tolist() in ([], [[50, 50]])


def test_nothing_works_before_an_image_is_set():
    with pytest.raises(RuntimeError, match="set_image"):
        tiny_predictor().predict(CLICKS)


@pytest.mark.parametrize(
    ("clicks", "message"),
    [
        (Clicks(), "no click"),
        (Clicks([Click(150, 3)]), r"row 150, column 3 is outside .* rows go from 0 to 149"),
        (Clicks([Click(3, -0.6)]), "outside"),
    ],
)
def test_clicks_that_cannot_be_are_refused(predictor, picture, clicks, message):
    predictor.set_image(picture)
    with pytest.raises(ValueError, match=message):
        predictor.predict(clicks)


def test_a_previous_mask_of_another_shape_is_refused(predictor, picture):
    predictor.set_image(picture)
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        predictor.predict(CLICKS, np.zeros((3, 3), bool))


@pytest.mark.parametrize(
    "image",
    [np.zeros((0, 5)), np.zeros(5), np.zeros((4, 4, 2)), np.zeros((2, 3, 4, 5))],
)
def test_images_of_another_shape_are_refused(predictor, image):
    with pytest.raises(ValueError, match=r"cannot be segmented: give one slice"):
        predictor.set_image(image)


@pytest.mark.parametrize("image", [np.zeros((4, 4), complex), np.full((4, 4), "a")])
def test_values_that_are_no_real_numbers_are_refused(predictor, image):
    with pytest.raises(ValueError, match=str(image.dtype)):
        predictor.set_image(image)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta", ""])
def test_an_unknown_device_is_refused(device):
    model = LoadedModel(build_network(TINY).eval(), tiny_predictor().card, "0" * 64)
    with pytest.raises(ValueError, match="not available"):
        Predictor(model, device)


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": 0},
        {"threshold": 1.2},
        {"graph_cut_strength": 0},
        {"steady": 1},
        {"steady": float("nan")},
        {"extent": -1},
        {"extent": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Settings(**values)


def test_another_threshold_needs_no_network(picture, monkeypatch):
    predictor = tiny_predictor(seed=3)
    predictor.set_image(picture)
    usual = Settings(zoom=False, consistent=False)
    median = float(np.median(predictor.predict(CLICKS, settings=usual).probability))
    for changes in (
        {"threshold": median},
        {"threshold": median, "drop_unclicked": False, "fill_holes": False},
        {"threshold": median, "graph_cut": True, "graph_cut_strength": 2.0},
    ):
        wanted = predictor.predict(CLICKS, settings=replace(usual, **changes))
        seen = predictor.predict(CLICKS, settings=usual)
        with monkeypatch.context() as patch:
            patch.setattr(predictor._engine, "look", None)
            patch.setattr(predictor._engine, "features", None)
            assert same(predictor.finish(seen, CLICKS, replace(usual, **changes)), wanted)
    for threshold in (0.05, 0.3, 0.7, 0.95):  # clicks are obeyed at every one
        how = replace(usual, consistent=True, threshold=threshold)
        again = predictor.finish(seen, CLICKS, replace(how, fill_holes=False))
        assert np.array_equal(again.probability, seen.probability)
        full = again.full_mask()
        assert all(full[click.pixel] == click.positive for click in CLICKS)
    drawn = np.zeros(picture.shape, dtype=bool)
    drawn[20:60, 30:70] = True
    kept = predictor.predict(CLICKS, drawn, replace(usual, threshold=median), keep=True)
    seen = predictor.predict(CLICKS, drawn, usual)
    again = predictor.finish(seen, CLICKS, replace(usual, threshold=median), drawn)
    assert np.array_equal(again.mask, kept.mask)
    predictor.set_image(picture.T.copy())
    with pytest.raises(InputError, match="the slice that is set"):
        predictor.finish(seen, CLICKS, usual)
