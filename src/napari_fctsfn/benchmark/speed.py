"""Image, first mask and further clicks, timed in a process of their own."""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_fctsfn.benchmark import peers
from napari_fctsfn.clicks import Click, Clicks
from napari_fctsfn.clicks.simulate import next_click
from napari_fctsfn.predict import Predictor

CLICKS = 10
"""Clicks on an object, as many as a session has; the first gives the first mask."""

_OBJECTS = 2


@dataclass(frozen=True)
class Task:
    """What is measured.

    Parameters
    ----------
    size : int
        Rows and columns of the image.
    model : str
        Name of a model or path of its file, or with `peer` the name of a peer.
    peer : bool
    device : str
        ``auto`` or a torch device.
    sessions : int
        Sessions that are timed, after one of a single click that is not.
    clicks : int
        Clicks on each of the two objects of a session.
    threads : int or None
        Of torch; None leaves them as they are.
    """

    size: int
    model: str
    peer: bool = False
    device: str = "auto"
    sessions: int = 5
    clicks: int = CLICKS
    threads: int | None = None


@dataclass(frozen=True)
class Timing:
    """Medians over all sessions of a task, in milliseconds.

    Parameters
    ----------
    size : int
        Rows and columns of the image.
    image_ms : float
        What can be computed before the first click. The package's own predictor computes nothing
        ahead of an image of more than 2048 pixels.
    click_ms, click_p95_ms : float
        A click after the first, median and 95th percentile; windows that are encoded again are
        part of their click.
    first_mask_ms : float
        From the image to the first mask.
    peak_mb : float or None
        Largest resident memory of the process, everything included; None where the system does
        not tell.
    device : str
        Where it was computed.
    model : str
        Name of the model or peer.
    """

    size: int
    image_ms: float
    click_ms: float
    click_p95_ms: float
    first_mask_ms: float
    peak_mb: float | None
    device: str
    model: str


def measure(tasks: list[Task]) -> Iterator[Timing]:
    """Time tasks one after the other, each in a new process, so that none warms another.

    Parameters
    ----------
    tasks : list of Task

    Yields
    ------
    Timing
        In the order of the tasks.

    Raises
    ------
    InputError
        If a model, peer or device is not there.
    """
    context = multiprocessing.get_context("spawn")
    for task in tasks:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            yield pool.submit(time_task, task).result()


def time_task(task: Task) -> Timing:
    """Time a task in this process."""
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    peer = (
        peers.make(task.model, task.device)
        if task.peer
        else peers.Ours(Predictor.from_pretrained(task.model, task.device))
    )
    _session(peer, task.size, 0, 1)
    times: dict[str, list[float]] = {"image": [], "first": [], "click": []}
    for seed in range(1, 1 + task.sessions):
        for key, values in _session(peer, task.size, seed, task.clicks).items():
            times[key] += values
    return Timing(
        size=task.size,
        image_ms=1e3 * statistics.median(times["image"]),
        click_ms=1e3 * statistics.median(times["click"]),
        click_p95_ms=1e3 * float(np.percentile(times["click"], 95)),
        first_mask_ms=1e3 * statistics.median(times["first"]),
        peak_mb=_peak_mb(),
        device=peer.device,
        model=task.model,
    )


def cells(size: int, seed: int) -> tuple[NDArray[np.uint16], list[NDArray[np.bool_]]]:
    """Noisy discs on a dark ground and the masks of some of them.

    Parameters
    ----------
    size : int
        Rows and columns.
    seed : int

    Returns
    -------
    image : array of uint16, shape (size, size)
    masks : list of array of bool, same shape
    """
    rng = np.random.default_rng(seed)
    tile = rng.poisson(300, (256, 256)).astype(np.uint16)
    repeats = -(-size // 256)
    image = np.tile(tile, (repeats, repeats))[:size, :size]
    rows, columns = np.ogrid[:size, :size]
    masks = []
    for number in range(8):
        centre = rng.uniform(0.15, 0.85, 2) * size
        radius = rng.uniform(0.04, 0.15) * min(size, 1024)
        mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        image[mask] += rng.poisson(rng.uniform(800, 2500), int(mask.sum())).astype(np.uint16)
        if number < _OBJECTS:
            masks.append(mask)
    return image, masks


def _session(peer: peers.Peer, size: int, seed: int, number: int) -> dict[str, list[float]]:
    """Seconds for image, first mask and further clicks on each of the objects."""
    image, masks = cells(size, seed)
    times: dict[str, list[float]] = {"image": [], "first": [], "click": []}
    for truth in masks:
        began = time.perf_counter()
        peer.set_image(image)
        times["image"].append(time.perf_counter() - began)
        clicks, mask = Clicks(), np.zeros_like(truth)
        for count in range(number):
            click = next_click(mask, truth, clicks)
            if click is None:
                inside = np.argwhere(truth)
                click = Click(*inside[count % len(inside)])
            clicks = clicks.append(click)
            began = time.perf_counter()
            mask = peer.predict(clicks)
            seconds = time.perf_counter() - began
            if count:
                times["click"].append(seconds)
            else:
                times["first"].append(seconds + times["image"][-1])
    return times


def _peak_mb() -> float | None:
    """Largest resident memory of this process so far."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
