"""The loop of `ctr-service consume-events`: entries of the stream -> behaviors in the store, at least once.

open -> what this consumer held before -> claim what others hold for too long -> new entries -+
  ^            |                                  ^      |                           |        |
  |            +--------------+-------------------+------+---------------------------+        |
  |                           v                   +-------------------------------------------+
  |     check, append to the store, bury what is refused, acknowledge
  +---- a pause that grows, whatever failed

An entry is acknowledged when its behavior is stored or it is buried, and never before. Killed anywhere in between, the
entry comes again, and a behavior that is stored already does not change.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import orjson
from structlog.typing import FilteringBoundLogger

from model.bundle.records import Behaviors
from service.event_metrics import ConsumerMetrics, Trouble
from service.events import EventRules, check_events
from service.stores.base import BehaviorStore, StoreError, StoreOccupied, UserId
from service.stores.stream import FIRST, Dead, Entry, EventStream

T = TypeVar("T")
FIELD = b"event"
OCCUPIED = "occupied"  # the reason of an entry whose user's key holds something else than a history
WRITE_S = 10.0
LAG_EVERY_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


@dataclass(frozen=True, kw_only=True)
class ConsumerOptions:
    """How entries are read and judged."""

    rules: EventRules
    batch: int
    wait_s: float  # for new entries
    claim_s: float  # how long another consumer may hold an entry


class Consumer:
    """One consumer of the group. `run` it once."""

    def __init__(  # noqa: PLR0913  # what it reads, writes and tells
        self,
        stream: EventStream,
        store: BehaviorStore,
        options: ConsumerOptions,
        *,
        metrics: ConsumerMetrics,
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is seconds since the epoch, `clock` what pauses go by."""
        self._stream = stream
        self._store = store
        self._options = options
        self._metrics = metrics
        self._log = log
        self._now = now
        self._clock = clock
        self._claimed_at = float("-inf")
        self._pause_s = _FIRST_PAUSE_S

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; then end after the entries in hand. Whatever fails is tried again."""
        measuring = asyncio.create_task(self._measure())
        try:
            while not stop.is_set():
                try:
                    await self._consume(stop)
                except StoreError as error:
                    self._log.warning("events wait", error=str(error), pause_s=self._pause_s)
                    await _wait(stop, self._pause_s)
                    self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        finally:
            measuring.cancel()
            await asyncio.wait([measuring])

    async def _consume(self, stop: asyncio.Event) -> None:
        await self._trying("stream", self._stream.open())
        await self._take_own(stop)
        while not stop.is_set():
            await self._claim(stop)
            entries = await self._trying(
                "stream", self._stream.read(count=self._options.batch, wait_s=self._options.wait_s)
            )
            await self._take(entries)

    async def _take_own(self, stop: asyncio.Event) -> None:
        """What this consumer read before it was killed, or before something failed."""
        after = FIRST
        while not stop.is_set():
            entries = await self._trying("stream", self._stream.read_own(count=self._options.batch, after=after))
            if not entries:
                return
            await self._take(entries)
            after = entries[-1].id

    async def _claim(self, stop: asyncio.Event) -> None:
        """What consumers hold who were killed, or hang; looked for twice in the time that they may hold it."""
        if self._clock() < self._claimed_at + self._options.claim_s / 2:
            return
        start = b""
        while start != FIRST and not stop.is_set():
            claim = self._stream.claim(idle_s=self._options.claim_s, count=self._options.batch, start=start or FIRST)
            start, entries = await self._trying("stream", claim)
            self._metrics.claimed.inc(len(entries))
            await self._take(entries)
        self._claimed_at = self._clock()

    async def _take(self, entries: Sequence[Entry]) -> None:
        """Store or bury, then acknowledge."""
        if not entries:
            return
        there = [entry for entry in entries if entry.fields is not None]
        values = [_event(entry) for entry in there]
        checked = check_events(values, self._options.rules, now_ms=int(self._now() * 1000))
        occupied = await self._trying("store", self._append(checked.histories))
        dead = [Dead(there[r.index], r.reason, r.error) for r in checked.rejected]
        refused = {r.index for r in checked.rejected}
        for index, (entry, value) in enumerate(zip(there, values, strict=True)):
            if occupied and index not in refused and isinstance(value, dict) and str(value["user_id"]) in occupied:
                dead.append(Dead(entry, OCCUPIED, "the key of the user's history holds something else"))
        if dead:
            await self._trying("stream", self._stream.bury(dead))
        await self._trying("stream", self._stream.acknowledge([entry.id for entry in entries]))
        self._metrics.events.checked(checked)
        self._metrics.dead.inc(len(dead))
        self._metrics.lost.inc(len(entries) - len(there))
        self._pause_s = _FIRST_PAUSE_S

    async def _append(self, histories: Sequence[tuple[UserId, Behaviors]]) -> set[str]:
        """Write; returns the users whose key holds something else than a history, so that they stop nobody."""
        if not histories:
            return set()
        try:
            await self._store.append_many(histories, timeout_s=WRITE_S)
        except StoreOccupied:
            return {str(user) for user, behaviors in histories if not await self._append_one(user, behaviors)}
        return set()

    async def _append_one(self, user: UserId, behaviors: Behaviors) -> bool:
        try:
            await self._store.append(user, behaviors, timeout_s=WRITE_S)
        except StoreOccupied:
            return False
        return True

    async def _trying(self, at: Trouble, work: Awaitable[T]) -> T:
        try:
            return await work
        except StoreError:
            self._metrics.retries[at].inc()
            raise

    async def _measure(self) -> None:
        """Keep the lag fresh, for ever; while Redis does not answer, the last one stays."""
        while True:
            with suppress(StoreError):
                entries, age_s = await self._stream.lag(now_ms=int(self._now() * 1000))
                self._metrics.lag.set(entries)
                self._metrics.lag_s.set(age_s)
            await asyncio.sleep(LAG_EVERY_S)


def _event(entry: Entry) -> object:
    """The event as JSON has it; what is no JSON stays bytes, and is refused as no object."""
    raw = (entry.fields or {}).get(FIELD)
    if raw is None:
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
