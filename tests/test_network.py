"""The network family: late fusion, what a click costs, that clicks decide."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.network.layers import SplitConv2d
from napari_fctsfn.network.vgg16 import BLOCKS

SMALL = NetworkConfig(
    interaction_channels=(4, 6, 8, 10, 12),
    fusion_channels=16,
    fusion_blocks=1,
    bottleneck_channels=(8, 6, 5, 3),
)
OTHERS = [
    replace(SMALL, interaction_depth=1, encoding="disks"),
    replace(SMALL, interaction_depth=3, encoding="distance"),
    replace(SMALL, bottleneck_channels=(8, 6, 5), encoding="bounded"),
    replace(SMALL, bottleneck_channels=(8, 6), refiner_blocks=1),
]
"""What was searched among beside widths (docs/quality.md)."""

ENCODED = {"both": 7, "distance": 3, "bounded": 5, "disks": 3}
"""Channels of encoded maps with the previous mask."""


def conv(inputs: int, outputs: int, kernel: int, rows: int) -> int:
    """Multiplications of a dense convolution with square output."""
    return inputs * outputs * kernel**2 * rows**2


def lite_click_operations(config: NetworkConfig, n: int) -> int:
    """Multiplications of one click in an n x n image, from the formulas in lite.py."""
    a = config.interaction_channels
    width = config.fusion_channels
    widths, full = config.bottleneck_channels[:3], config.bottleneck_channels[3:]
    encoded = ENCODED[config.encoding]
    total = conv(encoded, a[0], 3, n // 2)
    for stage in range(1, 5):
        rows = n >> (stage + 1)
        total += conv(a[stage - 1], a[stage], 3, rows)
        total += (config.interaction_depth - 1) * conv(a[stage], a[stage], 3, rows)
    block = width * 25 + width**2
    total += conv(a[4], width, 1, n // 32) + 2 * block * (n // 32) ** 2 + width**2
    total += conv(a[3], width, 1, n // 16) + config.fusion_blocks * block * (n // 16) ** 2
    total += conv(width, 1, 1, n // 16)
    coarser = width
    for stride, interaction, here in zip((8, 4, 2), (a[2], a[1], a[0]), widths, strict=False):
        rows = n // stride
        total += conv(coarser, here, 1, rows // 2) + conv(interaction, here, 1, rows)
        total += conv(here, here, 3, rows)
        total += config.refiner_blocks * (here * 25 + here**2) * rows**2
        coarser = here
    if not full:
        return total + conv(coarser, 1, 3, rows)
    (last,) = full
    return (
        total + conv(coarser, 4 * last, 1, n // 2) + conv(encoded, last, 1, n) + conv(last, 1, 3, n)
    )


def vgg16_click_operations(config: NetworkConfig, n: int) -> int:
    """Multiplications of one click of the published network, from the paper's figure 2."""
    total, channels = 0, 2
    for block, (depth, width) in enumerate(BLOCKS[:4]):
        for _ in range(depth):
            total += conv(channels, width, 3, n >> block)
            channels = width
    fc = config.fusion_channels
    total += 3 * conv(512, 512, 3, n // 16)
    total += conv(512, fc, 7, n // 32) + conv(fc, fc, 1, n // 32) + conv(fc, 2, 1, n // 32)
    total += conv(512, 2, 1, n // 16) + conv(256, 2, 1, n // 8)
    (bottleneck,) = config.bottleneck_channels
    for block, (_, width) in enumerate(BLOCKS[:4]):
        total += conv(width, bottleneck, 1, n >> block)
    total += conv(512, bottleneck, 1, n // 16)
    inputs = bottleneck + 1
    for kernel in (7, 5, 3, 3, 3):
        total += conv(inputs, 64, kernel, n)
        inputs = 64
    return total + conv(64, 2, 1, n)


def counted(config: NetworkConfig, n: int) -> tuple[int, int]:
    """Multiplications of the image and of the click, counted without computing."""
    with torch.device("meta"):
        network = build_network(config).eval()
        image, maps = torch.rand(1, 3, n, n), torch.rand(1, network.map_channels, n, n)
    with FlopCounterMode(display=False) as image_counter:
        features = network.encode_image(image)
    with FlopCounterMode(display=False) as click_counter:
        network.click(features, maps)
    return image_counter.get_total_flops() // 2, click_counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("config", "analytic"),
    [
        (NetworkConfig(), lite_click_operations),
        (SMALL, lite_click_operations),
        *((config, lite_click_operations) for config in OTHERS),
        (NetworkConfig.vgg16(), vgg16_click_operations),
        (NetworkConfig.vgg16(256), vgg16_click_operations),
    ],
)
def test_a_click_recomputes_nothing_of_the_image(config, analytic):
    _, click = counted(config, 256)
    assert click == analytic(config, 256)


def test_the_published_width_has_the_published_parameters():
    with torch.device("meta"):
        network = build_network(NetworkConfig.vgg16())
    stream = 1_735_488 + 5_899_776  # conv1_1 .. conv4_3 of VGG16 with three input channels
    parameters = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in (
            ("image", network.image_stream),
            ("interaction", network.interaction_stream),
        )
    }
    assert parameters["image"] == stream
    assert parameters["interaction"] == stream - 64 * 9
    assert sum(p.numel() for p in network.fusion.fc.parameters()) == (
        512 * 49 * 4096 + 4096 + 4096 * 4096 + 4096
    )


def test_split_convolution_equals_convolution_of_the_concatenation():
    torch.manual_seed(0)
    split = SplitConv2d(5, 3, 7, 3)
    whole = nn.Conv2d(8, 7, 3, padding=1)
    with torch.no_grad():
        whole.weight.copy_(torch.cat([split.image.weight, split.interaction.weight], dim=1))
        whole.bias.copy_(split.image.bias)
    image, interaction = torch.randn(2, 5, 9, 11), torch.randn(2, 3, 9, 11)
    joint = split(split.image_half(image), interaction)
    torch.testing.assert_close(joint, whole(torch.cat([image, interaction], dim=1)))


@pytest.mark.parametrize("config", [SMALL, *OTHERS, NetworkConfig.vgg16(32)])
def test_clicks_on_kept_features_equal_the_whole_network(config):
    torch.manual_seed(1)
    network = build_network(config).eval()
    image = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        features = network.encode_image(image)
        for _ in range(2):
            maps = torch.rand(2, network.map_channels, 64, 96) * 255
            scores = network.click(features, maps)
            assert scores.logit.shape == scores.coarse.shape == (2, 1, 64, 96)
            torch.testing.assert_close(scores.logit, network(image, maps).logit)
    assert features.nbytes == sum(t.nbytes for t in (*features.fusion, *features.refiner))


@pytest.mark.parametrize("config", [SMALL, *OTHERS, NetworkConfig.vgg16(32)])
def test_every_parameter_learns(config):
    torch.manual_seed(2)
    network = build_network(config)
    maps = torch.rand(2, network.map_channels, 64, 64) * 255
    scores = network(torch.rand(2, 3, 64, 64), maps)
    (scores.logit.square().mean() + scores.coarse.square().mean()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("encoding", ENCODED)
def test_encodings_of_a_distance(encoding):
    distances = [0.0, 5.0, 5.1, 255.0]
    maps = torch.tensor(distances).expand(1, 3, 1, -1).clone()
    maps[:, 1], maps[:, 2] = 255.0, 0.25
    stream = build_network(replace(SMALL, encoding=encoding)).interaction_stream
    parts = {
        "distance": [[1 - d / 255 for d in distances]],
        "bounded": [[math.exp(-d / length) for d in distances] for length in (6, 40)],
        "disks": [[float(d <= 5) for d in distances]],
    }
    positive = [*parts["distance"], *parts["bounded"]] if encoding == "both" else parts[encoding]
    (encoded,) = stream.encode(maps)
    torch.testing.assert_close(encoded[0:-1:2, 0], torch.tensor(positive))
    torch.testing.assert_close(encoded[1:-1:2], encoded[:-1:2, :, 3:].expand(-1, -1, 4))
    assert encoded[-1].unique().tolist() == [0.25]
    assert stream.encoded_channels == len(encoded) == ENCODED[encoding]


@pytest.mark.parametrize("shape", [(1, 3, 63, 64), (1, 1, 64, 64), (3, 64, 64), (1, 3, 0, 64)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 32"):
        build_network(SMALL).encode_image(torch.zeros(shape))


def test_maps_that_do_not_fit_are_refused():
    network = build_network(SMALL).eval()
    features = network.encode_image(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"\(batch, 3, 64, 64\) is needed"):
        network.click(features, torch.zeros(1, 2, 64, 64))


@pytest.mark.parametrize(
    "values",
    [
        {"backbone": "resnet"},
        {"fusion_channels": 10**9},
        {"fusion_channels": -1},
        {"fusion_blocks": 1000},
        {"fusion_blocks": "four"},
        {"refiner_blocks": -1},
        {"refiner_blocks": 1, "bottleneck_channels": []},
        {"bottleneck_channels": [8]},
        {"interaction_depth": 0},
        {"encoding": "gaussian"},
        {"backbone": "vgg16", "encoding": "disks"},
        {"interaction_channels": [1, 2]},
        {"interaction_channels": 5},
        {"bottleneck_channels": [1, 2, 3, 10**6]},
        {"previous_mask": 1},
        {"unheard": 1},
    ],
)
def test_configurations_out_of_range_are_refused_before_anything_is_built(values):
    with pytest.raises(ValueError, match=r".+"):
        NetworkConfig.from_dict(values)


@pytest.mark.parametrize(
    "config",
    [
        *(NetworkConfig(), SMALL, *OTHERS),
        *(NetworkConfig(refiner_blocks=2, stride=8), NetworkConfig.vgg16(64)),
    ],
)
def test_configuration_round_trip(config):
    assert NetworkConfig.from_dict(config.to_dict()) == config
