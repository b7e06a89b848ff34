"""What every BehaviorStore promises, checked on all: in memory, on one Redis, behind Sentinels, in a Cluster."""

from collections.abc import AsyncIterator
from itertools import count

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.bundle.records import BEHAVIOR, NOT_GIVEN, Behaviors, make_behaviors, to_members
from service.stores.base import BehaviorStore
from service.stores.memory import MemoryStore
from service.stores.redis import RedisStore

pytestmark = pytest.mark.anyio
KEEP = 5
FRESH_USER = count(1_000)


@pytest.fixture(params=["memory", "redis", "sentinel", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[BehaviorStore]:
    opened: BehaviorStore
    if request.param == "memory":
        opened = MemoryStore(history_keep=KEEP)
    else:
        opened = RedisStore.from_url(request.getfixturevalue(f"{request.param}_url"), history_keep=KEEP, ttl_s=60)
    yield opened
    await opened.close()


def at(*times: int) -> Behaviors:
    """A behavior at each time, whose item says which."""
    return make_behaviors([100 + time for time in times], time=times)


def records(behaviors: list[tuple[int, int, int]]) -> Behaviors:
    item, time, event = ([behavior[part] for behavior in behaviors] for part in range(3))
    return make_behaviors(item, time=time, event=event)


async def times(store: BehaviorStore, user_id: int | str, limit: int = 100) -> list[int]:
    return (await store.read(user_id, limit=limit, timeout_s=5))["time"].tolist()


async def test_unknown_user_has_an_empty_history(store):
    """A user never seen is a normal case: no behaviors, of the record's dtype."""
    history = await store.read(7, limit=10, timeout_s=5)

    assert (len(history), history.dtype) == (0, BEHAVIOR)


async def test_history_is_oldest_first(store):
    """Late behaviors fall into their place in time."""
    await store.append(7, at(30, 10), timeout_s=5)
    await store.append(7, at(20), timeout_s=5)

    assert await times(store, 7) == [10, 20, 30]


@pytest.mark.parametrize(("limit", "expected"), [(0, []), (-1, []), (1, [30]), (2, [20, 30]), (9, [10, 20, 30])])
async def test_limit_keeps_the_newest(store, limit, expected):
    """`limit` counts from the newest; zero or less is nothing, not everything."""
    await store.append(7, at(10, 20, 30), timeout_s=5)

    assert expected == await times(store, 7, limit)


async def test_only_the_newest_are_kept(store):
    """Beyond `history_keep` the oldest go, and an older one that comes late does not push a newer one out."""
    await store.append(7, at(*range(10, 90, 10)), timeout_s=5)
    await store.append(7, at(5), timeout_s=5)

    assert await times(store, 7) == [40, 50, 60, 70, 80]


async def test_equal_times_are_in_order_of_the_record(store):
    """Behaviors of one moment come back in one order, whatever order they came in."""
    same = make_behaviors([3, 1, 2], time=[10, 10, 10])
    await store.append(7, same, timeout_s=5)

    assert (await store.read(7, limit=10, timeout_s=5))["item"].tolist() == [1, 2, 3]


async def test_every_bit_of_a_record_survives(store):
    """The largest values, a category that was not given and bytes that end a line come back as they went in."""
    extremes = make_behaviors(
        [2**63 - 1, 0, 0x0A0D0A0D], category=[NOT_GIVEN, 2**63 - 1, 5], time=[0, 1, 2**53], event=[2**64 - 1, 0, 1]
    )
    extremes["action"] = [255, 0, 10]
    await store.append(7, extremes, timeout_s=5)

    np.testing.assert_array_equal(await store.read(7, limit=10, timeout_s=5), extremes)


async def test_integer_and_text_ids_of_one_spelling_are_one_user(store):
    """A log may call a user 7 and a request "7"."""
    await store.append(7, at(10), timeout_s=5)

    assert await times(store, "7") == [10]


async def test_any_text_is_a_user_id(store):
    """Spaces, line ends, braces, other scripts and lone surrogates are different users, not errors."""
    ids = ["a", "a ", "a\r\n", "{a}", "", "ü", "用户", "\ud800", "a" * 1000]
    for number, user_id in enumerate(ids):
        await store.append(user_id, at(number), timeout_s=5)

    assert [[number] for number in range(len(ids))] == [await times(store, user_id) for user_id in ids]


async def test_append_many_writes_each_history(store):
    """One call carries many users; a user may occur twice, and an empty history writes nothing."""
    await store.append_many([(1, at(10)), (2, at(20)), (1, at(5)), (3, at())], timeout_s=5)

    assert [await times(store, user) for user in (1, 2, 3)] == [[5, 10], [20], []]


async def test_nothing_to_append_is_fine(store):
    """Empty calls are no error."""
    await store.append_many([], timeout_s=5)
    await store.append(7, at(), timeout_s=5)

    assert await times(store, 7) == []


async def test_actions_choose_among_all_that_is_kept(store):
    """With `actions`, the newest of those kinds, however many others came after them."""
    behaviors = at(10, 20, 30, 40, 50)
    behaviors["action"] = [4, 0, 4, 0, 0]
    await store.append(7, behaviors, timeout_s=5)

    history = await store.read(7, limit=2, timeout_s=5, actions=frozenset({4, 9}))
    assert [10, 30] == history["time"].tolist()


async def test_read_many_gives_each_user_its_own(store):
    """In the order asked, with a user asked twice and one never seen."""
    await store.append_many([(1, at(10, 20)), (2, at(30))], timeout_s=5)

    histories = await store.read_many([2, 9, 1, 2], limit=1, timeout_s=5)
    assert [[30], [], [20], [30]] == [history["time"].tolist() for history in histories]
    assert await store.read_many([], limit=1, timeout_s=5) == []


async def test_erase_says_how_many_behaviors_are_gone(store):
    """A second time there is nothing left, and other users are untouched."""
    await store.append_many([(1, at(10, 20)), (2, at(30))], timeout_s=5)

    assert [2, 0, 0] == [await store.erase(user, timeout_s=5) for user in (1, 1, 9)]
    assert [[], [30]] == [await times(store, user) for user in (1, 2)]


@st.composite
def appends(draw: st.DrawFn) -> tuple[list[tuple[int, int, int]], list[list[tuple[int, int, int]]]]:
    """Behaviors (item, time, event), and calls that append each of them at least once in any order.

    Few values, so that doubles and equal times are common. Drawn before the test: a draw inside a coroutine that
    hypothesis gives up on would kill anyio's runner.
    """
    behaviors = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 1)), max_size=12))
    again = draw(st.lists(st.sampled_from(behaviors), max_size=4)) if behaviors else []
    shuffled = draw(st.permutations(behaviors + again))
    cut = draw(st.integers(0, len(shuffled)))
    return behaviors, [shuffled[:cut], shuffled[cut:]]


# The fixtures hold no state of an example: each has a user of its own.
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=appends())
async def test_any_order_of_the_same_appends_gives_the_same_history(store, drawn):
    """The history is a function of the set of behaviors: not of their order, of how appends cut them, or of doubles."""
    behaviors, calls = drawn
    user = next(FRESH_USER)
    for call in calls:
        await store.append(user, records(call), timeout_s=5)

    distinct = records(list(set(behaviors)))
    in_order = sorted(zip(distinct["time"].tolist(), to_members(distinct), strict=True))[-KEEP:]
    history = await store.read(user, limit=100, timeout_s=5)
    assert [member for _, member in in_order] == to_members(history)
