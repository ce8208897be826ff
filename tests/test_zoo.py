"""A model as a package of the BioImage Model Zoo: valid, and what the network computes."""

from __future__ import annotations

import sys
import zipfile

import numpy as np
import pytest
import torch

from napari_fctsfn.models import ModelCard, ModelError, export_model, register_model
from napari_fctsfn.network import NetworkConfig, build_network, interaction_maps

pytestmark = [
    # torch's exporter and the libraries it uses, on their own behalf
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CARD = ModelCard(
    name="tiny (2)", version="0", architecture={}, weights_licence="research only", input_size=64
)


def network(previous: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    config = NetworkConfig(
        interaction_channels=(4, 4, 4, 4, 4),
        fusion_channels=8,
        fusion_blocks=0,
        bottleneck_channels=(4, 4, 4, 2),
        previous_mask=previous,
    )
    return build_network(config).eval()


@pytest.mark.parametrize("previous", [False, True])
def test_a_package_is_valid_and_computes_what_the_network_does(tmp_path, previous):
    spec = pytest.importorskip("bioimageio.spec")
    runtime = pytest.importorskip("onnxruntime")
    register_model("tiny", network(previous), CARD)
    path = tmp_path / "tiny.zip"
    export_model("tiny", path)
    description = spec.load_description(path)
    assert not isinstance(description, spec.InvalidDescr), description.validation_summary
    assert [str(each.id) for each in description.inputs] == ["image", "clicks", "previous"][
        : 2 + previous
    ]
    with zipfile.ZipFile(path) as package:
        package.extractall(tmp_path)
    assert "research only" in (tmp_path / "LICENSE.txt").read_text()
    session = runtime.InferenceSession(tmp_path / "weights.onnx")
    example = {each.name: np.load(tmp_path / f"{each.name}.npy") for each in session.get_inputs()}
    assert example["image"].shape == (1, 3, 64, 64)
    (answer,) = session.run(None, example)
    np.testing.assert_allclose(answer, np.load(tmp_path / "probability.npy"), atol=1e-5)
    # other clicks, another number of them, and one that is none
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 64, (5, 2)).astype(np.float32)
    kinds = np.array([1, -1, 0, -1, 1], np.float32)
    example["clicks"] = np.column_stack([pixels, kinds])[None]
    example["image"] = rng.random((1, 3, 64, 64), np.float32)
    (answer,) = session.run(None, example)
    maps = interaction_maps(
        torch.from_numpy(pixels)[None],
        torch.from_numpy(kinds > 0)[None],
        torch.from_numpy(kinds != 0)[None],
        (64, 64),
    )
    if previous:
        maps = torch.cat([maps, torch.from_numpy(example["previous"])], dim=1)
    # half precision in the registry, whence the package was made
    halved = network(previous)
    halved.load_state_dict({k: v.half().float() for k, v in halved.state_dict().items()})
    with torch.no_grad():
        expected = halved(torch.from_numpy(example["image"]), maps).logit.sigmoid()
    np.testing.assert_allclose(answer, expected.numpy(), atol=1e-5)
    with pytest.raises(ModelError, match="there already"):
        export_model("tiny", path)


def test_a_missing_library_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    register_model("tiny", network(False), CARD)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ModelError, match=r"needs onnxscript: pip install 'napari-fctsfn\[zoo\]'"):
        export_model("tiny", tmp_path / "tiny.zip")
    assert not list(tmp_path.glob("*.zip"))
    with pytest.raises(ModelError, match=r"must end in \.safetensors, or in \.zip"):
        export_model("tiny", tmp_path / "tiny.onnx")
