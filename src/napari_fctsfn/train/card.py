"""The model file that a training ends with, and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_fctsfn import __version__
from napari_fctsfn.models import (
    LoadedModel,
    ModelCard,
    TrainingSet,
    save_model,
    weights_licence,
)
from napari_fctsfn.network import FCTSFN


def write_model(
    folder: Path,
    name: str,
    network: FCTSFN,
    *,
    recipe: str,
    settings: Mapping[str, Any],
    learned: Sequence[TrainingSet],
    parent: LoadedModel | None = None,
    input_size: int = 320,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Write ``NAME.safetensors``; the card names all that the model has learned from.

    Parameters
    ----------
    folder : Path
    name : str
    network : FCTSFN
    recipe : str
        Name of the recipe.
    settings : mapping
        Of the training, as plain values.
    learned : sequence of TrainingSet
        What it was trained on.
    parent : LoadedModel, optional
        The model it started from; what that had learned from is named with a share of zero.
    input_size : int
        Longest side of a network input, in pixels.
    metrics : mapping of str to float, optional
        Measured accuracy.

    Returns
    -------
    Path
        The model file.
    """
    names = {entry.name for entry in learned}
    before = () if parent is None else parent.card.training_data
    every = [
        *learned,
        *(entry.model_copy(update={"share": 0.0}) for entry in before if entry.name not in names),
    ]
    card = ModelCard(
        name=name,
        version=__version__,
        description=f"Trained with the {recipe} recipe on "
        + ", ".join(entry.name for entry in every)
        + ".",
        architecture=network.config.to_dict(),
        input_size=input_size,
        weights_licence=weights_licence([entry.licence for entry in every]),
        training_data=tuple(every),
        parent=None if parent is None else parent.sha256,
        training={"recipe": recipe, **settings},
        metrics=dict(metrics or {}),
    )
    path = folder / f"{name}.safetensors"
    save_model(path, network, card)
    return path
