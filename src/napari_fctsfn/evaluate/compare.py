"""Is one model, or one way to use it, better than another? Both on the same objects."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.evaluate.metrics import Interval, bootstrap_means, percentiles
from napari_fctsfn.evaluate.objectset import ObjectReference
from napari_fctsfn.evaluate.results import ObjectResult, ResultsError, measures, read_results


@dataclass(frozen=True, eq=False)
class Difference:
    """A mean difference and how sure it is.

    Parameters
    ----------
    mean : float
        Of the differences of all objects.
    draws : array of float64, shape (draws,)
        Of the differences in bootstrap draws of whole pictures; NaN where there is one only.
    """

    mean: float
    draws: NDArray[np.float64]

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the mean, from the draws."""
        return percentiles(self.draws)

    @classmethod
    def averaged(cls, parts: Sequence[Difference]) -> Difference:
        """The difference over several data sets, each of the same weight.

        The draws of the parts should come from different seeds.
        """
        draws: NDArray[np.float64] = np.mean([part.draws for part in parts], axis=0)
        return cls(float(np.mean([part.mean for part in parts])), draws)


def paired_difference(
    ours: Mapping[ObjectReference, float],
    theirs: Mapping[ObjectReference, float],
    seed: int = 0,
    draws: int = 2000,
) -> Difference:
    """Mean of ours minus theirs, object by object, by a bootstrap clustered by picture.

    Parameters
    ----------
    ours, theirs : mapping of ObjectReference to float
        A measure of the same objects, in any order.
    seed : int
    draws : int

    Returns
    -------
    Difference

    Raises
    ------
    ResultsError
        If the objects are not the same, or there is none.
    """
    _check_objects("one of the two", ours, theirs)
    references = sorted(ours, key=lambda reference: (reference.stem, reference.value))
    gains = [ours[reference] - theirs[reference] for reference in references]
    pictures: list[Hashable] = [reference.stem for reference in references]
    return Difference(float(np.mean(gains)), bootstrap_means(gains, pictures, seed, draws))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Results that others are compared with.

    Parameters
    ----------
    folder : Path
        Where they come from.
    results : sequence of ObjectResult
    summary : mapping
        Of them.
    """

    folder: Path
    results: Sequence[ObjectResult]
    summary: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Comparison:
        """Results that an evaluation left in a folder.

        Raises
        ------
        ResultsError
            If they are missing or damaged.
        """
        return cls(folder, *read_results(folder))

    def check(self, objects: Sequence[ObjectReference], user: Mapping[str, Any]) -> None:
        """Refuse to compare with other objects, or with a user who clicked by other rules.

        Parameters
        ----------
        objects : sequence of ObjectReference
        user : mapping
            ``max_clicks``, ``protocol`` and what else the summary says of the user, and ``band``.

        Raises
        ------
        ResultsError
            Naming what differs.
        """
        there = {"band": 0, **self.summary, "max_clicks": len(self.results[0].ious)}
        for name, value in user.items():
            if there.get(name) != value:
                raise ResultsError(
                    f"the results in {self.folder} are not comparable: their {name} is "
                    f"{there.get(name)}, not {value}; make both with the same"
                )
        references = (result.reference for result in self.results)
        _check_objects(str(self.folder), dict.fromkeys(objects), dict.fromkeys(references))

    def difference(self, results: Sequence[ObjectResult]) -> dict[str, Any]:
        """Mean and 95 % interval of `results` minus these, for every measure that both have.

        A decidability index counts where it is defined in both; of one picture there is no
        interval.

        Returns
        -------
        dict
            By the names of `measures`; ``against`` says which results these are.

        Raises
        ------
        ResultsError
            If the objects are not the same.
        """
        ours = {result.reference: measures(result) for result in results}
        theirs = {result.reference: measures(result) for result in self.results}
        _check_objects(str(self.folder), ours, theirs)
        names = ("model", "model_sha256", "post")
        found: dict[str, Any] = {"against": {name: self.summary.get(name) for name in names}}
        for name in measures(results[0]):
            here, there = _defined(ours, name), _defined(theirs, name)
            both = here.keys() & there.keys()
            if both:
                gain = paired_difference(
                    {reference: here[reference] for reference in both},
                    {reference: there[reference] for reference in both},
                )
                found[name] = {
                    "mean": gain.mean,
                    "interval": gain.interval,
                    "objects": len(both),
                }
        return found


def _defined(
    values: Mapping[ObjectReference, Mapping[str, float | None]], name: str
) -> dict[ObjectReference, float]:
    found = {reference: one.get(name) for reference, one in values.items()}
    return {reference: value for reference, value in found.items() if value is not None}


def _check_objects(
    place: str, ours: Mapping[ObjectReference, Any], theirs: Mapping[ObjectReference, Any]
) -> None:
    if not ours:
        raise ResultsError("there is no object to compare")
    odd = sorted(ours.keys() ^ theirs.keys(), key=lambda item: (item.stem, item.value))
    if odd:
        raise ResultsError(
            f"results of the same objects are needed, but {place} has others: {len(odd)} are in "
            f"one of the two only, the first is {odd[0].stem} {odd[0].value}"
        )
