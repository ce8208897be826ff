"""The paper in PyTorch: modules and tensors only."""

from napari_fctsfn.network.config import NetworkConfig
from napari_fctsfn.network.fctsfn import FCTSFN, STRIDE, ImageFeatures, Scores, build_network
from napari_fctsfn.network.maps import interaction_maps

__all__ = [
    "FCTSFN",
    "STRIDE",
    "ImageFeatures",
    "NetworkConfig",
    "Scores",
    "build_network",
    "interaction_maps",
]
