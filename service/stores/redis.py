"""Behaviors in Redis 6.2 or later, Valkey, or whatever speaks their protocol.

One sorted set per user: score = event time in ms, member = the packed record, so ZADD is idempotent and late events
fall in order. Each operation touches one key, so the key needs no cluster hash tag. A read is one round trip.
"""

from collections.abc import Sequence
from typing import Self

from model.bundle.records import Behaviors, from_members, no_behaviors, to_members
from service.stores.base import Actions, StoreError, UserId, newest
from service.stores.check import check_rights
from service.stores.connections import Command
from service.stores.servers import Request, ServerOptions, Servers, open_servers

KEY_PREFIX = "ctr:h:"


class RedisStore:
    """A BehaviorStore on Redis. Connects when first used, and again by itself after Redis was away."""

    def __init__(self, servers: Servers, *, history_keep: int, ttl_s: int, key_prefix: str = KEY_PREFIX) -> None:
        """Own `servers`, through which others may send commands too."""
        if min(history_keep, ttl_s) < 1:
            raise ValueError("history_keep and ttl_s must be at least 1")
        self.servers = servers
        self._history_keep = history_keep
        self._ttl_s = ttl_s
        self._key_prefix = key_prefix

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        history_keep: int,
        ttl_s: int,
        key_prefix: str = KEY_PREFIX,
        options: ServerOptions | None = None,
    ) -> Self:
        """A store at a URL as `service/stores/address.py` reads it. Raises ValueError without repeating the URL."""
        return cls(open_servers(url, options), history_keep=history_keep, ttl_s=ttl_s, key_prefix=key_prefix)

    @property
    def open_circuits(self) -> int:
        """See BehaviorStore."""
        return self.servers.open_circuits

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
        keys = [self.key(user_id) for user_id in user_ids]
        requests: list[Request] = [(key, [("ZRANGE", key, 0, last, "REV")]) for key in keys]
        replies = await self.servers.ask(requests, timeout_s=timeout_s, purpose="read")
        try:
            histories = [from_members(members[::-1]) for (members,) in replies]
        except ValueError as error:
            raise StoreError(f"redis holds something else than a history: {error}") from error
        return [newest(history, limit=limit, actions=actions) for history in histories]

    async def append(self, user_id: UserId, behaviors: Behaviors, *, timeout_s: float) -> None:
        """See BehaviorStore."""
        await self.append_many([(user_id, behaviors)], timeout_s=timeout_s)

    async def append_many(self, histories: Sequence[tuple[UserId, Behaviors]], *, timeout_s: float) -> None:
        """See BehaviorStore. One round trip per server; no transaction, since any part of it may be repeated."""
        requests = [
            (self.key(user_id), self._appending(self.key(user_id), behaviors))
            for user_id, behaviors in histories
            if len(behaviors)
        ]
        if requests:
            await self.servers.ask(requests, timeout_s=timeout_s, purpose="write")

    async def erase(self, user_id: UserId, *, timeout_s: float) -> int:
        """See BehaviorStore. One command, so that nothing is removed uncounted; a repeat counts what was left."""
        key = self.key(user_id)
        ((removed,),) = await self.servers.ask(
            [(key, [("ZREMRANGEBYRANK", key, 0, -1)])], timeout_s=timeout_s, purpose="write"
        )
        return int(removed)

    async def check(self, *, timeout_s: float) -> None:
        """Send every kind of command that the store needs, none of which changes anything.

        Raises StoreError, and StoreMisconfigured where no waiting will help.
        """
        await check_rights(self.servers, self.key("\0check"), timeout_s=timeout_s)

    async def close(self) -> None:
        """See BehaviorStore."""
        await self.servers.close()

    def _appending(self, key: bytes, behaviors: Behaviors) -> list[Command]:
        newest_first = behaviors[::-1]  # Redis walks short sets from their oldest: a third of its time saved
        pairs = zip(newest_first["time"].tolist(), to_members(newest_first), strict=True)
        return [
            ("ZADD", key, *(part for pair in pairs for part in pair)),
            ("ZREMRANGEBYRANK", key, 0, -self._history_keep - 1),
            ("EXPIRE", key, self._ttl_s),
        ]
