"""A cache bounded by bytes that forgets what was not used for longest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteLRU(Generic[K, V]):
    """Values by key, together at most so many bytes; the least recently used one goes first.

    Every method may be called from any thread.

    Parameters
    ----------
    max_bytes : int
        Bound of the sum of sizes, in bytes; 0 keeps only values of size 0.
    sizeof : callable
        Gives the size of a value in bytes, 0 or more; called once for each `put`.

    Raises
    ------
    ValueError
        If the bound is negative.

    Examples
    --------
    >>> cache = ByteLRU[str, bytes](4, len)
    >>> cache.put("a", b"12"), cache.put("b", b"34"), cache.put("c", b"5")
    (b'12', b'34', b'5')
    >>> cache.get("a"), cache.get("b"), cache.nbytes
    (None, b'34', 3)
    """

    def __init__(self, max_bytes: int, sizeof: Callable[[V], int]) -> None:
        if max_bytes < 0:
            raise ValueError(f"the bound of a cache must be 0 bytes or more, not {max_bytes}")
        self.max_bytes = max_bytes
        self._sizeof = sizeof
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def nbytes(self) -> int:
        """Sum of the sizes of the values kept, in bytes; never above the bound."""
        return self._nbytes

    def get(self, key: K) -> V | None:
        """The value kept under `key`, which counts as a use; None if there is none."""
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            self._items.move_to_end(key)
            return item[0]

    def put(self, key: K, value: V) -> V:
        """Keep `value` under `key` in place of any other; older values go until it fits.

        Returns
        -------
        V
            `value`, which is not kept if it alone is larger than the bound.
        """
        size = self._sizeof(value)
        with self._lock:
            replaced = self._items.pop(key, None)
            if replaced is not None:
                self._nbytes -= replaced[1]
            if size <= self.max_bytes:
                while self._nbytes + size > self.max_bytes:
                    _, (_, freed) = self._items.popitem(last=False)
                    self._nbytes -= freed
                self._items[key] = (value, size)
                self._nbytes += size
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self._nbytes = 0
