"""Compute threads around the batch queue, and the way there from the event loop.

    with admit(rows) -> job        on the event loop, before any work is done for the request; Overloaded at once
        submit(job, work)          -> queue -> threads -> future
    (end of the block)             whatever is left of the job is dropped

One lock guards the queue; nobody holds it while computing or waiting. Each thread calls the runtime with one thread of
its own, so there are never more threads computing than this engine has.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from service.errors import DeadlineExceeded, NotReady
from service.scoring.batching import Batch, BatchQueue, Job
from service.scoring.compute import Work, encode, score

Clock = Callable[[], float]  # seconds, never going back
CLOSE_S = 5.0  # longest wait for a thread to end
_RESTARTS = 1  # a second crash is no accident


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Seconds of one request: until a thread took it, and from there to its last score."""

    queue_s: float
    compute_s: float


class _Task:
    """A job's work and the caller who waits. `future` belongs to the event loop; threads reach it through `loop`."""

    def __init__(self, work: Work, *, submitted: float) -> None:
        self.work = work
        self.submitted = submitted
        self.started: float | None = None
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Times] = self.loop.create_future()

    def settle(self, result: Times | BaseException) -> None:
        """Hand over from any thread. A loop that is closed has nobody left who waits."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._set, result)

    def finish(self, now: float) -> None:
        """Hand over the times of a job whose scores are all there."""
        started = self.submitted if self.started is None else self.started
        self.settle(Times(queue_s=started - self.submitted, compute_s=now - started))

    def _set(self, result: Times | BaseException) -> None:
        if self.future.done():  # the caller gave up meanwhile
            return
        if isinstance(result, Times):
            self.future.set_result(result)
        else:
            self.future.set_exception(result)


class Engine:
    """`threads` compute threads over one queue."""

    def __init__(  # noqa: PLR0913  # three of them are what it tells others
        self,
        queue: BatchQueue,
        *,
        threads: int,
        clock: Clock,
        on_start: Callable[[], object] = lambda: None,
        on_batch: Callable[[int], object] = lambda _: None,
        on_crash: Callable[[], object] = lambda: None,
    ) -> None:
        """Each thread calls `on_start` first, `on_batch` with the rows of what it runs, `on_crash` if it crashes."""
        self.alive = True  # False after a crash, until the thread is replaced
        self.crashes = 0
        self._queue = queue
        self._threads = [self._thread(number) for number in range(threads)]
        self._clock = clock
        self._on_start, self._on_batch, self._on_crash = on_start, on_batch, on_crash
        self._wake = threading.Condition()
        self._tasks: dict[Job, _Task] = {}
        self._closing = False

    def __repr__(self) -> str:
        return f"Engine(threads={len(self._threads)}, alive={self.alive}, {self._queue!r})"

    @property
    def rows(self) -> int:
        """Candidate rows waiting or being computed now."""
        return self._queue.rows

    @property
    def lost(self) -> bool:
        """A thread crashed and was not replaced: only a new process helps."""
        return self.crashes > _RESTARTS

    def start(self) -> None:
        """Start the threads; once."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End every thread after the jobs that are already there; one that hangs is left behind after a while."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=CLOSE_S)

    def check_wait(self) -> None:
        """Raises Overloaded if a request that comes now would wait too long: cheaper to know before it is parsed."""
        with self._wake:
            self._queue.check_wait()

    @contextmanager
    def admit(self, rows: int, *, deadline: float) -> Iterator[Job]:
        """Room for `rows` until the block ends. Raises Overloaded at once if there is none, NotReady if dead."""
        with self._wake:
            self._check_alive()
            job = self._queue.admit(rows, deadline=deadline, now=self._clock())
        try:
            yield job
        finally:
            with self._wake:
                self._queue.close(job)
                self._tasks.pop(job, None)

    def submit(self, job: Job, work: Work) -> asyncio.Future[Times]:
        """Have `work.pctr` and `work.state` computed. Raises NotReady.

        The future raises DeadlineExceeded, NotReady, or what the runtime raised.
        """
        task = _Task(work, submitted=self._clock())
        job.kind, job.limits = work.runtime, work.runtime.limits
        job.length, job.encoded = work.length, work.state is not None
        with self._wake:
            self._check_alive()
            self._tasks[job] = task
            self._queue.put(job)
            self._wake.notify(max(1, job.rows // job.limits.smallest) if job.encoded else 1)
        return task.future

    def _check_alive(self) -> None:
        if not self.alive:
            raise NotReady("a compute thread died")

    def _thread(self, number: int) -> threading.Thread:
        return threading.Thread(target=self._work, name=f"compute-{number}", daemon=True)

    def _work(self) -> None:
        try:
            self._on_start()
            with self._wake:
                self.alive = not self.lost  # a replacement is here
            while self._step():
                pass
        except BaseException:
            # What ends a thread here (MemoryError outside a batch, SystemExit) must not leave anybody waiting for it.
            self._replace()
            raise

    def _step(self) -> bool:
        """Run the next batch; False when the engine closes. What it ran is let go before the thread waits again."""
        taken = self._take()
        if taken is not None:
            self._run(*taken)
        return taken is not None

    def _take(self) -> tuple[Batch, list[_Task]] | None:
        """The next batch and the tasks of its pieces; None when the engine closes and nothing is left."""
        with self._wake:
            while True:
                batch, expired = self._queue.next(self._clock())
                for job in expired:
                    self._settle(job, DeadlineExceeded("the deadline passed in the queue"))
                if batch is not None:
                    return batch, [self._tasks[piece.job] for piece in batch.pieces]
                if self._closing:
                    return None
                self._wake.wait()

    def _run(self, batch: Batch, tasks: list[_Task]) -> None:
        self._on_batch(batch.rows)
        began = self._clock()
        for task in tasks:
            task.started = began if task.started is None else task.started
        works = [task.work for task in tasks]
        try:
            if batch.encode:
                encode(works)
                self._offer(batch)
            score(works, [slice(piece.start, piece.stop) for piece in batch.pieces])
        except Exception as error:
            if len(batch.pieces) > 1:
                self._try_again(batch)
            else:
                self._fail(batch, error)
        except BaseException:
            self.alive = False  # before anybody hears of it
            self._fail(batch, NotReady("a compute thread died"))
            raise
        else:
            self._finish(batch, began)

    def _offer(self, batch: Batch) -> None:
        """The user half is done: other threads may take what is left."""
        with self._wake:
            for piece in batch.pieces:
                if self._queue.encode_done(piece.job):
                    self._wake.notify(len(self._threads) - 1)

    def _finish(self, batch: Batch, began: float) -> None:
        with self._wake:
            now = self._clock()
            for job in self._queue.finished(batch, seconds=now - began):
                self._tasks[job].finish(now)

    def _fail(self, batch: Batch, error: BaseException) -> None:
        with self._wake:
            for job in self._queue.failed(batch):
                self._settle(job, error)

    def _try_again(self, batch: Batch) -> None:
        with self._wake:
            self._queue.again(batch)
            self._wake.notify_all()

    def _settle(self, job: Job, error: BaseException) -> None:
        if (task := self._tasks.get(job)) is not None:
            task.settle(error)

    def _replace(self) -> None:
        """Start another thread for one that crashed, once; after that the engine is dead and says so to all."""
        self._on_crash()
        with self._wake:
            self.alive = False
            self.crashes += 1
            if not self.lost:
                thread = self._thread(len(self._threads))
                thread.start()
                self._threads.append(thread)
                return
            for job in self._queue.close_all():
                self._settle(job, NotReady("a compute thread died"))
