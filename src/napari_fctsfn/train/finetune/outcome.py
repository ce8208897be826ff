"""What a fine-tuning gave: its card, and its way into the registry."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fctsfn import __version__
from napari_fctsfn.errors import InputError
from napari_fctsfn.models import (
    LoadedModel,
    ModelCard,
    ModelEntry,
    TrainingSet,
    data_directory,
    register_model,
    weights_licence,
)
from napari_fctsfn.network import FCTSFN
from napari_fctsfn.train.finetune.measure import Example, Measured
from napari_fctsfn.train.finetune.pictures import OWN, Picture

_ROOM = 4
"""Room for so many models of the base's size is asked for."""

_NAMED = 3
"""Sources that a card's description names."""


class FineTuneError(InputError):
    """A fine-tuning that came to nothing; the message says why, and nothing was replaced."""


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning gave.

    Parameters
    ----------
    network : FCTSFN
        On the CPU, in evaluation mode.
    before, after : Measured or None
        On held-out objects; None where nothing could be held out.
    generic_before, generic_after : Measured
        On the pictures that come with the package.
    notes : tuple of str
        What the user should know.
    about : dict
        For the card: settings, and what was learned from.
    learned : tuple of TrainingSet
    parent : LoadedModel
    examples : tuple of Example
        Held-out objects after one click, before and after.
    cancelled : bool
        Whether it was ended before its time.
    """

    network: FCTSFN
    before: Measured | None
    after: Measured | None
    generic_before: Measured
    generic_after: Measured
    notes: tuple[str, ...]
    about: dict[str, Any]
    learned: tuple[TrainingSet, ...]
    parent: LoadedModel
    examples: tuple[Example, ...] = ()
    cancelled: bool = False

    @property
    def improved(self) -> bool:
        """Whether held-out objects need fewer clicks than before."""
        return (
            self.before is not None
            and self.after is not None
            and self.after.better_than(self.before)
        )

    def card(self, name: str) -> ModelCard:
        """The card of the model, which names its parent and all it has learned from."""
        base = self.parent.card
        known = {entry.name for entry in self.learned}
        inherited = tuple(
            entry.model_copy(update={"share": 0.0})
            for entry in base.training_data
            if entry.name not in known
        )
        licences = [entry.licence for entry in self.learned if entry.licence != OWN]
        metrics = {
            **({} if self.before is None else self.before.metrics("before")),
            **({} if self.after is None else self.after.metrics("after")),
            **self.generic_before.metrics("generic_before"),
            **self.generic_after.metrics("generic_after"),
        }
        return ModelCard(
            name=name,
            version=__version__,
            description=f"Fine-tuned from {base.name} on {_told(self.learned)}.",
            architecture=self.network.config.to_dict(),
            input=base.input,
            input_size=base.input_size,
            weights_licence=weights_licence([base.weights_licence, *licences]),
            training_data=(*self.learned, *inherited),
            training={
                "recipe": "finetune",
                "base": base.name,
                **self.about,
                "notes": list(self.notes),
                "improved": self.improved,
                "forced": False,
            },
            metrics=metrics,
            parent=self.parent.sha256,
        )


def by_force(card: ModelCard) -> ModelCard:
    """The card of a model that is registered whether it is better or not, which says so."""
    return card.model_copy(
        update={
            "description": card.description.removesuffix(".") + ", registered by force.",
            "training": {**card.training, "forced": True},
        }
    )


def _told(learned: Sequence[TrainingSet]) -> str:
    """What was learned from, in few words."""
    most = sorted(learned, key=lambda entry: -entry.images)
    named = [f"{entry.name} ({entry.images} pictures)" for entry in most[:_NAMED]]
    if rest := sum(entry.images for entry in most[_NAMED:]):
        named.append(f"others ({rest} pictures)")
    return ", ".join(named)


def register(tuned: FineTuned, name: str, *, force: bool = False) -> ModelEntry:
    """Put a fine-tuned model into the registry, whole or not at all.

    Parameters
    ----------
    tuned : FineTuned
    name : str
    force : bool
        Whether a model that is not better is taken too, and one of that name replaced.

    Raises
    ------
    FineTuneError
        If the model is no better than its base and that is not forced, or cannot be written.
    ModelError
        If the name is not valid or taken.
    """
    if not (tuned.improved or force):
        raise FineTuneError(
            f"no improvement on held-out objects ({_compared(tuned)}): {tuned.parent.card.name} "
            f"stays as it is; correct more objects, or --force registers it anyway"
        )
    try:
        card = tuned.card(name)
        return register_model(name, tuned.network, by_force(card) if force else card, replace=force)
    except OSError as error:
        raise FineTuneError(
            f"the model {name!r} could not be written: {error.strerror or error}; make room and "
            f"train again"
        ) from error


def check_room(base: Path) -> None:
    """Refuse to train for a model that there is no room to write.

    Parameters
    ----------
    base : Path
        File of the model to start from; the new one will be as large.

    Raises
    ------
    FineTuneError
        If the disk of the registry is nearly full.
    """
    folder = data_directory()
    while not folder.exists():
        folder = folder.parent
    needed = _ROOM * base.stat().st_size
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FineTuneError(
            f"{folder} has {free / 1e6:.0f} MB free and a model needs {needed / 1e6:.0f} MB: "
            f"make room first"
        )


def _compared(tuned: FineTuned) -> str:
    if tuned.before is None or tuned.after is None:
        return "there were none to measure on"
    return f"{tuned.before.noc85:.2f} clicks before, {tuned.after.noc85:.2f} after"


def learned_from(pictures: Sequence[Picture]) -> tuple[TrainingSet, ...]:
    """For a card: the sources of some pictures, and how many are of each."""
    sources: dict[tuple[str, str], int] = {}
    for picture in pictures:
        key = (picture.source or OWN, picture.licence)
        sources[key] = sources.get(key, 0) + 1
    total = sum(sources.values())
    return tuple(
        TrainingSet(name=name[:200], licence=licence[:500], images=count, share=count / total)
        for (name, licence), count in sources.items()
    )
