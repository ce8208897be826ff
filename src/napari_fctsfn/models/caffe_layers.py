"""The authors' networks, layer by layer as in their Caffe files, and where each is in ours."""

from __future__ import annotations

from collections.abc import Iterator

from napari_fctsfn.models.caffe_files import Layer, window
from napari_fctsfn.network import NetworkConfig, msrn, vgg16


def published_layers(config: NetworkConfig) -> Iterator[Layer]:
    """The layers of the authors' network that `config` describes, as their prototxt has them."""
    for suffix, source in (("", "img"), ("_fea", "click")):
        yield from _block(1, source, suffix, vgg16.PADDING)
        for block in range(2, 5):
            yield from _block(block, f"pool{block - 1}{suffix}", suffix)
    yield _concat("pool4_fea_comb", "pool4", "pool4_fea")
    yield from _block(5, "pool4_fea_comb")
    yield _convolution("fc6-conv", "pool5", config.fusion_channels, 7)
    yield _relu("relu6", "fc6-conv")
    yield _convolution("fc7-conv", "relu6", config.fusion_channels)
    yield _relu("relu7", "fc7-conv")
    yield _convolution("score_fr", "relu7", 2)
    score, upscore = "score_fr", "upscore2"
    for number, crop in vgg16.SKIP_CROPS.items():
        if config.stride > 2**number:
            break
        yield _deconvolution(upscore, score, 2, 2)
        if number == 3:
            yield _concat("pool3_fea_comb", "pool3", "pool3_fea")
        skip, cropped, score = f"score_pool{number}", f"score_pool{number}c", f"fuse_pool{number}"
        yield _convolution(skip, f"pool{number}_fea_comb", 2)
        yield _crop(cropped, skip, upscore, crop)
        yield _sum(score, upscore, cropped)
        upscore = f"upscore_pool{number}"
    upscore = "upscore" if config.stride == 32 else f"upscore{config.stride}"
    yield _deconvolution(upscore, score, 2, config.stride)
    yield _crop("score", upscore, "img", vgg16.SCORE_CROPS[config.stride])
    if config.refines:
        yield from _refiner(*config.bottleneck_channels)


def convolutions(config: NetworkConfig) -> Iterator[tuple[str, str]]:
    """The authors' name of each convolution that learns, and the module of ours that it is."""
    streams = (("", "image_stream"), ("_fea", "interaction_stream"))
    for block, (depth, _) in enumerate(vgg16.BLOCKS[:4], 1):
        for number in range(1, depth + 1):
            for suffix, stream in streams:
                place = f"{stream}.blocks.{block - 1}.{2 * (number - 1)}"
                yield f"conv{block}_{number}{suffix}", place
    yield "conv5_1", "fusion.conv5_1"
    for number in range(2, vgg16.BLOCKS[4][0] + 1):
        yield f"conv5_{number}", f"fusion.conv5.{2 * (number - 2)}"
    yield "fc6-conv", "fusion.fc.0"
    yield "fc7-conv", "fusion.fc.3"
    yield "score_fr", "fusion.score_fr"
    for number in vgg16.SKIP_CROPS:
        if config.stride <= 2**number:
            yield f"score_pool{number}", f"fusion.score_pool{number}"
    if config.refines:
        for number in range(1, 5):
            yield f"conv_btnk_fea_comb_{number}", f"refiner.bottlenecks.{number - 1}"
        yield "conv_btnk_fea_comb_5", "refiner.bottleneck5"
        for number in range(1, len(msrn.KERNELS) + 1):
            yield f"conv_fea_all_comb_{number}", f"refiner.refine.{4 * (number - 1)}"
        yield "score_f", "refiner.score"


def norms(config: NetworkConfig) -> Iterator[tuple[str, str, str]]:
    """The authors' names of each batch norm and of its scale, and the module of ours they are."""
    if config.refines:
        yield "score_coarse_bn", "score_coarse_scale", "refiner.score_norm"
        for number in range(1, 6):
            norm, scale = (f"conv_btnk_{kind}_fea_comb_{number}" for kind in ("bn", "scale"))
            yield norm, scale, f"refiner.norms.{number - 1}"
        for number in range(1, len(msrn.KERNELS) + 1):
            norm, scale = (f"conv_fea_all_comb_{kind}_{number}" for kind in ("bn", "scale"))
            yield norm, scale, f"refiner.refine.{4 * (number - 1) + 1}"


def _block(block: int, source: str, suffix: str = "", padding: int = 1) -> Iterator[Layer]:
    """A block of VGG16 and its pool."""
    depth, width = vgg16.BLOCKS[block - 1]
    for number in range(1, depth + 1):
        place = f"{block}_{number}{suffix}"
        yield _convolution(f"conv{place}", source, width, 3, padding if number == 1 else 1)
        source = f"relu{place}"
        yield _relu(source, f"conv{place}")
    yield _pool(f"pool{block}{suffix}", source)


def _refiner(width: int) -> Iterator[Layer]:
    """The MSRN."""
    scales = []
    for number, crop in enumerate(msrn.CROPS, 1):
        source = f"relu{number}_{vgg16.BLOCKS[number - 1][0]}"
        scale = f"fea_comb_{number}"
        if number < 5:
            yield _concat(scale, source, f"{source}_fea")
            source = scale
        yield _convolution(f"conv_btnk_{scale}", source, width, bias="no")
        yield from _norm(f"conv_btnk_bn_{scale}", f"conv_btnk_scale_{scale}", f"conv_btnk_{scale}")
        source = f"relu_btnk_{scale}"
        yield _relu(source, f"conv_btnk_scale_{scale}")
        if number > 1:
            yield _deconvolution(f"{scale}_up", source, width, 2 ** (number - 1))
            source = f"{scale}_up"
        yield _crop(f"{scale}_c", source, "img", crop)
        scales.append(f"{scale}_c")
    yield from _norm("score_coarse_bn", "score_coarse_scale", "score")
    yield _sum("fea_all_scale_sum", *scales)
    source = "fea_all_scale_comb"
    yield _concat(source, "fea_all_scale_sum", "score_coarse_scale")
    for number, kernel in enumerate(msrn.KERNELS, 1):
        layer = f"conv_fea_all_comb_{number}"
        norm, scale = (layer.replace("comb", f"comb_{kind}") for kind in ("bn", "scale"))
        yield _convolution(layer, source, msrn.WIDTH, kernel, kernel // 2, bias="no")
        yield from _norm(norm, scale, layer)
        source = f"relu_fea_all_comb_{number}"
        yield _relu(source, scale)
    yield _convolution("score_f", source, 2)


def _layer(kind: str, name: str, *inputs: str, **settings: str | int) -> Layer:
    return Layer(name, kind, {"input": " and ".join(inputs), **settings})


def _convolution(
    name: str, source: str, outputs: int, kernel: int = 1, padding: int = 0, bias: str = "yes"
) -> Layer:
    return _layer(
        "Convolution",
        name,
        source,
        outputs=outputs,
        kernel=window(kernel),
        stride="1",
        padding=window(padding),
        dilation="1",
        groups=1,
        bias=bias,
    )


def _deconvolution(name: str, source: str, outputs: int, stride: int) -> Layer:
    same = _convolution(name, source, outputs, 2 * stride, bias="no")
    return Layer(name, "Deconvolution", same.settings | {"stride": window(stride)})


def _relu(name: str, source: str) -> Layer:
    return _layer("ReLU", name, source, slope="0")


def _pool(name: str, source: str) -> Layer:
    return _layer(
        "Pooling",
        name,
        source,
        method="MAX",
        kernel="2",
        stride="2",
        padding="0",
        everywhere="no",
        rounding="CEIL",
    )


def _crop(name: str, source: str, like: str, offset: int) -> Layer:
    return _layer("Crop", name, source, like, axis=2, offset=window(offset))


def _sum(name: str, *sources: str) -> Layer:
    return _layer("Eltwise", name, *sources, operation="SUM", factors="none")


def _concat(name: str, *sources: str) -> Layer:
    return _layer("Concat", name, *sources, axis=1)


def _norm(name: str, scale: str, source: str) -> Iterator[Layer]:
    yield _layer("BatchNorm", name, source, eps="1e-05", statistics="stored")
    yield _layer("Scale", scale, name, axis=1, bias="yes")
