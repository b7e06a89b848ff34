"""POST /events: what is taken, by which rules, and what its answer promises."""

import math
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.bundle.records import NOT_GIVEN, event_key, to_members
from service.events import EventRules, check_events
from service.stores.redis import RedisStore

pytestmark = pytest.mark.anyio

NOW = int(time.time() * 1000)
DAY_MS = 86_400_000
RULES = EventRules(max_age_ms=30 * DAY_MS, max_future_ms=60_000)


def event(**changes: object) -> dict[str, object]:
    """A valid event, but for the changes; None takes a field away."""
    whole = {"user_id": 7, "item_id": 42, "category": 3, "action": "buy", "time": NOW, "event_id": "a1", **changes}
    return {name: value for name, value in whole.items() if value is not ...}


async def history(store, user_id: int | str):
    return await store.read(user_id, limit=100, timeout_s=5)


async def outcomes(client) -> dict[str, float]:
    """ctr_events_total by outcome, without zeros."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    samples = [s for family in families for s in family.samples if s.name == "ctr_events_total" and s.value]
    return {s.labels["outcome"]: s.value for s in samples}


async def test_one_event_becomes_a_behavior(serve, store):
    """An event by itself: 202, and the record holds what was sent."""
    async with serve(store=store) as client:
        answer = await client.post("/events", json=event())
    (stored,) = await history(store, 7)

    assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (202, 1, [])
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert stored.tolist() == (event_key("a1"), 42, 3, NOW, 4)


async def test_many_events_of_many_users_in_any_order(serve, store):
    """Each goes to its user, and falls into its place by time."""
    times = [NOW - 1000 * back for back in (3, 0, 2, 1)]
    events = [event(user_id=user, time=t, event_id=f"{user}-{t}", item_id=t) for t in times for user in (7, "eva")]
    async with serve(store=store) as client:
        answer = await client.post("/events", json={"events": events})

    assert answer.json()["accepted"] == 8
    assert (await history(store, 7))["item"].tolist() == sorted(times)
    assert (await history(store, "eva"))["item"].tolist() == sorted(times)


async def test_events_sent_again_change_nothing(serve, redis_url):
    """In the same call, in another call, and after an action or a category was spelt out: one behavior."""
    store = RedisStore.from_url(redis_url, history_keep=50, ttl_s=60)
    async with serve(store=store) as client:
        first = await client.post("/events", json={"events": [event(), event(user_id="7"), event(event_id="a2")]})
        await client.post("/events", json=event())
        shown = await outcomes(client)
        stored = await history(store, 7)

    assert first.json()["accepted"] == 2
    assert first.json()["duplicates"] == 1
    assert sorted(stored["event"].tolist()) == sorted([event_key("a1"), event_key("a2")])
    assert shown == {"accepted": 3, "duplicate": 1}


async def test_broken_events_are_named_and_the_rest_is_stored(serve, store):
    """Partial failure: each rejected event by its index, with rule and reason; the others are in the store."""
    events = [event(), event(item_id=-1), 5, event(time=NOW + 10**7), event(event_id="a2"), event(time=NOW // 1000)]
    async with serve(store=store) as client:
        answer = (await client.post("/events", json={"events": events})).json()
        shown = await outcomes(client)

    assert [(r["index"], r["reason"]) for r in answer["rejected"]] == [
        (1, "invalid"),
        (2, "invalid"),
        (3, "future"),
        (5, "late"),
    ]
    assert answer["rejected"][0]["error"] == "item_id: found -1, allowed: an integer from 0 to 2^63 - 1"
    assert answer["accepted"] == len(await history(store, 7)) == 2
    assert shown == {"accepted": 2, "invalid": 2, "future": 1, "late": 1}


async def test_a_broken_event_by_itself_is_a_422(serve, store):
    """There is no rest that could be stored."""
    async with serve(store=store) as client:
        answer = await client.post("/events", json=event(action="stare"))

    assert answer.status_code == 422
    assert answer.json()["error"].startswith("action: found 'stare', allowed: click, view")
    assert len(await history(store, 7)) == 0


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 422, "the body is not JSON"),
        (b"[]", 422, "found a list, allowed: an object"),
        (b"null", 422, "found None, allowed: an object"),
        (b'{"events": []}', 422, "events: found none, allowed: a list of 1 to 3 events"),
        (b'{"events": 5}', 422, "events: found 5, allowed: a list"),
        (b'{"events": [1], "user_id": 7}', 422, "unknown field 'user_id', allowed: events"),
        (b'{"events": [1, 2, 3, 4]}', 413, "events: found 4, allowed: 1 to 3"),
        (b'{"events": [' + b" " * 2000 + b"]}", 413, "bytes, allowed: 1024"),
    ],
)
async def test_a_body_that_is_no_list_of_events_is_refused_whole(serve, body, status, message):
    """Nothing of it is stored, and the message says what to change."""
    async with serve(max_events=3, max_body_bytes=1024) as client:
        answer = await client.post("/events", content=body)

    assert answer.status_code == status
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_id": ...}, "user_id: missing"),
        ({"event_id": ...}, "event_id: missing"),
        ({"user_id": ""}, "user_id: found '', allowed: an integer"),
        ({"user_id": "a\nb"}, "user_id: found 'a\\nb', allowed"),
        ({"user_id": "a" * 129}, "user_id: found 'aaa"),
        ({"user_id": True}, "user_id: found True"),
        ({"user_id": 1.0}, "user_id: found 1.0"),
        ({"item_id": "42"}, "item_id: found '42'"),
        ({"item_id": 2**63}, f"item_id: found {2**63}"),
        ({"item_id": True}, "item_id: found True"),
        ({"category": "shoes"}, "category: found 'shoes'"),
        ({"action": None}, "action: found None"),
        ({"action": ["buy"]}, "action: found a list"),
        ({"time": math.inf}, "time: found inf"),
        ({"time": -1}, "time: found -1"),
        ({"time": "yesterday"}, "time: found 'yesterday'"),
        ({"time": "2026-01-31T12:00:00"}, "time: found '2026-01-31T12:00:00'"),
        ({"time": "1969-01-31T12:00:00Z"}, "time: found '1969"),
        ({"price": 3}, "unknown field 'price', allowed: user_id, item_id"),
    ],
)
def test_a_field_that_is_wrong_is_named(changes, message):
    """Field, what was found, what is allowed; bool is no integer, and a time without an offset says no moment."""
    checked = check_events([event(**changes)], RULES, now_ms=NOW)

    (rejected,) = checked.rejected
    assert rejected.reason == "invalid"
    assert rejected.error.startswith(message)
    assert (checked.accepted, checked.histories) == (0, [])


@pytest.mark.parametrize(
    ("age_ms", "reason"),
    [
        (0, None),
        (30 * DAY_MS, None),
        (30 * DAY_MS + 1, "late"),
        (-60_000, None),
        (-60_001, "future"),
    ],
)
def test_late_and_future_are_cut_at_the_limits(age_ms, reason):
    """The limit itself is taken; the time is kept as it was sent, skew included."""
    checked = check_events([event(time=NOW - age_ms)], RULES, now_ms=NOW)

    assert [r.reason for r in checked.rejected] == ([reason] if reason else [])
    assert [int(b["time"][0]) for _, b in checked.histories] == ([] if reason else [NOW - age_ms])


def test_no_event_is_too_old_without_a_limit():
    """max_age 0: any age."""
    rules = EventRules(max_age_ms=0, max_future_ms=0)

    assert check_events([event(time=0)], rules, now_ms=NOW).accepted == 1


@pytest.mark.parametrize("text", ["2026-01-31T13:00:00.123+01:00", "2026-01-31T12:00:00.123Z", "20260131T120000.123Z"])
def test_iso_times_are_the_same_moment(text):
    """With any offset, to the millisecond."""
    rules = EventRules(max_age_ms=0, max_future_ms=10**12)
    ((_, behaviors),) = check_events([event(time=text)], rules, now_ms=NOW).histories

    assert behaviors["time"].tolist() == [1_769_860_800_123]


def test_what_may_be_left_out():
    """Without an action it is a click; without a category, or with null, the reader's bundle looks it up."""
    checked = check_events([event(action=..., category=...), event(action="click", category=None)], RULES, now_ms=NOW)
    ((_, behaviors),) = checked.histories

    assert (checked.accepted, checked.duplicates) == (1, 1)
    assert behaviors[["category", "action"]].tolist() == [(NOT_GIVEN, 0)]


def test_records_are_those_of_a_bulk_load():
    """Largest ids included: an event loaded from a file and sent again over HTTP is one behavior."""
    ((user, behaviors),) = check_events([event(item_id=2**63 - 1, event_id=12)], RULES, now_ms=NOW).histories
    expected = np.array([(event_key("12"), 2**63 - 1, 3, NOW, 4)], dtype=behaviors.dtype)

    assert user == "7"
    assert to_members(behaviors) == to_members(expected)


async def test_older_than_a_full_history_is_taken_and_gone(serve, redis_url):
    """A rule of the store: the newest are kept. The sender did nothing wrong, so there is no rejection."""
    store = RedisStore.from_url(redis_url, history_keep=2, ttl_s=60)
    async with serve(store=store) as client:
        for back in (1, 0, 2):
            answer = await client.post("/events", json=event(time=NOW - back, event_id=str(back)))
            assert answer.json()["accepted"] == 1
        stored = await history(store, 7)

    assert stored["time"].tolist() == [NOW - 1, NOW]


async def test_nothing_is_acknowledged_that_is_not_stored(serve, own_redis):
    """The store is gone: 503 with Retry-After, nothing counted; the same events go in once it is back."""
    store = RedisStore.from_url(own_redis.url, history_keep=50, ttl_s=60)
    async with serve(store=store, events_timeout_ms=300) as client:
        own_redis.stop()
        refused = await client.post("/events", json={"events": [event(), event(item_id=-1)]})
        counted = await outcomes(client)
        own_redis.start()
        taken = await client.post("/events", json={"events": [event(), event(item_id=-1)]})
        stored = await history(store, 7)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["error_type"] == "store_unavailable"
    assert counted == {}
    assert (taken.status_code, len(stored)) == (202, 1)


async def test_a_store_that_hangs_ends_in_time(serve, own_redis):
    """POST /events has a timeout of its own, not that of /score."""
    store = RedisStore.from_url(own_redis.url, history_keep=50, ttl_s=60)
    async with serve(store=store, events_timeout_ms=200, store_timeout_ms=60_000) as client:
        own_redis.pause()
        answer = await client.post("/events", json=event())
        own_redis.resume()

    assert answer.status_code == 503


async def test_events_need_no_bundle(serve, store, tmp_path):
    """Behaviors are kept even where nothing can be scored."""
    async with serve(store=store, bundle=str(tmp_path / "nowhere")) as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.post("/events", json=event())).status_code == 202

    assert len(await history(store, 7)) == 1


async def test_what_was_sent_is_scored_with(serve, store):
    """POST /events, then POST /score: the history is there."""
    async with serve(store=store, deadline_ms=5000) as client:
        await client.post("/events", json=event(user_id="1", item_id=101, category=...))
        answer = await client.post("/score", json={"user_id": 1, "candidates": [{"item_id": 105}]})

    assert answer.json()["history_len"] == 1
