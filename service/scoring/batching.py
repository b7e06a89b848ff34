"""Which work runs next: requests cut into pieces and joined into batches. Pure: no clock, no thread, no lock.

    admit(rows)  at the door: room in the row budget, and hope to keep the deadline, or Overloaded
    put(job)     when its inputs are there
    next(now)    a batch for one free thread, and the jobs whose deadline passed while they waited
    encode_done(job)  its user half is done: the rest of its candidates may be taken by any thread
    finished()   a batch is done: the jobs that are complete with it
    failed()     a batch of one job failed, and the job with it; again() is for a joined one
    close(job)   cancelled, failed or expired: no more of it is handed out

Nothing waits on a timer: batches form because threads are busy. The oldest request goes first, on as many threads as
are free, which is what keeps the mean latency lowest.
"""

import math
from dataclasses import dataclass, field

from service.errors import Overloaded
from service.runtimes.base import BatchLimits
from service.scoring.pace import USER_ROWS, Pace

_PADDED = 1.25  # largest share of padded cells to real ones where requests are joined; more costs more than it saves


@dataclass(eq=False, kw_only=True)
class Job:
    """One request's candidates. `admit` makes it; `put` says what it needs."""

    rows: int
    deadline: float
    kind: object = None  # only jobs of one kind (one runtime) share a batch
    limits: BatchLimits = field(default_factory=BatchLimits)
    length: int = 0  # behaviors, padding included
    encoded: bool = False
    taken: int = 0  # rows handed out
    running: int = 0  # rows handed out and not finished
    done: int = 0
    closed: bool = False
    encoding: bool = False
    user_rows: int = USER_ROWS  # its user half's share of the wait, until that is done
    alone: bool = False  # was in a joined batch that failed


@dataclass(frozen=True, slots=True)
class Piece:
    """Candidates `start` to `stop` of one job."""

    job: Job
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many candidates."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Batch:
    """What one thread runs in one go: a piece of one job, or several whole jobs of one kind."""

    pieces: tuple[Piece, ...]
    encode: bool  # the user half comes first

    @property
    def rows(self) -> int:
        """Candidates, without padding."""
        return sum(piece.rows for piece in self.pieces)


class BatchQueue:
    """Jobs for `threads` threads, at most `budget_rows` candidate rows waiting or running at once."""

    def __init__(self, *, threads: int, budget_rows: int, max_wait_s: float = math.inf) -> None:
        self.rows = 0  # admitted and not finished
        self.pace = Pace()
        self._user_rows = 0  # of user halves that are not done
        self._threads = threads
        self._budget_rows = budget_rows
        self._max_wait_s = max_wait_s
        self._running = 0  # batches handed out
        self._open: dict[Job, None] = {}  # put and with rows left to hand out, oldest first

    def __repr__(self) -> str:
        return f"BatchQueue(rows={self.rows}/{self._budget_rows}, waiting={len(self._open)}, running={self._running})"

    @property
    def empty(self) -> bool:
        """Nothing is left to hand out."""
        return not self._open

    def wait_s(self) -> float:
        """Seconds until a thread would be free for a request that comes now, by the running mean."""
        return (self.rows + self._user_rows) * self.pace.row_s / self._threads

    def check_wait(self) -> None:
        """Raises Overloaded if a request that comes now would wait too long, however small it is."""
        wait_s = self.wait_s()
        if self.rows and wait_s > self._max_wait_s:
            why = f"the wait would be {wait_s * 1e3:.0f} ms, allowed: {self._max_wait_s * 1e3:.0f} ms"
            raise Overloaded(why, retry_after_s=math.ceil(wait_s))

    def admit(self, rows: int, *, deadline: float, now: float) -> Job:
        """Room for `rows` until the job is finished or closed. Raises Overloaded, at once and without a trace.

        An idle queue admits whatever the budget allows, so that a wrong estimate cannot last.
        """
        wait_s = self.wait_s()
        if self.rows + rows > self._budget_rows:
            why = f"{self.rows} of {self._budget_rows} candidate rows are taken, this request has {rows}"
            raise Overloaded(why, retry_after_s=math.ceil(wait_s))
        self.check_wait()
        if self.rows and now + wait_s + (rows + USER_ROWS) * self.pace.row_s / self._threads > deadline:
            why = f"the wait of {wait_s * 1e3:.0f} ms leaves too little of the deadline"
            raise Overloaded(why, retry_after_s=math.ceil(wait_s))
        self.rows += rows
        self._user_rows += USER_ROWS
        return Job(rows=rows, deadline=deadline)

    def put(self, job: Job) -> None:
        """Line up an admitted job; one that was closed meanwhile is forgotten."""
        if not job.closed:
            self._open[job] = None
            if job.encoded:
                self._user_half_done(job)

    def next(self, now: float) -> tuple[Batch | None, list[Job]]:
        """A batch for one thread, or None; and the jobs found expired, which are closed."""
        expired = [job for job in self._open if now >= job.deadline]
        for job in expired:
            self.close(job)
        first = next((job for job in self._open if not job.encoding), None)
        if first is None:
            return None, expired
        batch = self._cut(first) if first.encoded else self._start(first)
        for piece in batch.pieces:
            job = piece.job
            job.taken, job.running = piece.stop, job.running + piece.rows
            job.encoding = batch.encode
            if job.taken == job.rows:
                del self._open[job]
        self._running += 1
        return batch, expired

    def encode_done(self, job: Job) -> bool:
        """The job's user half is done. Returns whether candidates are left for other threads."""
        job.encoding, job.encoded = False, True
        return job in self._open

    def finished(self, batch: Batch, *, seconds: float) -> list[Job]:
        """The batch is done, after `seconds` of one thread. Returns the jobs that are complete now."""
        self.pace.learn(seconds, rows=batch.rows, users=len(batch.pieces) if batch.encode else 0)
        complete = []
        for job in self._return(batch):
            if job.done == job.rows and not job.closed:
                job.closed = True
                complete.append(job)
        return complete

    def failed(self, batch: Batch) -> list[Job]:
        """The batch failed, and its jobs with it. Returns those that were not closed before."""
        return [job for job in self._return(batch) if self.close(job)]

    def again(self, batch: Batch) -> None:
        """A joined batch failed: its jobs come first again, each alone, so that only the one at fault fails."""
        jobs = self._return(batch)
        for job in jobs:
            job.taken = job.done = 0  # joined jobs are whole ones
            job.encoding, job.alone = False, True
            if not (job.closed or job.encoded):
                job.user_rows = USER_ROWS
                self._user_rows += USER_ROWS
        self.rows += sum(job.rows for job in jobs if not job.closed)
        self._open = {**{job: None for job in jobs if not job.closed}, **self._open}

    def close(self, job: Job) -> bool:
        """Hand out no more of this job; its rows are free once those that run are finished. False if it was closed."""
        if job.closed:
            return False
        job.closed = True
        self._open.pop(job, None)
        self.rows -= job.rows - job.done - job.running
        if not job.encoding:
            self._user_half_done(job)
        return True

    def close_all(self) -> list[Job]:
        """Close every job that waits and return them."""
        return [job for job in list(self._open) if self.close(job)]

    def _return(self, batch: Batch) -> list[Job]:
        self._running -= 1
        for piece in batch.pieces:
            job = piece.job
            job.running -= piece.rows
            job.done += piece.rows
            self.rows -= piece.rows
            if batch.encode:
                self._user_half_done(job)
        return [piece.job for piece in batch.pieces]

    def _user_half_done(self, job: Job) -> None:
        self._user_rows -= job.user_rows
        job.user_rows = 0

    def _idle(self) -> int:
        """Threads that are free beside the one that asks."""
        return max(0, self._threads - self._running - 1)

    def _cut(self, job: Job) -> Batch:
        """The next piece of one job: an even share for every free thread, within the runtime's limits."""
        limits, left = job.limits, job.rows - job.taken
        largest = max(1, min(limits.largest, limits.pairs // max(job.length, 1)))
        pieces = max(min(self._idle() + 1, left // limits.smallest), math.ceil(left / largest))
        rows = math.ceil(left / pieces)
        return Batch((Piece(job, job.taken, job.taken + rows),), encode=not job.encoded)

    def _start(self, first: Job) -> Batch:
        """A job that nobody began: alone, or with small ones like it when more wait than threads are free."""
        if first.alone:
            return self._cut(first)
        limits = first.limits
        fresh = [job for job in self._open if job.kind is first.kind and not (job.encoded or job.encoding or job.alone)]
        share = math.ceil(len(fresh) / (self._idle() + 1))
        chosen, rows, length, cells = [first], first.rows, first.length, _cells(first)
        for job in fresh[1:]:
            if len(chosen) == min(share, limits.users):
                break
            wider, longer, users = max(rows, job.rows), max(length, job.length), len(chosen) + 1
            padded, real = users * wider * max(longer, 1), cells + _cells(job)
            if users * wider > limits.joined or padded > min(limits.pairs, _PADDED * real):
                continue  # it is the first, or nearer to it, next time
            chosen.append(job)
            rows, length, cells = wider, longer, real
        if len(chosen) == 1:
            return self._cut(first)
        return Batch(tuple(Piece(job, 0, job.rows) for job in chosen), encode=True)


def _cells(job: Job) -> int:
    """What its activations grow with."""
    return job.rows * max(job.length, 1)
