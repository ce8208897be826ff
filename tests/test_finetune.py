"""Fine-tuning: it learns what it is shown, keeps what it could, and leaves nothing half done."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from napari_fctsfn.cli import app
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import (
    LoadedModel,
    ModelCard,
    ModelError,
    TrainingSet,
    list_models,
    load_model,
    register_model,
    resolve_model,
)
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.predict import Channels, Normalisation, Predictor, Settings, engine
from napari_fctsfn.session import ImageIdentity, Journal, Mask, Plane, Replay, Session
from napari_fctsfn.train.finetune import (
    FineTuneError,
    FineTuneSettings,
    Measured,
    Picture,
    Rates,
    clock,
    fine_tune,
    picture_of,
    pictures_of_dataset,
    pictures_of_files,
    pictures_of_session,
    register,
    tune,
    usable,
)
from napari_fctsfn.train.finetune import learner as learning
from napari_fctsfn.train.finetune.job import write_job
from napari_fctsfn.train.finetune.learner import Learner
from napari_fctsfn.train.finetune.looks import Watched, interact, maps_of, wander
from napari_fctsfn.train.finetune.replay import measuring_objects, replay_pictures
from napari_fctsfn.train.finetune.split import near_duplicates, split

measuring = importlib.import_module("napari_fctsfn.train.finetune.measure")

GREY = {"photometric": "minisblack"}

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
    quality=True,
)


def disc_picture(seed, objects=2, size=96):
    """Bright discs on noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int64)
    for value in range(1, objects + 1):
        row, column = rng.integers(15, size - 15, 2)
        labels[(rows - row) ** 2 + (columns - column) ** 2 < 120] = value
    image = (rng.integers(0, 60, (size, size)) + 160 * (labels > 0)).astype(np.uint8)
    return picture_of(f"disc{seed}", image, labels, source="discs")


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    network = build_network(TINY).eval().requires_grad_(False)
    card = ModelCard(
        name="tiny",
        version="0",
        architecture=TINY.to_dict(),
        input_size=64,
        weights_licence="CC BY 4.0",
    )
    return LoadedModel(network, card, "0" * 64)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """One thread, and fewer objects to measure forgetting by."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pictures, items = measuring_objects()
    kept = [item for item in items if item.picture == 2][:1]
    monkeypatch.setattr(tune, "measuring_objects", lambda: (pictures, kept))
    monkeypatch.setattr(tune, "_REPLAYED", 3)
    monkeypatch.setattr(tune, "_INTERACTIONS", (4, 6))
    monkeypatch.setattr(tune, "_HELD_INTERACTIONS", 2)
    monkeypatch.setattr(tune, "_MEASURED", 2)
    monkeypatch.setattr(measuring, "MOST_CLICKS", 3)
    yield
    torch.set_num_threads(threads)


def quick(**changes):
    values = {"steps": 3, "device": "cpu", "minutes": 60, "rates": Rates(rate=3e-3), **changes}
    return FineTuneSettings(**values)


def test_it_learns_what_it_is_shown(base):
    looks = interact(
        Watched(base, "cpu"), disc_picture(0), 1, np.random.default_rng(0), 3, vary=False
    )
    learner = Learner(base.network, torch.device("cpu"), "interaction", Rates(rate=1e-2, warm=1))
    losses = [learner.step(looks, [], np.random.default_rng(0)) for _ in range(12)]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_it_learns_the_same_way_twice_and_leaves_the_base_alone(base):
    # one object: nothing is held out, so the last weights are taken, whatever they are worth
    pictures = [disc_picture(0, objects=1)]
    before = {key: value.clone() for key, value in base.network.state_dict().items()}
    told = []
    fast = quick(rates=Rates(rate=1e-2, average=0.5, warm=1))
    once = fine_tune(base, pictures, fast, told.append)
    again = fine_tune(base, pictures, fast)
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert told[-1].done == 1
    changed = []
    for (key, value), other in zip(
        once.network.state_dict().items(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other)
        if not torch.equal(value, before[key]):
            changed.append(key)
    assert changed
    assert not any(key.startswith("image_stream.") for key in changed)
    assert not any("running" in key for key in changed)
    assert all(torch.equal(before[k], v) for k, v in base.network.state_dict().items())


def test_what_is_learned_from_is_what_the_predictor_shows_the_network(base, monkeypatch):
    """The learner's answer to a look is the predictor's answer to the click."""
    monkeypatch.setattr(engine, "reduced_precision", lambda device: None)
    monkeypatch.setattr(learning, "reduced_precision", lambda device: None)
    picture = disc_picture(1)
    watched = Watched(base, "cpu")
    looks = interact(watched, picture, 1, np.random.default_rng(0), 1, vary=False)
    assert looks
    learner = Learner(base.network, torch.device("cpu"), "interaction", Rates())
    asked = []
    inner = watched._engine.look

    def ask(features, maps, consistent=False, adjustment=None):
        answer = inner(features, maps, consistent, adjustment)
        asked.extend(probability for probability, _ in answer)
        return answer

    watched._engine.look = ask
    again = interact(watched, picture, 1, np.random.default_rng(0), 1, vary=False)
    assert len(asked) == len(again) == len(looks)
    for look, probability in zip(again, asked, strict=True):
        with torch.no_grad():
            features = learner._features(learner.network, look, grad=False)
            maps = maps_of(look, look.clicks, look.previous, 3)
            logit = learner.network.click(features, maps).logit[0, 0]
        rows, columns = look.size
        assert torch.allclose(logit[:rows, :columns].sigmoid(), probability, atol=2e-3)


@pytest.mark.parametrize(
    ("parts", "moved"),
    [
        ("refiner", {"refiner", "quality"}),
        ("fusion", {"refiner", "quality", "fusion"}),
        ("all", {"refiner", "quality", "fusion", "interaction_stream", "image_stream"}),
    ],
)
def test_only_the_parts_asked_for_learn(base, parts, moved):
    looks = interact(
        Watched(base, "cpu"), disc_picture(0), 1, np.random.default_rng(0), 2, vary=False
    )
    learner = Learner(base.network, torch.device("cpu"), parts, Rates(rate=1e-2))
    learner.step(looks[-2:], [], np.random.default_rng(0))
    found = {
        key.split(".")[0]
        for (key, value), old in zip(
            learner.network.state_dict().items(), base.network.state_dict().values(), strict=True
        )
        if not torch.equal(value, old)
    }
    assert found == moved


def test_adapters_move_scales_and_biases_of_the_image_stream_only(base):
    looks = interact(
        Watched(base, "cpu"), disc_picture(0), 1, np.random.default_rng(0), 1, vary=False
    )
    learner = Learner(base.network, torch.device("cpu"), "adapters", Rates(rate=1e-2))
    learner.step(looks[:1], [], np.random.default_rng(0))
    old = base.network.state_dict()
    for key, value in learner.network.image_stream.state_dict().items():
        if not torch.equal(value, old[f"image_stream.{key}"]):
            assert value.ndim == 1
            assert "running" not in key


def test_the_replay_holds_an_untaught_model_in_place(base):
    """Where the base is the teacher and nothing was learned, there is nothing to learn."""
    looks = wander(Watched(base, "cpu"), replay_pictures()[0], np.random.default_rng(2))
    learner = Learner(base.network, torch.device("cpu"), "interaction", Rates())
    if looks:
        loss = learner._teach(looks[0], np.random.default_rng(0))
        assert float(loss.detach()) == pytest.approx(0, abs=1e-5)


def test_replay_and_measuring_are_disjoint_and_small():
    pictures, items = measuring_objects()
    replayed = {picture.name for picture in replay_pictures()}
    assert replayed
    assert items
    assert not replayed & {picture.name for picture in pictures}
    everything = [*replay_pictures(), *pictures]
    assert all(len(group) == 1 for group in near_duplicates(everything))
    from napari_fctsfn.train.finetune import replay

    size = sum(p.stat().st_size for p in replay._folder().rglob("*") if p.is_file())
    assert size < 3 << 20


# The split


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 3), min_size=1, max_size=7),
    copies=st.integers(0, 2),
    seed=st.integers(0, 5),
)
def test_every_object_is_on_one_side_and_copies_are_on_the_same(counts, copies, seed):
    pictures = [disc_picture(i, objects=count) for i, count in enumerate(counts)]
    pictures = usable(pictures)[0]
    pictures += [pictures[0]] * copies
    folds, said = split(pictures, seed)
    every = {(i, value) for i, p in enumerate(pictures) for value in p.objects}
    if len(every) > 1:
        assert folds
    for fold in folds:
        train = {(item.picture, item.value) for item in fold.train}
        held = {(item.picture, item.value) for item in fold.held}
        assert train
        assert held
        assert not train & held
        assert train | held == every
        same = set(range(len(pictures) - copies, len(pictures))) | {0}
        sides = [{p for p, _ in side} & same for side in (train, held)]
        if copies and len(near_duplicates(pictures)) > 1:
            assert not (sides[0] and sides[1])
    assert any("nearly the same" in note for note in said) == bool(copies)


def test_copies_with_pixels_that_are_no_numbers_are_found():
    (picture, other), _ = usable([disc_picture(0, objects=2), disc_picture(1, objects=1)])
    image = picture.image.astype(np.float32)
    image[:2] = np.nan
    copies = [replace(picture, image=image.copy()) for _ in range(3)]
    assert near_duplicates([copies[0], other, *copies[1:]]) == [[0, 2, 3], [1]]


@pytest.mark.parametrize("discs", [1, 2])
def test_few_things_on_black_are_no_near_duplicates(discs):
    """Most bits of their hashes are zero, wherever the things are."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(10):
        rows, columns = np.mgrid[:256, :256]
        image = np.zeros((256, 256), np.float32)
        for row, column in rng.uniform(20, 236, (discs, 2)):
            image[(rows - row) ** 2 + (columns - column) ** 2 < 100] = 1
        labels = (image > 0).astype(np.uint8)
        pictures.append(Picture(f"p{number}", image, labels, (1,), source="s", stack=""))
    assert len(near_duplicates(pictures)) == 10
    brighter = replace(pictures[0], image=pictures[0].image / 2)
    assert near_duplicates([*pictures, brighter])[0] == [0, 10]


def test_slices_of_a_stack_are_held_out_at_its_end():
    pictures = [
        Picture(f"z{i}", p.image, p.labels, p.objects, source="s", stack="s")
        for i, p in enumerate(disc_picture(i) for i in range(10))
    ]
    (fold,), _ = split(pictures, 3)
    assert {item.picture for item in fold.held} == {8, 9}


@pytest.mark.parametrize(
    "kinds",
    [
        [("one", "a", "a"), ("two", "b", "b"), ("flat", "c", "")],
        [("one", "set", "z1"), ("two", "set", "z2"), ("flat", "set", "")],
    ],
    ids=["of sources of their own", "of one data set"],
)
def test_a_stack_among_others_is_on_one_side(kinds):
    pictures = [
        Picture(f"{name}{i}", p.image, p.labels, p.objects, source=source, stack=stack)
        for n, (name, source, stack) in enumerate(kinds)
        for i, p in enumerate(disc_picture(3 * n + i) for i in range(3))
    ]
    for seed in range(5):
        folds, _ = split(pictures, seed)
        for fold in folds:
            train, held = (
                {pictures[item.picture].stack for item in side} - {""}
                for side in (fold.train, fold.held)
            )
            assert len(train | held) == 2
            assert not train & held
    folds, said = split(pictures[:6], 0)
    assert len(folds) == 2
    assert any("pictures or stacks are few" in note for note in said)


def test_one_object_is_learned_but_registered_only_by_force(base):
    tuned = fine_tune(base, [disc_picture(0, objects=1)], quick())
    assert tuned.before is None
    assert not tuned.improved
    assert any("one object" in note for note in tuned.notes)
    assert any("little to learn from" in note for note in tuned.notes)
    with pytest.raises(FineTuneError, match="no improvement"):
        register(tuned, "mine")
    assert register(tuned, "mine", force=True).name == "mine"


def test_time_that_is_left_is_told_when_it_is_over(monkeypatch):
    told, now = [], [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    running = clock.Clock(1, told.append, lambda: True)
    for seconds, done in ((0, 0.0), (30, 0.25), (90, 0.75)):
        now[0] = seconds
        running.tell("learning", done)
    assert [progress.seconds_left for progress in told] == [60, 30, 30]


# Registration


def better(tuned, **changes):
    from dataclasses import replace

    return replace(
        tuned, before=Measured(5.0, 0.5, 0.6, 2), after=Measured(3.0, 0.6, 0.7, 2), **changes
    )


@pytest.fixture(scope="module")
def tuned(base):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        pictures, items = measuring_objects()
        patch.setattr(tune, "measuring_objects", lambda: (pictures, items[1:2]))
        patch.setattr(tune, "_REPLAYED", 2)
        patch.setattr(tune, "_INTERACTIONS", (2, 2))
        patch.setattr(tune, "_HELD_INTERACTIONS", 1)
        patch.setattr(tune, "_MEASURED", 1)
        patch.setattr(measuring, "MOST_CLICKS", 3)
        return fine_tune(base, [disc_picture(seed) for seed in range(5)], quick(steps=1))


def test_the_card_tells_parent_data_and_measures(tuned):
    entry = register(better(tuned), "mine")
    card = load_model(entry.path).card
    assert card.parent == "0" * 64
    assert [(entry.name, entry.images) for entry in card.training_data] == [("discs", 5)]
    assert card.metrics["before_noc85"] == 5.0
    assert card.metrics["after_noc85"] == 3.0
    assert "generic_after_noc85" in card.metrics
    assert card.training["recipe"] == "finetune"
    assert card.training["forced"] is False
    # the user's own pictures are the user's: the licence of the base goes on
    assert card.weights_licence == "CC BY 4.0"


def test_a_model_that_is_not_better_is_registered_by_force_only(tuned):
    worse = better(tuned)
    object.__setattr__(worse, "after", Measured(6.0, 0.5, 0.6, 2))
    with pytest.raises(FineTuneError, match="no improvement"):
        register(worse, "mine")
    assert "mine" not in [entry.name for entry in list_models()]
    card = load_model(register(worse, "mine", force=True).path).card
    assert card.training["forced"] is True
    assert card.description.endswith(", registered by force.")


def test_the_card_of_many_sources_is_short(tuned):
    sets = tuple(
        TrainingSet(name=f"{n} {'x' * 190}", licence="mine", images=n, share=0.1)
        for n in range(1, 30)
    )
    description = better(tuned, learned=sets).card("mine").description
    assert "29 x" in description
    assert f"others ({sum(range(1, 27))} pictures)" in description


def test_a_full_disk_leaves_the_model_of_that_name(tuned, monkeypatch):
    path = register(better(tuned), "mine").path
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_fctsfn.models.store.save", full)
    with pytest.raises(FineTuneError, match="No space left"):
        register(better(tuned), "mine", force=True)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["mine.safetensors"]


def test_a_name_that_is_taken_is_refused_without_force(tuned):
    register(better(tuned), "mine")
    with pytest.raises(ModelError, match="exists already"):
        register(better(tuned), "mine")
    with pytest.raises(ModelError, match="comes with the package"):
        register(better(tuned), "default", force=True)


# What may go wrong


def test_masks_that_cannot_teach_are_left_out_or_refused(base):
    image = np.zeros((50, 50), np.uint8)
    empty = picture_of("empty", image, np.zeros((50, 50), int))
    full = picture_of("full", image, np.ones((50, 50), int))
    kept, said = usable([empty, full, disc_picture(0)])
    assert [picture.name for picture in kept] == ["disc0"]
    assert "without an object: 1, the first is empty" in " ".join(said)
    assert "cover everything are left out: 1, the first in full" in " ".join(said)
    for pictures in ([empty], [full], []):
        with pytest.raises(InputError, match="nothing to learn from"):
            fine_tune(base, pictures)
    with pytest.raises(InputError, match=r"odd: the image has \(50, 50\)"):
        picture_of("odd", image, np.zeros((50, 40), int))


def test_a_loss_that_diverges_ends_it(base):
    with pytest.raises(FineTuneError, match="diverged"):
        fine_tune(
            base,
            [disc_picture(seed) for seed in range(5)],
            quick(steps=40, rates=Rates(rate=1e30, warm=1)),
        )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("could not create a primitive"),
    ],
)
@pytest.mark.parametrize("where", ["step", "score"])
def test_memory_that_runs_out_is_said_once_and_the_training_goes_on(
    base, monkeypatch, where, error
):
    compute, failures = getattr(Learner, where), iter([True, False, False])

    def tight(self, *args):
        if next(failures, False):
            raise error
        return compute(self, *args)

    monkeypatch.setattr(Learner, where, tight)
    tuned = fine_tune(base, [disc_picture(seed) for seed in range(5)], quick(steps=1))
    assert sum("out of memory" in note for note in tuned.notes) == 1


def test_memory_that_is_never_enough_ends_it_with_a_sentence(base, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(Learner, "step", full)
    with pytest.raises(FineTuneError, match="memory is not enough"):
        fine_tune(base, [disc_picture(seed) for seed in range(5)], quick())


@pytest.mark.parametrize(
    ("asked", "learned"), [(None, ["interaction", "adapters", "all"]), ("fusion", ["fusion"])]
)
def test_where_the_gain_stalls_a_gpu_lets_more_learn_unless_parts_are_asked_for(
    base, monkeypatch, asked, learned
):
    monkeypatch.setattr(tune, "_is_fast", lambda _: True)
    monkeypatch.setattr(tune, "_SCORE_EVERY", 1)
    monkeypatch.setattr(tune, "_STALLED", 1)
    monkeypatch.setattr(tune, "_PATIENCE", 1)
    monkeypatch.setattr(Learner, "score", lambda *_: 0.5)
    seen = []
    step = Learner.step

    def watched(self, *args):
        seen.append(self.parts)
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", watched)
    pictures = [disc_picture(seed) for seed in range(5)]
    tuned = fine_tune(base, pictures, quick(parts=asked, steps=2))
    assert seen == learned
    assert tuned.about["parts"] == learned[-1]
    assert any("stopped early" in note for note in tuned.notes)
    assert any("all learned too" in note for note in tuned.notes) == (asked is None)


def test_a_model_that_lets_more_learn_keeps_what_it_has_learned(base):
    looks = interact(
        Watched(base, "cpu"), disc_picture(0), 1, np.random.default_rng(0), 1, vary=False
    )
    learner = Learner(base.network, torch.device("cpu"), "fusion", Rates(rate=1e-2))
    learner.step(looks[:1], [], np.random.default_rng(0))
    before = {key: value.clone() for key, value in learner.network.state_dict().items()}
    learner.widen("all")
    assert all(torch.equal(before[k], v) for k, v in learner.network.state_dict().items())
    learner.step(looks[:1], [], np.random.default_rng(0))
    moved = {
        key.split(".")[0]
        for key, value in learner.network.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert moved == {"refiner", "quality", "fusion", "interaction_stream", "image_stream"}
    assert not any(
        "running" in k and not torch.equal(v, before[k])
        for k, v in learner.network.state_dict().items()
    )


@pytest.mark.parametrize(
    "architecture",
    [
        {"previous_mask": False, "bottleneck_channels": (4, 4, 4, 2)},
        {"interaction": "resized", "interaction_channels": (), "bottleneck_channels": ()},
        {"stream_blocks": 0, "interaction_channels": (), "bottleneck_channels": ()},
    ],
)
def test_models_of_other_architectures_are_taught_too(base, architecture):
    config = NetworkConfig(
        **{"interaction_channels": (4,) * 5, "fusion_channels": 8, "fusion_blocks": 0}
        | architecture
    )
    network = build_network(config).eval().requires_grad_(False)
    other = LoadedModel(network, base.card, base.sha256)
    tuned = fine_tune(other, [disc_picture(0, objects=1)], quick(steps=1))
    assert tuned.card("mine").architecture == config.to_dict()


def test_it_can_be_cancelled_at_any_time(base):
    pictures = [disc_picture(seed) for seed in range(5)]
    with pytest.raises(FineTuneError, match="cancelled"):
        fine_tune(base, pictures, quick(), proceed=lambda: False)
    learned = []
    tuned = fine_tune(
        base,
        pictures,
        quick(steps=50),
        lambda progress: learned.append(progress.step),
        lambda: max(learned, default=0) < 2,
    )
    assert tuned.cancelled
    assert max(learned) == 2
    assert tuned.after is not None
    assert tuned.about["steps"] in (0, 2), "what was learned last was tried"
    assert any("cancelled" in note for note in tuned.notes)


@pytest.mark.parametrize("fold", [1, 2])
def test_cancelled_between_folds_it_gives_what_the_first_one_learned(base, fold):
    """Of two pictures each is held out once; whatever comes later was not asked for."""
    told = []

    def proceed():
        begun = sum(
            now.stage == "looking" and (before is None or before.stage != "looking")
            for before, now in zip([None, *told], told, strict=False)
        )
        return begun <= fold

    tuned = fine_tune(
        base, [disc_picture(0), disc_picture(1)], quick(steps=2), told.append, proceed
    )
    assert tuned.cancelled
    assert tuned.after is not None
    assert tuned.before.objects == tuned.after.objects == tuned.about["held_out"] == 1
    assert [p.done for p in told] == sorted(p.done for p in told)


def test_too_little_time_is_said(base):
    tuned = fine_tune(
        base, [disc_picture(seed) for seed in range(5)], quick(minutes=1e-6, steps=20)
    )
    assert any("time was over after 5 of 20 steps" in note for note in tuned.notes)


# Where pictures come from


def test_files_are_paired_and_stacks_are_cut_into_slices(tmp_path):
    import tifffile

    pictures = [disc_picture(seed) for seed in range(3)]
    for picture in pictures[:2]:
        Image.fromarray(picture.image).save(tmp_path / f"{picture.name}.png")
        Image.fromarray(picture.labels.astype(np.uint8)).save(tmp_path / f"m-{picture.name}.png")
    found = pictures_of_files(str(tmp_path / "disc*.png"), str(tmp_path / "m-*.png"))
    assert [p.objects for p in found] == [p.objects for p in pictures[:2]]
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([p.image for p in pictures]), **GREY)
    masks = np.stack([p.labels.astype(np.uint8) for p in pictures])
    tifffile.imwrite(tmp_path / "mask.tif", masks, **GREY)
    slices = pictures_of_files(str(tmp_path / "stack.tif"), str(tmp_path / "mask.tif"))
    assert len(slices) == 3
    assert all(p.stack for p in slices)
    assert np.array_equal(slices[1].image, pictures[1].image)
    with pytest.raises(InputError, match="matches no file"):
        pictures_of_files(str(tmp_path / "*.bmp"), str(tmp_path / "m-*.png"))
    with pytest.raises(InputError, match="must be as many"):
        pictures_of_files(str(tmp_path / "disc0.png"), str(tmp_path / "m-*.png"))
    tifffile.imwrite(tmp_path / "mask.tif", np.full((2, 64, 64), 0.7, np.float32), **GREY)
    with pytest.raises(InputError, match="is no label image"):
        pictures_of_files(str(tmp_path / "stack.tif"), str(tmp_path / "mask.tif"))


def test_a_session_gives_its_annotated_slices(tmp_path):
    import tifffile

    pictures = [disc_picture(seed, objects=1) for seed in range(3)]
    image = np.stack([p.image for p in pictures])
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, image, **GREY)
    labels = np.zeros(image.shape, np.uint16)
    session = Session(image.shape, Normalisation(0, 255))
    identity = ImageIdentity.of("stack", image, source=str(path))
    journal = Journal.create(tmp_path / "session", session, identity, labels)
    plane = Plane((1, None, None))
    row, column = np.argwhere(pictures[1].labels == 1)[0]
    session.edit_clicks(plane, Clicks([Click(float(row), float(column))]))
    job = session.job(lambda p: labels[p.key])
    assert isinstance(job, Replay)
    patch = session.resolve(job, pictures[1].labels == 1, labels[plane.key], "m")
    patch.apply(labels[plane.key])
    written = (tmp_path / "session" / "journal.jsonl").read_bytes()
    (found,) = pictures_of_session(tmp_path / "session")
    assert (tmp_path / "session" / "journal.jsonl").read_bytes() == written, "it is open, and read"
    journal.close()
    assert np.array_equal(found.image, image[1])
    assert np.array_equal(found.truth(1), pictures[1].labels == 1)
    assert found.normalisation == Normalisation(0, 255)
    assert found.stack
    assert Mask.of(found.truth(1), found.labels.shape) == job_mask(session, plane)
    tifffile.imwrite(path, image + np.uint8(1), **GREY)
    with pytest.raises(InputError, match="is not the image"):
        pictures_of_session(tmp_path / "session")


def test_a_session_of_channels_gives_what_the_network_saw(tmp_path):
    import tifffile

    picture = disc_picture(0, objects=1)
    image = np.stack([picture.image, picture.image[::-1], picture.image // 2])
    path = tmp_path / "channels.tif"
    tifffile.imwrite(path, image, **GREY)
    channels = Channels(0, (1,), (Normalisation(0, 100),))
    labels = np.zeros((1, *picture.labels.shape), np.uint16)
    session = Session(labels.shape, Normalisation(0, 255), channels=channels)
    identity = ImageIdentity.of("channels", image, source=str(path))
    journal = Journal.create(tmp_path / "session", session, identity, labels)
    plane = Plane((0, None, None))
    session.edit_clicks(plane, Clicks([Click(5.0, 5.0)]))
    job = session.job(lambda p: labels[p.key])
    session.resolve(job, picture.labels == 1, labels[plane.key], "m").apply(labels[plane.key])
    journal.close()
    (found,) = pictures_of_session(tmp_path / "session")
    assert np.allclose(found.image, np.clip(image[1] / 100, 0, 1))
    assert found.normalisation == Normalisation(0, 1)


def job_mask(session, plane):
    return session.objects[1][plane].mask


# The command


def make_set(folder, count=5, **more):
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for seed in range(count):
        picture = disc_picture(seed)
        Image.fromarray(picture.image).save(folder / "images" / f"p{seed}.png")
        Image.fromarray(picture.labels.astype(np.uint8)).save(folder / "labels" / f"p{seed}.png")
    about = {"name": "discs", "kind": "instances", "licence": "CC0", **more}
    (folder / "dataset.json").write_text(json.dumps(about))
    (folder / "list.txt").write_text("\n".join(f"p{seed}" for seed in range(count)))


def test_slices_of_a_data_set_come_in_their_order(tmp_path):
    make_set(tmp_path / "discs", 5, stacks={"upper": "p[34]", "lower": "p[12]"})
    (tmp_path / "discs" / "list.txt").write_text("p4\np2\np0\np1\np3")
    pictures = pictures_of_dataset(tmp_path / "discs", tmp_path / "discs" / "list.txt")
    assert [(p.name, p.stack) for p in pictures] == [
        ("p0", ""),
        ("p1", "lower"),
        ("p2", "lower"),
        ("p3", "upper"),
        ("p4", "upper"),
    ]


def test_the_command_registers_by_force_and_exits_with_3_without(tmp_path, base, monkeypatch):
    make_set(tmp_path / "discs")
    register_model("tiny", base.network, base.card)
    monkeypatch.setattr(tune, "_STEPS", (1, 1))
    monkeypatch.setattr(Measured, "better_than", lambda *_: False)
    command = [
        *("finetune", "--dataset", str(tmp_path / "discs"), "--list", "list.txt"),
        *("--base", "tiny", "--name", "mine", "--device", "cpu"),
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 3, result.output
    assert [e.name for e in list_models() if not e.bundled] == ["tiny"]
    result = CliRunner().invoke(app, [*command, "--force"])
    assert result.exit_code == 0, result.output
    assert load_model(resolve_model("mine")).card.training["forced"] is True
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "exists already" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name one source"),
        (["--dataset", "d"], "belong together"),
        (["--images", "a*.png"], "belong together"),
        (["--dataset", "d", "--list", "l", "--session", "s"], "name one source"),
        (["--session", "nowhere"], "is no session"),
        (["--dataset", "nowhere", "--list", "l"], "is no data set"),
        (["--minutes", "0"], "minutes must be above 0"),
        (["--base", "nothing"], "unknown model"),
        (["--parts", "head"], "choose refiner"),
    ],
)
def test_bad_options_end_with_one_sentence_and_status_2(arguments, message):
    result = CliRunner().invoke(app, ["finetune", "--name", "mine", *arguments])
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())


def test_better_means_fewer_clicks_then_larger_masks():
    assert Measured(2, 0.5, 0.5, 3).better_than(Measured(3, 0.9, 0.9, 3))
    assert Measured(2, 0.6, 0.5, 3).better_than(Measured(2, 0.5, 0.5, 3))
    assert not Measured(2, 0.504, 0.5, 3).better_than(Measured(2, 0.5, 0.5, 3))
    same = Measured(2, 0.5, 0.5, 3)
    assert not same.better_than(same)


def test_measuring_agrees_with_the_evaluation(base, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "MOST_CLICKS", 5)
    from napari_fctsfn.evaluate import DataSet, evaluate_objects, number_of_clicks
    from napari_fctsfn.train.finetune import measure
    from napari_fctsfn.train.finetune.split import Item

    make_set(tmp_path / "discs", 2)
    dataset = DataSet.open(tmp_path / "discs")
    predictor = Predictor(base, "cpu", Settings())
    listed = tmp_path / "discs" / "list.txt"
    results = list(evaluate_objects(predictor, dataset, dataset.objects(listed), "ritm", 5))
    pictures = pictures_of_dataset(tmp_path / "discs", listed)
    items = [Item(i, v) for i, p in enumerate(pictures) for v in p.objects]
    found = measure(predictor, pictures, items)
    assert found.noc85 == pytest.approx(
        np.mean([number_of_clicks(r.ious, 0.85)[0] for r in results])
    )
    assert found.iou1 == pytest.approx(np.mean([r.ious[0] for r in results]))
    assert found.iou3 == pytest.approx(np.mean([r.ious[2] for r in results]))


def test_a_process_whose_parent_is_gone_ends_and_leaves_nothing(base, tmp_path):
    """The pictures that were given to it are somebody's data."""
    folder = tmp_path / "job"
    folder.mkdir()
    model = register_model("tiny", base.network, base.card)
    write_job(folder, model.path, [disc_picture(i) for i in range(5)], FineTuneSettings(60))
    with subprocess.Popen(
        [sys.executable, "-m", "napari_fctsfn.train.finetune", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert json.loads(process.stdout.readline())["stage"] == "before"
        process.stdin.close()
        assert process.wait(60) == 1
    assert not folder.exists()
