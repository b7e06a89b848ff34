"""Events on their way: a Redis Stream, read by a consumer group, and a stream for those that are refused.

    XADD ctr:events * event '{"user_id": 7, ...}'    the producer's, who also bounds the stream (XADD's MAXLEN or MINID)
    ctr:events:dead                                  ours: the entry's own fields, and _id, _reason and _error

Every command may be sent twice, as Servers do after a connection broke: reading twice leaves entries that nobody works
on, which `claim` finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.stores.base import StoreError
from service.stores.connections import Command
from service.stores.servers import Servers

ANSWER_S = 5.0  # for a command that does not wait for entries
FIRST = b"0-0"

Fields = dict[bytes, bytes]


class Entry(NamedTuple):
    """One entry of the stream; `fields` is None if it was cut from the stream while it was waiting."""

    id: bytes
    fields: Fields | None


class Dead(NamedTuple):
    """An entry that is put aside, and why."""

    entry: Entry
    reason: str
    error: str


@dataclass(frozen=True, kw_only=True)
class StreamNames:
    """Who reads what."""

    stream: str
    group: str
    consumer: str

    @property
    def dead(self) -> str:
        """The stream of refused entries."""
        return f"{self.stream}:dead"


class EventStream:
    """The stream as one consumer of the group sees it. Everything raises StoreError when Redis does not answer."""

    def __init__(self, servers: Servers, names: StreamNames, *, dead_keep: int) -> None:
        self._servers = servers
        self._names = names
        self._dead_keep = dead_keep
        self._key = names.stream.encode()

    async def open(self) -> None:
        """Make stream and group if they are absent; a new group begins with the stream's oldest entry."""
        try:
            await self._ask("XGROUP", "CREATE", self._key, self._names.group, "0", "MKSTREAM")
        except StoreError as error:
            if "BUSYGROUP" not in str(error.__cause__):
                raise

    async def read(self, *, count: int, wait_s: float) -> list[Entry]:
        """Up to `count` entries that no consumer has got yet; none if none come within `wait_s`."""
        found = await self._read_group(">", count=count, block_ms=max(1, int(wait_s * 1000)), wait_s=wait_s)
        return _entries(found[0][1]) if found else []

    async def read_own(self, *, count: int, after: bytes) -> list[Entry]:
        """Up to `count` entries behind `after` that this consumer got before and did not acknowledge."""
        found = await self._read_group(after, count=count, block_ms=None, wait_s=0)
        return _entries(found[0][1]) if found else []

    async def claim(self, *, idle_s: float, count: int, start: bytes) -> tuple[bytes, list[Entry]]:
        """Take over entries that any consumer holds for `idle_s` or longer; FIRST as the next start: that was all."""
        names = self._names
        after, found, *_ = await self._ask(
            *("XAUTOCLAIM", self._key, names.group, names.consumer, int(idle_s * 1000), start, "COUNT", count)
        )
        return after, _entries(found)

    async def bury(self, dead: Sequence[Dead]) -> None:
        """Put entries into the dead-letter stream; one that is buried again is there twice."""
        key = self._names.dead.encode()
        keep = ("MAXLEN", "~", self._dead_keep)
        commands: list[Command] = []
        for entry, reason, error in dead:
            told = {b"_id": entry.id, b"_reason": reason.encode(), b"_error": error.encode("utf-8", "replace")}
            fields = {**(entry.fields or {}), **told}
            commands.append(("XADD", key, *keep, "*", *(part for pair in fields.items() for part in pair)))
        await self._servers.ask([(key, commands)], timeout_s=ANSWER_S, purpose="write")

    async def acknowledge(self, ids: Sequence[bytes]) -> None:
        """These are done."""
        await self._ask("XACK", self._key, self._names.group, *ids)

    async def lag(self, *, now_ms: int) -> tuple[int, float]:
        """Entries that are not acknowledged, and the age of the oldest in seconds, by the time in its id."""
        groups = [
            dict(zip(flat[::2], flat[1::2], strict=True)) for flat in await self._ask("XINFO", "GROUPS", self._key)
        ]
        group = next((g for g in groups if g[b"name"] == self._names.group.encode()), None)
        if group is None:
            return int(await self._ask("XLEN", self._key)), 0.0
        delivered: bytes = group[b"last-delivered-id"]
        unread = await self._ask("XRANGE", self._key, b"(" + delivered, "+", "COUNT", 1)
        behind = group.get(b"lag")
        if behind is None and unread:  # Redis before 7, or entries were deleted: at most all
            behind = await self._ask("XLEN", self._key)
        _, first, *_ = await self._ask("XPENDING", self._key, self._names.group)
        waiting = [_ms(oldest) for oldest in (first, unread[0][0] if unread else None) if oldest]
        age_s = max(0.0, (now_ms - min(waiting)) / 1000) if waiting else 0.0
        return int(group[b"pending"]) + int(behind or 0), age_s

    async def _read_group(self, after: bytes | str, *, count: int, block_ms: int | None, wait_s: float) -> Any:  # noqa: ANN401  # as Redis has it
        names = self._names
        block = () if block_ms is None else ("BLOCK", block_ms)
        head = ("XREADGROUP", "GROUP", names.group, names.consumer, "COUNT", count)
        return await self._ask(*head, *block, "STREAMS", self._key, after, timeout_s=wait_s + ANSWER_S)

    async def _ask(self, *command: bytes | str | int, timeout_s: float = ANSWER_S) -> Any:  # noqa: ANN401  # as the command has it
        ((reply,),) = await self._servers.ask([(self._key, [command])], timeout_s=timeout_s, purpose="write")
        return reply


def _entries(found: Sequence[Any]) -> list[Entry]:
    """`Any`: id and flat fields, nil instead of the fields or of the whole where the entry is no longer there."""
    return [
        Entry(one[0], dict(zip(one[1][::2], one[1][1::2], strict=True)) if one[1] is not None else None)
        for one in found
        if one is not None
    ]


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
