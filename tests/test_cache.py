"""The cache bounded by bytes: never above its bound, least recently used out first."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_fctsfn.predict.cache import ByteLRU

KEYS = st.integers(0, 5)
PUT = st.tuples(st.just("put"), KEYS, st.integers(0, 6))
GET = st.tuples(st.just("get"), KEYS)
CLEAR = st.tuples(st.just("clear"))
# Long, and seldom cleared: only a cache that holds several values has to choose which one goes.
OPERATIONS = st.lists(
    st.sampled_from([PUT] * 6 + [GET] * 5 + [CLEAR]).flatmap(lambda s: s), min_size=25, max_size=50
)


class Model:
    """The same in the plainest way: a list of pairs, the most recently used one last."""

    def __init__(self, bound):
        self.bound, self.items = bound, []

    def get(self, key):
        for item in self.items:
            if item[0] == key:
                self.items.remove(item)
                self.items.append(item)
                return item[1]
        return None

    def put(self, key, value):
        self.items = [item for item in self.items if item[0] != key]
        if value[1] <= self.bound:
            self.items.append((key, value))
        while sum(value[1] for _, value in self.items) > self.bound:
            del self.items[0]


@settings(deadline=None)
@given(bound=st.integers(0, 15), operations=OPERATIONS)
def test_it_does_what_a_plain_list_does(bound, operations):
    cache, model = ByteLRU(bound, lambda value: value[1]), Model(bound)
    for number, (verb, *arguments) in enumerate(operations):
        if verb == "get":
            assert cache.get(*arguments) == model.get(*arguments)
        elif verb == "put":
            key, size = arguments
            value = (number, size)
            assert cache.put(key, value) is value
            model.put(key, value)
        else:
            cache.clear()
            model.items.clear()
        assert len(cache) == len(model.items)
        assert cache.nbytes == sum(value[1] for _, value in model.items) <= bound
        assert list(cache._items) == [key for key, _ in model.items]
    for key, value in list(model.items):
        assert cache.get(key) == value


def test_what_was_used_last_stays():
    cache = ByteLRU[str, bytes](3, len)
    for key in "abc":
        cache.put(key, b"1")
    cache.get("a")
    cache.put("d", b"1")
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]


def test_a_value_above_the_bound_is_given_back_but_not_kept():
    cache = ByteLRU[str, bytes](4, len)
    cache.put("small", b"12")
    assert cache.put("large", b"12345") == b"12345"
    assert cache.get("large") is None
    assert cache.get("small") == b"12"


def test_a_value_above_the_bound_does_not_leave_the_old_one_under_its_key():
    cache = ByteLRU[str, bytes](4, len)
    cache.put("key", b"old")
    cache.put("key", b"newer")
    assert cache.get("key") is None
    assert cache.nbytes == 0


def test_a_bound_below_zero_is_refused():
    with pytest.raises(ValueError, match="0 bytes or more, not -1"):
        ByteLRU(-1, len)


def test_many_threads_keep_it_sound():
    cache = ByteLRU[int, bytes](50, len)
    errors = []

    def work(start):
        try:
            for number in range(2000):
                key = (start * 7 + number * 3) % 23
                found = cache.get(key)
                assert found is None or len(found) == key
                cache.put(key, bytes(key))
                if number % 500 == 0:
                    cache.clear()
        except Exception as error:  # noqa: BLE001 - handed to the main thread
            errors.append(error)

    workers = [threading.Thread(target=work, args=(start,)) for start in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors
    held = [key for key in range(23) if cache.get(key) is not None]
    assert cache.nbytes == sum(held) <= 50
    assert len(cache) == len(held)
