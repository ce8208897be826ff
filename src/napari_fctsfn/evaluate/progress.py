"""An evaluation that can be interrupted: what is finished is written down at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from napari_fctsfn import __version__
from napari_fctsfn.errors import InputError
from napari_fctsfn.evaluate.objectset import ObjectReference
from napari_fctsfn.evaluate.results import ObjectResult

_NAME = "unfinished.jsonl"


class ProgressError(InputError):
    """What was begun is another evaluation; the message says which options differ."""


class Progress:
    """The finished objects of an evaluation, in its folder as long as it is not complete.

    ``unfinished.jsonl`` holds a line that says what is evaluated and a line for every finished
    object. What follows the last line that can be read, such as one half written, is dropped.

    Parameters
    ----------
    folder : Path
        Made if missing.
    about : mapping
        Everything that the results depend on, as JSON knows it.
    objects : sequence of ObjectReference
        What is to be evaluated.

    Raises
    ------
    ProgressError
        If another evaluation was begun there.
    """

    def __init__(
        self, folder: Path, about: Mapping[str, Any], objects: Sequence[ObjectReference]
    ) -> None:
        self._path = folder / _NAME
        self._objects = objects
        self._results: dict[ObjectReference, ObjectResult] = {}
        names = "\n".join(f"{item.stem} {item.value}" for item in objects)
        header = {
            **json.loads(json.dumps(about)),
            "objects": sha256(names.encode()).hexdigest(),
            "version": __version__,
        }
        folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab"):  # there from now on
            pass
        self._file: BinaryIO = self._path.open("r+b")
        try:
            self._file.truncate(self._read(header))
            self._file.seek(0, 2)
            if not self._file.tell():
                self._write(header)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def left(self) -> list[ObjectReference]:
        """Objects that are not finished, in order."""
        return [reference for reference in self._objects if reference not in self._results]

    @property
    def results(self) -> list[ObjectResult]:
        """Results of the finished objects, in the order of the objects."""
        return [self._results[item] for item in self._objects if item in self._results]

    def add(self, result: ObjectResult) -> None:
        """Write down an object that is finished."""
        self._results[result.reference] = result
        self._write(
            {
                "stem": result.reference.stem,
                "object": result.reference.value,
                "area": result.area,
                "ious": result.ious,
                "seconds": result.seconds,
                "clicks": result.clicks,
                "decidability": dict(result.decidability),
            }
        )

    def remove(self) -> None:
        """Leave nothing behind, since the results are written elsewhere."""
        self._file.close()
        self._path.unlink()

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()

    def _read(self, header: Mapping[str, Any]) -> int:
        """Take over what is finished; the number of bytes that can be read."""
        end = 0
        for number, line in enumerate(self._file):
            try:
                if not line.endswith(b"\n"):
                    break
                entry = json.loads(line)
                if number:
                    result = _result(entry)
                    self._results[result.reference] = result
            except (ValueError, KeyError, TypeError):
                break
            if not number and entry != header:
                self._refuse(entry, header)
            end += len(line)
        return end

    def _refuse(self, entry: Any, header: Mapping[str, Any]) -> None:
        found = entry if isinstance(entry, dict) else {}
        other = [name for name in header if found.get(name) != header[name]]
        raise ProgressError(
            f"{self._path} is of an evaluation with other {', '.join(other) or 'entries'}: repeat "
            f"its options to go on with it, remove it to begin again, or choose another folder"
        )


def _result(entry: dict[str, Any]) -> ObjectResult:
    return ObjectResult(
        ObjectReference(entry["stem"], entry["object"]),
        entry["area"],
        tuple(entry["ious"]),
        entry["seconds"],
        entry["clicks"],
        entry["decidability"],
    )
