"""The folder of a session: everything that was done, written down as soon as it is done.

``session.json`` says what the session is of, ``labels.npz`` holds the labels it began with, if
there were any, and ``journal.jsonl`` one line for everything done since: a checksum and JSON.
Whoever follows the journal has objects, clicks, history and labels again; the process may be killed
at any moment, since a line that is not whole does not count.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray
from pydantic import ValidationError

from napari_fctsfn import __version__
from napari_fctsfn._files import replace_file
from napari_fctsfn.session.document import VERSION, Header, decode, encode
from napari_fctsfn.session.identity import ImageIdentity
from napari_fctsfn.session.ledger import Entry, SessionError
from napari_fctsfn.session.patch import Patch
from napari_fctsfn.session.session import Session

_HEADER, _JOURNAL, _LABELS, _LOCK = "session.json", "journal.jsonl", "labels.npz", "lock"

_HIGHEST = 2**31 - 1
"""The largest label that napari shows."""


@dataclass(frozen=True)
class Opened:
    """A session that was opened again.

    Parameters
    ----------
    session : Session
    labels : array of int
        As the session left them.
    journal : Journal
        Where it goes on.
    warning : str
        What could not be read, in one sentence; empty if all could.
    """

    session: Session
    labels: NDArray[np.integer[Any]]
    journal: Journal
    warning: str


class Journal:
    """Writes what a session does into its folder.

    A folder that can no longer be written (disk full, removed or replaced, read-only) does not stop
    the session: `error` says so, lines wait in memory, and every further line tries again.

    Parameters
    ----------
    folder : Path
        Of the session; must exist. It is locked against a second writer until `close`.
    end : int, optional
        Bytes of the journal that are sound; what follows them is cut off.
    lock : FileLock, optional
        The folder's, if it is held already.

    Attributes
    ----------
    error : str
        Why lines wait; empty if none do.

    Raises
    ------
    SessionError
        If the session is open elsewhere.
    """

    def __init__(self, folder: Path, end: int | None = None, lock: FileLock | None = None) -> None:
        self.folder = folder
        self.error = ""
        self._waiting = b""
        # Bytes of the file that are ours; unknown until it was opened.
        self._end = end
        self._file: BinaryIO | None = None
        self._lock = lock or _locked(folder)
        self._write()

    @classmethod
    def create(
        cls,
        folder: Path,
        session: Session,
        image: ImageIdentity,
        labels: NDArray[np.integer[Any]],
    ) -> Journal:
        """Begin the journal of a new session, and let the session write it.

        Parameters
        ----------
        folder : Path
            Is made; must not exist.
        session : Session
            Without any history.
        image : ImageIdentity
            What it is of.
        labels : array of int
            What it begins with.

        Raises
        ------
        SessionError
            If the folder is there already or cannot be written.
        """
        header = Header(
            program=__version__,
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            image=image,
            shape=list(labels.shape),
            dtype=labels.dtype.name,
            normalisation=session.normalisation.to_dict(),
            channels=None if session.channels is None else session.channels.to_dict(),
        )
        try:
            folder.mkdir(parents=True)
            if labels.any():
                with replace_file(folder / _LABELS) as path, path.open("wb") as file:
                    np.savez_compressed(file, labels=labels)
            with replace_file(folder / _HEADER) as path:
                path.write_text(header.model_dump_json(indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise SessionError(
                f"{folder} cannot be written: {error.strerror or error}; choose another folder"
            ) from error
        journal = cls(folder)
        session.journal = journal.append
        return journal

    def append(self, entry: Entry) -> None:
        """Write an entry down; it is in the hands of the operating system when this returns."""
        data = encode(entry).encode()
        self._waiting += b"%08x %s\n" % (zlib.crc32(data), data)
        self._write()

    def close(self) -> None:
        """Let the folder go."""
        self._write()
        self._drop()
        self._lock.release()

    def _write(self) -> None:
        try:
            if self._file is None or not self._in_place(self._file):
                self._drop()
                self._file = self._opened()
            while self._waiting:
                written = self._file.write(self._waiting)
                self._waiting = self._waiting[written:]
                self._end = (self._end or 0) + written
            self.error = ""
        except OSError as error:
            # An open file may be of no more use, as where a server was away.
            self._drop()
            reason = error.strerror or error
            self.error = f"the session cannot be saved in {self.folder}: {reason}"

    def _in_place(self, file: BinaryIO) -> bool:
        """Whether the file that is open is the journal still."""
        try:
            there = (self.folder / _JOURNAL).stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(file.fileno()), there)

    def _opened(self) -> BinaryIO:
        """The journal, as long as it was left."""
        file = (self.folder / _JOURNAL).open("r+b" if self._end else "ab", buffering=0)
        with ExitStack() as stack:
            stack.enter_context(file)
            size = file.seek(0, os.SEEK_END)
            end = size if self._end is None else self._end
            if size < end:
                raise OSError(errno.EIO, f"{_JOURNAL} was exchanged for a shorter one")
            file.truncate(end)
            self._end = file.seek(end)
            stack.pop_all()  # it stays open
        return file

    def _drop(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def is_session(folder: Path) -> bool:
    """Whether a folder is that of a session."""
    return (folder / _HEADER).is_file()


def is_empty(folder: Path) -> bool:
    """Whether nothing was done in a session, nor anything that was damaged is set aside there."""
    path = folder / _JOURNAL
    written = path.exists() and path.stat().st_size > 0
    return not (written or any(folder.glob(f"{_JOURNAL}.cut*")))


def progress_of(folder: Path) -> tuple[int, float]:
    """How many steps were done in a session, undo and redo among them, and when the last was.

    Returns
    -------
    (int, float)
        Steps, and seconds since 1970; 0 and 0.0 where nothing can be read.
    """
    path = folder / _JOURNAL
    try:
        return path.read_bytes().count(b"\n"), path.stat().st_mtime
    except OSError:
        return 0, 0.0


def read_header(folder: Path) -> Header:
    """What a session's folder is of.

    Raises
    ------
    SessionError
        If it is no session, damaged, or of a newer version.
    """
    path = folder / _HEADER
    try:
        header = Header.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise SessionError(f"{folder} is no session: it has no {_HEADER}") from None
    except OSError as error:
        raise SessionError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise SessionError(f"{path} is damaged at {place}: {first['msg']}") from error
    if header.schema_version > VERSION:
        raise SessionError(
            f"{folder} was written by napari-fctsfn {header.program}, which is newer than this "
            f"one ({__version__}): update to open it"
        )
    return header


def open_session(folder: Path, image: ImageIdentity | None = None) -> Opened:
    """Open a session again: objects, clicks, history and labels.

    Parameters
    ----------
    folder : Path
    image : ImageIdentity, optional
        What it must be of.

    Raises
    ------
    SessionError
        If it is no session, of another image, of a newer version, or open elsewhere.
    """
    read_header(folder)  # What is no session is not locked.
    lock = _locked(folder)
    try:
        session, labels, data, (end, reason) = _read(folder, image)
        warning = ""
        if reason:
            kept = _set_aside(folder, data[end:])
            warning = (
                f"The end of {folder / _JOURNAL} could not be read ({reason}): the session is as "
                f"it was before, and the rest is kept in {kept}."
            )
        journal = Journal(folder, end, lock)
    except BaseException:
        lock.release()
        raise
    session.journal = journal.append
    return Opened(session, labels, journal, warning)


def _set_aside(folder: Path, rest: bytes) -> str:
    """Keep what could not be read of a journal beside it; gives the name of the file."""
    names = (f"{_JOURNAL}.cut{number if number > 1 else ''}" for number in count(1))
    name = next(name for name in names if not (folder / name).exists())
    try:
        with replace_file(folder / name) as path:
            path.write_bytes(rest)
    except OSError as error:
        raise SessionError(
            f"the end of {folder / _JOURNAL} is damaged and cannot be kept there "
            f"({error.strerror or error}): copy the folder to where it can be written, and open it "
            f"there"
        ) from error
    return name


def read_session(
    folder: Path, image: ImageIdentity | None = None
) -> tuple[Session, NDArray[np.integer[Any]]]:
    """A session and its labels as far as its journal is sound; it may be open elsewhere.

    Parameters
    ----------
    folder : Path
    image : ImageIdentity, optional
        What it must be of.

    Raises
    ------
    SessionError
        If it is no session, of another image, or of a newer version.
    """
    session, labels, *_ = _read(folder, image)
    return session, labels


def read_history(folder: Path, see: Callable[[Entry], None]) -> Session:
    """A session as far as its journal is sound, without its labels; it may be open elsewhere.

    Parameters
    ----------
    folder : Path
    see : callable
        Given each entry of the journal, after it was done.

    Raises
    ------
    SessionError
        If it is no session, or of a newer version.
    """
    session = _new(folder, read_header(folder), 0)
    _follow(_journalled(folder), session, lambda entry, _: see(entry))
    return session


def _read(
    folder: Path, image: ImageIdentity | None
) -> tuple[Session, NDArray[np.integer[Any]], bytes, tuple[int, str]]:
    """Session, labels, the journal, how many of its bytes are sound, and what is wrong then."""
    header = read_header(folder)
    if image is not None and not image.same(header.image):
        raise SessionError(f"{folder} is a session of {header.image} and not of {image}")
    labels = _first_labels(folder, header)
    session = _new(folder, header, max(int(labels.max()), 0))
    data = _journalled(folder)

    def write(_entry: Entry, patches: tuple[Patch, ...]) -> None:
        nonlocal labels
        for patch in patches:
            if max(patch.labels) > np.iinfo(labels.dtype).max:
                # the annotator has gone on in labels of a larger type
                labels = labels.astype(np.min_scalar_type(max(patch.labels)))
            patch.apply(labels[patch.plane.key])

    how = _follow(data, session, write)
    session.capacity = _capacity(labels.dtype)
    return session, labels, data, how


def _capacity(dtype: DTypeLike) -> int:
    """The largest label of a type."""
    return min(int(np.iinfo(dtype).max), _HIGHEST)


def _new(folder: Path, header: Header, highest: int) -> Session:
    """The session of a header, before anything was done."""
    # predict imports torch, which takes a second, and the session alone needs none of it
    from napari_fctsfn.predict import Channels, Normalisation

    capacity = _capacity(header.dtype)
    try:
        normalisation = Normalisation.from_dict(header.normalisation)
        channels = None if header.channels is None else Channels.from_dict(header.channels)
    except ValueError as error:
        raise SessionError(f"{folder / _HEADER} is damaged: {error}") from error
    return Session(tuple(header.shape), normalisation, highest, capacity, channels=channels)


def _journalled(folder: Path) -> bytes:
    try:
        return (folder / _JOURNAL).read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SessionError(f"{folder / _JOURNAL} cannot be read: {error.strerror}") from error


def _first_labels(folder: Path, header: Header) -> NDArray[np.integer[Any]]:
    path = folder / _LABELS
    if not path.exists():
        return np.zeros(header.shape, dtype=header.dtype)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            labels: NDArray[np.integer[Any]] = arrays["labels"]
    except Exception as error:  # zip files and numpy raise anything on damaged files
        raise SessionError(
            f"{path} cannot be read ({error}): put back a copy of it; what was done since is in "
            f"{_JOURNAL}"
        ) from error
    if list(labels.shape) != header.shape:
        raise SessionError(f"{path} has shape {labels.shape}, the session {header.shape}")
    if labels.dtype.kind not in "iu":
        raise SessionError(f"{path} holds {labels.dtype} and no labels: put back a copy of it")
    return labels


def _follow(
    data: bytes, session: Session, take: Callable[[Entry, tuple[Patch, ...]], None]
) -> tuple[int, str]:
    """Do again what a journal holds; how many bytes are sound, and what is wrong behind them."""
    end = 0
    while end < len(data):
        stop = data.find(b"\n", end)
        if stop < 0:
            # what was being written when the process ended
            return end, ""
        line = data[end:stop]
        if line[:9] != b"%08x " % zlib.crc32(line[9:]):
            return end, "a checksum is wrong"
        try:
            entry = decode(line[9:], session)
            patches = session.follow(entry)
        except SessionError as error:
            return end, str(error)
        take(entry, patches)
        end = stop + 1
    return end, ""


def _locked(folder: Path) -> FileLock:
    lock = FileLock(os.fspath(folder / _LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SessionError(
            f"the session in {folder} is open already, here or in another program: close it "
            f"there, or remove the file “{_LOCK}” in it if it is open nowhere"
        ) from None
    except OSError:
        # a folder that cannot be written has no other writer either
        pass
    return lock
