"""Objects spread over processes: the same results whatever their number."""

from __future__ import annotations

import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol

import torch

from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate.objectset import ObjectReference
from napari_fctsfn.evaluate.results import ObjectResult
from napari_fctsfn.evaluate.segmenter import Segmenter
from napari_fctsfn.predict.engine import one_thread


class Evaluate(Protocol):
    """`evaluate_objects`, in a `partial` that gives all but the segmenter and the objects."""

    def __call__(
        self, predictor: Segmenter, /, *, objects: Sequence[ObjectReference]
    ) -> Iterator[ObjectResult]:
        """What the objects take."""


_AT_ONCE = 4
"""A process gets so many objects of one picture at a time: features are used again, and a picture
with hundreds of objects still keeps all processes busy."""


class WorkerError(InputError):
    """A process died; the message says how to go on."""


def by_picture(objects: Sequence[ObjectReference]) -> dict[str, list[ObjectReference]]:
    """Objects of each picture, pictures in the order of their first object."""
    found: dict[str, list[ObjectReference]] = {}
    for reference in objects:
        found.setdefault(reference.stem, []).append(reference)
    return found


def evaluate_here(
    segmenter: Segmenter, evaluate: Evaluate, objects: Sequence[ObjectReference]
) -> Iterator[ObjectResult]:
    """Evaluate objects in this process, with one thread.

    Parameters
    ----------
    segmenter : Segmenter
    evaluate : callable
    objects : sequence of ObjectReference

    Yields
    ------
    ObjectResult
        Grouped by picture.
    """
    with one_thread():
        for group in by_picture(objects).values():
            yield from evaluate(segmenter, objects=group)


def evaluate_in_processes(
    load: Callable[[], Segmenter],
    evaluate: Evaluate,
    objects: Sequence[ObjectReference],
    workers: int,
) -> Iterator[ObjectResult]:
    """Evaluate objects in new processes, each with one thread.

    Parameters
    ----------
    load : callable
        Called once in each process; it and `evaluate` must be things that can be pickled.
    evaluate : callable
    objects : sequence of ObjectReference
    workers : int
        Number of processes, at least 1.

    Yields
    ------
    ObjectResult
        The same as of `evaluate_here`, in the order in which they are finished.

    Raises
    ------
    WorkerError
        If a process dies.
    Exception
        What the evaluation of an object raises.
    """
    tasks = deque(
        group[start : start + _AT_ONCE]
        for group in by_picture(objects).values()
        for start in range(0, len(group), _AT_ONCE)
    )
    context = get_context("spawn")
    processes: dict[Connection, SpawnProcess] = {}
    try:
        for _ in range(min(workers, len(tasks))):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, load, evaluate), daemon=True)
            process.start()
            there.close()
            processes[here] = process
        waiting = set(processes)
        while waiting:
            for ready in waiting.intersection(wait(list(waiting))):
                result = _receive(ready, len(processes))
                if result is not None:
                    yield result
                elif tasks:
                    ready.send(tasks.popleft())
                else:
                    waiting.remove(ready)
                    ready.send(None)
    finally:
        for process in processes.values():
            process.terminate()
        for connection, process in processes.items():
            process.join()
            connection.close()


def _receive(connection: Connection, workers: int) -> ObjectResult | None:
    """What a process found; None if it asks for more objects."""
    try:
        message = connection.recv()
    except (EOFError, OSError):
        raise WorkerError(
            f"one of {workers} processes died, perhaps for want of memory: give fewer --workers; "
            f"the same command goes on from here"
        ) from None
    if isinstance(message, Exception):
        raise message
    assert message is None or isinstance(message, ObjectResult)
    return message


def _work(connection: Connection, load: Callable[[], Segmenter], evaluate: Evaluate) -> None:
    """What a process does: ask for objects, send what is found, until there is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it says when to end
    torch.set_num_threads(1)
    try:
        segmenter = load()
        connection.send(None)
        for task in iter(connection.recv, None):
            for result in evaluate(segmenter, objects=task):
                connection.send(result)
            connection.send(None)
    except (EOFError, ConnectionError):  # nobody is waiting any more
        return
    except Exception as error:  # noqa: BLE001  it is raised again where it can be told
        error.add_note(traceback.format_exc())
        connection.send(error)
