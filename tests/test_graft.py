"""Another image stream for a trained network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_fctsfn.network import NetworkConfig, build_network, paper_config
from napari_fctsfn.train.graft import graft
from napari_fctsfn.train.start import WeightsError

SMALL = NetworkConfig(
    interaction_channels=(4, 4, 4, 4, 4),
    fusion_channels=8,
    bottleneck_channels=(4, 4, 4),
    image_model="test_efficientnet",
    quality=True,
)


def seeded(config, seed):
    torch.manual_seed(seed)
    network = build_network(config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return network


def pictures(count):
    """Smooth noise, with edges."""
    generator = torch.Generator().manual_seed(7)
    for _ in range(count):
        cells = torch.rand(4, 3, 16, 16, generator=generator)
        yield torch.nn.functional.interpolate(cells, size=(128, 128), mode="bilinear").round(
            decimals=1
        )


def test_with_the_same_image_stream_the_parent_comes_back():
    parent, network = seeded(SMALL, 0), seeded(SMALL, 1)
    network.image_stream.load_state_dict(parent.image_stream.state_dict())
    picture = next(pictures(1))
    maps = 255 * torch.rand(4, parent.map_channels, 128, 128)
    with torch.no_grad():
        expected = parent(picture, maps)
        assert (network(picture, maps).logit - expected.logit).abs().max() > 0.1
        graft(network, parent, pictures(8))
        found = network(picture, maps)
    spread = expected.logit.std()
    torch.testing.assert_close(found.logit, expected.logit, atol=0.05 * float(spread), rtol=0.02)
    torch.testing.assert_close(found.quality, expected.quality, atol=0.05, rtol=0)


def test_another_image_stream_gives_what_least_squares_can_read_from_it():
    parent = seeded(SMALL, 0)
    network = seeded(replace(SMALL, image_model="test_resnet"), 1)
    stream = {name: value.clone() for name, value in network.image_stream.state_dict().items()}
    network.train()
    graft(network, parent, pictures(8))
    assert network.training
    network.eval()
    for name, value in network.image_stream.state_dict().items():
        assert torch.equal(value, stream[name]), name
    copied = [
        name
        for name in parent.state_dict()
        if not name.startswith("image_stream.") and ".image." not in name
    ]
    assert len(copied) > 50
    for name in copied:
        assert torch.equal(network.state_dict()[name], parent.state_dict()[name]), name
    # The fusion at stride 16 against numpy's solution of all cells at once.
    features, wanted = [], []
    with torch.no_grad():
        for picture in pictures(8):
            features.append(network.image_stream(picture)[4].permute(0, 2, 3, 1).flatten(0, 2))
            level = parent.image_stream(picture)[4]
            wanted.append(parent.fusion.fuse16.image(level).permute(0, 2, 3, 1).flatten(0, 2))
    x, y = (torch.cat(rows).double().numpy() for rows in (features, wanted))
    x = np.concatenate([x, np.ones_like(x[:, :1])], axis=1)
    best = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    layer = network.fusion.fuse16.image
    weight = layer.weight.detach().double().numpy()[:, :, 0, 0]
    found = x[:, :-1] @ weight.T + layer.bias.detach().double().numpy()
    least, reached = ((best - y) ** 2).sum(), ((found - y) ** 2).sum()
    assert 0 < least <= reached < 1.02 * least
    assert reached < 0.9 * ((y - y.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize(
    ("network", "parent", "message"),
    [
        (replace(SMALL, image_model="test_resnet", quality=False), SMALL, "otherwise the same"),
        (
            replace(paper_config("tslfn-2", "lite", 8), image_model="tf_efficientnet_lite1"),
            paper_config("tslfn-2", "lite", 8),
            "runs with every click",
        ),
    ],
)
def test_networks_that_differ_in_more_are_refused(network, parent, message):
    with pytest.raises(WeightsError, match=message):
        graft(build_network(network), build_network(parent), [])
