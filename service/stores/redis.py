"""Behaviors in Redis 6.2 or later, Valkey, or whatever speaks their protocol.

One sorted set per user: score = event time in ms, member = the packed record, so ZADD is idempotent and late events
fall in order. Each operation touches one key, so the key needs no cluster hash tag. A read is one round trip.
"""

from collections.abc import Sequence
from typing import Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from model.bundle.records import Behaviors, from_members, no_behaviors, to_members
from service.stores.base import Actions, StoreError, UserId, newest
from service.stores.connections import Command, Connections
from service.stores.patience import patience

KEY_PREFIX = "ctr:h:"
POOL_SIZE = 16


class RedisStore:
    """A BehaviorStore on Redis. Connects when first used, and again by itself after Redis was away."""

    def __init__(
        self, connections: Connections, *, history_keep: int, ttl_s: int, key_prefix: str = KEY_PREFIX
    ) -> None:
        """Own `connections`."""
        if min(history_keep, ttl_s) < 1:
            raise ValueError("history_keep and ttl_s must be at least 1")
        self._connections = connections
        self._history_keep = history_keep
        self._ttl_s = ttl_s
        self._key_prefix = key_prefix

    @classmethod
    def from_url(
        cls, url: str, *, history_keep: int, ttl_s: int, pool_size: int = POOL_SIZE, key_prefix: str = KEY_PREFIX
    ) -> Self:
        """A store at redis://, rediss:// (TLS) or unix://, with user and password in the URL as redis-py reads it.

        Raises ValueError for another URL, without repeating it.
        """
        if pool_size < 1:
            raise ValueError("pool_size must be at least 1")
        try:
            connections = Connections(url, size=pool_size)
        except ValueError:
            raise ValueError("not a Redis URL, allowed: redis://, rediss:// and unix://") from None
        return cls(connections, history_keep=history_keep, ttl_s=ttl_s, key_prefix=key_prefix)

    def key(self, user_id: UserId) -> bytes:
        """The Redis key of a user's sorted set."""
        return f"{self._key_prefix}{user_id}".encode("utf-8", "surrogatepass")

    async def read(self, user_id: UserId, *, limit: int, timeout_s: float, actions: Actions = None) -> Behaviors:
        """See BehaviorStore."""
        (history,) = await self.read_many([user_id], limit=limit, timeout_s=timeout_s, actions=actions)
        return history

    async def read_many(
        self, user_ids: Sequence[UserId], *, limit: int, timeout_s: float, actions: Actions = None
    ) -> list[Behaviors]:
        """See BehaviorStore. With `actions` all that is kept is read: Redis cannot look into a record."""
        if limit < 1 or not user_ids:
            return [no_behaviors() for _ in user_ids]
        last = limit - 1 if actions is None else -1
        commands: list[Command] = [("ZRANGE", self.key(user_id), 0, last, "REV") for user_id in user_ids]
        replies = await self._bounded(commands, timeout_s)
        try:
            histories = [from_members(members[::-1]) for members in replies]
        except ValueError as error:
            raise StoreError(f"redis holds something else than a history: {error}") from error
        return [newest(history, limit=limit, actions=actions) for history in histories]

    async def append(self, user_id: UserId, behaviors: Behaviors, *, timeout_s: float) -> None:
        """See BehaviorStore."""
        await self.append_many([(user_id, behaviors)], timeout_s=timeout_s)

    async def append_many(self, histories: Sequence[tuple[UserId, Behaviors]], *, timeout_s: float) -> None:
        """See BehaviorStore. One round trip; no transaction, since any part of it may be repeated."""
        commands: list[Command] = []
        for user_id, behaviors in histories:
            if not len(behaviors):
                continue
            key = self.key(user_id)
            pairs = zip(behaviors["time"].tolist(), to_members(behaviors), strict=True)
            commands.append(("ZADD", key, *(part for pair in pairs for part in pair)))
            commands.append(("ZREMRANGEBYRANK", key, 0, -self._history_keep - 1))
            commands.append(("EXPIRE", key, self._ttl_s))
        if commands:
            await self._bounded(commands, timeout_s)

    async def erase(self, user_id: UserId, *, timeout_s: float) -> int:
        """See BehaviorStore. One command, so that nothing is removed uncounted; a repeat counts what was left."""
        (removed,) = await self._bounded([("ZREMRANGEBYRANK", self.key(user_id), 0, -1)], timeout_s)
        return int(removed)

    async def close(self) -> None:
        """See BehaviorStore."""
        await self._connections.close()

    async def _bounded(self, commands: Sequence[Command], timeout_s: float) -> list[Any]:
        """The replies within `timeout_s`, waiting for a turn and connecting included, or StoreError."""
        try:
            async with patience(timeout_s):
                return await self._connections.ask(commands)
        except TimeoutError as error:
            raise StoreError(f"redis did not answer within {timeout_s * 1000:.0f} ms") from error
        except RedisConnectionError as error:
            raise StoreError(f"redis is out of reach: {error}") from error
        except (RedisError, OSError) as error:  # its text can quote what was sent, so only the name goes on
            raise StoreError(f"redis refused: {type(error).__name__}") from error
