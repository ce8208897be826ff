"""One process or several (``torchrun``): who writes, who agrees with whom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from napari_fctsfn.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen from one of them.

    Parameters
    ----------
    rank, size : int
        This one's number, and how many there are.
    device : str
        The torch device of this process.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def main(self) -> bool:
        """Whether this is the process that logs and saves."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are the mean over all processes."""
        if self.size == 1:
            return network
        devices = [torch.device(self.device)] if self.device.startswith("cuda") else None
        wrapped: nn.Module = DistributedDataParallel(network, device_ids=devices)
        return wrapped

    def agree(self, flag: bool) -> bool:
        """What the main process says."""
        if self.size == 1:
            return flag
        said = [flag]
        dist.broadcast_object_list(said, src=0, device=torch.device(self.device))
        return said[0]

    def gather(self, values: list[T]) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return values
        lists: list[Any] = [None] * self.size
        dist.all_gather_object(lists, values)
        return [value for each in lists for value in each]

    def share_buffers(self, network: nn.Module) -> None:
        """Give every process the main one's batch-norm statistics."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def join(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started; without it there is one.

    Parameters
    ----------
    device : str
        ``cuda`` becomes a GPU for each process of a machine; the processes talk by NCCL on GPUs, by
        gloo otherwise.

    Raises
    ------
    InputError
        If a machine has fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Processes(device=device)
        return
    gpu = torch.device(device).type == "cuda"
    if gpu:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"there are {torch.cuda.device_count()} GPUs: start no more processes than that"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Processes(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()
