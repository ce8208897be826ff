"""Checkpoints: one safetensors file with tensors and the state of the run, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from napari_fctsfn._files import replace_file
from napari_fctsfn.errors import InputError

_NAMED = 10
"""Of layers that differ so many are named."""


class CheckpointError(InputError):
    """A checkpoint that cannot be resumed from; the message says why and what to do."""


def save_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> None:
    """Write modules, optimizer and JSON `state`; an older file stays whole until the end."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in values.items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with replace_file(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"state": json.dumps(state)}))


def load_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Fill modules and optimizer from `path` and return the JSON state.

    Raises
    ------
    CheckpointError
        If the file is damaged or belongs to another network; it says which layers differ.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        _check_layers(path, modules, tensors)
        for name, module in modules.items():
            prefix = f"{name}/"
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "optimizer":
                index, _, slot = rest.partition("/")
                slots.setdefault(int(index), {})[slot] = value
        whole = optimizer.state_dict()
        optimizer.load_state_dict({"state": slots, "param_groups": whole["param_groups"]})
    except CheckpointError:
        raise
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be resumed ({reason}); move it away to start the training anew"
        ) from None
    return dict(state)


def _check_layers(
    path: Path, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]
) -> None:
    """Raise if the checkpoint's modules do not have the layers and shapes of `modules`."""
    here = {
        f"{name}/{key}": value.shape
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    there = {key: t.shape for key, t in tensors.items() if not key.startswith("optimizer/")}
    differing = [k for k in (*here, *(there.keys() - here)) if here.get(k) != there.get(k)]
    if not differing:
        return
    layers = sorted({key.partition("/")[2].rpartition(".")[0] for key in differing})
    more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
    raise CheckpointError(
        f"{path} is of another network: it differs in {', '.join(layers[:_NAMED])}{more}; "
        f"choose another output folder or the same architecture"
    )
