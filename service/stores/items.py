"""Features of items that are newer than the bundle: JSON objects in Redis, kept in this process for a while.

    ctr:i:{item_id}    {"cate_id": 7, "price": 12.5, "tags": [1, 2]}    without the item id; null: not known

One round trip for all items of a request. An item that Redis lacks is remembered too, so that it is not asked for by
every request; it costs the same place in the cache.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import orjson
from cachetools import TTLCache

from service.feedback_metrics import ItemOutcome
from service.scoring.engine import Clock
from service.scoring.new_items import Features, NewItems
from service.stores.base import StoreError
from service.stores.servers import Request, Servers

Count = Callable[[ItemOutcome, int], None]


class ItemReader(Protocol):
    """Reads items from where they are."""

    async def read_items(self, items: Sequence[int], *, timeout_s: float) -> Sequence[bytes | None]:
        """Each item's JSON object, None where there is none. Raises StoreError."""
        ...


class CachedItems:
    """An ItemSource: a bounded cache before an ItemReader."""

    def __init__(self, reader: ItemReader, *, keep: int, ttl_s: float, clock: Clock, count: Count) -> None:
        """Keep `keep` items for `ttl_s` seconds. `count` is told of every candidate."""
        self._reader = reader
        self._count = count
        self._cache: TTLCache[int, Features | None] = TTLCache(keep, ttl_s, timer=clock)

    def known(self, items: Sequence[int]) -> tuple[NewItems, list[int]]:
        """See ItemSource."""
        found: dict[int, Features] = {}
        absent: list[int] = []
        for item in items:
            try:
                features = self._cache[item]
            except KeyError:
                absent.append(item)
            else:
                if features is not None:
                    found[item] = features
        if len(absent) < len(items):
            self._count("cached", len(items) - len(absent))
        return found, absent

    async def look_up(self, items: Sequence[int], *, timeout_s: float) -> NewItems:
        """See ItemSource."""
        try:
            raw = await self._reader.read_items(items, timeout_s=timeout_s)
        except StoreError:
            self._count("failed", len(items))
            return {}
        read = {item: parse_features(value) for item, value in zip(items, raw, strict=True)}
        self._cache.update(read)
        found = {item: features for item, features in read.items() if features is not None}
        self._count("found", len(found))
        self._count("missing", len(items) - len(found))
        return found


class RedisItems:
    """An ItemReader, and what fills the store that it reads."""

    def __init__(self, servers: Servers, *, prefix: str) -> None:
        """Keys are `prefix` and the item id."""
        self._servers = servers
        self._prefix = prefix

    async def read_items(self, items: Sequence[int], *, timeout_s: float) -> list[bytes | None]:
        """See ItemReader."""
        requests: list[Request] = [(key, [("GET", key)]) for key in map(self._key, items)]
        replies = await self._servers.ask(requests, timeout_s=timeout_s, purpose="read")
        return [value if isinstance(value, bytes) else None for (value,) in replies]

    async def write_items(self, items: Mapping[int, Features], *, timeout_s: float, ttl_s: int = 0) -> None:
        """Put items there, in place of what was known of them. Raises StoreError. `ttl_s` 0: for good."""
        requests: list[Request] = []
        for item, features in items.items():
            key, ends = self._key(item), ("EX", ttl_s) if ttl_s else ()
            requests.append((key, [("SET", key, orjson.dumps(features), *ends)]))
        await self._servers.ask(requests, timeout_s=timeout_s, purpose="write")

    def _key(self, item: int) -> bytes:
        return f"{self._prefix}{item}".encode()


def parse_features(value: bytes | None) -> Features | None:
    """The features in a stored value, those that are not known left out; None if it is no JSON object."""
    try:
        parsed = None if value is None else orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(parsed, Mapping):
        return None
    return {name: feature for name, feature in parsed.items() if feature is not None}
