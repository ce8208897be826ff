"""What a network of the family weighs and costs, without allocating it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_fctsfn.network.config import NetworkConfig
from napari_fctsfn.network.fctsfn import Fused, build_network

T = TypeVar("T")


class Operations(NamedTuple):
    """Multiply-accumulates of one image and of one click on it.

    Attributes
    ----------
    image : dict of str to int
        Done once per image: by the image stream, and by fusion and refiner for their image halves.
    click : dict of str to int
        Done with every click: by interaction stream, fusion, refiner and quality head.
    """

    image: dict[str, int]
    click: dict[str, int]


def parameter_count(config: NetworkConfig) -> dict[str, int]:
    """Parameters of each part of a network; their sum is the whole."""
    with torch.device("meta"):
        network = build_network(config)
    return {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in network.named_children()
    }


def operation_count(config: NetworkConfig, rows: int, columns: int) -> Operations:
    """Multiply-accumulates of each part of a network.

    Of convolutions and matrix products; what works on each number alone (activations, norms,
    pools, upsampling) is not counted.

    Parameters
    ----------
    config : NetworkConfig
    rows, columns : int
        Of the network input; multiples of 32, or with `caffe` any.
    """
    with torch.device("meta"):
        network = build_network(config).eval()
        image = torch.empty(1, 3, rows, columns)
        maps = torch.empty(1, config.map_channels, rows, columns)

    def count(compute: Callable[[], T]) -> tuple[T, int]:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            result = compute()
        return result, counter.get_total_flops() // 2

    fusion, refiner = network.fusion, network.refiner
    levels, image_stream = count(lambda: network.image_stream(image))
    fusion_halves, fusion_image = count(lambda: fusion.image_halves(levels))
    refiner_halves, refiner_image = count(lambda: refiner.image_halves(levels))
    interaction, interaction_stream = count(lambda: network.interaction_stream(maps))
    (coarse, features), fusion_click = count(lambda: fusion(fusion_halves, interaction))
    fused = Fused(features, fusion.upsampled(coarse, (rows, columns)), interaction)
    logit, refiner_click = count(
        lambda: refiner(refiner_halves, fused.interaction, fused.features, fused.coarse)
    )
    click = {
        "interaction_stream": interaction_stream,
        "fusion": fusion_click,
        "refiner": refiner_click,
    }
    if network.quality is not None:
        quality = network.quality
        click["quality"] = count(lambda: quality(features, logit))[1]
    return Operations(
        {"image_stream": image_stream, "fusion": fusion_image, "refiner": refiner_image}, click
    )
