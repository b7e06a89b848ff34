"""Past behaviors from a Parquet or CSV file into a store.

histories of a file --some behaviors a write--> store
                |
                after each slice, the rows so far: a load that was cut off goes on there, and writes at most one slice
                again
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from service.history_file import (
    BATCH_ROWS,
    DEFAULT_COLUMNS,
    BehaviorColumns,
    History,
    TimeUnit,
    count_rows,
    read_histories,
    wanted_columns,
)
from service.stores.base import BehaviorStore, UserId

BEHAVIORS_PER_WRITE = 1000  # 500 to 10,000 are equally fast on loopback; more would only take memory
WRITE_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class LoadCounts:
    """What a load wrote. `behaviors` counts rows of the file, also those that the store already had."""

    behaviors: int
    users: int
    seconds: float
    skipped: int = 0  # rows that an earlier load of this file had written before it was cut off


class LoadMarks(Protocol):
    """Where loads remember how far they came."""

    async def get(self, load: str) -> int:
        """Rows of this load that are written; 0 for one that was never begun."""
        ...

    async def put(self, load: str, rows: int) -> None:
        """So many are written."""
        ...

    async def drop(self, load: str) -> None:
        """All are written."""
        ...


async def load_history(  # noqa: PLR0913  # a log, how to read it, where it goes, and who hears of it
    path: Path,
    store: BehaviorStore,
    *,
    time_unit: TimeUnit,
    columns: BehaviorColumns = DEFAULT_COLUMNS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    marks: LoadMarks | None = None,
    batch_rows: int = BATCH_ROWS,
) -> LoadCounts:
    """Append every row of `path` to its user's history; `on_progress` hears (rows written, rows in the file).

    Loading a file again changes nothing; with `marks`, a load that was cut off goes on at the `batch_rows` rows where
    it was. Raises ConfigError for a file that cannot be read or holds a wrong value (rows before it may be written by
    then), StoreError when the store fails.
    """
    started = time.perf_counter()
    wanted_columns(path, columns)  # a wrong file is told before the store is asked
    total, users = count_rows(path), set[UserId]()
    load = _name(path, time_unit, columns, batch_rows)
    done = skipped = await marks.get(load) if marks else 0

    def wrote(rows: int) -> None:
        nonlocal done
        done += rows
        on_progress(done, total)

    batches = read_histories(path, time_unit=time_unit, columns=columns, batch_rows=batch_rows, first_row=skipped)
    async with aclosing(_read_ahead(batches)) as ahead:
        async for histories in ahead:
            await _append(store, histories, wrote)
            users.update(user for user, _ in histories)
            if marks:
                await marks.put(load, done)
    if marks:
        await marks.drop(load)
    seconds = time.perf_counter() - started
    return LoadCounts(behaviors=done - skipped, users=len(users), seconds=seconds, skipped=skipped)


def _name(path: Path, time_unit: TimeUnit, columns: BehaviorColumns, batch_rows: int) -> str:
    """The same for the same load: a file that was changed, or is read in another way, is another load."""
    found = path.stat()
    told = (str(path.resolve()), found.st_size, found.st_mtime_ns, time_unit, batch_rows, *vars(columns).values())
    return blake2b(repr(told).encode(), digest_size=16).hexdigest()


async def _read_ahead(batches: Iterator[list[History]]) -> AsyncGenerator[list[History], None]:
    """Each batch, while a thread already reads the next one."""
    reading = asyncio.create_task(asyncio.to_thread(next, batches, None))
    try:
        while (histories := await reading) is not None:
            reading = asyncio.create_task(asyncio.to_thread(next, batches, None))
            yield histories
    finally:
        await asyncio.gather(reading, return_exceptions=True)


async def _append(store: BehaviorStore, histories: list[History], wrote: Callable[[int], None]) -> None:
    """Write them, and tell how many behaviors each write had. One is prepared while another is on its way."""
    before: asyncio.Task[int] | None = None
    try:
        for write in _writes(histories):
            task = asyncio.create_task(_append_one(store, write))
            before, done = task, before
            if done is not None:
                wrote(await done)
        if before is not None:
            wrote(await before)
    finally:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)


async def _append_one(store: BehaviorStore, write: list[History]) -> int:
    await store.append_many(write, timeout_s=WRITE_TIMEOUT_S)
    return sum(len(behaviors) for _, behaviors in write)


def _writes(histories: list[History]) -> Iterator[list[History]]:
    """The same behaviors in lists of about BEHAVIORS_PER_WRITE; a longer history is cut."""
    write: list[History] = []
    room = BEHAVIORS_PER_WRITE
    for user, behaviors in histories:
        for start in range(0, len(behaviors), BEHAVIORS_PER_WRITE):
            piece = behaviors[start : start + BEHAVIORS_PER_WRITE]
            write.append((user, piece))
            room -= len(piece)
            if room <= 0:
                yield write
                write, room = [], BEHAVIORS_PER_WRITE
    if write:
        yield write
