"""Counting what is asked of a store changes nothing but the counts."""

from collections.abc import Sequence

import pytest

from model.bundle.records import make_behaviors
from service.counted_stores import CountedItems, CountedMarks, CountedStore
from service.stores.base import StoreError
from service.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


class Items:
    """Items and marks of a store that answers what it was given, or not at all."""

    def __init__(self, *, down: bool = False) -> None:
        self._down = down

    async def read_items(self, items: Sequence[int], *, timeout_s: float) -> list[bytes | None]:
        """Each id, as bytes."""
        if self._down:
            raise StoreError("down")
        return [str(item).encode() for item in items]

    async def mark(self, keys: Sequence[str], *, ttl_s: int, timeout_s: float) -> list[bool]:
        """All are new."""
        if self._down:
            raise StoreError("down")
        return [True for _ in keys]


class Down(MemoryStore):
    """Refuses to be written to."""

    async def append_many(self, histories: object, *, timeout_s: float) -> None:
        """Fail."""
        raise StoreError("down")


async def test_each_operation_is_counted_once_and_its_answer_handed_on():
    """Reading and appending one or many, and erasing, in the order of the calls."""
    counted: list[tuple[str, str]] = []
    store = CountedStore(MemoryStore(history_keep=9), lambda *done: counted.append(done))
    await store.append(1, make_behaviors([7]), timeout_s=1)
    await store.append_many([(2, make_behaviors([8, 9]))], timeout_s=1)
    one = await store.read(1, limit=5, timeout_s=1)
    many = await store.read_many([1, 2], limit=5, timeout_s=1)
    erased = await store.erase(2, timeout_s=1)

    assert (one["item"].tolist(), [len(history) for history in many], erased) == ([7], [1, 2], 2)
    assert counted == [(operation, "ok") for operation in ("append", "append", "read", "read", "erase")]
    assert store.open_circuits == 0


async def test_a_failure_is_counted_and_raised():
    """Whoever asked hears of it as before."""
    counted: list[tuple[str, str]] = []
    store = CountedStore(Down(history_keep=9), lambda *done: counted.append(done))
    with pytest.raises(StoreError):
        await store.append_many([(1, make_behaviors([7]))], timeout_s=1)
    with pytest.raises(StoreError):
        await CountedItems(Items(down=True), lambda *done: counted.append(done)).read_items([1], timeout_s=1)
    with pytest.raises(StoreError):
        await CountedMarks(Items(down=True), lambda *done: counted.append(done)).mark(["a"], ttl_s=1, timeout_s=1)

    assert counted == [("append", "failed"), ("items", "failed"), ("marks", "failed")]


async def test_items_and_marks_are_counted_by_the_round_trip():
    """However many ids there are in it."""
    counted: list[tuple[str, str]] = []
    found = await CountedItems(Items(), lambda *done: counted.append(done)).read_items([1, 2], timeout_s=1)
    new = await CountedMarks(Items(), lambda *done: counted.append(done)).mark(["a", "b"], ttl_s=1, timeout_s=1)

    assert (found, new) == ([b"1", b"2"], [True, True])
    assert counted == [("items", "ok"), ("marks", "ok")]
