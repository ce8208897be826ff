"""Other ways from clicks to a mask, as far as they are installed, for a comparison of speed.

Each is used as its own documentation says and does nothing ahead that it could not do in napari.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from napari_fctsfn.clicks import Clicks
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import LoadedModel, ModelCard
from napari_fctsfn.models.card import RESEARCH_ONLY
from napari_fctsfn.network import NetworkConfig, build_network
from napari_fctsfn.predict import Predictor, Settings


class Peer(Protocol):
    """A way from an image and clicks to a mask.

    Attributes
    ----------
    device : str
        Where it computes.
    """

    device: str

    def set_image(self, image: NDArray[np.uint16]) -> None:
        """Compute what does not depend on clicks, of an image (rows, columns)."""

    def predict(self, clicks: Clicks) -> NDArray[np.bool_]:
        """The mask after all these clicks, shape (rows, columns)."""


class Ours:
    """A predictor of this package.

    Parameters
    ----------
    predictor : Predictor
    settings : Settings, optional
    """

    def __init__(self, predictor: Predictor, settings: Settings | None = None) -> None:
        self.predictor = predictor
        self.settings = settings
        self.device = str(predictor.device)

    def set_image(self, image: NDArray[np.uint16]) -> None:
        """Compute the features of the whole image, where it is not too large."""
        self._last: Any = None
        self.predictor.set_image(image)
        self.predictor.warm_up()

    def predict(self, clicks: Clicks) -> NDArray[np.bool_]:
        """Correct the mask before by the last click."""
        self._last = self.predictor.predict(clicks, self._last, self.settings)
        return self._last.full_mask()  # type: ignore[no-any-return]


def paper_network(device: str) -> Peer:
    """The published network, FCTSFN with VGG16 and fc6 and fc7 of 4096 channels, at 512 pixels.

    Its weights are random: they cost as much time as any.
    """
    torch.manual_seed(0)
    network = build_network(NetworkConfig.vgg16()).eval()
    card = ModelCard(
        name="paper",
        version="0",
        architecture=network.config.to_dict(),
        weights_licence=RESEARCH_ONLY,
        input_size=512,
    )
    settings = replace(Settings().published(), graph_cut=False)
    return Ours(Predictor(LoadedModel(network, card, ""), device), settings)


class RandomWalker:
    """Random walks between the clicks (Grady, 2006), by scikit-image's conjugate gradients.

    Every click is a disc of three pixels; until there is one on the background, the rim of the
    image is.
    """

    device = "cpu"

    def set_image(self, image: NDArray[np.uint16]) -> None:
        """Scale the image to 0..1; nothing else can be done before the first click."""
        low, high = float(image.min()), float(image.max())
        self._image = (image.astype(np.float32) - low) / max(high - low, 1)

    def predict(self, clicks: Clicks) -> NDArray[np.bool_]:
        """Solve for all clicks anew."""
        from skimage.segmentation import random_walker

        seeds = _seeds(clicks, self._image.shape)
        labels = random_walker(self._image, seeds, mode="cg_j", tol=1e-4, prob_tol=0.05)
        mask: NDArray[np.bool_] = labels == 1
        return mask


class GraphCut:
    """Interactive graph cut (Boykov and Jolly, 2001) on intensities, by PyMaxflow.

    Histograms of 32 bins under the clicks' discs give the regional term.
    """

    device = "cpu"

    def set_image(self, image: NDArray[np.uint16]) -> None:
        """Contrast of neighbouring pixels, which needs no clicks."""
        low, high = float(image.min()), float(image.max())
        self._image = (image.astype(np.float32) - low) / max(high - low, 1)
        steps = [np.diff(self._image, axis=axis, append=0) for axis in (0, 1)]
        scale = 2 * np.mean([np.mean(step**2) for step in steps]) + 1e-9
        self._edges = [np.exp(-(step**2) / scale) for step in steps]

    def predict(self, clicks: Clicks) -> NDArray[np.bool_]:
        """Cut for all clicks anew."""
        import maxflow

        seeds = _seeds(clicks, self._image.shape)
        bins = np.minimum((self._image * 32).astype(int), 31)
        cost = []
        for kind in (1, 2):
            counts = np.bincount(bins[seeds == kind], minlength=32) + 0.1
            cost.append(-np.log(counts / counts.sum())[bins])
        cost[0][seeds == 2] = cost[1][seeds == 1] = 1e6
        cost[0][seeds == 1] = cost[1][seeds == 2] = 0
        graph = maxflow.Graph[float]()
        nodes = graph.add_grid_nodes(self._image.shape)
        right = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]])
        graph.add_grid_edges(nodes, self._edges[1], right, symmetric=True)
        graph.add_grid_edges(nodes, self._edges[0], right.T, symmetric=True)
        graph.add_grid_tedges(nodes, cost[1], cost[0])
        graph.maxflow()
        mask: NDArray[np.bool_] = ~graph.get_grid_segments(nodes)
        return mask


class SegmentAnything:
    """Segment Anything ViT-B (Kirillov et al., 2023), if segment-anything is installed.

    Parameters
    ----------
    device : str
    weights : Path or None
        Its checkpoint; without one its weights are random, which cost as much time as any.
    """

    def __init__(self, device: str, weights: Path | None = None) -> None:
        from segment_anything import SamPredictor, sam_model_registry

        network = sam_model_registry["vit_b"](checkpoint=None if weights is None else str(weights))
        chosen = "cuda" if device == "auto" and torch.cuda.is_available() else device
        self.device = "cpu" if chosen == "auto" else chosen
        self._predictor = SamPredictor(network.to(self.device).eval())

    def set_image(self, image: NDArray[np.uint16]) -> None:
        """Encode the image, at 1024 pixels."""
        low, high = float(image.min()), float(image.max())
        grey = ((image - low) / max(high - low, 1) * 255).astype(np.uint8)
        self._predictor.set_image(np.repeat(grey[..., None], 3, axis=2))

    def predict(self, clicks: Clicks) -> NDArray[np.bool_]:
        """Prompt with all clicks."""
        points = np.array([[click.column, click.row] for click in clicks], dtype=np.float32)
        kinds = np.array([int(click.positive) for click in clicks])
        masks, _, _ = self._predictor.predict(points, kinds, multimask_output=False)
        mask: NDArray[np.bool_] = masks[0]
        return mask


def _seeds(clicks: Clicks, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """1 on discs of three pixels around positive clicks, 2 around negative ones, else 0."""
    seeds = np.zeros(shape, dtype=np.int32)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for click in clicks:
        near = (rows - click.row) ** 2 + (columns - click.column) ** 2 <= 9
        seeds[near] = 1 if click.positive else 2
    if not len(clicks.negative):
        for rim in (seeds[0], seeds[-1], seeds[:, 0], seeds[:, -1]):
            rim[rim == 0] = 2
    return seeds


PEERS: dict[str, tuple[str, int, Callable[[str], Peer]]] = {
    "paper's network": ("torch", 1024, paper_network),
    "random walker": ("skimage", 512, lambda _device: RandomWalker()),
    "graph cut": ("maxflow", 1024, lambda _device: GraphCut()),
    "segment-anything ViT-B": ("segment_anything", 8192, SegmentAnything),
}
"""By name: the package it needs, the largest size that is waited for, and how it is made."""


def installed() -> list[str]:
    """Names of the peers whose packages are installed."""
    return [name for name, (package, _, _) in PEERS.items() if find_spec(package) is not None]


def make(name: str, device: str) -> Peer:
    """A peer by its name.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in PEERS:
        raise InputError(f"unknown peer {name!r}; known are {', '.join(PEERS)}")
    return PEERS[name][2](device)
