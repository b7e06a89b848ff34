"""POST /feedback: what is counted, how often, and what is refused."""

import asyncio

import pytest
from redis import Redis

from service.stores.redis import RedisStore
from tests.online.bundle_versions import metric

pytestmark = pytest.mark.anyio

CLICKED = {"item_id": 100, "pctr": 0.25, "clicked": True}
SEEN = {"item_id": 101, "pctr": 0.5, "clicked": False}


def report(request_id: str = "r1", *impressions: object, version: str = "v1") -> dict[str, object]:
    """A body."""
    return {"request_id": request_id, "bundle_version": version, "impressions": list(impressions) or [CLICKED, SEEN]}


async def totals(client, role: str) -> tuple[float, ...]:
    """Impressions, clicks and sum of pCTR of a role."""
    names = ("impressions", "clicks", "pctr")
    return tuple([await metric(client, f'ctr_feedback_{name}_total{{role="{role}"}}') for name in names])


async def test_impressions_are_counted_by_bundle(live):
    """Sum of pCTR over clicks is the calibration; each role has its own, a version that serves no more is `other`."""
    async with live() as client:
        answer = await client.post("/feedback", json=report())
        await client.post("/feedback", json=report("r2", SEEN, version="v0"))
        counted = await totals(client, "stable"), await totals(client, "canary"), await totals(client, "other")

    assert answer.status_code == 202
    body = answer.json()
    assert body.pop("request_id")
    assert body == {"accepted": 1, "impressions": 2, "duplicates": 0, "rejected": []}
    assert counted == ((2, 1, 0.75), (0, 0, 0), (1, 0, 0.5))


async def test_a_request_counts_once(serve):
    """The same request id again, in the same call or in another, changes nothing."""
    async with serve() as client:
        both = (await client.post("/feedback", json={"feedback": [report(), report(), report("r2")]})).json()
        again = (await client.post("/feedback", json=report())).json()
        counted = await totals(client, "stable")
        duplicates = await metric(client, 'ctr_feedback_total{outcome="duplicate"}')

    assert (both["accepted"], both["duplicates"]) == (2, 1)
    assert (again["accepted"], again["duplicates"]) == (0, 1)
    assert counted == (4, 2, 1.5)
    assert duplicates == 2


async def test_a_request_counts_once_in_all_processes(serve, redis_url):
    """Services that share a Redis share what they have seen."""
    stores = [RedisStore.from_url(redis_url, history_keep=10, ttl_s=60) for _ in range(2)]
    async with (
        serve(store=stores[0], store_timeout_ms=5000) as one,
        serve(store=stores[1], store_timeout_ms=5000) as two,
    ):
        clients = [one, two] * 5
        answers = await asyncio.gather(*(client.post("/feedback", json=report("shared")) for client in clients))
        counted = await totals(one, "stable"), await totals(two, "stable")
    with Redis.from_url(redis_url) as client:
        left_s = client.ttl("ctr:f:shared")

    assert sum(answer.json()["accepted"] for answer in answers) == 1
    assert sorted(counted) == [(0, 0, 0), (2, 1, 0.75)]
    assert 3500 < left_s <= 3600


async def test_without_the_store_this_process_still_counts_once(serve, own_redis):
    """A store that is gone delays feedback by its time-out, and loses none."""
    store = RedisStore.from_url(own_redis.url, history_keep=10, ttl_s=60)
    own_redis.stop()
    async with serve(store=store) as client:
        answers = [(await client.post("/feedback", json=report())).json()["accepted"] for _ in range(2)]

    assert answers == [1, 0]


async def test_partial_failures_are_named(serve):
    """What is wrong is named by index; the rest counts."""
    wrong = [
        report(
            "r1", CLICKED, {"item_id": -1, "pctr": 0.1, "clicked": True}, {"item_id": 1, "pctr": 2, "clicked": True}
        ),
        {"request_id": "r2", "bundle_version": "v1"},
        report("r3", {"item_id": 5, "pctr": 0.5, "clicked": 1}),
        7,
    ]
    async with serve() as client:
        answer = await client.post("/feedback", json={"feedback": wrong})
        counted = await totals(client, "stable")
        rejected = await metric(client, 'ctr_feedback_total{outcome="rejected"}')
        again = (await client.post("/feedback", json=report("r3", SEEN))).json()

    faults = [(fault["index"], fault["impression"], fault["error"]) for fault in answer.json()["rejected"]]
    assert answer.status_code == 202
    assert faults == [
        (0, 1, "impressions[1].item_id: found -1, allowed: an integer from 0 to 2^63 - 1"),
        (0, 2, "impressions[2].pctr: found 2, allowed: a number from 0 to 1"),
        (1, None, "impressions: missing, allowed: a list of at least one object"),
        (2, 0, "impressions[0].clicked: found 1, allowed: true or false"),
        (3, None, "found 7, allowed: an object"),
    ]
    assert counted == (1, 1, 0.25)
    assert rejected == 3
    assert again["accepted"] == 1  # what was rejected was not seen


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{", 422, "the body is not JSON"),
        (b"[]", 422, "found a list, allowed: an object"),
        (b'{"feedback": []}', 422, "feedback: found none, allowed: a list of objects"),
        (b'{"feedback": [], "more": 1}', 422, "unknown field 'more'"),
        (b'{"request_id": "a b", "bundle_version": "v1", "impressions": []}', 422, "request_id: found 'a b'"),
        (b'{"request_id": "a", "bundle_version": "v1", "impressions": []}', 422, "impressions: found none"),
        (b'{"request_id": "a", "bundle_version": "v1", "impressions": [1, 2, 3, 4]}', 413, "found 4 impressions"),
    ],
)
async def test_a_body_that_is_wrong_as_a_whole_is_refused(serve, body, status, error):
    """One error for the caller, nothing counted."""
    async with serve(max_feedback=3) as client:
        answer = await client.post("/feedback", content=body)
        counted = await metric(client, 'ctr_feedback_total{outcome="accepted"}')

    assert answer.status_code == status
    assert error in answer.json()["error"]
    assert counted == 0


async def test_no_bundle_is_needed(serve, tmp_path):
    """Feedback that comes while nothing serves is counted too."""
    async with serve(bundle=str(tmp_path)) as client:
        answer = await client.post("/feedback", json=report())
        counted = await totals(client, "other")

    assert answer.status_code == 202
    assert counted == (2, 1, 0.75)
