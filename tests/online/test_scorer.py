"""The core: history, encode, compute, rank, and what happens when one of them fails."""

import asyncio
import threading
import time

import numpy as np
import pytest

from model.bundle.encode import Encoder
from model.bundle.records import Behaviors, make_behaviors
from model.bundle.schema import Feature, Schema
from service.errors import ComputeFailed, DeadlineExceeded, Overloaded
from service.runtimes.base import RuntimeFailure
from service.runtimes.fake import FakeRuntime
from service.scoring.batching import BatchQueue
from service.scoring.engine import Engine
from service.scoring.scored import ScoreRequest
from service.scoring.scorer import Net, Scorer, ScorerOptions, rank
from service.stores.base import StoreError
from service.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

PRIOR = np.linspace(0.1, 0.9, 100, dtype=np.float32)  # by item index


class DownStore(MemoryStore):
    """A store that never answers: it waits for its whole timeout, which it remembers, and fails."""

    def __init__(self) -> None:
        super().__init__(history_keep=1)
        self.timeouts: list[float] = []

    async def read(self, user_id: int | str, *, limit: int, timeout_s: float, actions: object = None) -> Behaviors:
        """Fail after `timeout_s`."""
        self.timeouts.append(timeout_s)
        await asyncio.sleep(timeout_s)
        raise StoreError("down")


@pytest.fixture
def engine():
    """Two threads for 100 rows."""
    engine = Engine(BatchQueue(threads=2, budget_rows=100), threads=2, clock=time.monotonic)
    engine.start()
    yield engine
    engine.close()


@pytest.fixture
def make(encoder, engine, store):
    """A scorer on the fake runtime; the parts may be replaced."""

    def make_(*, encoder: Encoder = encoder, runtime=None, store=store, **chosen) -> Scorer:
        options = ScorerOptions(clock=time.monotonic, **{"store_timeout_s": 1.0, **chosen})
        net = Net(encoder=encoder, runtime=runtime or FakeRuntime(), prior_ctr=PRIOR)
        return Scorer(net, store=store, engine=engine, options=options)

    return make_


def request(*, deadline_s: float = 10.0, **changes: object) -> ScoreRequest:
    """Three candidates for user 1."""
    fields = {
        "user_id": 1,
        "candidates": {"item_id": np.array([100, 101, 102])},
        "count": 3,
        "user": {"user_id": [1]},
        "context": {},
        "history": None,
        "deadline": time.monotonic() + deadline_s,
    }
    return ScoreRequest(**{**fields, **changes})


async def test_scores_depend_on_the_stored_history(make, store):
    """The history is read from the store and moves the scores; its newest behaviors are used."""
    without = await make().score(request())
    await store.append(1, make_behaviors(np.arange(100, 112)), timeout_s=1)
    with_history = await make().score(request())

    assert (without.history_len, with_history.history_len) == (0, 8)
    assert (without.degraded, with_history.degraded) == ("none", "none")
    assert not np.allclose(without.pctr, with_history.pctr)
    assert sorted(with_history.rank.tolist()) == [1, 2, 3]


async def test_a_store_that_is_down_degrades_within_its_timeout(make):
    """The answer is the one for an empty history, marked, and the store got no more than its timeout."""
    down = DownStore()
    degraded = await make(store=down, store_timeout_s=0.02).score(request())
    healthy = await make().score(request())

    assert (degraded.degraded, degraded.history_len) == ("history", 0)
    assert degraded.pctr.tolist() == healthy.pctr.tolist()
    assert down.timeouts == [0.02]


async def test_a_slow_store_leaves_half_of_the_deadline_for_computing(make):
    """A deadline shorter than the store's timeout is still met, without a history."""
    down = DownStore()
    scored = await make(store=down, store_timeout_s=10.0).score(request(deadline_s=0.4))

    assert scored.degraded == "history"
    assert 0.1 < down.timeouts[0] <= 0.2


async def test_a_history_in_the_request_is_not_asked_from_the_store(make):
    """With its own history a request does not notice that the store is down."""
    down = DownStore()
    scored = await make(store=down).score(request(history=make_behaviors([100, 101])))

    assert (scored.degraded, scored.history_len, down.timeouts) == ("none", 2, [])


async def test_a_deadline_that_passes_while_computing_ends_the_wait(make, engine):
    """The caller gets DeadlineExceeded although the runtime still works; its rows are free when that ends."""
    gate = threading.Event()
    with pytest.raises(DeadlineExceeded, match="while scoring"):
        await make(runtime=FakeRuntime(gate=gate)).score(request(deadline_s=0.05))
    held = engine.rows
    gate.set()
    async with asyncio.timeout(5):
        while engine.rows:  # noqa: ASYNC110  # a thread changes it
            await asyncio.sleep(0.001)

    assert held == 3


async def test_the_prior_answers_where_that_is_allowed(make, engine, encoder):
    """Without room or time each candidate gets its item's click rate in training, and the answer says so."""
    items = {"item_id": np.array([100, 101, 9_999_999])}
    expected = PRIOR[encoder.item_index(encoder.encode_items(items))]
    gate = threading.Event()
    scorer = make(runtime=FakeRuntime(gate=gate), allow_prior=True)
    late = await scorer.score(request(candidates=items, deadline_s=0.05))
    with engine.admit(97, deadline=time.monotonic() + 10):
        refused = await scorer.score(request(candidates=items))
    gate.set()

    for answer in (late, refused):
        assert answer.degraded == "prior"
        assert answer.pctr.tolist() == expected.tolist()
        assert answer.status == ["ok", "ok", "unknown_item"]
        assert sorted(answer.rank.tolist()) == [1, 2, 3]


async def test_a_user_who_comes_back_unchanged_skips_the_user_half(make, store):
    """The state is kept by what it was made of: another history, user or context makes another one."""

    class Counting(FakeRuntime):
        encoded = 0

        def encode_user(self, request):
            self.encoded += 1
            return super().encode_user(request)

    runtime = Counting()
    scorer = make(runtime=runtime, state_cache_bytes=10_000)
    first = await scorer.score(request())
    again = await scorer.score(request())
    same = runtime.encoded
    await store.append(1, make_behaviors([100]), timeout_s=1)
    changed = await scorer.score(request())

    assert (same, runtime.encoded) == (1, 2)
    assert first.pctr.tolist() == again.pctr.tolist() != changed.pctr.tolist()


async def test_a_deadline_in_the_past_is_refused_before_any_work(make):
    """Nothing is read or computed for a request that is already late."""
    down, runtime = DownStore(), FakeRuntime()
    with pytest.raises(DeadlineExceeded, match="before scoring began"):
        await make(store=down, runtime=runtime).score(request(deadline_s=-1.0))

    assert (down.timeouts, runtime.scored) == ([], 0)


async def test_a_request_over_the_row_budget_is_refused_before_the_store(make, engine):
    """Overload is noticed at the door."""
    down = DownStore()
    with engine.admit(98, deadline=time.monotonic() + 10), pytest.raises(Overloaded):
        await make(store=down).score(request())

    assert down.timeouts == []


@pytest.mark.parametrize("failure", [RuntimeFailure("boom"), None])
async def test_a_failing_net_is_our_error(make, failure):
    """A runtime that raises, or gives a score that is not a number, is ComputeFailed with the cause attached."""

    class NotANumber(FakeRuntime):
        def score(self, state, candidates):
            return {"pctr": np.full((1, 3), np.nan, dtype=np.float32)}

    runtime = FakeRuntime(failure=failure) if failure else NotANumber()
    with pytest.raises(ComputeFailed) as caught:
        await make(runtime=runtime).score(request())

    assert isinstance(caught.value.__cause__, RuntimeFailure)


async def test_a_schema_without_history_and_user_ids(make, encoder):
    """A net that reads no history never asks the store; without user ids a user is known by the history."""
    bare = Encoder(
        Schema(item=(Feature(name="item_id"),)),
        {"item_id": encoder.vocabularies["item_id"]},
        scalings={},
        catalogue=encoder.catalogue.__class__(ids=encoder.catalogue.ids, columns={}),
    )
    down = DownStore()
    scored = await make(encoder=bare, store=down).score(request(user={}))

    assert (down.timeouts, scored.history_len, scored.user_status) == ([], 0, "unknown")


def test_equal_scores_keep_their_order():
    """Ranks start at 1 for the highest score; ties go to the earlier candidate."""
    assert rank(np.array([0.5, 0.9, 0.5, 0.1], dtype=np.float32)).tolist() == [2, 1, 3, 4]
    assert rank(np.zeros(0, dtype=np.float32)).tolist() == []
