"""The card of a model: what it is, where it comes from, what it may be used for."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RESEARCH_ONLY = "research use only"
"""Weights licence of a model trained on any set that is not freely licensed."""

_BELIEVED = 0.4
"""Rank correlation from which on a predicted IoU is worth showing."""

_FREE = re.compile(r"\b(CC0|CC BY 4\.0|MIT|BSD-[23]|Apache)\b", re.IGNORECASE)
_RESTRICTED = re.compile(r"non-commercial|research|terms|see README|GPL", re.IGNORECASE)


class TrainingSet(BaseModel):
    """One data set that a model has learned from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(max_length=200, description="name of the data set")
    licence: str = Field(max_length=500, description="licence of its pictures and labels")
    images: int = Field(ge=0, description="pictures it was trained on")
    share: float | None = Field(None, ge=0, description="share of the training crops")


class ModelCard(BaseModel):
    """What the header of a model file says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(max_length=64, description="name of the model")
    version: str = Field(max_length=40, description="version of the package that made it")
    description: str = Field("", max_length=2000, description="what it is good for")
    architecture: dict[str, Any] = Field(description="network configuration (NetworkConfig)")
    input: Literal["rgb-unit"] = Field(
        "rgb-unit",
        description="RGB scaled from the display range to 0..1; grey repeated three times",
    )
    input_size: int = Field(
        320, ge=64, le=4096, description="longest side of a network input, in pixels"
    )
    weights_licence: str = Field(max_length=500, description="what the weights may be used for")
    training_data: tuple[TrainingSet, ...] = Field((), description="data sets learned from")
    training: dict[str, Any] = Field(default_factory=dict, description="recipe and settings")
    metrics: dict[str, float] = Field(default_factory=dict, description="measured accuracy")
    parent: str | None = Field(None, max_length=200, description="SHA-256 of the model refined")

    @property
    def knows_quality(self) -> bool:
        """Whether the IoU that it predicts for a mask says which masks are worse.

        That is so where its rank correlation (Spearman) with the true IoU, the metric
        ``quality_rank``, is 0.4 or more.
        """
        return self.metrics.get("quality_rank", 0.0) >= _BELIEVED


def weights_licence(licences: list[str]) -> str:
    """Licence of weights trained on sets with these licences: the strictest of them decides.

    Examples
    --------
    >>> weights_licence(["CC0", "MIT"])
    'CC BY 4.0'
    >>> weights_licence(["CC0", "BSDS: non-commercial research and education"])
    'research use only'
    """
    free = all(_FREE.search(text) and not _RESTRICTED.search(text) for text in licences)
    return "CC BY 4.0" if free else RESEARCH_ONLY
