"""Polishing: it learns from what the predictor sees, resumes exactly, and names its sources."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import TINY, blank_labels, make_set, read_log

from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate import DataSetError
from napari_fctsfn.models import ModelCard, TrainingSet, load_model, resolve_model, save_model
from napari_fctsfn.network import build_network
from napari_fctsfn.train import CheckpointError, PolishSettings, polish, polish_model
from napari_fctsfn.train.finetune import looks


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, and weights that look for eight steps."""
    monkeypatch.setattr(polish, "_REFRESH", 8)
    monkeypatch.setattr(polish, "_CLICKS", (1, 2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model that has learned nothing."""
    torch.manual_seed(0)
    card = ModelCard(
        name="base",
        version="0",
        architecture=TINY.to_dict(),
        input_size=64,
        weights_licence="CC BY 4.0",
        training_data=(TrainingSet(name="before", licence="CC0", images=1, share=1.0),),
    )
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_model(path, build_network(TINY).eval(), card)
    return path


@pytest.fixture
def settings(tmp_path, base):
    make_set(tmp_path / "data" / "discs", name="bright discs")
    return PolishSettings(
        data=tmp_path / "data",
        output=tmp_path / "run",
        start=str(base),
        steps=12,
        batch=2,
        rate=1e-2,
        mixture={"discs": 2.0},
        device="cpu",
        save_every=3,
    )


def weights(path):
    return load_model(path).network.state_dict()


def test_a_killed_polishing_resumes_bit_for_bit(settings, monkeypatch):
    whole = polish_model(replace(settings, output=settings.output / "whole"), "m").read_bytes()
    step = polish._Polishing._step

    def killed(self, number, looks):
        if number == 10:  # the checkpoint is within a group, after other weights look
            raise KeyboardInterrupt
        return step(self, number, looks)

    monkeypatch.setattr(polish._Polishing, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        polish_model(settings, "m")
    monkeypatch.undo()
    monkeypatch.setattr(polish, "_REFRESH", 8)
    monkeypatch.setattr(polish, "_CLICKS", (1, 2))
    assert polish_model(settings, "m").read_bytes() == whole
    assert [record["step"] for record in read_log(settings)] == list(range(12))


def test_out_of_time_it_stops_with_a_checkpoint_and_goes_on(settings):
    settings = replace(settings, steps=5)
    whole = polish_model(replace(settings, output=settings.output / "whole"), "m").read_bytes()
    assert polish_model(replace(settings, minutes=1e-9), "m") is None
    assert not (settings.output / "m.safetensors").exists()
    assert polish_model(settings, "m").read_bytes() == whole


def test_it_learns_to_find_what_it_is_shown(settings):
    polish_model(replace(settings, steps=40, save_every=40), "m")
    losses = [record["loss"] for record in read_log(settings)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize("parts", ["interaction", "adapters"])
def test_only_the_parts_that_are_named_learn(settings, base, parts):
    before = weights(base)
    after = weights(polish_model(replace(settings, steps=2, parts=parts), "m"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    of_image = {name for name in changed if name.startswith("image_stream.")}
    assert {name.partition(".")[0] for name in changed - of_image} == {
        "interaction_stream",
        "fusion",
        "refiner",
    }
    assert bool(of_image) is (parts == "adapters")
    assert all(before[name].ndim == 1 for name in of_image)
    # Batch norms keep what they know of images.
    assert not any("running" in name for name in changed)


def test_the_predictor_looks_with_what_was_learned_some_steps_before(settings, base, monkeypatch):
    """Whatever the threads do: the same weights look at the same group."""
    seen = {}

    class Spy(polish.Watched):
        def __init__(self, model, device):
            super().__init__(model, device)
            mark = model.network.state_dict()["refiner.score.bias"]
            seen[len(seen)] = float(mark.sum())

    monkeypatch.setattr(polish, "Watched", Spy)
    polish_model(replace(settings, steps=28, save_every=28), "m")
    mark = float(weights(base)["refiner.score.bias"].sum())
    # Steps 8 and 16 renew them; groups are of four, and two of them are drawn ahead.
    assert [seen[group] == mark for group in range(7)] == [True] * 4 + [False] * 3
    assert seen[4] == seen[5] != seen[6]


def test_the_card_names_the_recipe_the_parent_and_every_source(settings, base):
    card = load_model(polish_model(replace(settings, steps=1), "mine")).card
    assert (card.name, card.training["recipe"], card.input_size) == ("mine", "polish", 64)
    assert card.training["start"] == "base.safetensors"
    assert card.parent == load_model(base).sha256
    assert [(entry.name, entry.images, entry.share) for entry in card.training_data] == [
        ("bright discs", 3, 1.0),
        ("before", 1, 0.0),
    ]


@pytest.mark.parametrize("holes", [0.0, 1.0])
def test_so_many_interactions_end_with_a_click_inside_the_object(settings, monkeypatch, holes):
    monkeypatch.setattr(polish, "_CLICKS", (1,))  # so that no background click is a correction
    ends = []

    def watched(*given, **more):
        seen = looks.interact(*given, **more)
        ends.append(seen[-1].clicks[-1].positive)
        return seen

    monkeypatch.setattr(polish, "interact", watched)
    polish_model(replace(settings, start="default", steps=1, holes=holes), "m")
    assert set(ends) == {holes == 0}


def test_a_background_click_inside_an_object_means_a_small_place(settings):
    (pictures,) = polish._read(settings).values()
    watched = looks.Watched(load_model(resolve_model("default")), "cpu")
    rng = np.random.default_rng(0)
    *before, look = looks.interact(watched, pictures[0], 1, rng, 1, vary=False, holes=1.0)
    assert all(len(each.clicks) == 1 and each.known.all() for each in before)
    row, column = look.clicks[-1].pixel
    assert not look.clicks[-1].positive
    assert look.previous[row, column]
    # what it means at least is known to be background, and around its largest extent is the object
    assert look.known[row, column]
    assert not look.truth[row, column]
    assert not (look.truth & ~look.known).any()
    places = np.argwhere(look.truth)
    assert (places.min(axis=0) < (row, column)).all()
    assert (places.max(axis=0) > (row, column)).all()
    positive = look.clicks[0].pixel
    assert look.truth[positive]


def test_where_a_border_band_does_not_count_nothing_is_learned(settings, monkeypatch):
    monkeypatch.setitem(polish.BANDS, "discs", 3)
    (pictures,) = polish._read(settings).values()
    for picture in pictures:
        assert picture.ignore.any()
        assert not (picture.ignore & (picture.labels > 0)).any()
    assert settings.describe()["bands"] == {"discs": 3}


def test_a_checkpoint_of_other_settings_is_refused(settings):
    polish_model(replace(settings, minutes=1e-9), "m")
    with pytest.raises(CheckpointError, match="other rate"):
        polish_model(replace(settings, rate=1e-3), "m")
    path = settings.output / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="move it away"):
        polish_model(settings, "m")


def test_objects_that_the_network_cannot_see_are_said(settings, monkeypatch):
    monkeypatch.setattr(polish, "_FRUITLESS", 3)
    monkeypatch.setattr(polish, "interact", lambda *_, **__: [])
    with pytest.raises(InputError, match="none of 3 objects in discs can be seen"):
        polish_model(settings, "m")


def test_data_that_cannot_be_learned_from_are_said(settings):
    with pytest.raises(DataSetError, match="is no data set"):
        polish_model(replace(settings, mixture={"nothing": 1.0}), "m")
    blank_labels(settings.data / "discs")
    with pytest.raises(DataSetError, match="have no object"):
        polish_model(settings, "m")
    about = settings.data / "discs" / "dataset.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"evaluation_only": True}))
    with pytest.raises(DataSetError, match="evaluation only"):
        polish_model(settings, "m")
