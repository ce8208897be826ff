"""Model files and the registry: round trips, refusals, nothing half-written."""

from __future__ import annotations

import json
import struct

import pytest
import torch

from napari_fctsfn._files import replace_file
from napari_fctsfn.models import (
    ModelCard,
    ModelError,
    choose_model,
    chosen_model,
    delete_model,
    deleted_models,
    export_model,
    import_model,
    list_models,
    load_model,
    read_card,
    register_model,
    rename_model,
    resolve_model,
    restore_model,
    save_model,
    weights_licence,
)
from napari_fctsfn.network import NetworkConfig, build_network

TINY = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    fusion_blocks=0,
    bottleneck_channels=(4, 4, 4, 2),
)
CARD = ModelCard(name="tiny", version="0", architecture={}, weights_licence="MIT")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(TINY).eval()


@pytest.fixture
def model_file(network, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_model(path, network, CARD)
    return path


def rewrite_header(path, change):
    """Apply `change` to the header of a model file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_round_trip_keeps_the_network_in_half_precision(network, model_file):
    loaded = load_model(model_file)
    assert loaded.card == read_card(model_file)
    assert loaded.card.architecture["fusion_channels"] == 8
    assert NetworkConfig.from_dict(loaded.card.architecture) == TINY
    assert not loaded.network.training
    for key, value in loaded.network.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[key], rtol=1e-3, atol=1e-4)


def test_the_same_weights_make_the_same_file(network, tmp_path):
    first = save_model(tmp_path / "a.safetensors", network, CARD)
    second = save_model(tmp_path / "b.safetensors", network, CARD)
    assert first == second == load_model(tmp_path / "a.safetensors").sha256


def test_weights_that_half_precision_cannot_hold_are_not_saved(tmp_path):
    network = build_network(TINY)
    with torch.no_grad():
        next(network.parameters()).fill_(1e9)
    with pytest.raises(ModelError, match="half precision"):
        save_model(tmp_path / "x.safetensors", network, CARD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
def test_truncated_files_are_refused(model_file, keep):
    content = model_file.read_bytes()
    model_file.write_bytes(content[:keep])
    with pytest.raises(ModelError, match=r"tiny\.safetensors"):
        load_model(model_file)


def test_a_header_that_claims_to_be_huge_is_refused_before_reading(model_file):
    content = model_file.read_bytes()
    model_file.write_bytes(struct.pack("<Q", 1 << 62) + content[8:])
    with pytest.raises(ModelError, match="no valid header"):
        load_model(model_file)


def test_a_card_that_claims_another_network_is_refused(model_file):
    def widen(header):
        card = json.loads(header["__metadata__"]["card"])
        card["architecture"]["fusion_channels"] = 4096
        header["__metadata__"]["card"] = json.dumps(card)

    rewrite_header(model_file, widen)
    with pytest.raises(ModelError, match="does not hold the network its card describes"):
        load_model(model_file)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F16", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 2]},
        {"dtype": "F16", "shape": [-1], "data_offsets": [0, 2]},
        {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 2]},
        {"shape": [1]},
        "nonsense",
    ],
)
def test_tensors_without_a_valid_description_are_refused(model_file, entry):
    rewrite_header(model_file, lambda header: header.update({"fusion.score.bias": entry}))
    with pytest.raises(ModelError, match=r"fusion\.score\.bias"):
        load_model(model_file)


def test_a_card_with_an_unknown_field_is_refused(model_file):
    def spoil(header):
        card = json.loads(header["__metadata__"]["card"])
        header["__metadata__"]["card"] = json.dumps({**card, "surprise": 1})

    rewrite_header(model_file, spoil)
    with pytest.raises(ModelError, match="surprise"):
        read_card(model_file)


@pytest.mark.parametrize("place", [-1, -100_000])
def test_weights_of_which_a_bit_has_changed_are_refused(model_file, place):
    content = bytearray(model_file.read_bytes())
    content[place] ^= 1
    model_file.write_bytes(content)
    with pytest.raises(ModelError, match="its weights have changed"):
        load_model(model_file)


def test_weights_that_change_places_are_refused(model_file):
    def swap(header):
        sizes = {}
        for key, entry in header.items():
            twin = sizes.setdefault(str(entry.get("shape")), key)
            if twin != key and "data_offsets" in entry:
                other = header[twin]
                entry["data_offsets"], other["data_offsets"] = (
                    other["data_offsets"],
                    entry["data_offsets"],
                )
                return

    rewrite_header(model_file, swap)
    with pytest.raises(ModelError, match="its weights have changed"):
        load_model(model_file)


def test_a_model_without_a_digest_is_read(network, model_file):
    rewrite_header(model_file, lambda header: header["__metadata__"].pop("weights_sha256"))
    loaded = load_model(model_file).network.state_dict()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(loaded[key], value, rtol=1e-3, atol=1e-4)


def test_weights_that_are_not_finite_are_refused(network, tmp_path):
    path = tmp_path / "nan.safetensors"
    save_model(path, network, CARD)
    content = bytearray(path.read_bytes())
    content[-8:] = struct.pack("<4e", *[float("nan")] * 4)
    (length,) = struct.unpack("<Q", content[:8])
    last = max(
        json.loads(content[8 : 8 + length]).items(),
        key=lambda item: item[1].get("data_offsets", [0, 0])[1],
    )
    assert last[1]["dtype"] == "F16"
    path.write_bytes(content)
    rewrite_header(path, lambda header: header["__metadata__"].pop("weights_sha256"))
    with pytest.raises(ModelError, match="not finite"):
        load_model(path)


def test_pickles_are_never_loaded(tmp_path):
    path = tmp_path / "evil.safetensors"
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="not a model file"):
        load_model(path)


def test_registry_round_trip_and_choice(network):
    assert chosen_model() == "default"
    entry = register_model("mine", network, CARD)
    assert resolve_model("mine") == entry.path == resolve_model(str(entry.path))
    assert read_card(entry.path).name == "mine"
    choose_model("mine")
    assert chosen_model() == "mine"
    entry.path.unlink()
    assert chosen_model() == "default"


@pytest.mark.parametrize(
    "name", ["default", "../up", "", ".hidden", "a b", "x" * 65, "a.safetensors"]
)
def test_names_that_are_reserved_or_not_valid_are_refused(network, name):
    with pytest.raises(ModelError, match="name"):
        register_model(name, network, CARD)


def test_a_taken_name_is_replaced_only_on_request(network):
    register_model("mine", network, CARD)
    with pytest.raises(ModelError, match="exists already"):
        register_model("mine", network, CARD)
    register_model("mine", network, CARD, replace=True)
    assert [entry.name for entry in list_models() if not entry.bundled] == ["mine"]


@pytest.mark.parametrize(("own", "name"), [("mine", "Mine"), ("Mine", "mine"), ("a", "DEFAULT")])
def test_names_that_differ_in_capitals_alone_are_the_same(network, own, name):
    register_model(own, network, CARD)
    with pytest.raises(ModelError, match=f"; choose another name than '{name}'"):
        register_model(name, network, CARD)
    assert [entry.name for entry in list_models() if not entry.bundled] == [own]
    register_model(own, network, CARD, replace=True)


def test_a_model_may_get_other_capitals_but_not_another_models(network):
    register_model("mine", network, CARD)
    choose_model("mine")
    rename_model("mine", "Mine")
    assert chosen_model() == "Mine"
    assert [entry.name for entry in list_models() if not entry.bundled] == ["Mine"]
    with pytest.raises(ModelError, match="exists already"):
        rename_model("Mine", "Mine")
    register_model("other", network, CARD)
    with pytest.raises(ModelError, match="exists already"):
        rename_model("other", "MINE")


def test_an_unknown_model_is_named_with_the_known_ones():
    with pytest.raises(ModelError, match=r"unknown model 'none'; known models: .*default"):
        resolve_model("none")
    with pytest.raises(ModelError, match="no model file"):
        resolve_model("nowhere/none.safetensors")


def test_the_bundled_default_says_where_it_comes_from():
    card = read_card(resolve_model("default"))
    assert card.name == "default"
    assert card.training_data
    assert "grabcut" not in {entry.name for entry in card.training_data}
    assert card.weights_licence == weights_licence([e.licence for e in card.training_data])
    assert resolve_model("default").stat().st_size <= 16_000_000


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with replace_file(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_models_are_renamed_deleted_and_restored_byte_for_byte(network):
    before = register_model("mine", network, CARD).path.read_bytes()
    choose_model("mine")
    rename_model("mine", "ours")
    assert chosen_model() == "ours"
    assert [entry.name for entry in list_models() if not entry.bundled] == ["ours"]
    delete_model("ours")
    assert deleted_models() == ["ours"]
    assert chosen_model() == "default"
    assert not [entry for entry in list_models() if not entry.bundled]
    assert restore_model("ours").path.read_bytes() == before
    assert deleted_models() == []
    assert chosen_model() == "ours"


def test_a_model_goes_through_one_file_to_another_registry(network, tmp_path):
    before = register_model("mine", network, CARD).path.read_bytes()
    export_model("mine", tmp_path / "m.safetensors")
    delete_model("mine")
    assert import_model(tmp_path / "m.safetensors", "other").path.read_bytes() == before
    assert import_model(tmp_path / "m.safetensors").name == "mine"
    with pytest.raises(ModelError, match="there already"):
        export_model("mine", tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="exists already"):
        import_model(tmp_path / "m.safetensors", "other")
    (tmp_path / "bad.safetensors").write_bytes(before[:-4])
    with pytest.raises(ModelError, match="damaged"):
        import_model(tmp_path / "bad.safetensors", "third")


@pytest.mark.parametrize(
    "act",
    [
        lambda: rename_model("default", "mine"),
        lambda: delete_model("photo"),
        lambda: delete_model("nothing"),
        lambda: restore_model("nothing"),
        lambda: rename_model("nothing", "x"),
    ],
)
def test_bundled_and_missing_models_are_left_alone(act):
    with pytest.raises(ModelError):
        act()


def test_a_new_name_that_is_taken_changes_nothing(network):
    register_model("a", network, CARD)
    register_model("b", network, CARD)
    with pytest.raises(ModelError, match="exists already"):
        rename_model("a", "b")
    with pytest.raises(ModelError, match="no valid model name"):
        rename_model("a", "../x")
    assert [entry.name for entry in list_models() if not entry.bundled] == ["a", "b"]
    delete_model("a")
    register_model("a", network, CARD)
    with pytest.raises(ModelError, match="exists already"):
        restore_model("a")
