"""Compute threads behind a row budget: nothing waits for ever, nothing is computed for nobody."""

import asyncio
import threading
import time

import pytest

from service.errors import DeadlineExceeded, NotReady, Overloaded
from service.scoring.workers import Workers

pytestmark = pytest.mark.anyio

FAR = 1e12


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pool():
    """Two threads, 100 rows, the real clock."""
    workers = Workers(2, budget_rows=100, clock=time.monotonic)
    workers.start()
    yield workers
    workers.close()


@pytest.fixture
def gate():
    """Holds work back until it is set; set at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


async def until(condition) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # a thread changes it
            await asyncio.sleep(0.001)


async def test_work_comes_back_with_its_times(pool):
    """The result is what the work returned, and computing took the time that it took."""
    computed = await pool.submit(lambda: time.sleep(0.01) or "done", deadline=FAR)

    assert computed.value == "done"
    assert computed.compute_s >= 0.01
    assert computed.queue_s >= 0


async def test_an_error_in_the_work_reaches_its_caller_only(pool):
    """The caller sees the exception; the next job runs as if nothing had happened."""
    with pytest.raises(ZeroDivisionError):
        await pool.submit(lambda: 1 / 0, deadline=FAR)

    assert (await pool.submit(lambda: "fine", deadline=FAR)).value == "fine"
    assert pool.alive


async def test_rows_beyond_the_budget_are_refused_at_once(pool):
    """A reservation above the budget raises; the rows of one that ended are free again."""
    with pool.reserve(60):
        with (
            pytest.raises(Overloaded, match="this request has 41"),
            pool.reserve(41),
        ):
            pass
        with pool.reserve(40):
            assert repr(pool) == "Workers(threads=2, rows=100/100, alive=True)"

    assert pool.rows == 0


async def test_threads_work_side_by_side(pool, gate):
    """Two threads: the second job ends while the first still runs."""
    held = asyncio.create_task(pool.submit(gate.wait, deadline=FAR))
    second = await pool.submit(lambda: "second", deadline=FAR)

    assert second.value == "second"
    assert not held.done()
    gate.set()
    await held


async def test_expired_work_is_not_computed():
    """A job whose deadline passed in the queue fails without running."""
    clock, ran = Hands(), []
    workers = Workers(1, budget_rows=1, clock=clock)
    job = asyncio.create_task(workers.submit(lambda: ran.append(1), deadline=5.0))
    await asyncio.sleep(0)  # it is queued now, and no thread runs yet
    clock.now = 5.0
    workers.start()

    with pytest.raises(DeadlineExceeded):
        await job
    workers.close()
    assert ran == []


async def test_cancelled_work_is_not_computed():
    """A job whose caller has gone is dropped when its turn comes."""
    ran = []
    workers = Workers(1, budget_rows=1, clock=time.monotonic)
    job = asyncio.create_task(workers.submit(lambda: ran.append(1), deadline=FAR))
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.sleep(0)
    workers.start()
    await workers.submit(lambda: None, deadline=FAR)

    workers.close()
    assert ran == []


# The death itself is what this test is about.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_dead_worker_fails_everybody_and_takes_no_more(gate):
    """If a thread dies, its own job and the waiting ones fail, and nothing new is accepted."""
    workers = Workers(1, budget_rows=100, clock=time.monotonic)

    def die() -> None:
        gate.wait()
        raise SystemExit

    workers.start()
    running = asyncio.create_task(workers.submit(die, deadline=FAR))
    waiting = asyncio.create_task(workers.submit(lambda: "never", deadline=FAR))
    await asyncio.sleep(0.01)
    gate.set()
    results = await asyncio.gather(running, waiting, return_exceptions=True)
    await until(lambda: not workers.alive)

    assert [type(result) for result in results] == [NotReady, NotReady]
    with pytest.raises(NotReady, match="a compute worker died"), workers.reserve(1):
        pass
    with pytest.raises(NotReady):  # also one that had reserved before
        await workers.submit(lambda: "never", deadline=FAR)
    workers.close()


async def test_closing_ends_the_threads_after_the_jobs_that_wait():
    """Close drains: what was accepted is computed, then no thread is left."""
    workers = Workers(2, budget_rows=100, clock=time.monotonic)
    jobs = [asyncio.create_task(workers.submit(lambda i=i: i, deadline=FAR)) for i in range(20)]
    await asyncio.sleep(0)
    workers.start()
    await asyncio.to_thread(workers.close)

    assert [computed.value for computed in await asyncio.gather(*jobs)] == list(range(20))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("compute-")]
