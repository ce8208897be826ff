"""The torch twin of the interaction maps, for training on any device (paper, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def interaction_maps(
    pixels: Tensor, positive: Tensor, valid: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Interaction maps of a batch of padded click lists.

    Parameters
    ----------
    pixels : Tensor of float or int, shape (batch, n, 2)
        Rows and columns of the clicks, in network-input pixels.
    positive : Tensor of bool, shape (batch, n)
        The kind of each click.
    valid : Tensor of bool, shape (batch, n)
        False for padding, which is left out.
    shape : (int, int)
        Rows and columns of the maps.

    Returns
    -------
    Tensor of float32, shape (batch, 2, rows, columns)
        Positive and negative map, 0 to 255 pixels; 255 everywhere for a kind without clicks.
    """
    rows = torch.arange(shape[0], device=pixels.device, dtype=torch.float32)
    columns = torch.arange(shape[1], device=pixels.device, dtype=torch.float32)
    batch = pixels.shape[0]
    squared = torch.full((batch, 2, *shape), 255.0**2, device=pixels.device)
    for index in range(pixels.shape[1]):
        row, column = pixels[:, index].to(torch.float32).unbind(1)
        distance = (rows - row[:, None])[:, :, None] ** 2 + (columns - column[:, None])[
            :, None
        ] ** 2
        kinds = torch.stack([positive[:, index], ~positive[:, index]], 1) & valid[:, index, None]
        far = torch.where(kinds[:, :, None, None], distance[:, None], torch.inf)
        squared = torch.minimum(squared, far)
    return squared.sqrt()
