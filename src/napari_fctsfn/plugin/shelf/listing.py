"""The models there are, as the Models dock lists them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_fctsfn.models import ModelCard
    from napari_fctsfn.session.effort import Effort


@dataclass(frozen=True)
class Listed:
    """A model of the registry.

    Parameters
    ----------
    name : str
    bundled : bool
        Whether it comes with the package.
    size : int
        Bytes of its file.
    sha256 : str
        Of its file.
    card : ModelCard or None
        None if it cannot be read, and `problem` says why.
    """

    name: str
    bundled: bool
    size: int
    sha256: str
    card: ModelCard | None
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """All models, and what is known of their use.

    Parameters
    ----------
    models : tuple of Listed
    chosen : str
        Name of the model that is used unless one is named.
    deleted : tuple of str
        Names of models that can be brought back.
    efforts : tuple of Effort
        What objects have taken in all sessions.
    """

    models: tuple[Listed, ...]
    chosen: str
    deleted: tuple[str, ...]
    efforts: tuple[Effort, ...] = ()

    def names(self) -> dict[str, str]:
        """Names of models by their SHA-256."""
        return {model.sha256: model.name for model in self.models[::-1]}

    def parent(self, model: Listed) -> str:
        """The name of the model that one was refined from, or what is known of it."""
        parent = None if model.card is None else model.card.parent
        if not parent:
            return ""
        return self.names().get(parent, parent[:12])


def read_listing() -> Listing:
    """Look at the registry; in the background, since every file is read."""
    from napari_fctsfn.models import chosen_model, deleted_models, list_models
    from napari_fctsfn.session.effort import efforts
    from napari_fctsfn.session.folders import sessions_directory

    models = tuple(_listed(entry.name, entry.bundled, entry.path) for entry in list_models())
    done = tuple(efforts(sessions_directory()))
    return Listing(models, chosen_model(), tuple(deleted_models()), done)


def _listed(name: str, bundled: bool, path: Path) -> Listed:
    from napari_fctsfn.models import ModelError, read_card

    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Listed(name, bundled, path.stat().st_size, sha256, read_card(path))
    except (ModelError, OSError) as error:
        return Listed(name, bundled, 0, "", None, str(error))


def describe(listing: Listing, model: Listed) -> str:
    """The card of a model, as HTML."""
    card = model.card
    if card is None:
        return f"<b>{escape(model.name)}</b><br>{escape(model.problem)}"
    data = ", ".join(f"{part.name} ({part.images})" for part in card.training_data)
    lines = {
        "": card.description,
        "Refined from": listing.parent(model),
        "Learned from (pictures)": data,
        "Weights": card.weights_licence,
        "Measured": _measured(card.metrics),
        "Size": f"{model.size / 1e6:.1f} MB, SHA-256 {model.sha256[:12]}",
    }
    text = (f"{f'{title}: ' if title else ''}{escape(v)}" for title, v in lines.items() if v)
    return f"<b>{escape(model.name)}</b><br>" + "<br>".join(text)


def _measured(metrics: dict[str, float]) -> str:
    """Clicks to 85 % IoU on whatever they were counted on."""
    clicks = {
        name.split("/")[0]: value for name, value in metrics.items() if name.endswith("/noc85")
    }
    if not clicks and "after_noc85" in metrics:
        clicks = {
            "held-out objects before": metrics.get("before_noc85", float("nan")),
            "after": metrics["after_noc85"],
        }
    if not clicks:
        return ""
    return "clicks to 85 % IoU: " + ", ".join(f"{n} {value:.1f}" for n, value in clicks.items())
