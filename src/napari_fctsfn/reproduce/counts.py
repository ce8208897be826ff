"""Parameters and operations of the paper's networks, as a table."""

from __future__ import annotations

from napari_fctsfn.network import PAPER_NETWORKS, operation_count, paper_config, parameter_count
from napari_fctsfn.network.config import Backbone

SIDE = 512
"""Rows and columns of the input that operations are counted for."""

_WIDTHS: tuple[tuple[str, Backbone, int | None], ...] = (
    ("as published", "vgg16", None),
    ("fc6 and fc7 of 512", "vgg16", 512),
    ("lite", "lite", None),
)


def counts_table() -> str:
    """Markdown: millions of parameters, and billions of multiply-accumulates by image and click.

    Nothing is allocated. Operations are of convolutions, for an input of 512 x 512; those by image
    are done once, since the image stream's features are kept.
    """
    heads = [
        f"{name}: {what}" for name, _, _ in _WIDTHS for what in ("parameters", "image", "click")
    ]
    lines = ["| network | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for network in PAPER_NETWORKS:
        cells = []
        for _, backbone, width in _WIDTHS:
            config = paper_config(network, backbone, width)
            parameters = sum(parameter_count(config).values())
            image, click = operation_count(config, SIDE, SIDE)
            counted = (parameters / 1e6, *(sum(part.values()) / 1e9 for part in (image, click)))
            cells += [f"{number:.1f}" if number >= 10 else f"{number:.2f}" for number in counted]
        lines.append(f"| {network} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
