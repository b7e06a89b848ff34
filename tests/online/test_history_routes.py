"""/users/{id}/history: looked at and erased by whoever has the admin key, and by nobody else."""

import io

import numpy as np
import orjson
import pytest

from model.bundle.records import make_behaviors
from service.stores.redis import RedisStore

pytestmark = pytest.mark.anyio

KEY = "correct-horse-battery"
BEARER = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
async def redis_store(redis_url):
    """A store with three behaviors of user 7 and one of user "a/b c"; the app closes it."""
    store = RedisStore.from_url(redis_url, history_keep=50, ttl_s=60)
    behaviors = make_behaviors([101, 102, 103], category=[1, -1, 2], time=[10, 20, 30])
    behaviors["action"] = [0, 4, 200]
    await store.append(7, behaviors, timeout_s=5)
    await store.append("a/b c", make_behaviors([9], time=[1]), timeout_s=5)
    return store


async def test_a_history_is_shown_oldest_first(serve, redis_store):
    """Raw ids, times and names of actions; null for a category not given, the code of an action without a name."""
    async with serve(store=redis_store, admin_key=KEY) as client:
        answer = await client.get("/users/7/history", headers=BEARER)

    assert answer.json() == {
        "user_id": "7",
        "history": [
            {"item_id": 101, "category": 1, "time": 10, "action": "click"},
            {"item_id": 102, "category": None, "time": 20, "action": "buy"},
            {"item_id": 103, "category": 2, "time": 30, "action": 200},
        ],
    }


async def test_limit_takes_the_newest(serve, redis_store):
    """Oldest first all the same."""
    async with serve(store=redis_store, admin_key=KEY) as client:
        answer = await client.get("/users/7/history?limit=2", headers=BEARER)

    assert [row["item_id"] for row in answer.json()["history"]] == [102, 103]


async def test_any_user_id_can_be_asked_for(serve, redis_store):
    """Slashes and spaces are escaped in the path; a user never seen has an empty history."""
    async with serve(store=redis_store, admin_key=KEY) as client:
        known = await client.get("/users/a%2Fb%20c/history", headers=BEARER)
        unknown = await client.get("/users/nobody/history", headers=BEARER)

    assert known.json()["user_id"] == "a/b c"
    assert [row["item_id"] for row in known.json()["history"]] == [9]
    assert unknown.json() == {"user_id": "nobody", "history": []}


async def test_erased_everywhere(serve, redis_store):
    """History and cached states go, other users keep theirs; the answer counts, and a repeat finds none."""
    async with serve(store=redis_store, admin_key=KEY, deadline_ms=5000, store_timeout_ms=2000) as client:
        score = {"user_id": 7, "candidates": [{"item_id": 105}]}
        before = (await client.post("/score", json=score)).json()
        first = await client.delete("/users/7/history", headers=BEARER)
        again = await client.delete("/users/7/history", headers=BEARER)
        after = (await client.post("/score", json=score)).json()
        other = await client.get("/users/a%2Fb%20c/history", headers=BEARER)

    assert first.status_code == 200
    assert first.json()["user_id"] == "7"
    assert first.json()["erased"] == {"behaviors": 3, "feature_log_lines": 0, "cached_states": 1}
    assert again.json()["erased"] == {"behaviors": 0, "feature_log_lines": 0, "cached_states": 0}
    assert (before["history_len"], after["history_len"]) == (3, 0)
    assert len(other.json()["history"]) == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_only_with_the_key(serve, redis_store, method):
    """401 without a key, 403 with another, and the history stays; 404 where no key is set."""
    async with serve(store=redis_store, admin_key=KEY) as client:
        statuses = [
            (await client.request(method, "/users/7/history", headers=headers)).status_code
            for headers in ({}, {"Authorization": "Bearer other-key-entirely"}, {"Authorization": f"Basic {KEY}"})
        ]
        left = await redis_store.read(7, limit=10, timeout_s=5)
    async with serve() as client:
        closed = await client.request(method, "/users/7/history", headers=BEARER)

    assert statuses == [401, 403, 403]
    assert len(left) == 3
    assert closed.status_code == 404


async def test_the_wrong_port_does_not_tell_the_user_either(serve):
    """At the public port the routes are a 404, and neither log nor metrics name whom it was about."""
    log = io.BytesIO()
    async with serve(admin_key=KEY, admin_port=8082, log=log) as client:
        answers = [await client.get(f"{at}/users/so-and-so/history", headers=BEARER) for at in ("", "http://ctr:8082")]
        metrics = (await client.get("/metrics")).text

    assert [answer.status_code for answer in answers] == [404, 200]
    assert b"so-and-so" not in log.getvalue()
    assert 'ctr_requests_total{code="404",route="/users/{user_id}/history"} 1.0' in metrics


@pytest.mark.parametrize("limit", ["0", "-1", "51", "x", "", "1e1", "9" * 30, "٣"])
async def test_a_limit_that_is_no_count_is_refused(serve, limit):
    """1 to CTR_HISTORY_KEEP."""
    async with serve(admin_key=KEY, history_keep=50) as client:
        answer = await client.get("/users/7/history", params={"limit": limit}, headers=BEARER)

    assert answer.status_code == 422
    assert answer.json()["error"].endswith("allowed: an integer from 1 to 50")


@pytest.mark.parametrize("user_id", ["a" * 129, "%00", "a%07b"])
async def test_an_id_that_no_user_can_have_is_refused(serve, user_id):
    """The rules of POST /events."""
    async with serve(admin_key=KEY) as client:
        assert (await client.get(f"/users/{user_id}/history", headers=BEARER)).status_code == 422


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_store_that_is_gone_is_a_503(serve, own_redis, method):
    """Nothing is said to be erased that may still be there."""
    store = RedisStore.from_url(own_redis.url, history_keep=50, ttl_s=60)
    async with serve(store=store, admin_key=KEY, events_timeout_ms=300) as client:
        own_redis.stop()
        answer = await client.request(method, "/users/7/history", headers=BEARER)

    assert (answer.status_code, answer.json()["error_type"]) == (503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_log_and_metrics_do_not_name_the_user(serve, redis_store):
    """The route stands for all users, and what was erased is logged without whom."""
    sink = io.BytesIO()
    async with serve(store=redis_store, admin_key=KEY, log=sink) as client:
        await client.delete("/users/a%2Fb%20c/history", headers=BEARER)
        metrics = (await client.get("/metrics")).text
    lines = [orjson.loads(line) for line in sink.getvalue().splitlines()]

    assert b"a/b c" not in sink.getvalue()
    assert [line["behaviors"] for line in lines if line["event"] == "user erased"] == [1]
    assert 'ctr_requests_total{code="200",route="/users/{user_id}/history"} 1.0' in metrics


async def test_what_is_shown_can_be_sent_to_score(serve, store):
    """A history as it is shown has the order and the times of a request's own history."""
    await store.append(1, make_behaviors([101, 102], time=[5, 6]), timeout_s=1)
    async with serve(store=store, admin_key=KEY, deadline_ms=5000) as client:
        shown = (await client.get("/users/1/history", headers=BEARER)).json()["history"]
        body = {"user_id": 1, "candidates": [{"item_id": 105}]}
        stored = (await client.post("/score", json=body)).json()
        history = [{"item_id": row["item_id"], "time": row["time"]} for row in shown]
        sent = (await client.post("/score", json={**body, "history": history})).json()

    np.testing.assert_allclose(sent["scores"][0]["pctr"], stored["scores"][0]["pctr"], rtol=1e-6)
