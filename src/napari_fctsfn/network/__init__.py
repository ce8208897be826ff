"""The paper in PyTorch: modules and tensors only."""

from napari_fctsfn.network.preload import preload_triton

preload_triton()

from napari_fctsfn.network.config import NetworkConfig  # noqa: E402
from napari_fctsfn.network.counts import (  # noqa: E402
    Operations,
    operation_count,
    parameter_count,
)
from napari_fctsfn.network.efficientnet import fold_padding  # noqa: E402
from napari_fctsfn.network.fctsfn import (  # noqa: E402
    FCTSFN,
    Fused,
    ImageFeatures,
    Scores,
    build_network,
)
from napari_fctsfn.network.layers import fold_norms  # noqa: E402
from napari_fctsfn.network.maps import interaction_maps  # noqa: E402
from napari_fctsfn.network.paper import PAPER_NETWORKS, paper_config  # noqa: E402

__all__ = [
    "FCTSFN",
    "PAPER_NETWORKS",
    "Fused",
    "ImageFeatures",
    "NetworkConfig",
    "Operations",
    "Scores",
    "build_network",
    "fold_norms",
    "fold_padding",
    "interaction_maps",
    "operation_count",
    "paper_config",
    "parameter_count",
]
