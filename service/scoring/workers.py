"""A few compute threads behind a budget of candidate rows.

    reserve(rows) -> Overloaded, or room        on the event loop, before any work is done for the request
    submit(work)  -> queue -> thread -> future  an expired or cancelled job is dropped, not computed

All bookkeeping happens on the event loop, so it needs no lock; threads only take jobs and hand results back.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import DeadlineExceeded, NotReady, Overloaded

CLOSE_S = 5.0  # longest wait for a thread to end

T = TypeVar("T")
Clock = Callable[[], float]  # seconds, never going back


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed(Generic[T]):
    """A result and the time it took, in seconds: waiting for a thread, then computing."""

    value: T
    queue_s: float
    compute_s: float


class _Job(Generic[T]):
    """Work for one request. `future` belongs to the event loop; threads reach it through `loop` only."""

    def __init__(self, work: Callable[[], T], *, deadline: float, submitted: float) -> None:
        self.work = work
        self.deadline = deadline
        self.submitted = submitted
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Computed[T]] = self.loop.create_future()

    def settle(self, result: Computed[T] | BaseException) -> None:
        """Hand over from any thread. A loop that is closed has nobody left who waits."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._set, result)

    def _set(self, result: Computed[T] | BaseException) -> None:
        if self.future.done():  # the caller gave up meanwhile
            return
        if isinstance(result, Computed):
            self.future.set_result(result)
        else:
            self.future.set_exception(result)


class Workers:
    """`threads` compute threads for at most `budget_rows` candidate rows at once, waiting or computing."""

    def __init__(self, threads: int, *, budget_rows: int, clock: Clock) -> None:
        self.rows = 0  # reserved now
        self.alive = True
        self._budget_rows = budget_rows
        self._clock = clock
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"compute-{i}", daemon=True) for i in range(threads)]

    def __repr__(self) -> str:
        return f"Workers(threads={len(self._threads)}, rows={self.rows}/{self._budget_rows}, alive={self.alive})"

    def start(self) -> None:
        """Start the threads; once."""
        for thread in self._threads:
            thread.start()

    @contextmanager
    def reserve(self, rows: int) -> Iterator[None]:
        """Room for `rows` until the block ends. Raises Overloaded at once if there is none, NotReady if dead."""
        if not self.alive:
            raise NotReady("a compute worker died")
        if self.rows + rows > self._budget_rows:
            raise Overloaded(f"{self.rows} of {self._budget_rows} candidate rows are taken, this request has {rows}")
        self.rows += rows
        try:
            yield
        finally:
            self.rows -= rows

    async def submit(self, work: Callable[[], T], *, deadline: float) -> Computed[T]:
        """Run `work` in a thread and return what it returns or raise what it raises.

        Cancelling the caller, or reaching `deadline` (on this pool's clock) before a thread is free, drops the work.
        """
        job = _Job(work, deadline=deadline, submitted=self._clock())
        self._jobs.put(job)  # type: ignore[arg-type]  # the queue holds jobs of every T; each keeps its own
        if not self.alive:  # died after `reserve`: nobody may be left to take the job
            self._fail_waiting()
        return await job.future

    def close(self) -> None:
        """End every thread after the jobs that are already there; one that hangs is left behind after a while."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout=CLOSE_S)

    def _work(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._run(job)
        except BaseException:
            # What ends a thread here (MemoryError outside a job, SystemExit) must not leave anybody waiting for it.
            self.alive = False
            self._fail_waiting()
            raise

    def _run(self, job: _Job[object]) -> None:
        started = self._clock()
        if job.future.cancelled() or started >= job.deadline:
            job.settle(DeadlineExceeded("the deadline passed in the queue"))
            return
        try:
            value = job.work()
        except Exception as error:
            job.settle(error)
        except BaseException:
            self.alive = False  # before anybody hears of it
            job.settle(NotReady("a compute worker died"))
            raise
        else:
            job.settle(Computed(value=value, queue_s=started - job.submitted, compute_s=self._clock() - started))

    def _fail_waiting(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is None:  # `close` has begun: its markers are for the threads that still live
                self._jobs.put(None)
                return
            job.settle(NotReady("a compute worker died"))
