"""One model, one file: safetensors with the card in the header. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError
from napari_fctsfn.models.card import ModelCard
from napari_fctsfn.network import FCTSFN, NetworkConfig, build_network

_LARGEST_HEADER = 1 << 20
_LARGEST_FILE = 2 << 30
_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I64": 8}
_MOST_AXES = 8

_DIGEST = "weights_sha256"
"""Key of the header: without it a flipped bit would give masks that are silently worse."""


class ModelError(InputError):
    """A model that cannot be used; the message names the value and the remedy."""


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to predict.

    Parameters
    ----------
    network : FCTSFN
        On the CPU, single precision, in evaluation mode, without gradients.
    card : ModelCard
    sha256 : str
        Of the file, hexadecimal.
    """

    network: FCTSFN
    card: ModelCard
    sha256: str


def save_model(path: Path, network: FCTSFN, card: ModelCard, *, half: bool = True) -> str:
    """Write a model file, atomically.

    Parameters
    ----------
    path : Path
        The file, ending in ``.safetensors``; its folder must exist.
    network : FCTSFN
    card : ModelCard
        Its architecture is replaced by the network's.
    half : bool
        Whether the weights are rounded to half precision, so that the file is half as large.

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    ModelError
        If a weight is not finite, or not in half precision.
    """
    card = card.model_copy(update={"architecture": network.config.to_dict()})
    tensors = {}
    for key, value in network.state_dict().items():
        stored = value.detach().cpu().contiguous()
        if stored.dtype.is_floating_point:
            stored = stored.half() if half else stored.float()
            if not torch.isfinite(stored).all():
                precision = "half" if half else "single"
                raise ModelError(
                    f"{key} has weights that {precision} precision cannot hold; not saved"
                )
        tensors[key] = stored
    with replace_file(path) as temporary:
        header, data = _parts(save(tensors))
        digest = _digest(json.loads(header), data)
        # Written here, since the library orders the metadata by chance and the file's hash counts.
        metadata = {"card": card.model_dump_json(), _DIGEST: digest}
        text = json.dumps({"__metadata__": metadata, **json.loads(header)}).encode()
        text += b" " * (-len(text) % 8)
        content = len(text).to_bytes(8, "little") + text + data
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_card(path: Path) -> ModelCard:
    """The card of a model file, without reading the weights.

    Raises
    ------
    ModelError
        If the file is missing or not a model of this package.
    """
    return _check_header(path, _read_header(path))[0]


def load_model(path: Path) -> LoadedModel:
    """Load a model file.

    Raises
    ------
    ModelError
        If the file is missing, damaged, too large, or describes another network than it holds.
        Sizes are checked against the file before anything is allocated.
    """
    header = _read_header(path)
    card, digest = _check_header(path, header)
    content = path.read_bytes()
    if digest is not None and digest != _digest(header, _parts(content)[1]):
        raise ModelError(f"{path} is damaged: its weights have changed; get or make it again")
    try:
        config = NetworkConfig.from_dict(card.architecture)
        with torch.device("meta"):
            expected = {k: tuple(v.shape) for k, v in build_network(config).state_dict().items()}
    except ValueError as error:
        raise ModelError(f"{path}: {_short(error)}") from None
    found = {key: tuple(entry["shape"]) for key, entry in header.items()}
    if found != expected:
        differing = sorted(
            k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k)
        )
        raise ModelError(
            f"{path} does not hold the network its card describes: "
            f"{len(differing)} tensors differ, the first is {_short(differing[0])!r}"
        )
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({_short(error)}); get or make it again") from None
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise ModelError(f"{path} holds weights that are not finite; get or make the model again")
    network = build_network(config)
    network.load_state_dict({key: value.float() for key, value in tensors.items()})
    network.eval().requires_grad_(False)
    return LoadedModel(network, card, hashlib.sha256(content).hexdigest())


def _read_header(path: Path) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > _LARGEST_FILE:
            raise ModelError(f"{path} has {size} bytes; a model file has at most {_LARGEST_FILE}")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_LARGEST_HEADER, size - 8):
                raise ModelError(f"{path} is not a model file: it starts with no valid header")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} is not a model file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise ModelError(f"{path} is not a model file: its header is no object")
    return header


def _parts(content: bytes) -> tuple[bytes, memoryview]:
    """Header and weights of a file of safetensors."""
    stop = 8 + int.from_bytes(content[:8], "little")
    return content[8:stop], memoryview(content)[stop:]


def _digest(tensors: dict[str, Any], data: memoryview) -> str:
    """SHA-256 of the weights and of what the header says of them."""
    digest = hashlib.sha256(json.dumps(tensors, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()


def _check_header(path: Path, header: dict[str, Any]) -> tuple[ModelCard, str | None]:
    """Take card and digest out of `header`; what remains are tensors, soundly described."""
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("card"), str):
        raise ModelError(f"{path} is a safetensors file, but not a model of napari-fctsfn")
    try:
        card = ModelCard.model_validate_json(metadata["card"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{path}: the model card is not valid at {_short(place)!r}: {_short(first['msg'])}"
        ) from None
    for key, entry in header.items():
        try:
            start, stop = entry["data_offsets"]
            shape, width = entry["shape"], _BYTES[entry["dtype"]]
            whole = all(type(n) is int and 0 <= n < 1 << 31 for n in (*shape, start, stop))
            sound = whole and len(shape) <= _MOST_AXES and stop - start == width * math.prod(shape)
        except (TypeError, KeyError, ValueError):
            sound = False
        if not sound:
            raise ModelError(f"{path} is damaged: tensor {_short(key)!r} has no valid description")
    return card, metadata.get(_DIGEST)


def _short(text: object) -> str:
    """What a file says of itself, as an error shows it: on one line that is not too long."""
    line = " ".join(str(text).split())
    return line if len(line) <= 200 else f"{line[:200]}..."
