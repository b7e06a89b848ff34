"""What is asked of a store, counted on the way. Names no store: whatever keeps the contract is counted alike."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from model.bundle.records import Behaviors
from service.feedback import Marks
from service.store_metrics import Operation, StoreOutcome
from service.stores.base import Actions, BehaviorStore, StoreError, UserId
from service.stores.items import ItemReader

T = TypeVar("T")
Count = Callable[[Operation, StoreOutcome], object]


class CountedStore:
    """A BehaviorStore before another."""

    def __init__(self, store: BehaviorStore, count: Count) -> None:
        self._store = store
        self._count = count

    @property
    def open_circuits(self) -> int:
        """See BehaviorStore."""
        return self._store.open_circuits

    async def read(self, user_id: UserId, *, limit: int, timeout_s: float, actions: Actions = None) -> Behaviors:
        """See BehaviorStore."""
        work = self._store.read(user_id, limit=limit, timeout_s=timeout_s, actions=actions)
        return await _counted(work, "read", self._count)

    async def read_many(
        self, user_ids: Sequence[UserId], *, limit: int, timeout_s: float, actions: Actions = None
    ) -> list[Behaviors]:
        """See BehaviorStore."""
        work = self._store.read_many(user_ids, limit=limit, timeout_s=timeout_s, actions=actions)
        return await _counted(work, "read", self._count)

    async def append(self, user_id: UserId, behaviors: Behaviors, *, timeout_s: float) -> None:
        """See BehaviorStore."""
        await _counted(self._store.append(user_id, behaviors, timeout_s=timeout_s), "append", self._count)

    async def append_many(self, histories: Sequence[tuple[UserId, Behaviors]], *, timeout_s: float) -> None:
        """See BehaviorStore."""
        await _counted(self._store.append_many(histories, timeout_s=timeout_s), "append", self._count)

    async def erase(self, user_id: UserId, *, timeout_s: float) -> int:
        """See BehaviorStore."""
        return await _counted(self._store.erase(user_id, timeout_s=timeout_s), "erase", self._count)

    async def close(self) -> None:
        """See BehaviorStore."""
        await self._store.close()


class CountedItems:
    """An ItemReader before another."""

    def __init__(self, reader: ItemReader, count: Count) -> None:
        self._reader = reader
        self._count = count

    async def read_items(self, items: Sequence[int], *, timeout_s: float) -> Sequence[bytes | None]:
        """See ItemReader."""
        return await _counted(self._reader.read_items(items, timeout_s=timeout_s), "items", self._count)


class CountedMarks:
    """Marks before others."""

    def __init__(self, marks: Marks, count: Count) -> None:
        self._marks = marks
        self._count = count

    async def mark(self, keys: Sequence[str], *, ttl_s: int, timeout_s: float) -> list[bool]:
        """See Marks."""
        return await _counted(self._marks.mark(keys, ttl_s=ttl_s, timeout_s=timeout_s), "marks", self._count)


async def _counted(work: Awaitable[T], operation: Operation, count: Count) -> T:
    try:
        result = await work
    except StoreError:
        count(operation, "failed")
        raise
    count(operation, "ok")
    return result
