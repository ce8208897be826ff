"""The networks that the paper names and compares."""

from __future__ import annotations

from dataclasses import replace

from napari_fctsfn.network.config import Backbone, NetworkConfig

PAPER_NETWORKS = (
    "ssfcn",
    "tslfn-minus",
    "layerwise",
    "tslfn-1",
    "tslfn-2",
    "tslfn-3",
    "tslfn-4",
    "tslfn-5",
    "tslfn-32s",
    "tslfn-16s",
    "tslfn-8s",
    "fctsfn",
)
"""Names that `paper_config` knows."""


def paper_config(
    name: str, backbone: Backbone = "vgg16", fusion_channels: int | None = None
) -> NetworkConfig:
    """Configuration of a network that the paper names.

    All take two interaction maps and no previous mask, and only ``fctsfn`` has a refiner. Strides
    are the paper's: 8 of the ``ssfcn`` and of ``tslfn-1`` to ``tslfn-5`` (tables 1 to 5), 32 of
    ``tslfn-minus`` (figure 3); the paper gives none of ``layerwise``, which has 32, too. Earlier
    stages of a training have the same configuration with another `stride` (section 3.3).

    Parameters
    ----------
    name : str
        One of `PAPER_NETWORKS`, in any case. ``tslfn-8s`` of ``vgg16`` is ``tslfn-4``: the
        streams end after the fourth block. Those of ``lite`` end after the fifth, so that there
        it is ``tslfn-5``. ``layerwise`` has the streams of ``tslfn-8s``.
    backbone : {"vgg16", "lite"}
    fusion_channels : int, optional
        Of fc6 and fc7 (``vgg16``; 4096 as published) or of the fusion net (``lite``; 128).

    Raises
    ------
    ValueError
        If the name is unknown or the width out of range.
    """
    key = name.lower()
    if key not in PAPER_NETWORKS:
        raise ValueError(f"the paper names no network {name!r}; known: {', '.join(PAPER_NETWORKS)}")
    lite = backbone == "lite"
    config = NetworkConfig(previous_mask=False) if lite else NetworkConfig.vgg16()
    config = replace(config, stride=8)
    if fusion_channels is not None:
        config = replace(config, fusion_channels=fusion_channels)
    if key == "fctsfn":
        return config
    config = replace(config, bottleneck_channels=())
    if key == "tslfn-minus":
        return replace(config, interaction="resized", interaction_channels=(), stride=32)
    if key == "layerwise":
        return replace(config, interaction="layerwise", stride=32)
    last = key.removeprefix("tslfn-")
    if last.endswith("s"):
        return replace(config, stride=int(last[:-1]))
    blocks = 0 if key == "ssfcn" else int(last)
    widths = config.interaction_channels[:blocks]
    return replace(config, stream_blocks=blocks, interaction_channels=widths)
