"""The paper in PyTorch: modules and tensors only."""

from napari_fctsfn.network.preload import preload_triton

preload_triton()

from napari_fctsfn.network.config import NetworkConfig  # noqa: E402
from napari_fctsfn.network.fctsfn import (  # noqa: E402
    FCTSFN,
    STRIDE,
    Fused,
    ImageFeatures,
    Scores,
    build_network,
)
from napari_fctsfn.network.maps import interaction_maps  # noqa: E402

__all__ = [
    "FCTSFN",
    "STRIDE",
    "Fused",
    "ImageFeatures",
    "NetworkConfig",
    "Scores",
    "build_network",
    "interaction_maps",
]
