"""Any interleaving of what can happen to the queue, beside a model that keeps its own books."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.errors import Overloaded
from service.runtimes.base import BatchLimits
from service.scoring.batching import Batch, BatchQueue, Job, Piece
from service.scoring.pace import USER_ROWS

LIMITS = BatchLimits(smallest=8, largest=20, users=3, joined=24, pairs=400)
PICK = st.integers(0, 1000)  # which of those there are, modulo how many


@dataclass(eq=False)
class Entry:
    """What the model knows of one job."""

    job: Job
    rows: int
    deadline: float
    encoded: bool = False
    alone: bool = False
    handed: int = 0
    out: list[Piece] = field(default_factory=list)  # running now
    back: int = 0  # rows that are finished
    ends: list[str] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Rows of the budget: until the end those not finished, afterwards those that still run."""
        return sum(piece.rows for piece in self.out) if self.ends else self.rows - self.back


class Queue(RuleBasedStateMachine):
    """Rules are the calls that an engine makes, in any order that threads and callers could produce."""

    @initialize(threads=st.integers(1, 4), budget=st.integers(20, 120), max_wait=st.sampled_from([0.5, 1e9]))
    def start(self, threads, budget, max_wait):
        self.queue = BatchQueue(threads=threads, budget_rows=budget, max_wait_s=max_wait)
        self.threads, self.budget, self.now = threads, budget, 0.0
        self.entries: dict[Job, Entry] = {}
        self.admitted: list[Entry] = []  # not put yet
        self.open: list[Entry] = []  # in the order in which they are due
        self.running: list[Batch] = []
        self.encoding: list[Batch] = []  # of those that run

    # What callers do

    @rule(rows=st.integers(1, 60), left=st.floats(0, 4))
    def admit(self, rows, left):
        """Refused for the budget always, otherwise only where something is before it and its cost is known."""
        held = sum(entry.held for entry in self.entries.values())
        fits = held + rows <= self.budget
        try:
            job = self.queue.admit(rows, deadline=self.now + left, now=self.now)
        except Overloaded:
            assert not fits or (held and self.queue.pace.row_s)
            return
        assert fits
        entry = Entry(job, rows, self.now + left)
        self.entries[job] = entry
        self.admitted.append(entry)

    @precondition(lambda self: self.admitted)
    @rule(pick=PICK, kind=st.sampled_from("ab"), length=st.integers(0, 30), encoded=st.booleans())
    def put(self, pick, kind, length, encoded):
        self.line_up(self.admitted.pop(pick % len(self.admitted)), kind=kind, length=length, encoded=encoded)

    @rule(sizes=st.lists(st.integers(1, 8), min_size=2, max_size=6), length=st.integers(0, 20), left=st.floats(1, 9))
    def burst(self, sizes, length, left):
        """Several small ones of one kind at once, which is when joining is worth it."""
        for rows in sizes:
            before = len(self.admitted)
            self.admit(rows, left)
            if len(self.admitted) > before:
                self.line_up(self.admitted.pop(), kind="a", length=length, encoded=False)

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def close(self, pick):
        """A caller goes: before, while and after the work is done."""
        entry = list(self.entries.values())[pick % len(self.entries)]
        assert self.queue.close(entry.job) == (not entry.ends)
        if not entry.ends:
            self.end(entry, "closed")

    @rule(seconds=st.floats(0.01, 2))
    def time_passes(self, seconds):
        self.now += seconds

    # What threads do

    @precondition(lambda self: len(self.running) < self.threads)
    @rule()
    def next(self):
        """The oldest that can run is in the batch, and everything of the batch may run."""
        batch, expired = self.queue.next(self.now)
        assert expired == [entry.job for entry in self.open if entry.deadline <= self.now]
        for job in expired:
            self.end(self.entries[job], "expired")
        ready = [entry for entry in self.open if not self.is_encoding(entry)]
        if batch is None:
            assert not ready
            return
        assert batch.pieces[0].job is ready[0].job
        self.check(batch, ready)
        for piece in batch.pieces:
            entry = self.entries[piece.job]
            entry.handed = piece.stop
            entry.out.append(piece)
            if entry.handed == entry.rows:
                self.open.remove(entry)
        self.running.append(batch)
        if batch.encode:
            self.encoding.append(batch)

    @precondition(lambda self: self.encoding)
    @rule(pick=PICK)
    def encode_done(self, pick):
        batch = self.encoding.pop(pick % len(self.encoding))
        for piece in batch.pieces:
            entry = self.entries[piece.job]
            entry.encoded = True
            assert self.queue.encode_done(piece.job) == (entry in self.open)

    @precondition(lambda self: any(batch not in self.encoding for batch in self.running))
    @rule(pick=PICK, seconds=st.floats(0, 1))
    def finished(self, pick, seconds):
        """Complete are those whose rows are all back and whose caller still waits."""
        batch = self.give_back([batch for batch in self.running if batch not in self.encoding], pick)
        complete = self.queue.finished(batch, seconds=seconds)
        entries = [self.entries[piece.job] for piece in batch.pieces]
        assert complete == [entry.job for entry in entries if entry.back == entry.rows and not entry.ends]
        for job in complete:
            self.end(self.entries[job], "complete")

    @precondition(lambda self: self.running)
    @rule(pick=PICK)
    def failed(self, pick):
        batch = self.give_back(self.running, pick)
        entries = [self.entries[piece.job] for piece in batch.pieces]
        assert self.queue.failed(batch) == [entry.job for entry in entries if not entry.ends]
        for entry in entries:
            if not entry.ends:
                self.end(entry, "failed")

    @precondition(lambda self: any(len(batch.pieces) > 1 for batch in self.running))
    @rule(pick=PICK)
    def again(self, pick):
        """A joined batch failed: whoever still waits is due first, alone, from the first row."""
        batch = self.give_back([batch for batch in self.running if len(batch.pieces) > 1], pick)
        self.queue.again(batch)
        entries = [self.entries[piece.job] for piece in batch.pieces]
        for entry in entries:
            entry.handed = entry.back = 0
            entry.alone = True
        self.open = [entry for entry in entries if not entry.ends] + self.open

    # What must hold

    @invariant()
    def the_budget_is_what_the_model_says(self):
        held = sum(entry.held for entry in self.entries.values())
        assert self.queue.rows == held <= self.budget

    @invariant()
    def an_idle_queue_expects_no_wait(self):
        held = [entry for entry in self.entries.values() if entry.held]
        assert 0 <= self.queue._user_rows <= USER_ROWS * len(held)

    @invariant()
    def nothing_ends_twice(self):
        assert all(len(entry.ends) <= 1 for entry in self.entries.values())
        assert self.queue.empty == (not self.open)

    def teardown(self):
        """Whatever happened: in the end everybody has heard exactly once, and nothing is held."""
        if not hasattr(self, "queue"):
            return
        while self.running or self.open:
            while self.encoding:
                self.encode_done(0)
            while self.running:
                self.finished(0, 0.1)
            self.next()
        for entry in self.admitted:
            if not entry.ends:
                self.end(entry, "closed")
                self.queue.close(entry.job)
        assert all(len(entry.ends) == 1 for entry in self.entries.values())
        assert repr(self.queue) == f"BatchQueue(rows=0/{self.budget}, waiting=0, running=0)"

    # Books

    def line_up(self, entry: Entry, *, kind: str, length: int, encoded: bool) -> None:
        job = entry.job
        job.kind, job.limits, job.length, job.encoded = kind, LIMITS, length, encoded
        entry.encoded = encoded
        self.queue.put(job)
        if not entry.ends:
            self.open.append(entry)

    def end(self, entry: Entry, how: str) -> None:
        entry.ends.append(how)
        if entry in self.open:
            self.open.remove(entry)

    def is_encoding(self, entry: Entry) -> bool:
        return any(piece in entry.out for batch in self.encoding for piece in batch.pieces)

    def give_back(self, among: list[Batch], pick: int) -> Batch:
        batch = among[pick % len(among)]
        self.running.remove(batch)
        if batch in self.encoding:
            self.encoding.remove(batch)
        for piece in batch.pieces:
            entry = self.entries[piece.job]
            entry.out.remove(piece)
            entry.back += piece.rows
        return batch

    def check(self, batch: Batch, ready: list[Entry]) -> None:
        entries = [self.entries[piece.job] for piece in batch.pieces]
        users = len(entries)
        assert len(set(entries)) == users
        for entry, piece in zip(entries, batch.pieces, strict=True):
            assert entry in ready
            assert entry.handed == piece.start < piece.stop <= entry.rows
            assert batch.encode == (not entry.encoded)
        if users == 1:
            assert batch.rows <= max(1, min(LIMITS.largest, LIMITS.pairs // max(1, entries[0].job.length)))
            return
        fresh = [e for e in ready if e.job.kind == entries[0].job.kind and not e.encoded and not e.alone]
        rows, length = max(entry.rows for entry in entries), max(1, *(entry.job.length for entry in entries))
        assert entries == [entry for entry in fresh if entry in entries]
        assert len(fresh) > self.threads - len(self.running)  # more than there are threads free
        assert users <= LIMITS.users
        assert users * rows <= LIMITS.joined
        assert users * rows * length <= min(LIMITS.pairs, 1.25 * sum(e.rows * max(1, e.job.length) for e in entries))
        assert all(piece.rows == entry.rows for entry, piece in zip(entries, batch.pieces, strict=True))


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
