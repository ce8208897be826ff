"""Classical rivals: known answers, brute force, and what every method must keep to."""

from __future__ import annotations

import heapq
import itertools
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from napari_fctsfn._directories import data_directory
from napari_fctsfn.cli import app
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate import rivals
from napari_fctsfn.evaluate.loading import load_segmenter
from napari_fctsfn.evaluate.rivals import RIVALS, Rival, load_rival, rival
from napari_fctsfn.evaluate.rivals.colours import Colours
from napari_fctsfn.evaluate.rivals.energy import FORWARD, contrast, minimum_cut
from napari_fctsfn.evaluate.rivals.geodesics import geodesics
from napari_fctsfn.evaluate.rivals.seeds import brush, with_rim
from napari_fctsfn.models import resolve_model
from napari_fctsfn.predict import Predictor

EIGHT = [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)]


@pytest.fixture(params=RIVALS)
def method(request):
    """Every method whose package is installed."""
    skip_unless_installed(request.param)
    return load_rival(request.param)


def skip_unless_installed(name: str) -> None:
    for module, package in RIVALS[name].needs.items():
        if find_spec(module) is None:
            pytest.skip(f"{name} needs {package}")


def small(name: str, radius: float = 2) -> Rival:
    """A method with a brush for small pictures."""
    made = load_rival(name)
    made.radius = radius
    return made


def halves(left=(40, 40, 60), right=(200, 180, 90)) -> np.ndarray:
    image = np.empty((24, 32, 3), np.uint8)
    image[:, :16], image[:, 16:] = left, right
    return image


def texture(seed: int, shape=(20, 24)) -> np.ndarray:
    """Blobs of colour with noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 200, (shape[0] // 5 + 1, shape[1] // 5 + 1, 3))
    image = np.kron(coarse, np.ones((5, 5, 1)))[: shape[0], : shape[1]]
    return (image + rng.uniform(0, 40, image.shape)).astype(np.uint8)


# -- every method ----------------------------------------------------------------------------------


def test_two_flat_regions_are_told_apart(method):
    method.radius = 3
    clicks = Clicks([Click(12, 8), Click(12, 24, positive=False)])
    colours = [(40, 40, 60), (200, 180, 90)]
    expected = np.zeros((24, 32), bool)
    expected[4:20, 4:16] = True
    for on_object, on_background in (colours, colours[::-1]):
        image = np.where(expected[..., None], on_object, on_background).astype(np.uint8)
        method.set_image(image)
        wrong = method.predict(clicks).full_mask() != expected
        wrong[[4, 4, 19, 19], [4, 15, 4, 15]] = False  # a corner may go to either side
        assert not wrong.any()


def test_one_click_finds_an_object_that_differs(method):
    method.radius = 3
    image = np.full((40, 48), 400, np.uint16)
    image[8:30, 10:30] = 3000
    method.set_image(image)
    mask = method.predict(Clicks([Click(18, 20)])).full_mask()
    truth = image > 1000
    assert (mask & truth).sum() > 0.97 * (mask | truth).sum()


@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", RIVALS)
def test_clicks_are_honoured_and_nothing_is_left_to_chance(name, data):
    skip_unless_installed(name)
    places = st.tuples(st.integers(0, 19), st.integers(0, 23), st.booleans())
    drawn = data.draw(st.lists(places, min_size=1, max_size=6, unique_by=lambda p: p[:2]))
    clicks = Clicks(Click(*place) for place in drawn)
    image = data.draw(st.sampled_from([texture(0), texture(1)[..., 0], halves()[:20, :24]]))
    masks = []
    for _ in range(2):
        method = small(name)
        method.set_image(image)
        masks.append(method.predict(clicks).full_mask())
    np.testing.assert_array_equal(*masks)
    assert masks[0].shape == (20, 24)
    for click in clicks:
        assert masks[0][click.pixel] == click.positive


def test_a_picture_of_one_colour_and_clicks_of_one_kind_are_no_trouble(method):
    for image in (np.zeros((12, 13), np.uint8), np.full((2, 2, 4), 7.0)):
        method.set_image(image)
        for positive in (True, False):
            mask = method.predict(Clicks([Click(0, 0, positive)])).full_mask()
            assert mask.shape == image.shape[:2]
            assert mask[0, 0] == positive


def test_a_large_picture_is_worked_at_in_a_stated_size(method, monkeypatch):
    seen = []
    prepare = type(method).prepare
    monkeypatch.setattr(
        type(method), "prepare", lambda self, image: seen.append(image) or prepare(self, image)
    )
    monkeypatch.setattr(rival, "WORKING_PIXELS", 24 * 32)
    image = np.full((96, 128, 3), 180, np.uint8)
    image[16:80, 16:64] = (40, 40, 60)
    for key in ("one", "one", "other", None, None):
        method.set_image(image, key=key)
    assert [picture.shape for picture in seen] == [(24, 32, 3)] * 4
    assert all(picture.dtype == np.float32 for picture in seen)
    method.radius = 12
    clicks = Clicks([Click(48, 40), Click(48, 96, positive=False), Click(19, 20, positive=False)])
    mask = method.predict(clicks).full_mask()
    assert mask.shape == (96, 128)
    assert mask[44:68, 40:56].all()
    assert not mask[:, 68:].any()
    assert not mask[19, 20]


def test_what_cannot_be_segmented_is_said(method):
    with pytest.raises(RuntimeError, match="set_image"):
        method.predict(Clicks([Click(0, 0)]))
    with pytest.raises(InputError, match="shape"):
        method.set_image(np.zeros((4, 5, 6)))
    with pytest.raises(InputError, match="at least 2"):
        method.set_image(np.zeros((1, 5)))
    method.set_image(halves())
    with pytest.raises(InputError, match="no click"):
        method.predict(Clicks())
    with pytest.raises(InputError, match="outside"):
        method.predict(Clicks([Click(24, 0)]))


def test_methods_are_known_by_name(monkeypatch):
    assert {"gc", "gm", "rw", "esc", "gsc", "grabcut", "growcut"} == set(RIVALS)
    made = [cls() for cls in RIVALS.values()]
    assert len({method.sha256 for method in made}) == len(RIVALS)
    assert [cls().sha256 for cls in RIVALS.values()] == [method.sha256 for method in made]
    with pytest.raises(InputError, match="known are gc, gm"):
        load_rival("other")
    monkeypatch.setattr(rivals, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="pip install PyMaxflow"):
        load_rival("gsc")


def test_evaluate_takes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = np.zeros((24, 32), np.uint8)
    labels[:, :16] = 1
    for name, image in (("images", halves()), ("labels", labels)):
        Path("set", name).mkdir(parents=True)
        iio.imwrite(f"set/{name}/a.png", image)
    Path("set/dataset.json").write_text('{"name": "set", "kind": "instances"}')
    Path("set/list.txt").write_text("a\n")
    common = ["evaluate", "set", "--list", "list.txt", "--output", "out", "--max-clicks", "2"]
    result = CliRunner().invoke(app, [*common, "--protocol", "fctsfn", "--model", "rw"])
    assert result.exit_code == 0, result.output
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["model"], summary["post"]) == ("rw", "none")
    assert summary["model_sha256"] == load_rival("rw").sha256
    result = CliRunner().invoke(app, [*common, "--post", "none", "--model", "rw"])
    assert result.exit_code == 2
    assert "--post none is for models" in result.output
    usage = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "200"}).output
    assert all(name in usage for name in RIVALS)


# -- strokes and colours ---------------------------------------------------------------------------


def test_a_stroke_is_a_disc_and_the_nearest_click_counts():
    clicks = Clicks([Click(8, 8), Click(8, 11, positive=False), Click(0, 29)])
    seeds = brush(clicks, (20, 30), 4)
    rows, columns = np.indices(seeds.shape)
    first, second, third = (np.hypot(rows - c.row, columns - c.column) for c in clicks)
    expected = np.zeros(seeds.shape)
    expected[(first <= 4) | (third <= 4)] = 1
    expected[(second <= 4) & (second <= first)] = -1
    np.testing.assert_array_equal(seeds, expected)
    again = brush(Clicks([*clicks, Click(8, 8, positive=False)]), (20, 30), 0)
    assert sorted(map(tuple, np.argwhere(again))) == [(0, 29), (8, 8), (8, 11)]
    assert again[8, 8] == -1


def test_colours_speak_for_the_strokes_that_they_are_like():
    image = halves().astype(np.float32) / 255
    seeds = np.zeros((24, 32), np.int8)
    seeds[3:9, 3:9], seeds[3:9, 20:26] = 1, -1
    probability = Colours.of(image).foreground(seeds)
    assert probability[:, :16].min() > 0.6
    assert probability[:, 16:].max() < 0.1
    unseen = image.copy()
    unseen[20:, 20:] = (0, 1, 0)
    probability = Colours.of(unseen).foreground(seeds)
    assert 0.2 < probability[22, 22] < 0.5


# -- graph cut -------------------------------------------------------------------------------------


def energy(mask, object_cost, background_cost, weights):
    total = object_cost[mask].sum() + background_cost[~mask].sum()
    for (down, right), weight in zip(FORWARD, weights, strict=True):
        for row, column in np.ndindex(mask.shape):
            there = row + down, column + right
            if there[0] < mask.shape[0] and 0 <= there[1] < mask.shape[1]:
                total += weight[row, column] * (mask[row, column] != mask[there])
    return total


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_has_the_least_energy_of_all_labellings(seed):
    rng = np.random.default_rng(seed)
    shape = (3, 4)
    costs = rng.uniform(0, 2, (2, *shape))
    weights = [weight * 1.5 for weight in contrast(rng.random((*shape, 3)).astype(np.float32))]
    seeds = np.zeros(shape, np.int8)
    seeds[0, 0], seeds[2, 3] = 1, -1
    places = np.arange(12).reshape(shape)
    # Half of the runs ask for the left neighbour, or the upper one in the first column.
    parents = np.where(places % 4, places - 1, np.maximum(places - 4, 0)) if seed % 2 else None
    allowed = []
    for bits in itertools.product((False, True), repeat=12):
        mask = np.array(bits).reshape(shape)
        starlike = parents is None or not (mask & ~mask.ravel()[parents]).any()
        if mask[0, 0] and not mask[2, 3] and starlike:
            allowed.append((energy(mask, *costs, weights), bits))
    found = minimum_cut(*costs, weights, seeds, parents)
    assert energy(found, *costs, weights) == pytest.approx(min(allowed)[0])
    np.testing.assert_array_equal(found.ravel(), min(allowed)[1])


# -- geodesics and stars ---------------------------------------------------------------------------


def shortest(cost, start):
    """Distances by Dijkstra's algorithm, written down plainly."""
    distance = np.full(cost.shape, np.inf)
    distance[start] = 0
    queue = [(0.0, *place) for place in np.argwhere(start).tolist()]
    while queue:
        length, row, column = heapq.heappop(queue)
        if length > distance[row, column]:
            continue
        for down, right in EIGHT:
            there = row + down, column + right
            if not (0 <= there[0] < cost.shape[0] and 0 <= there[1] < cost.shape[1]):
                continue
            new = length + np.hypot(down, right) * (cost[row, column] + cost[there]) / 2
            if new < distance[there]:
                distance[there] = new
                heapq.heappush(queue, (new, *there))
    return distance


def steps_are_shortest(cost, distance, parent):
    """Whether each pixel's distance is its parent's plus the step between them."""
    row, column = np.indices(cost.shape)
    up, left = np.divmod(parent, cost.shape[1])
    step = np.hypot(row - up, column - left)
    assert (step < 1.5).all()
    return np.allclose(distance, distance[up, left] + step * (cost + cost[up, left]) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_geodesics_are_those_of_dijkstra(seed):
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.1, 3, (13, 17)) ** 2
    start = rng.random(cost.shape) < 0.03
    start[4, 5] = True
    distance, parent = geodesics(cost, start)
    np.testing.assert_allclose(distance, shortest(cost, start))
    assert steps_are_shortest(cost, distance, parent)
    np.testing.assert_array_equal(parent.ravel()[start.ravel()], np.flatnonzero(start))


STAR_CLICKS = [
    Clicks([Click(9, 11)]),
    Clicks([Click(9, 11), Click(3, 20), Click(15, 3, positive=False)]),
    Clicks([Click(2, 2), Click(17, 21), Click(9, 8), Click(9, 15, positive=False)]),
]


def way_to_the_nearest_centre(place, centres):
    """Pixels from one on the object to the nearest centre, each a step along the straight line."""
    way = [place]
    while way[-1] not in centres:
        row, column = way[-1]
        square = min((r - row) ** 2 + (c - column) ** 2 for r, c in centres)
        nearest = [p for p in centres if (p[0] - row) ** 2 + (p[1] - column) ** 2 == square]
        # Of equally near centres either will do; the caller tries each.
        r, c = nearest[0]
        length = max(abs(r - row), abs(c - column))
        way.append((row + round((r - row) / length), column + round((c - column) / length)))
        if len(nearest) > 1:
            return None
    return way


@pytest.mark.parametrize("clicks", STAR_CLICKS)
@pytest.mark.parametrize("seed", range(3))
def test_euclidean_stars_hold_the_straight_way_to_their_centres(seed, clicks):
    pytest.importorskip("maxflow")
    method = small("esc", radius=0)
    method.smoothness = 0.2
    method.set_image(texture(seed))
    mask = method.predict(clicks).full_mask()
    assert len(clicks) < mask.sum() < mask.size
    centres = {click.pixel for click in clicks.positive}
    checked = 0
    for place in map(tuple, np.argwhere(mask).tolist()):
        way = way_to_the_nearest_centre(place, centres)
        if way is not None:
            assert all(mask[step] for step in way), (place, way)
            checked += 1
    assert checked >= 0.7 * mask.sum()


@pytest.mark.parametrize("clicks", STAR_CLICKS)
@pytest.mark.parametrize("seed", range(3))
def test_geodesic_stars_hold_a_shortest_path_to_their_centres(seed, clicks):
    pytest.importorskip("maxflow")
    method = small("gsc", radius=0)
    method.smoothness = 0.2
    image = texture(seed)
    method.set_image(image)
    mask = method.predict(clicks).full_mask()
    assert len(clicks) < mask.sum() < mask.size
    # Step costs are written down anew: root of 0.1 + 0.9 times the squared relative gradient.
    down, right = np.gradient(image / 255.0, axis=(0, 1))
    square = (down**2 + right**2).sum(axis=2)
    cost = np.sqrt(0.1 + 0.9 * square / square.mean())
    centres = np.zeros(mask.shape, bool)
    centres[tuple(clicks.positive.pixels().T)] = True
    inside = np.where(mask, cost, 1e9)
    # Paths that may not leave the object are no longer than those that may.
    within = shortest(inside, centres)[mask]
    np.testing.assert_allclose(within, shortest(cost, centres)[mask], rtol=1e-5)


def test_without_the_constraint_the_same_picture_has_a_part_that_no_star_reaches():
    pytest.importorskip("maxflow")
    image = np.full((20, 40), 30, np.uint8)
    image[5:15, 4:14] = image[5:15, 26:36] = 220
    masks = {}
    for name in ("gc", "esc", "gsc"):
        method = small(name)
        method.set_image(image)
        masks[name] = method.predict(Clicks([Click(10, 9), Click(10, 20, False)])).full_mask()
    assert masks["gc"][6:14, 27:35].all()
    for name in ("esc", "gsc"):
        np.testing.assert_array_equal(masks[name][:, :20], masks["gc"][:, :20])
        assert not masks[name][:, 20:].any()


# -- random walks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_random_walks_solve_the_dirichlet_problem(seed):
    image = texture(seed, (9, 11))
    clicks = Clicks([Click(4, 5), Click(2, 8, positive=False)])
    method = small("rw", radius=0)
    method.set_image(image)
    mask = method.predict(clicks).full_mask()

    unit = image.astype(np.float32) / 255
    # scikit-image scales beta by the standard deviation and the root of the number of channels.
    beta = method.beta / (10 * unit.std() * np.sqrt(3))
    laplacian = np.zeros((99, 99))
    places = np.arange(99).reshape(9, 11)
    for axis in (0, 1):
        ends = np.moveaxis(places, axis, 0)
        steps = (np.diff(unit, axis=axis) ** 2).sum(axis=2)
        for p, q, step in zip(
            ends[:-1].ravel(), ends[1:].ravel(), np.moveaxis(steps, axis, 0).ravel(), strict=True
        ):
            weight = np.exp(-beta * step) + 1e-10
            laplacian[[p, q], [q, p]] -= weight
            laplacian[[p, q], [p, q]] += weight
    known = np.full((9, 11), np.nan)
    known[0] = known[-1] = known[:, 0] = known[:, -1] = known[2, 8] = 0
    known[4, 5] = 1
    given_, open_ = ~np.isnan(known.ravel()), np.isnan(known.ravel())
    reach = known.ravel().copy()
    right = -laplacian[np.ix_(open_, given_)] @ known.ravel()[given_]
    reach[open_] = np.linalg.solve(laplacian[np.ix_(open_, open_)], right)
    sure = np.abs(reach - 0.5) > 0.01
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(mask.ravel()[sure], reach[sure] > 0.5)


# -- geodesic matting ------------------------------------------------------------------------------


def distance_by_steps(probability, flat, start):
    """Dijkstra's algorithm in plain Python, a step costing what the probability changes."""
    distance = np.where(start, 0.0, np.inf)
    queue = [(0.0, *place) for place in np.argwhere(start).tolist()]
    while queue:
        length, row, column = heapq.heappop(queue)
        for down, right in EIGHT:
            there = row + down, column + right
            if not (0 <= there[0] < start.shape[0] and 0 <= there[1] < start.shape[1]):
                continue
            change = abs(probability[there] - probability[row, column])
            new = length + change + flat * np.hypot(down, right)
            if new < distance[there]:
                distance[there] = new
                heapq.heappush(queue, (new, *there))
    return distance


@pytest.mark.parametrize("seed", range(3))
def test_geodesic_matting_compares_how_much_the_probability_changes_on_the_way(seed):
    method = small("gm", radius=1)
    image = texture(seed, (13, 17))
    clicks = Clicks([Click(6, 8), Click(4, 3), Click(10, 14, positive=False)])
    method.set_image(image)
    mask = method.predict(clicks).full_mask()
    seeds = with_rim(brush(clicks, (13, 17), 1))
    probability = method._prepared.foreground(seeds)
    near, far = (distance_by_steps(probability, method.flat, seeds * side > 0) for side in (1, -1))
    sure = np.abs(near - far) > 1e-9
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(mask[sure], (near < far)[sure])


# -- GrowCut ---------------------------------------------------------------------------------------


def automaton(image, seeds):
    """The cellular automaton of the publication, run until nothing changes."""
    unit = image.astype(float) / 255
    pairs = [
        np.linalg.norm(unit[row, column] - unit[row + down, column + right])
        for row, column in np.ndindex(seeds.shape)
        for down, right in FORWARD
        if row + down < seeds.shape[0] and 0 <= column + right < seeds.shape[1]
    ]
    labels, strength = seeds.copy(), np.abs(seeds).astype(float)
    for _ in range(1000):
        new_labels, new_strength = labels.copy(), strength.copy()
        for row, column in np.ndindex(seeds.shape):
            for down, right in EIGHT:
                other = row + down, column + right
                if not (0 <= other[0] < seeds.shape[0] and 0 <= other[1] < seeds.shape[1]):
                    continue
                step = np.linalg.norm(unit[row, column] - unit[other]) / max(pairs)
                attack = (1 - step) * strength[other]
                if attack > new_strength[row, column]:
                    new_labels[row, column] = labels[other]
                    new_strength[row, column] = attack
        if (new_strength == strength).all():
            return labels
        labels, strength = new_labels, new_strength
    raise AssertionError("the automaton does not come to rest")


@pytest.mark.parametrize("seed", range(3))
def test_growcut_is_the_automaton_at_rest(seed):
    image = texture(seed, (9, 11))
    clicks = Clicks([Click(4, 5), Click(6, 2), Click(2, 8, positive=False)])
    method = small("growcut", radius=0)
    method.set_image(image)
    seeds = -np.ones((9, 11), np.int8)
    seeds[1:-1, 1:-1] = 0
    for click in clicks:
        seeds[click.pixel] = 1 if click.positive else -1
    np.testing.assert_array_equal(method.predict(clicks).full_mask(), automaton(image, seeds) == 1)


def test_a_model_of_a_rivals_name_is_the_model():
    assert isinstance(load_segmenter("grabcut"), Rival)
    folder = data_directory() / "models"
    folder.mkdir(parents=True)
    shutil.copyfile(resolve_model("default"), folder / "grabcut.safetensors")
    assert isinstance(load_segmenter("grabcut", "cpu"), Predictor)
