"""What every recipe's loop has: batches made ahead, rates, log, checkpoints, an end in time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from tqdm import tqdm

from napari_fctsfn._files import remove_parts, replace_file
from napari_fctsfn.errors import InputError
from napari_fctsfn.network import FCTSFN
from napari_fctsfn.train.checkpoint import CheckpointError
from napari_fctsfn.train.distributed import Processes

Batch = TypeVar("Batch")

_PRETRAINED = ("image_stream.backbone", "fusion.tail")
"""Parts of ``lite`` networks that begin with ImageNet's weights."""

_LOG = "log.jsonl"


class Plan(Protocol):
    """What `run` reads of a recipe's settings; see `modern.TrainSettings`."""

    @property
    def output(self) -> Path:
        """Folder of log and checkpoint."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""

    @property
    def save_every(self) -> int:
        """Steps between checkpoints."""


@dataclass(frozen=True)
class Outcome:
    """What a step gave.

    Parameters
    ----------
    record : dict
        For the log, as plain values.
    shown : dict of str to str
        For the progress bar.
    stop : bool
        Whether the training is complete before its last step.
    """

    record: dict[str, Any]
    shown: dict[str, str] = field(default_factory=dict)
    stop: bool = False


def deadline_after(minutes: float | None) -> float | None:
    """The monotonic time so many minutes from now."""
    return None if minutes is None else time.monotonic() + 60 * minutes


def run(
    plan: Plan,
    first: int,
    batches: Iterable[Batch],
    take_step: Callable[[int, Batch], Outcome],
    save: Callable[[int], None],
    *,
    deadline: float | None,
    processes: Processes | None = None,
    tensorboard: bool = False,
) -> bool:
    """Take the steps from `first` on, log each, and save now and then and at the end.

    Parameters
    ----------
    plan : Plan
    first : int
        Steps that are already done.
    batches : iterable
        What `take_step` gets with the number of the step.
    take_step : callable
    save : callable
        Gets the number of steps done; only the main process is asked to.
    deadline : float, optional
        Monotonic time after which the training stops with a checkpoint.
    processes : Processes, optional
        One if not given.
    tensorboard : bool
        Whether the numbers of the log are written for TensorBoard, too.

    Returns
    -------
    bool
        False if time was over before the training was complete.

    Raises
    ------
    InputError
        If TensorBoard is wanted but not installed.
    CheckpointError
        If another training writes to the same folder.
    """
    processes = processes or Processes()
    with ExitStack() as stack:
        log = None
        if processes.main:
            stack.enter_context(_alone(plan.output))
            remove_parts(plan.output, ["checkpoint.safetensors", _LOG])
            log = stack.enter_context(_Log(plan.output, first, tensorboard))
        bar = tqdm(
            range(first, plan.steps),
            initial=first,
            total=plan.steps,
            unit="step",
            disable=not processes.main,
        )
        for step, batch in zip(bar, batches, strict=False):
            began = time.perf_counter()
            outcome = take_step(step, batch)
            seconds = round(time.perf_counter() - began, 3)
            if log is not None:
                log.write({**outcome.record, "seconds": seconds})
                bar.set_postfix(outcome.shown)
            last = outcome.stop or step + 1 == plan.steps
            over = False
            if deadline is not None and not last:
                over = processes.agree(time.monotonic() > deadline)
            if processes.main and ((step + 1) % plan.save_every == 0 or last or over):
                save(step + 1)
            if last or over:
                return last
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second training out of the folder."""
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CheckpointError(
            f"a training is running in {folder}: let it end, or choose another output folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


class _Log:
    """One line of JSON for each step, once; on request the same numbers for TensorBoard."""

    def __init__(self, folder: Path, first: int, tensorboard: bool) -> None:
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:
                raise InputError(
                    "--tensorboard needs TensorBoard: pip install 'napari-fctsfn[tensorboard]'"
                ) from None
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first)
        path = folder / _LOG
        if path.exists():
            _keep_before(path, first)
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, int | float):
                    self._writer.add_scalar(name, value, record["step"])


def _keep_before(path: Path, first: int) -> None:
    """Drop from a log what was taken after the last checkpoint and is taken again."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] >= first or not line.endswith("\n"):
                break
        except (ValueError, TypeError, KeyError):  # half a line, or what is no log
            break
        kept.append(line)
    with replace_file(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def ahead(draw: Callable[[int], Batch], first: int, workers: int) -> Iterator[Batch]:
    """What `draw` gives for the steps from `first` on, made ahead by some threads."""
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(draw, first + k) for k in range(workers + 1)]
        step = first + len(waiting)
        while True:
            batch = waiting.pop(0).result()
            waiting.append(pool.submit(draw, step))
            step += 1
            yield batch


def resume_point(
    state: dict[str, Any], described: dict[str, Any], output: Path, cooldown: float
) -> int:
    """The step to go on from, if a checkpoint belongs to these settings.

    Parameters
    ----------
    state : dict
        Of the checkpoint: ``step`` and ``settings``.
    described : dict
        The settings now; ``steps`` may differ until the cool-down has begun.
    output : Path
        Folder of the checkpoint.
    cooldown : float
        Last part of the steps, in which the rates depend on their number.

    Raises
    ------
    CheckpointError
        If it does not.
    """
    done = int(state["step"])
    before, now = dict(state["settings"]), json.loads(json.dumps(described))
    total = before.pop("steps"), now.pop("steps")
    if before != now:
        differing = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        raise CheckpointError(
            f"the checkpoint in {output} was made with other {', '.join(differing)}; "
            f"choose another output folder or the same settings"
        )
    if total[0] != total[1] and done > (1 - cooldown) * min(total):
        raise CheckpointError(
            f"the checkpoint in {output} is at step {done} of {total[0]}, in its "
            f"cool-down: the number of steps can no longer become {total[1]}"
        )
    return done


def warm_up_and_cool_down(
    optimizer: torch.optim.Optimizer, step: int, steps: int, cooldown: float
) -> None:
    """Set rates: up over 200 steps, then each group's base, then linearly to a fiftieth of it."""
    warm = min(1.0, (step + 1) / 200)
    left = (steps - step) / max(cooldown * steps, 1)
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * warm * max(min(left, 1.0), 0.02)


def is_pretrained(name: str) -> bool:
    """Whether a part of a ``lite`` network begins with ImageNet's weights."""
    return name.startswith(_PRETRAINED)


def training_mode(network: FCTSFN) -> None:
    """Training mode, but pretrained parts keep their batch-norm statistics."""
    network.train()
    for name, module in network.named_modules():
        if is_pretrained(name) and isinstance(module, nn.BatchNorm2d):
            module.eval()


def full_precision_large_kernels(network: nn.Module) -> None:
    """Keep kernels larger than 3 x 3 out of autocast on CPUs.

    The bf16 backward pass of depthwise ones is 3x slower there, and the bf16 weight gradient of
    oneDNN holds uninitialised memory where a kernel is larger than its map.
    """

    def outside_autocast(forward: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(inputs.float())

    for module in network.modules():
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 3:
            module.forward = partial(outside_autocast, module.forward)  # type: ignore[method-assign]


def descend(
    loss: Tensor, optimizer: torch.optim.Optimizer, step: int, clip: list[nn.Parameter]
) -> None:
    """One optimizer step down the gradient; that of the parameters in `clip` has at most norm 5.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {float(loss.detach())} at step {step}")
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if clip:
        nn.utils.clip_grad_norm_(clip, 5.0)
    optimizer.step()
