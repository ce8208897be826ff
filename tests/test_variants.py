"""The paper's networks, all from one configuration: what each computes, keeps, weighs and costs."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate, max_pool2d
from torch.utils.flop_counter import FlopCounterMode

from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import LoadedModel, ModelCard, load_model, save_model
from napari_fctsfn.network import (
    FCTSFN,
    PAPER_NETWORKS,
    NetworkConfig,
    build_network,
    fold_norms,
    fold_padding,
    operation_count,
    paper_config,
    parameter_count,
)
from napari_fctsfn.network.efficientnet import EfficientNetLite, SameConv2d
from napari_fctsfn.network.layers import Resized
from napari_fctsfn.network.vgg16 import BGR_MEAN, BLOCKS, MAP_MEAN, InteractionStream
from napari_fctsfn.predict import Predictor, Settings
from napari_fctsfn.predict.consistency import adjust

VGG16_CONVOLUTIONS = 14_714_688
VGG16_WITHOUT_CLASSIFIER = 134_260_544
LITE_WIDTHS = (4, 6, 8, 10, 12)
EVERY = [(name, backbone) for backbone in ("vgg16", "lite") for name in PAPER_NETWORKS]


def small(name: str, backbone: str, **changes: object) -> NetworkConfig:
    """A network of the paper, thin where its configuration allows it."""
    config = paper_config(name, backbone, 16)
    if backbone == "lite":
        widths = LITE_WIDTHS[: len(config.interaction_channels)]
        config = replace(config, interaction_channels=widths, fusion_blocks=1)
    if config.refines:
        widths = (8, 6, 5, 3) if backbone == "lite" else (6,)
        config = replace(config, bottleneck_channels=widths)
    return replace(config, **changes)


def random_network(config: NetworkConfig) -> FCTSFN:
    """A network in evaluation mode whose scores are not zero."""
    torch.manual_seed(5)
    network = build_network(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".score" in name:
                parameter.normal_(std=0.1)
    return network


def inputs(config: NetworkConfig, rows: int = 32, columns: int = 96, batch: int = 1):
    generator = torch.Generator().manual_seed(6)
    image = torch.rand(batch, 3, rows, columns, generator=generator)
    maps = torch.rand(batch, config.map_channels, rows, columns, generator=generator)
    maps[:, :2] *= 255
    return image, maps


@pytest.mark.parametrize(("name", "backbone"), EVERY)
def test_every_network_has_the_interface_of_a_click(name, backbone):
    network = random_network(small(name, backbone))
    image, maps = inputs(network.config, batch=2)
    with torch.inference_mode():
        whole = network(image, maps)
        kept = network.encode_image(image[:1]).expand(2)
        scores = network.click(kept, maps)
        again = network.click(kept, maps)
    assert scores.logit.shape == scores.coarse.shape == (2, 1, 32, 96)
    assert float(scores.coarse.std()) > 0
    assert torch.equal(scores.logit, again.logit)
    torch.testing.assert_close(scores.logit[:1], whole.logit[:1], rtol=1e-3, atol=1e-3)
    assert torch.equal(scores.logit, scores.coarse) == (name != "fctsfn")
    assert network.encode_image(image[:1]).nbytes > 0


@pytest.mark.parametrize(("name", "backbone"), EVERY)
def test_every_parameter_learns(name, backbone):
    network = random_network(small(name, backbone))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    scores = network(*inputs(network.config, 64, 96))
    (scores.logit.square().mean() + scores.coarse.square().mean()).backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize(("name", "backbone"), EVERY)
def test_folded_batch_norms_change_nothing_but_the_rounding(name, backbone):
    config = small(name, backbone)
    network = random_network(config).double()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.running_mean, module.weight.data, module.bias.data):
                values.copy_(torch.randn(values.shape, generator=generator, dtype=values.dtype))
            module.running_var.uniform_(0.2, 3.0, generator=generator)
    folded = copy.deepcopy(network)
    fold_norms(folded)
    image, maps = (each.double() for each in inputs(config))
    with torch.no_grad():
        torch.testing.assert_close(folded(image, maps).logit, network(image, maps).logit)
    if backbone == "lite":
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize("name", PAPER_NETWORKS)
def test_folded_paddings_change_nothing(name):
    config = small(name, "lite")
    network = random_network(config).double()
    folded = copy.deepcopy(network)
    fold_padding(folded)
    depthwise = [
        sum(isinstance(m, SameConv2d) and m.groups > 1 for m in each.modules())
        for each in (network, folded)
    ]
    assert depthwise == [4, 0]
    image, maps = (each.double() for each in inputs(config))
    with torch.no_grad():
        torch.testing.assert_close(folded(image, maps).logit, network(image, maps).logit)


class Reference:
    """A VGG16 network without refiner: plain convolutions of concatenations, from a state dict."""

    def __init__(self, network: FCTSFN) -> None:
        self.config, self.state = network.config, network.state_dict()
        self.layerwise = self.config.interaction == "layerwise"

    def conv(self, x: torch.Tensor, name: str, padding: int) -> torch.Tensor:
        if f"{name}.weight" in self.state:
            weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        else:
            halves = [self.state[f"{name}.{half}.weight"] for half in ("image", "interaction")]
            weight, bias = torch.cat(halves, dim=1), self.state[f"{name}.image.bias"]
        return conv2d(x, weight, bias, padding=padding)

    def image_layer(self, block: int, number: int) -> str:
        """Where the convolution conv{block}_{number + 1} of the image is."""
        if block <= (1 if self.layerwise else self.config.stream_blocks):
            return f"image_stream.blocks.{block - 1}.{2 * number}"
        if self.layerwise or block > self.config.stream_blocks + 1:
            return f"fusion.conv{block}.{2 * number}"
        return f"fusion.conv{block}.{2 * number - 2}" if number else f"fusion.conv{block}_1"

    def pools(self, x: torch.Tensor, m: torch.Tensor) -> dict[int, torch.Tensor]:
        """Input and pools of all blocks; of both streams, concatenated, where there are two."""
        blocks, maps = self.config.stream_blocks, m
        resized = self.config.interaction == "resized"
        pools = {0: torch.cat([x, m], dim=1)}
        for block, (depth, _) in enumerate(BLOCKS, 1):
            if block == blocks + 1 and not self.layerwise:
                x = pools[blocks]
            for number in range(depth):
                x = self.conv(x, self.image_layer(block, number), 1).relu()
                if block <= blocks and not resized:
                    m = self.conv(m, f"interaction_stream.blocks.{block - 1}.{2 * number}", 1)
                    m = m.relu()
            if self.layerwise and block <= blocks:
                x = x + m
            x, m = max_pool2d(x, 2), max_pool2d(m, 2)
            m = avg_pool2d(maps, 2**block) if resized else m
            both = block <= blocks and not self.layerwise
            pools[block] = torch.cat([x, m], dim=1) if both else x
        return pools

    def logit(self, image: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        pools = self.pools(
            image.flip(1) * 255 - torch.tensor(BGR_MEAN)[:, None, None],
            maps - torch.tensor(MAP_MEAN)[:, None, None],
        )
        fc6 = "fc6" if self.config.stream_blocks == 5 else "fc.0"
        x = self.conv(pools[5], f"fusion.{fc6}", 3).relu()
        x = self.conv(x, "fusion.fc.3", 0).relu()
        score = self.conv(x, "fusion.score_fr", 0)
        for number in (4, 3):
            if self.config.stride <= 2**number:
                score = interpolate(score, scale_factor=2, mode="bilinear")
                score = score + self.conv(pools[number], f"fusion.score_pool{number}", 0)
        score = interpolate(score, size=image.shape[2:], mode="bilinear")
        return score[:, 1:] - score[:, :1]


@pytest.mark.parametrize(
    "name", [name for name in PAPER_NETWORKS if name not in ("fctsfn", "tslfn-4")]
)
def test_vgg16_networks_equal_plain_convolutions_over_concatenations(name):
    config = small(name, "vgg16")
    if name in ("tslfn-minus", "layerwise"):
        config = replace(config, stride=8)
    network = random_network(config)
    image, maps = inputs(config)
    with torch.inference_mode():
        logit = network(image, maps).logit
        expected = Reference(network).logit(image, maps)
    torch.testing.assert_close(logit, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["ssfcn", "tslfn-1", "tslfn-2", "tslfn-3", "tslfn-4", "layerwise"])
def test_an_efficientnet_that_is_cut_gives_what_it_gave_in_one_piece(name):
    network = random_network(small(name, "lite"))
    image, maps = inputs(network.config)
    channels = 3 if network.config.image_blocks else 3 + 6
    whole = timm.create_model("tf_efficientnet_lite0", features_only=True, in_chans=channels).eval()
    pieces = network.image_stream.backbone.state_dict() | network.fusion.tail.state_dict()
    whole.load_state_dict(pieces)
    for merge in network.fusion.merges.values():
        for parameter in merge.parameters():
            torch.nn.init.zeros_(parameter)
    with torch.inference_mode():
        levels = network.image_stream(image)
        interaction = network.interaction_stream(maps)
        x = (image * 255 - 127) / 128
        if name == "ssfcn":
            x = torch.cat([x, interaction[0]], dim=1)
        stages = network.fusion._deeper(network.fusion.tail, levels[-1], interaction)
        features = whole(x)
    for stage in range(1, 6):
        kept = stage < network.config.image_blocks
        torch.testing.assert_close(levels[stage] if kept else stages[stage], features[stage - 1])


def test_resized_maps_are_the_means_of_cells():
    resized = Resized(InteractionStream(2, 0), [1, 4, 32])
    maps = inputs(NetworkConfig.vgg16())[1]
    full, quarter, coarsest = resized(maps)
    expected = maps - torch.tensor(MAP_MEAN)[:, None, None]
    torch.testing.assert_close(full, expected)
    torch.testing.assert_close(quarter[0, 1, 2, 3], expected[0, 1, 8:12, 12:16].mean())
    torch.testing.assert_close(coarsest[0, :, 0, 2], expected[0, :, :, 64:].mean(dim=(1, 2)))


# -- counts


def giga(counts: dict[str, int]) -> dict[str, float]:
    return {name: count / 1e9 for name, count in counts.items()}


def test_the_published_network_costs_what_it_is_known_to_cost():
    image, click = operation_count(NetworkConfig.vgg16(), 512, 512)
    image, click = giga(image), giga(click)
    assert image["image_stream"] == pytest.approx(73, abs=0.5)
    assert click["interaction_stream"] == pytest.approx(73, abs=0.5)
    assert image["fusion"] + click["fusion"] == pytest.approx(40, abs=0.5)
    # 111 with both scores as inputs of the first 7x7 convolution; here their difference is one.
    second_score = 49 * 64 * 512**2 / 1e9
    assert image["refiner"] + click["refiner"] + second_score == pytest.approx(111, abs=0.5)


@pytest.mark.parametrize("blocks", range(6))
def test_both_streams_and_the_fusion_net_share_the_blocks_of_vgg16(blocks):
    name = f"tslfn-{blocks}" if blocks else "ssfcn"
    count = parameter_count(paper_config(name))
    convolutions = {}
    inputs = 3
    for block, (depth, width) in enumerate(BLOCKS, 1):
        convolutions[block] = (9 * inputs + 1) * width + (depth - 1) * (9 * width + 1) * width
        inputs = width
    assert sum(convolutions.values()) == VGG16_CONVOLUTIONS
    stream = sum(convolutions[block] for block in range(1, blocks + 1))
    assert count["image_stream"] == stream
    assert count["interaction_stream"] == stream - (64 * 9 if blocks else 0)
    joint = {0: 64 * 2 * 9, 5: 4096 * 512 * 49}
    if 0 < blocks < 5:
        joint[blocks] = BLOCKS[blocks][1] * BLOCKS[blocks - 1][1] * 9
    halves = 2 if blocks >= 4 else 1
    pools = (512 * halves + 1) * 2 + (256 * (2 if blocks >= 3 else 1) + 1) * 2
    scores = (4096 + 1) * 2 + pools
    assert count["fusion"] == VGG16_WITHOUT_CLASSIFIER - stream + joint[blocks] + scores
    assert count["refiner"] == 0


def test_what_is_kept_of_an_image_shrinks_with_the_streams():
    kept = {}
    for name in PAPER_NETWORKS:
        image, click = operation_count(paper_config(name), 64, 64)
        kept[name] = sum(image.values()) / (sum(image.values()) + sum(click.values()))
    depths = [kept[name] for name in ("ssfcn", *(f"tslfn-{n}" for n in range(1, 6)))]
    assert depths == sorted(depths)
    assert kept["ssfcn"] < 0.01
    assert kept["layerwise"] < 0.06
    conv1_1 = 3 * 64 * 9 * 64**2
    assert operation_count(paper_config("ssfcn"), 64, 64).image == {
        "image_stream": 0,
        "fusion": conv1_1,
        "refiner": 0,
    }
    block1 = {"image_stream": conv1_1 + 64 * 64 * 9 * 64**2, "fusion": 0, "refiner": 0}
    assert operation_count(paper_config("layerwise"), 64, 64).image == block1


@pytest.mark.parametrize(("name", "backbone"), [("fctsfn", "lite"), ("tslfn-3", "vgg16")])
def test_counts_without_memory_equal_counts_of_a_real_network(name, backbone):
    config = small(name, backbone, quality=True)
    network = build_network(config).eval()
    count = parameter_count(config)
    assert sum(count.values()) == sum(p.numel() for p in network.parameters())
    image, click = operation_count(config, 64, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs(config, 64, 32))
    assert sum(image.values()) + sum(click.values()) == counter.get_total_flops() // 2
    assert count["quality"] > 0
    assert click["quality"] > 0


# -- configurations


def test_the_papers_names_stand_for_its_networks():
    assert paper_config("FCTSFN") == NetworkConfig.vgg16()
    assert paper_config("TSLFN-8s") == paper_config("tslfn-4")
    assert paper_config("tslfn-8s", "lite") == paper_config("tslfn-5", "lite")
    assert [paper_config(f"tslfn-{n}s").stride for n in (32, 16, 8)] == [32, 16, 8]
    assert paper_config("ssfcn", fusion_channels=256).fusion_channels == 256
    distinct = {paper_config(name, backbone) for name, backbone in EVERY}
    assert len(distinct) == len(EVERY) - 2
    with pytest.raises(ValueError, match="no network 'resnet'; known: ssfcn"):
        paper_config("resnet")


@pytest.mark.parametrize(("name", "backbone"), EVERY)
def test_a_card_holds_every_network(name, backbone):
    config = small(name, backbone)
    assert NetworkConfig.from_dict(config.to_dict()) == config


def test_cards_of_ordinary_networks_stay_as_they_were():
    old = {
        "backbone",
        "previous_mask",
        "interaction_channels",
        "fusion_channels",
        "fusion_blocks",
        "bottleneck_channels",
        "quality",
    }
    for config in (NetworkConfig(), NetworkConfig.vgg16(64)):
        values = config.to_dict()
        assert set(values) == old
        assert NetworkConfig.from_dict(values) == config
    assert NetworkConfig().stride == 16
    assert NetworkConfig.vgg16().stride == 8
    assert set(paper_config("tslfn-32s", "lite").to_dict()) == old | {"stride"}


VGG16 = NetworkConfig.vgg16(16).to_dict()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"interaction": "early"}, "known are 'stream', 'resized' and 'layerwise'"),
        ({"stride": 4}, "stride must be 32, 16 or 8"),
        ({"stride": True}, "stride must be 32, 16 or 8"),
        ({"stream_blocks": 6}, "from 0 to 5"),
        ({"stream_blocks": 2.0}, "from 0 to 5"),
        ({"interaction": "resized", "stream_blocks": 0}, "from 1 to 5"),
        ({"interaction": "layerwise", "stream_blocks": 0}, "from 1 to 5"),
        ({"interaction": "resized"}, "interaction_channels .* needs 0 numbers"),
        ({"stream_blocks": 3}, "interaction_channels .* needs 3 numbers"),
        ({"interaction": "layerwise"}, "a refiner needs both streams"),
        ({"stream_blocks": 4, "interaction_channels": [1, 2, 3, 4]}, "a refiner needs"),
        (VGG16 | {"stream_blocks": 5}, "a vgg16 network with bottleneck_channels has 4"),
        (VGG16 | {"image_model": "resnet18"}, "for lite networks only"),
        (VGG16 | {"interaction_channels": [4]}, "needs 0 numbers"),
        ({"image_model": 5}, "a name that timm knows"),
        ({"image_model": "x" * 1000}, "a name that timm knows"),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_reason(values, reason):
    with pytest.raises(ValueError, match=reason):
        NetworkConfig.from_dict(values)


# -- pyramids


@pytest.mark.parametrize("name", EfficientNetLite.NAMES)
@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_efficientnet_lite_is_that_of_timm(name, size):
    theirs = timm.create_model(name, features_only=True).eval()
    ours = EfficientNetLite(name).eval()
    assert list(ours.channels) == theirs.feature_info.channels()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand(1, 3, *size) - 0.5
    with torch.inference_mode():
        torch.testing.assert_close(ours(image), theirs(image))


def test_without_timm_its_pyramids_are_refused_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"'test_resnet'.*pip install 'napari-fctsfn\[timm\]'"):
        build_network(NetworkConfig(image_model="test_resnet"))
    with torch.device("meta"):
        build_network(NetworkConfig())


@pytest.mark.parametrize(
    "model", ["test_resnet", "test_convnext", "test_efficientnet", "test_mambaout"]
)
@pytest.mark.parametrize("refined", [True, False])
def test_any_pyramid_of_timm_is_an_image_stream(model, refined):
    name = "fctsfn" if refined else "tslfn-8s"
    network = random_network(small(name, "lite", image_model=model))
    pyramid = timm.create_model(model, features_only=True)
    channels = pyramid.feature_info.channels()
    assert network.fusion.fuse32.image.in_channels == channels[-1]
    assert network.fusion.fuse8.image.in_channels == channels[-3]
    image, maps = inputs(network.config)
    network(image, maps).logit.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    pyramid.load_state_dict(network.image_stream.backbone.state_dict())
    mean = torch.tensor(pyramid.pretrained_cfg["mean"])[:, None, None]
    std = torch.tensor(pyramid.pretrained_cfg["std"])[:, None, None]
    with torch.no_grad():
        expected = pyramid.eval()((image - mean) / std)[-1]
        if model == "test_mambaout":  # which has its channels as the last axis
            expected = expected.permute(0, 3, 1, 2)
        torch.testing.assert_close(network.image_stream(image)[-1], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["vgg11", "darknet17"])
def test_a_pyramids_features_at_stride_1_are_left_out(model):
    config = small("fctsfn", "lite", image_model=model)
    with torch.device("meta"):
        network = build_network(config)
        image, maps = torch.empty(1, 3, 64, 96), torch.empty(1, 2, 64, 96)
    levels = network.image_stream(image)
    assert [64 // level.shape[2] for level in levels] == [1, 2, 4, 8, 16, 32]
    assert network(image, maps).logit.shape == (1, 1, 64, 96)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("efficientnet_lite99", "timm knows no image model 'efficientnet_lite99'"),
        ("hf-hub:somebody/something", "timm knows no image model"),
        ("resnet18.no_such_weights", "has no feature pyramid"),
        ("test_vit", r"features at strides \[16, 16, 16\]"),
        ("test_maxvit", "images of one size only"),
    ],
)
def test_image_models_without_a_fitting_pyramid_are_refused(model, reason):
    with torch.device("meta"), pytest.raises(ValueError, match=reason):
        build_network(NetworkConfig(image_model=model))


@pytest.mark.parametrize("name", ["ssfcn", "tslfn-2", "layerwise"])
def test_only_an_efficientnet_can_be_cut(name):
    config = small(name, "lite", image_model="test_resnet")
    with pytest.raises(ValueError, match="only an EfficientNet can be cut"):
        build_network(config)
    build_network(replace(config, image_model="test_efficientnet"))


# -- other rooms


@pytest.mark.parametrize("name", ["ssfcn", "tslfn-3", "tslfn-minus", "layerwise", "fctsfn"])
def test_a_predictor_takes_every_network(name, tmp_path):
    network = random_network(small(name, "lite"))
    card = ModelCard(name="a", version="0", architecture={}, weights_licence="MIT", input_size=64)
    path = tmp_path / "a.safetensors"
    save_model(path, network, card)
    loaded = load_model(path)
    assert isinstance(loaded, LoadedModel)
    assert loaded.network.config == network.config
    predictor = Predictor(loaded, "cpu", settings=Settings(consistent=True))
    predictor.set_image(np.random.default_rng(0).integers(0, 255, (50, 70)).astype(np.uint8))
    steps = predictor.replay(Clicks([Click(20, 30), Click(40, 60, False)]))
    assert [step.full_mask().shape for step in steps] == [(50, 70)] * 2


@pytest.mark.parametrize("stride", [32, 8])
def test_clicks_are_obeyed_where_the_score_follows_from_the_features_alone(stride):
    network = random_network(small("tslfn-4", "vgg16", stride=stride))
    network.requires_grad_(False)
    image, maps = inputs(network.config)
    features = network.encode_image(image)
    fused = network.fuse(features, maps)
    logit = network.refine(features, fused).logit
    wrong = torch.zeros_like(logit, dtype=torch.bool)
    wrong[0, 0, 16, 16] = True
    positive = wrong if logit[wrong] < 0 else torch.zeros_like(wrong)
    scores = adjust(network, features, fused, positive, wrong & ~positive)
    if stride == 32:
        assert (scores.logit[wrong] > 0) == positive.any()
    else:
        assert torch.equal(scores.logit, logit)
