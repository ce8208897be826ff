"""Which slice of a followed object to look at next."""

from __future__ import annotations

from collections.abc import Collection


def worst_first(found: Collection[int], known: Collection[int]) -> list[int]:
    """Slices of an object that nobody has clicked in or looked at, the most doubtful first.

    The farther a slice is from the nearest that was clicked in, the worse its mask is: measured on
    propagated stacks this finds worse slices than the model's own certainty or the overlap of
    neighbouring masks (docs/quality.md). One that was looked at and left is as good as clicked in:
    whoever asks again after each goes from end to end, then to the middle of the widest gap.

    Parameters
    ----------
    found : collection of int
        Slices in which the object has a mask.
    known : collection of int
        Slices in which somebody has clicked on it or looked at its mask.

    Returns
    -------
    list of int
        Gaps between its slices come along; of slices equally far the lower first.
    """
    inside = set(found) | set(known)
    unknown = set(range(min(inside), max(inside) + 1)) - set(known) if inside else set()
    return sorted(unknown, key=lambda z: (-min((abs(z - k) for k in known), default=0), z))
