"""Which slice of a followed object to look at next."""

from __future__ import annotations

from collections.abc import Collection


def worst_first(found: Collection[int], clicked: Collection[int]) -> list[int]:
    """Slices of an object that nobody has clicked in, the most doubtful first.

    The farther a slice is from the nearest that was clicked in, the worse its mask is: measured on
    propagated stacks this finds worse slices than the model's own certainty or the overlap of
    neighbouring masks (docs/quality.md).

    Parameters
    ----------
    found : collection of int
        Slices in which the object has a mask.
    clicked : collection of int
        Slices in which somebody has clicked on it.

    Returns
    -------
    list of int
        Gaps between its slices come along; of slices equally far the lower first.
    """
    known = set(clicked)
    inside = set(found) | known
    open_slices = set(range(min(inside), max(inside) + 1)) - known if inside else set()
    return sorted(open_slices, key=lambda z: (-min((abs(z - k) for k in known), default=0), z))
