"""Any mixture of requests, cancels, deadlines, failures and crashes, with real threads."""

import asyncio
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, NotReady, Overloaded
from service.runtimes.base import BatchLimits, RuntimeFailure
from service.runtimes.fake import FakeRuntime
from service.scoring.batching import BatchQueue
from service.scoring.compute import Work
from service.scoring.engine import Engine

FAILS, NOT_A_NUMBER, CRASHES = 901, 902, 903  # item indices
POISON = {"fails": FAILS, "not a number": NOT_A_NUMBER, "crashes": CRASHES}
ALLOWED = {  # beside the request's own scores; Overloaded always, NotReady where anything crashes
    "scores": (),
    "cancelled": (asyncio.CancelledError,),
    "late": (DeadlineExceeded,),
}


class Poisoned(FakeRuntime):
    """Fails, crashes or gives NaN where an item says so, as a net would on one request's values."""

    def score(self, state, candidates):
        """Look at the items first."""
        items = candidates["item_sparse"][..., 0]
        if (items == CRASHES).any():
            raise SystemExit
        if (items == FAILS).any():
            raise RuntimeFailure("a poisoned item")
        found = super().score(state, candidates)
        return {**found, "pctr": np.where(items == NOT_A_NUMBER, np.nan, found["pctr"])}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One request and what becomes of it."""

    items: list[int]
    history: int
    user: int
    kind: int  # which of two runtimes
    fate: str
    yields: int  # turns of the event loop before the next request


plans = st.builds(
    Plan,
    items=st.lists(st.integers(1, 900), min_size=1, max_size=30),
    history=st.integers(0, 10),
    user=st.integers(1, 9),
    kind=st.sampled_from([0, 0, 0, 1]),
    fate=st.sampled_from(["scores"] * 4 + ["cancelled", "late", "fails", "not a number", "crashes"]),
    yields=st.sampled_from([0, 0, 1, 5]),
)
limits = st.builds(
    BatchLimits,
    smallest=st.sampled_from([1, 4]),
    largest=st.sampled_from([4, 16]),
    users=st.sampled_from([1, 4]),
    joined=st.just(60),
    pairs=st.sampled_from([100, 10_000]),
)


def work(plan: Plan, runtime: FakeRuntime) -> Work:
    """The request's tensors; a poisoned item is its last."""
    items = [*plan.items, *([POISON[plan.fate]] if plan.fate in POISON else [])]
    history = np.arange(plan.user, plan.user + plan.history)
    return Work(
        runtime=runtime,
        user={
            "user_sparse": np.array([[plan.user]]),
            "history": history[None, :, None],
            "history_len": np.array([plan.history]),
        },
        candidates={"item_sparse": np.array(items)[None, :, None]},
    )


def expected(work: Work) -> list[float]:
    """What the request gives by itself."""
    alone = FakeRuntime()
    return alone.score(alone.encode_user(work.user), work.candidates)["pctr"][0].tolist()


async def submit(engine: Engine, work: Work, *, late: bool) -> list[float]:
    """Admit and run one request; its scores."""
    with engine.admit(work.rows, deadline=time.monotonic() + (0.001 if late else 60)) as job:
        await engine.submit(job, work)
        return work.pctr.tolist()


async def play(engine: Engine, sequence: list[Plan], works: list[Work]) -> list[object]:
    """Submit all in order, cancel some; everybody's scores or error. Also asserts that the event loop saw no error."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    tasks = []
    for plan, one in zip(sequence, works, strict=True):
        tasks.append(asyncio.create_task(submit(engine, one, late=plan.fate == "late")))
        for _ in range(plan.yields):
            await asyncio.sleep(0)
        if plan.fate == "cancelled":
            tasks[-1].cancel()
    async with asyncio.timeout(10):  # nobody waits for ever
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not complaints
    return results


def check(plan: Plan, work: Work, result: object, *, crashes: bool) -> None:
    """The request's own scores, or an error that its own fate or the whole engine's allows."""
    if isinstance(result, list):
        assert plan.fate not in POISON
        assert result == expected(work)
        return
    allowed = (RuntimeFailure,) if plan.fate in ("fails", "not a number") else ALLOWED.get(plan.fate, ())
    assert isinstance(result, (*allowed, Overloaded, *([NotReady] if crashes else [])))


# Crashing is one of the fates.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@settings(max_examples=120, deadline=None)
@given(sequence=st.lists(plans, min_size=1, max_size=12), limits=limits, threads=st.integers(1, 3))
def test_each_caller_gets_its_own_scores_or_its_own_error(sequence, limits, threads):
    """Exactly once, whoever else cancels, fails or crashes; the budget holds meanwhile and is empty afterwards."""
    budget, seen, over = 120, [0], threading.Event()
    runtimes = [Poisoned(limits=limits), Poisoned(limits=limits)]
    works = [work(plan, runtimes[plan.kind]) for plan in sequence]
    engine = Engine(BatchQueue(threads=threads, budget_rows=budget), threads=threads, clock=time.monotonic)

    def sample() -> None:
        while not over.wait(0.0002):
            seen.append(engine.rows)

    sampler = threading.Thread(target=sample)
    engine.start()
    sampler.start()
    try:
        results = asyncio.run(play(engine, sequence, works))
    finally:
        engine.close()
        over.set()
        sampler.join()

    crashes = any(plan.fate == "crashes" for plan in sequence)
    for plan, one, result in zip(sequence, works, results, strict=True):
        check(plan, one, result, crashes=crashes)
    assert max(seen) <= budget
    assert repr(engine).endswith(f"BatchQueue(rows=0/{budget}, waiting=0, running=0))")
    assert engine.alive or crashes
