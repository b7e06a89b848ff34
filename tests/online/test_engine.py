"""Compute threads around the queue: nothing waits for ever, nothing is computed for nobody, nobody gets another's."""

import asyncio
import contextlib
import threading
import time

import numpy as np
import pytest

from service.errors import DeadlineExceeded, NotReady, Overloaded
from service.runtimes.base import BatchLimits, RuntimeFailure
from service.runtimes.fake import FakeRuntime
from service.scoring.batching import BatchQueue
from service.scoring.compute import Work
from service.scoring.engine import Engine

pytestmark = pytest.mark.anyio

FAR = 1e12
PIECES = BatchLimits(smallest=4, largest=8)
JOINING = BatchLimits(smallest=4, largest=8, users=4, joined=40)


class Counting(FakeRuntime):
    """Remembers the user half's and the candidate half's calls: how many users, how many candidates."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.encoded: list[int] = []
        self.calls: list[tuple[int, int]] = []

    def encode_user(self, request):
        """Count the users."""
        self.encoded.append(len(request["user_sparse"]))
        return super().encode_user(request)

    def score(self, state, candidates):
        """Remember the shape."""
        self.calls.append(candidates["item_sparse"].shape[:2])
        return super().score(state, candidates)


class Poisoned(Counting):
    """Fails for every batch that has item 666, and gives NaN for item 667."""

    def score(self, state, candidates):
        """Look at the items first."""
        if (candidates["item_sparse"] == 666).any():
            raise RuntimeFailure("item 666")
        found = super().score(state, candidates)
        return {**found, "pctr": np.where(candidates["item_sparse"][..., 0] == 667, np.nan, found["pctr"])}


def work(runtime: FakeRuntime, items, *, user: int = 1, history: int = 3) -> Work:
    """One request for these item indices."""
    return Work(
        runtime=runtime,
        user={
            "user_sparse": np.array([[user]]),
            "history": np.arange(1, history + 1)[None, :, None] + user,
            "history_len": np.array([history]),
        },
        candidates={"item_sparse": np.array(items)[None, :, None]},
    )


def expected(work: Work) -> list[float]:
    """What the fake runtime gives for this request by itself."""
    alone = FakeRuntime()
    return alone.score(alone.encode_user(work.user), work.candidates)["pctr"][0].tolist()


async def compute(engine: Engine, work: Work, *, deadline: float = FAR):
    """Admit and run one request; returns its times."""
    with engine.admit(work.rows, deadline=deadline) as job:
        return await engine.submit(job, work)


async def until(condition) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # a thread changes it
            await asyncio.sleep(0.001)


@contextlib.contextmanager
def engine_of(threads: int, *, budget_rows: int = 1000, started: bool = True, clock=time.monotonic, **options):
    """An engine that ends with the test."""
    engine = Engine(BatchQueue(threads=threads, budget_rows=budget_rows), threads=threads, clock=clock, **options)
    if started:
        engine.start()
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture
def gate():
    """Holds `score` back until it is set; set at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


async def test_scores_come_back_with_their_times():
    """The scores are those of the runtime; queueing and computing took some time."""
    with engine_of(2) as engine:
        one = work(FakeRuntime(limits=PIECES), range(20))
        times = await compute(engine, one)

    assert one.pctr.tolist() == expected(one)
    assert times.queue_s >= 0
    assert times.compute_s > 0
    assert engine.rows == 0


@pytest.mark.parametrize("candidates", [1, 8, 9, 100])
async def test_the_user_half_runs_once_however_the_candidates_are_cut(candidates):
    """Pieces share one state; together they are the whole request, none beyond the limit."""
    runtime = Counting(limits=PIECES)
    with engine_of(2) as engine:
        one = work(runtime, range(candidates))
        await compute(engine, one)

    assert runtime.encoded == [1]
    assert sum(rows for _, rows in runtime.calls) == candidates
    assert max(rows for _, rows in runtime.calls) <= 8
    assert one.pctr.tolist() == expected(one)


async def test_a_known_state_skips_the_user_half():
    """The scores are the same."""
    runtime = Counting(limits=PIECES)
    with engine_of(2) as engine:
        first, second = work(runtime, range(20)), work(runtime, range(20))
        await compute(engine, first)
        second.state = first.state
        await compute(engine, second)

    assert runtime.encoded == [1]
    assert second.pctr.tolist() == expected(second)


async def test_two_free_threads_compute_one_request_together():
    """Both are inside `score` at the same time, each with half of the candidates."""
    meeting = threading.Barrier(2, timeout=5)

    class Meeting(Counting):
        def score(self, state, candidates):
            meeting.wait()
            return super().score(state, candidates)

    runtime = Meeting(limits=PIECES)
    with engine_of(2) as engine:
        one = work(runtime, range(16))
        await compute(engine, one)

    assert sorted(runtime.calls) == [(1, 8), (1, 8)]
    assert one.pctr.tolist() == expected(one)


async def test_threads_work_side_by_side(gate):
    """The second request ends while the first still runs."""
    with engine_of(2) as engine:
        held = asyncio.create_task(compute(engine, work(FakeRuntime(gate=gate), [1])))
        await compute(engine, work(FakeRuntime(), [1]))

        assert not held.done()
        gate.set()
        await held


async def test_joined_requests_get_the_scores_that_they_get_alone():
    """Four requests of unlike sizes and histories in one call, padded to each other."""
    runtime = Counting(limits=JOINING)
    works = [
        work(runtime, range(start, start + size), user=start, history=history)
        for start, size, history in ((1, 5, 10), (2, 6, 10), (3, 5, 9), (4, 6, 9))
    ]
    with engine_of(1, started=False) as engine:
        tasks = [asyncio.create_task(compute(engine, one)) for one in works]
        await asyncio.sleep(0)
        engine.start()
        await asyncio.gather(*tasks)

    assert (runtime.encoded, runtime.calls) == ([4], [(4, 6)])
    assert [one.pctr.tolist() for one in works] == [expected(one) for one in works]
    assert [len(one.state["state_mix"]) for one in works] == [1] * 4


@pytest.mark.parametrize("poison", [666, 667])
async def test_in_a_joined_batch_only_the_request_at_fault_fails(poison):
    """A failure or a score that is no number is its own caller's; the others are computed again."""
    runtime = Poisoned(limits=JOINING)
    works = [work(runtime, items) for items in ([1, 2], [3, poison], [5, 6])]
    with engine_of(1, started=False) as engine:
        tasks = [asyncio.create_task(compute(engine, one)) for one in works]
        await asyncio.sleep(0)
        engine.start()
        good, bad, other = await asyncio.gather(*tasks, return_exceptions=True)

    assert runtime.encoded == [3]
    assert isinstance(bad, RuntimeFailure)
    assert not isinstance(good, Exception)
    assert not isinstance(other, Exception)
    assert [works[i].pctr.tolist() for i in (0, 2)] == [expected(works[i]) for i in (0, 2)]
    assert (engine.alive, engine.rows) == (True, 0)


@pytest.mark.parametrize("failure", [RuntimeFailure("boom"), KeyError("a defect")])
async def test_an_error_reaches_its_caller_only(failure):
    """The caller sees the exception once, although several pieces fail; the next request is fine."""
    with engine_of(2) as engine:
        with pytest.raises(type(failure)) as caught:
            await compute(engine, work(FakeRuntime(failure=failure, limits=PIECES), range(50)))
        await compute(engine, work(FakeRuntime(), [1]))

        assert caught.value is failure
        assert engine.alive


async def test_rows_beyond_the_budget_are_refused_at_once():
    """A request above the budget raises; the rows of one that ended are free again."""
    with engine_of(2, budget_rows=100) as engine, engine.admit(60, deadline=FAR):
        with pytest.raises(Overloaded, match="this request has 41"), engine.admit(41, deadline=FAR):
            pass
        with engine.admit(40, deadline=FAR):
            full = repr(engine)

    assert full == "Engine(threads=2, alive=True, BatchQueue(rows=100/100, waiting=0, running=0))"
    assert engine.rows == 0


async def test_expired_work_is_not_computed():
    """A request whose deadline passed in the queue fails without running."""
    now, runtime = [0.0], Counting()
    with engine_of(1, started=False, clock=lambda: now[0]) as engine:
        task = asyncio.create_task(compute(engine, work(runtime, [1]), deadline=5.0))
        await asyncio.sleep(0)  # it waits now, and no thread runs yet
        now[0] = 5.0
        engine.start()
        with pytest.raises(DeadlineExceeded, match="in the queue"):
            await task

    assert (runtime.encoded, runtime.calls, engine.rows) == ([], [], 0)


async def test_cancelled_work_is_not_computed():
    """A request whose caller has gone is dropped, and its rows with it."""
    gone, runtime = Counting(), FakeRuntime()
    with engine_of(1, started=False) as engine:
        task = asyncio.create_task(compute(engine, work(gone, [1])))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        rows = engine.rows
        engine.start()
        await compute(engine, work(runtime, [1]))

    assert (gone.encoded, gone.calls, rows) == ([], [], 0)


async def test_cancelled_work_that_runs_holds_its_rows_until_it_ends(gate):
    """The rest is dropped at once; what a thread has begun counts until that thread is free."""
    runtime = FakeRuntime(gate=gate, limits=PIECES)
    with engine_of(1) as engine:
        task = asyncio.create_task(compute(engine, work(runtime, range(40))))
        await until(lambda: "running=1" in repr(engine))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        held = engine.rows
        gate.set()
        await until(lambda: engine.rows == 0)

    assert held == 8
    assert runtime.scored == 1


async def test_a_user_half_that_fails_in_a_joined_batch_runs_again_for_each():
    """Whose own user half fails gets the error; the others do not notice."""

    class Picky(Counting):
        def encode_user(self, request):
            state = super().encode_user(request)
            if (request["user_sparse"] == 13).any():
                raise RuntimeFailure("user 13")
            return state

    runtime = Picky(limits=JOINING)
    works = [work(runtime, [1, 2], user=user) for user in (12, 13, 14)]
    with engine_of(1, started=False) as engine:
        tasks = [asyncio.create_task(compute(engine, one)) for one in works]
        await asyncio.sleep(0)
        engine.start()
        async with asyncio.timeout(5):
            results = await asyncio.gather(*tasks, return_exceptions=True)

    assert runtime.encoded == [3, 1, 1, 1]
    assert [isinstance(result, RuntimeFailure) for result in results] == [False, True, False]
    assert works[2].pctr.tolist() == expected(works[2])


# A crash is what the next tests are about.
crashes = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@crashes
async def test_a_crash_fails_its_own_request_only(gate):
    """The thread is replaced, who waits is served by the next one, and the crash is reported."""
    heard = []
    with engine_of(1, on_crash=lambda: heard.append(1)) as engine:
        struck = asyncio.create_task(compute(engine, work(FakeRuntime(gate=gate, failure=SystemExit()), [1])))
        waiting = work(FakeRuntime(), [2, 3])
        served = asyncio.create_task(compute(engine, waiting))
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(NotReady, match="a compute thread died"):
            await struck
        await served
        await until(lambda: engine.alive)
        await compute(engine, work(FakeRuntime(), [1]))

    assert waiting.pctr.tolist() == expected(waiting)
    assert (heard, engine.crashes, engine.lost, engine.rows) == ([1], 1, False, 0)


@crashes
async def test_after_a_second_crash_nobody_waits_for_ever(gate):
    """Everybody who waits gets NotReady, also who was admitted and asks later; nobody new gets in."""
    heard = []
    with engine_of(1, on_crash=lambda: heard.append(1)) as engine:
        with pytest.raises(NotReady):
            await compute(engine, work(FakeRuntime(failure=SystemExit()), [1]))
        await until(lambda: engine.alive)
        with engine.admit(1, deadline=FAR) as admitted:
            struck = asyncio.create_task(compute(engine, work(FakeRuntime(gate=gate, failure=SystemExit()), [1])))
            waiting = [asyncio.create_task(compute(engine, work(FakeRuntime(), [1]))) for _ in range(3)]
            await asyncio.sleep(0)
            gate.set()
            results = await asyncio.gather(struck, *waiting, return_exceptions=True)
            with pytest.raises(NotReady):
                await engine.submit(admitted, work(FakeRuntime(), [1]))
        with pytest.raises(NotReady, match="a compute thread died"), engine.admit(1, deadline=FAR):
            pass

    assert [type(result) for result in results] == [NotReady] * 4
    assert (heard, engine.lost, engine.alive, engine.rows) == ([1, 1], True, False, 0)


async def test_closing_ends_the_threads_after_the_requests_that_wait():
    """What was put is computed, then no thread is left."""
    works = [work(FakeRuntime(limits=PIECES), range(20), user=user) for user in range(10)]
    with engine_of(2, started=False) as engine:
        tasks = [asyncio.create_task(compute(engine, one)) for one in works]
        await asyncio.sleep(0)
        engine.start()
        await asyncio.to_thread(engine.close)
        await asyncio.gather(*tasks)

    assert [one.pctr.tolist() for one in works] == [expected(one) for one in works]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("compute-")]


def test_a_closed_event_loop_breaks_no_thread():
    """Whoever waited there is gone; the thread computes on for others."""
    gate = threading.Event()
    runtime = FakeRuntime(gate=gate)

    async def leave() -> None:
        job = admitted.enter_context(engine.admit(1, deadline=FAR))
        waiting.append(asyncio.ensure_future(engine.submit(job, work(runtime, [1]))))
        await until(lambda: "running=1" in repr(engine))

    waiting = []
    with engine_of(1) as engine, contextlib.ExitStack() as admitted:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave())
        loop.close()
        gate.set()
        asyncio.run(compute(engine, work(FakeRuntime(), [1])))
        waiting[0]._log_destroy_pending = False  # abandoned on purpose

        assert (engine.alive, engine.crashes) == (True, 0)
