"""What Redis may hold in place of events and histories, read by the real consumer and the real store.

Every entry ends in the store or in the dead-letter stream, and every history is read or refused with a StoreError.
"""

import asyncio
import time

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from model.bundle.encode import Encoder
from model.bundle.records import ACTIONS, BEHAVIOR
from service.stores.base import StoreError
from service.stores.redis import RedisStore
from tests.fuzz.budget import long_run, seconds
from tests.online.test_consumer import DEAD, STREAM, consuming, done, until

CASES = int(seconds(4) * 10)
NOW = int(time.time() * 1000)
MOST_CPU_S = 5.0
QUICK = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=not long_run(),
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
TIMES = st.integers(NOW - 10**6, NOW) | st.sampled_from(["2026-01-31T12:00:00Z", "0001-01-01T00:00:00-23:59", "now"])
RIGHT = {
    "user_id": st.integers(0, 3) | st.text(min_size=1, max_size=4),
    "item_id": st.integers(0, 2**63 - 1),
    "time": TIMES,
    "event_id": st.integers(0, 9) | st.text(min_size=1, max_size=3),
}
EVENTS = st.fixed_dictionaries(
    {name: right | JSON for name, right in RIGHT.items()},
    optional={"action": st.sampled_from(ACTIONS) | JSON, "category": st.integers(0, 9) | JSON, "other": JSON},
)
VALUES = (
    st.binary(max_size=40)
    | (JSON | EVENTS | st.fixed_dictionaries(RIGHT)).map(
        lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    )
    | st.sampled_from([b"[" * 2000, b'{"user_id":1e999}', b'{"a":' * 500])
)
FIELDS = st.dictionaries(st.sampled_from([b"event", b"_id", b"_reason", b"\xff", b""]), VALUES, min_size=1, max_size=3)
WIDE = st.binary(min_size=BEHAVIOR.itemsize, max_size=BEHAVIOR.itemsize)
SCORES = st.floats(allow_nan=False)


async def read_history(url: str) -> np.ndarray | None:
    """That of user 7, None if it is refused."""
    store = RedisStore.from_url(url, history_keep=50, ttl_s=60)
    try:
        return await store.read(7, limit=50, timeout_s=10)
    except StoreError:
        return None
    finally:
        await store.close()


@QUICK
@given(entries=st.lists(FIELDS, min_size=1, max_size=20))
def test_every_entry_is_stored_or_put_aside(redis_url: str, entries: list[dict[bytes, bytes]]):
    """None is lost, none stops those behind it, and none takes the consumer down."""

    async def consume() -> dict[str, float]:
        async with consuming(redis_url) as registry:
            await until(lambda: done(client))
        outcomes = ("accepted", "duplicate", "invalid", "late", "future")
        return {name: registry.get_sample_value("ctr_events_total", {"outcome": name}) or 0 for name in outcomes}

    with Redis.from_url(redis_url) as client:
        client.flushall()
        for fields in entries:
            client.xadd(STREAM, fields)
        began = time.process_time()
        counted = asyncio.run(consume())

        assert time.process_time() - began < MOST_CPU_S
        assert sum(counted.values()) == len(entries)
        assert client.xlen(DEAD) == counted["invalid"] + counted["late"] + counted["future"]


@QUICK
@given(members=st.dictionaries(WIDE | st.binary(max_size=60), SCORES, min_size=1, max_size=20))
def test_a_history_is_read_or_refused(redis_url: str, members: dict[bytes, float]):
    """A member of another width is no behavior, and then there is no history."""

    with Redis.from_url(redis_url) as client:
        client.flushall()
        client.zadd("ctr:h:7", members)
        found = asyncio.run(read_history(redis_url))

    right = {len(member) for member in members} == {BEHAVIOR.itemsize}
    assert (None if found is None else len(found)) == (len(members) if right else None)


@settings(QUICK, max_examples=20 * CASES)
@given(records=st.lists(WIDE, max_size=30))
def test_any_record_can_be_encoded(encoder: Encoder, records: list[bytes]):
    """Whatever numbers a record holds, its behavior is known or unknown to the bundle."""
    behaviors = np.frombuffer(b"".join(records), dtype=BEHAVIOR)
    found = encoder.encode_history([behaviors])
    assert found["history_len"].tolist() == [min(len(records), encoder.schema.max_history)]
    for at, feature in enumerate(("item_id", "cate_id")):
        column = found["history"][..., at]
        assert ((column >= 0) & (column < len(encoder.vocabularies[feature]))).all()


@pytest.mark.parametrize("value", [b"text", 7])
def test_another_kind_of_key_is_no_history(redis_url: str, value: object):
    """As somebody else's key under our prefix would be."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
        client.set("ctr:h:7", value)
    assert asyncio.run(read_history(redis_url)) is None
