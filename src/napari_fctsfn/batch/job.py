"""A batch job: which images, where the clicks come from, with which model, and what is written.

A job file is YAML (or JSON, which is YAML)::

    version: 1
    inputs: {images: ["images/*.tif"]}
    clicks: {from: files}
    model: {name: default}
    outputs: {folder: results}

Paths are relative to the folder of the job file. Results hold the job too, as it was run.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError
from napari_fctsfn.predict import Settings
from napari_fctsfn.stack import Direction

VERSION = 1
_LARGEST_FILE = 1 << 20


class JobError(InputError):
    """A job that cannot be run; the message names the place, the value and the remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Inputs(_Part):
    """The images."""

    images: tuple[str, ...] = Field(
        min_length=1, description="paths or patterns such as images/*.tif; ** is any folder"
    )
    axes: str | None = Field(
        None,
        pattern="^[tczyxs]+$",
        description="names of the axes, such as czyx, instead of those in the file; where neither "
        "names them rows and columns come last, after them colours, before them slices",
    )
    channel: int | None = Field(None, ge=0, description="which place of the axis c is segmented")
    chunk: int | None = Field(
        None,
        ge=64,
        description="images are read and segmented in chunks of so many rows and columns, slice by "
        "slice, as is needed where they are larger than memory; by default whole",
    )
    halo: int = Field(
        256, ge=0, description="pixels around a chunk that are looked at: at least an object's size"
    )


class FromFiles(_Part):
    """Click files beside the images: STEM_clicks.json or STEM_clicks.csv."""

    source: Literal["files"] = Field(alias="from")
    folder: str | None = Field(None, description="where they are, if not beside the images")
    suffix: str = Field("_clicks", description="what follows the image's stem")


class Columns(_Part):
    """Names of a table's columns."""

    row: str = "axis-0"
    column: str = "axis-1"
    image: str | None = Field(None, description="holds the stem or file name of the image")
    slice: str | None = Field(None, description="the slice, counted from 0")
    positive: str | None = Field(
        None, description="true or 1 on the object, by default all are; it needs object"
    )
    object: str | None = Field(None, description="the label; by default every row is an object")

    @model_validator(mode="after")
    def _objects_known(self) -> Columns:
        if self.positive is not None and self.object is None:
            raise ValueError(
                f"positive {self.positive} needs object too: name the column that says which "
                f"object a click belongs to, or leave positive out"
            )
        return self


class FromTable(_Part):
    """A points table, CSV, from any program."""

    source: Literal["table"] = Field(alias="from")
    path: str
    columns: Columns = Columns()


class FromSeeds(_Part):
    """One click on each of the things that a detector finds."""

    source: Literal["seeds"] = Field(alias="from")
    method: Literal["maxima", "log"] = Field(
        "log", description="local maxima of the smoothed image, or blobs (Laplacian of Gaussian)"
    )
    radius: float = Field(gt=0, description="of the things, in pixels")
    threshold: float = Field(
        0.1, ge=0, le=1, description="least brightness, or strength of a blob, 0..1"
    )
    dark: bool = Field(False, description="whether the things are dark on bright ground")


class FromMasks(_Part):
    """Imprecise masks to be refined, or any label image whose objects are to be clicked on."""

    source: Literal["masks"] = Field(alias="from")
    path: str = Field(description="label images; {stem} stands for the image's stem")
    use: Literal["refine", "centroids"] = Field(
        "refine", description="refine the masks, or only click in the middle of each"
    )


class FromPropagation(_Part):
    """Objects annotated in some slices are followed through the stack."""

    source: Literal["propagate"] = Field(alias="from")
    path: str = Field(description="label stacks; {stem} stands for the image's stem")
    slices: tuple[int, ...] = Field(min_length=1, description="the annotated slices, from 0 on")
    direction: Direction = "both"


class FromSession(_Part):
    """The clicks of annotation sessions, replayed."""

    source: Literal["session"] = Field(alias="from")
    folder: str | None = Field(
        None,
        description="a session's folder, in which {stem} stands for the image's stem, or one with "
        "sessions in it; by default the one in which the dock keeps them",
    )


ClickSource = Annotated[
    FromFiles | FromTable | FromSeeds | FromMasks | FromPropagation | FromSession,
    Field(discriminator="source"),
]


class ModelChoice(_Part):
    """Which model."""

    name: str = Field("default", description="name in the registry, or path of a model file")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of its file; written down when a job is run"
    )
    device: str = Field("cpu", description="auto, cpu, cuda, cuda:N or mps")


class Range(_Part):
    """A fixed range of intensities for all images."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low <= self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Choices(_Part):
    """How a probability becomes a mask; see `predict.Settings`."""

    threshold: float = Field(0.5, gt=0, lt=1)
    consistent: bool = True
    steady: float = Field(0.3, ge=0, lt=1)
    flip: bool = False
    graph_cut: bool = False
    graph_cut_strength: float = Field(1.0, gt=0)
    drop_unclicked: bool = True
    fill_holes: bool = True
    extent: float = Field(0.0, ge=0, description="longest side of the objects in pixels, 0: any")

    def settings(self) -> Settings:
        """The same for a predictor."""
        return Settings(**self.model_dump())


class Outputs(_Part):
    """What is written."""

    folder: str
    labels: Literal["tiff", "ome-tiff", "ome-zarr", "png"] = "tiff"
    probability: bool = False
    clicks: bool = True
    measurements: bool = True
    overlay: bool = True


class Job(_Part):
    """A batch job."""

    version: Literal[1]
    inputs: Inputs
    clicks: ClickSource
    model: ModelChoice = ModelChoice()
    normalisation: Literal["image", "job"] | Range = Field(
        "image",
        description="intensity range: percentiles of each image, of all images together (resolved "
        "once and written down), or two numbers",
    )
    settings: Choices = Choices()
    outputs: Outputs

    @model_validator(mode="after")
    def _chunks_fit(self) -> Job:
        if self.inputs.chunk and isinstance(self.clicks, FromPropagation | FromSession):
            raise ValueError(
                f"inputs.chunk {self.inputs.chunk} does not go with clicks from "
                f"{self.clicks.source}: leave it out"
            )
        if self.outputs.probability and isinstance(self.clicks, FromPropagation | FromSession):
            raise ValueError(
                f"outputs.probability is not known where clicks are from {self.clicks.source}: "
                f"leave it out"
            )
        if self.normalisation != "image" and isinstance(self.clicks, FromSession):
            raise ValueError(
                "normalisation does not go with clicks from session, which have their own range: "
                "leave it out"
            )
        return self


def read_job(path: str | os.PathLike[str]) -> Job:
    """Read a job file.

    Raises
    ------
    JobError
        If it is missing, no YAML, or not a job in every detail.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise JobError(f"{path} has more than {_LARGEST_FILE} bytes: it is no job file")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JobError(f"the job file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise JobError(f"the job file {path} is not text in UTF-8: save it as UTF-8") from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise JobError(f"the job file {path} is no YAML: {reason}") from None
    return parse_job(document, str(path))


def parse_job(document: Any, place: str = "the job") -> Job:
    """The job that a mapping of keys describes.

    Raises
    ------
    JobError
        If a key is missing, unknown or has a value that cannot be; the first of them is named.
    """
    if not isinstance(document, dict):
        raise JobError(f"{place} holds no keys: it must begin with version: {VERSION}")
    version = document.get("version")
    if type(version) is int and version > VERSION:
        raise JobError(f"{place} has version {version}, newer than {VERSION}: update to run it")
    try:
        return Job.model_validate(document)
    except ValidationError as error:
        raise JobError(f"{place}: {_sentence(error)}") from None


_KINDS = ("files", "table", "seeds", "masks", "propagate", "session")
_TAGS = ("Range", "literal['image','job']")


def _sentence(error: ValidationError) -> str:
    """What is wrong first; of a choice of kinds, in the kind that comes nearest.

    An unknown key comes before a missing one, which it is mostly meant for.
    """
    kinds = ("value_error", "extra_forbidden")
    first = max(error.errors(), key=lambda e: (e["type"] in kinds, len(e["loc"])))
    steps = [step for step in first["loc"] if step not in _TAGS]
    if steps[:1] == ["clicks"] and steps[1:2] and steps[1] in _KINDS:
        del steps[1]
    key = ".".join(str(step) for step in steps)
    match first["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(steps[-1]), _keys(), 1)
            hint = f"write {near[0]}" if near else "remove it"
            return f"the key {key} is unknown: {hint}, or see napari-fctsfn batch --schema"
        case "union_tag_invalid":
            given = str(first["ctx"]["tag"])[:60]
            return f"clicks.from is {given!r}: say {', '.join(_KINDS[:-1])} or {_KINDS[-1]}"
        case "union_tag_not_found":
            return f"the key clicks.from is missing: say {', '.join(_KINDS[:-1])} or {_KINDS[-1]}"
        case "missing":
            return f"the key {key} is missing: add it"
        case _:
            value = str(first["input"])[:60]
            return f"{key or 'it'} is {value!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _keys() -> list[str]:
    """All keys that a job may have anywhere."""
    parts = [schema(), *schema()["$defs"].values()]
    return sorted({key for part in parts for key in part.get("properties", ())})


def anchored(job: Job, base: Path, folder: Path) -> Job:
    """The same job with its paths relative to another folder.

    Parameters
    ----------
    job : Job
    base : Path
        The folder that its relative paths are relative to now.
    folder : Path
        The folder that they shall be relative to; absolute ones stay.
    """

    def place(path: str) -> str:
        if Path(path).is_absolute():
            return path
        try:
            return Path(os.path.relpath(base / path, folder)).as_posix()
        except ValueError:  # another drive
            return str(base / path)

    clicks = job.clicks.model_dump(by_alias=True)
    for key in ("path", "folder"):
        if clicks.get(key):
            clicks[key] = place(clicks[key])
    document = job.model_dump(by_alias=True)
    document["inputs"]["images"] = [place(pattern) for pattern in job.inputs.images]
    document["outputs"]["folder"] = place(job.outputs.folder)
    if is_model_path(job.model.name):
        document["model"]["name"] = place(job.model.name)
    return Job.model_validate({**document, "clicks": clicks})


def is_model_path(name: str) -> bool:
    """Whether a model is named by its file."""
    return Path(name).name != name or name.endswith(".safetensors")


def write_job(path: Path, job: Job) -> None:
    """Write a job file, whole or not at all."""
    document = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    with replace_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def schema() -> dict[str, Any]:
    """The JSON schema of a job file."""
    return Job.model_json_schema(by_alias=True)
