"""Candidates that are newer than the bundle: their features come from Redis, and never cost the request its answer."""

import json

import numpy as np
import polars as pl
import pytest
from redis import Redis

from model.bundle.errors import ConfigError
from service.item_loader import load_items
from service.stores.base import StoreError
from service.stores.items import CachedItems, RedisItems, parse_features
from service.stores.redis import RedisStore
from tests.online.bundle_versions import metric

pytestmark = pytest.mark.anyio

NEW = {"cate_id": 11, "price": 105.0}
ITEMS = [100, 500, 501]  # the bundle knows the first


def lookups(outcome: str) -> str:
    """The name of the counter's series."""
    return f'ctr_new_items_total{{outcome="{outcome}"}}'


@pytest.fixture
def client(redis_url):
    """A client of the server."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def serving(serve, redis_url):
    """`async with serving() as service`: the service with the server as its store."""
    store = RedisStore.from_url(redis_url, history_keep=10, ttl_s=60)
    return lambda **settings: serve(store=store, **{"store_timeout_ms": 5000, "deadline_ms": 20_000, **settings})


async def scores(service, candidates: object) -> list[float]:
    """The pCTR of each candidate, in order."""
    answer = await service.post("/score", json={"user_id": 1, "candidates": candidates})
    assert answer.status_code == 200
    assert answer.json()["degraded"] == "none"
    return [row["pctr"] for row in answer.json()["scores"]]


async def test_features_of_new_items_come_from_redis(serving, client):
    """A candidate by id alone scores as one whose features the request gives; it stays an unknown item."""
    client.set("ctr:i:500", json.dumps(NEW))
    given = [{"item_id": 100, "cate_id": 10, "price": 100.0}, {"item_id": 500, **NEW}]
    async with serving() as service:
        by_id = await scores(service, {"item_id": [100, 500]})
        in_full = await scores(service, given)
        absent = await scores(service, {"item_id": [100, 501]})
        answer = await service.post("/score", json={"user_id": 1, "candidates": [{"item_id": 500}]})

    assert by_id == in_full
    assert absent[1] != by_id[1]
    assert answer.json()["scores"][0]["status"] == "unknown_item"


async def test_what_the_request_says_goes_before(serving, client):
    """A feature in the request is not replaced by the stored one; those it lacks are filled."""
    client.set("ctr:i:500", json.dumps(NEW))
    async with serving() as service:
        part = await scores(service, [{"item_id": 500, "price": 90.0}])
        in_full = await scores(service, [{"item_id": 500, "cate_id": 11, "price": 90.0}])

    assert part == in_full


async def test_items_of_the_bundle_are_never_asked_for(serving, client):
    """A candidate that the catalogue knows, or whose features all came along, costs no look."""
    async with serving() as service:
        before = client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]
        await scores(service, {"item_id": [100, 119]})
        await scores(service, [{"item_id": 999, **NEW}])
        after = client.info("commandstats").get("cmdstat_get", {"calls": 0})["calls"]

    assert after == before


async def test_items_are_kept_for_a_while_also_those_that_are_not_there(serving, client):
    """The second request asks for nothing; each outcome is counted per candidate."""
    client.set("ctr:i:500", json.dumps(NEW))
    async with serving() as service:
        first = await scores(service, {"item_id": ITEMS})
        client.delete("ctr:i:500")
        second = await scores(service, {"item_id": ITEMS})
        counts = [await metric(service, lookups(o)) for o in ("found", "missing", "cached", "failed")]

    assert first == second
    assert counts == [1, 1, 2, 0]


async def test_without_a_cache_redis_is_not_asked(serving, client):
    """CTR_ITEM_CACHE=0 turns it off."""
    client.set("ctr:i:500", json.dumps(NEW))
    async with serving(item_cache=0) as service:
        off = await scores(service, {"item_id": [500]})
    async with serving() as service:
        on = await scores(service, {"item_id": [500]})

    assert off != on


@pytest.mark.parametrize(
    "stored",
    ["{", "[1]", '{"cate_id": "eleven", "price": 105.0}', '{"price": [1]}', '{"cate_id": 99999999999999999999}'],
)
async def test_a_value_that_is_wrong_leaves_the_item_unknown(serving, client, stored):
    """Neither the request nor the other new items suffer from it."""
    client.mset({"ctr:i:500": stored, "ctr:i:501": json.dumps(NEW)})
    async with serving() as service:
        found = await scores(service, {"item_id": [500, 501]})
        unknown = await scores(service, {"item_id": [777]})
        known = await scores(service, [{"item_id": 501, **NEW}])

    assert found == [*unknown, *known]


async def test_a_store_that_is_gone_costs_the_features_and_not_the_answer(serve, own_redis):
    """The candidates count as unknown, and it is counted."""
    store = RedisStore.from_url(own_redis.url, history_keep=10, ttl_s=60)
    own_redis.stop()
    async with serve(store=store, deadline_ms=5000) as service:
        answer = await service.post("/score", json={"user_id": 1, "candidates": {"item_id": ITEMS}, "history": []})
        failed = await metric(service, lookups("failed"))

    assert answer.status_code == 200
    assert [row["status"] for row in answer.json()["scores"]] == ["ok", "unknown_item", "unknown_item"]
    assert failed == 2


class Recorded:
    """An ItemReader over a dict that notes what it was asked."""

    def __init__(self, stored: dict[int, bytes]) -> None:
        self.stored = stored
        self.asked: list[list[int]] = []

    async def read_items(self, items, *, timeout_s):
        self.asked.append(list(items))
        if timeout_s <= 0:
            raise StoreError("too late")
        return [self.stored.get(item) for item in items]


def cached(reader: Recorded, now: list[float], *, keep: int = 10) -> CachedItems:
    return CachedItems(reader, keep=keep, ttl_s=60, clock=lambda: now[0], count=lambda outcome, count: None)


async def test_one_look_for_all_items_of_a_request():
    """Whatever is not known is asked for together."""
    reader, now = Recorded({5: b'{"price": 1}'}), [0.0]
    items = cached(reader, now)
    found = await items.look_up([5, 6, 7], timeout_s=1)

    assert found == {5: {"price": 1}}
    assert reader.asked == [[5, 6, 7]]
    assert items.known([5, 6, 8]) == ({5: {"price": 1}}, [8])


async def test_an_item_is_looked_up_again_after_its_time():
    """A changed price, or an item that has come meanwhile, is seen after `ttl_s` at the latest."""
    now = [0.0]
    items = cached(Recorded({}), now)
    await items.look_up([5], timeout_s=1)
    now[0] = 61.0

    assert items.known([5]) == ({}, [5])


async def test_the_cache_is_bounded():
    """However many items come by."""
    items = cached(Recorded({}), [0.0], keep=10)
    for first in range(0, 1000, 100):
        await items.look_up(list(range(first, first + 100)), timeout_s=1)

    assert len(items.known(list(range(1000)))[1]) == 990


async def test_a_failed_look_is_not_remembered():
    """The next request asks again."""
    reader = Recorded({5: b"{}"})
    items = cached(reader, [0.0])

    assert await items.look_up([5], timeout_s=0) == {}
    assert await items.look_up([5], timeout_s=1) == {5: {}}


def test_null_is_not_known():
    """A feature that is null in the store is as one that is not there."""
    assert parse_features(b'{"price": null, "cate_id": 3}') == {"cate_id": 3}
    assert parse_features(None) is None


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
async def test_items_are_loaded_from_a_file(redis_url, client, tmp_path, suffix):
    """Each row is one item; what is null stays out; loading again changes nothing."""
    frame = pl.DataFrame({"item_id": np.arange(2500), "cate_id": np.arange(2500) % 7, "price": [None, *range(1, 2500)]})
    path = tmp_path / f"items{suffix}"
    {".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson, ".csv": frame.write_csv}[suffix](path)
    store = RedisStore.from_url(redis_url, history_keep=10, ttl_s=60)
    seen: list[tuple[int, int]] = []
    try:
        items = RedisItems(store.servers, prefix="ctr:i:")
        counts = [
            await load_items(path, items, key="item_id", on_progress=lambda *done: seen.append(done)) for _ in range(2)
        ]
    finally:
        await store.close()

    assert counts == [2500, 2500]
    assert seen[:3] == [(1000, 2500), (2000, 2500), (2500, 2500)]
    assert json.loads(client.get("ctr:i:0")) == {"cate_id": 0}
    assert json.loads(client.get("ctr:i:2499")) == {"cate_id": 0, "price": 2499}
    assert client.dbsize() == 2500


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("items.txt", "x", "allowed: .parquet, .csv, .jsonl"),
        ("items.csv", "id,price\n1,2\n", "columns with 'item_id'"),
        ("items.csv", "item_id,price\nx,2\n", "column item_id"),
        ("items.csv", "item_id,price\n-1,2\n", "column item_id"),
        ("items.jsonl", "{", "content"),
        ("absent.parquet", None, "content"),
    ],
)
async def test_a_file_that_is_wrong_is_named(tmp_path, redis_url, name, text, error):
    """Nothing is written, and the message says what to change."""
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    store = RedisStore.from_url(redis_url, history_keep=10, ttl_s=60)

    with pytest.raises(ConfigError, match=error):
        await load_items(path, RedisItems(store.servers, prefix="ctr:i:"), key="item_id")
