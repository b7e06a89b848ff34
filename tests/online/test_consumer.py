"""The stream's consumer, against a real Redis: what it writes, puts aside, takes over and waits for."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from service.config import Settings
from service.consume import stream_names, stream_servers
from service.consumer import Consumer, ConsumerOptions
from service.event_metrics import ConsumerMetrics
from service.logs import json_log
from service.stores.choice import choose_store
from service.stores.stream import EventStream

pytestmark = pytest.mark.anyio

NOW = int(time.time() * 1000)
STREAM, DEAD, GROUP = "ctr:events", "ctr:events:dead", "ctr"
PATIENCE_S = 10


def event(event_id: str, **changes: object) -> dict[str, object]:
    return {"user_id": 7, "item_id": 42, "time": NOW, "event_id": event_id, **changes}


@pytest.fixture
def client(redis_url):
    """The producer's view of the shared server."""
    with Redis.from_url(redis_url) as connection:
        yield connection


def send(client: Redis, *events: object) -> list[bytes]:
    """Add events to the stream, as JSON; the entries' ids."""
    return [client.xadd(STREAM, {"event": json.dumps(one)}) for one in events]


def items(client: Redis, user: object = 7) -> list[int]:
    """What the user's history holds, oldest first, straight from the sorted set."""
    return [int.from_bytes(member[8:16], "little") for member in client.zrange(f"ctr:h:{user}", 0, -1)]


@asynccontextmanager
async def consuming(url: str, name: str = "one", **settings: object) -> AsyncIterator[CollectorRegistry]:
    """A consumer that runs in this loop until the block ends, then stops by itself."""
    quick = {"events_pause_ms": 20, "history_keep": 50, "events_timeout_ms": 500}
    chosen = Settings(**{"store": url, "events_consumer": name, **quick, **settings})
    servers = stream_servers(chosen)
    store, registry, stop = choose_store(chosen), CollectorRegistry(), asyncio.Event()
    options = ConsumerOptions(
        rules=chosen.event_rules(), batch=chosen.events_batch, wait_s=0.02, claim_s=chosen.events_claim_s
    )
    stream = EventStream(servers, stream_names(chosen), dead_keep=chosen.events_dead_keep)
    log = json_log("info", sink=io.BytesIO())
    consumer = Consumer(stream, store, options, metrics=ConsumerMetrics(registry), log=log)
    task = asyncio.create_task(consumer.run(stop))
    try:
        yield registry
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE_S)
        await store.close()
        await servers.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # a look at another process
            await asyncio.sleep(0.01)


def done(client: Redis) -> bool:
    """Every entry was read and acknowledged."""
    groups = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
    return bool(groups) and groups[0]["lag"] == 0 and groups[0]["pending"] == 0


async def test_events_of_the_stream_become_behaviors(client, redis_url):
    """Those that came before the group was made, and those that come while it reads; the stream keeps its entries."""
    send(client, event("a", item_id=1, time=NOW - 9), event("b", item_id=2, user_id="eva"))
    async with consuming(redis_url) as registry:
        await until(lambda: done(client))
        send(client, event("c", item_id=3, time=NOW - 20), event("a", item_id=1, time=NOW - 9))
        await until(lambda: client.xlen(STREAM) == 4 and done(client))

    assert (items(client), items(client, "eva")) == ([3, 1], [2])
    assert client.xlen(STREAM) == 4
    assert registry.get_sample_value("ctr_events_total", {"outcome": "accepted"}) == 4


async def test_what_breaks_a_rule_is_put_aside_with_its_reason(client, redis_url):
    """The rules of POST /events. The dead-letter stream has the entry's fields, its id, and why; the rest goes on."""
    ids = send(client, event("a"), event("b", item_id=-1), event("c", time=NOW + 10**7), event("d", time=NOW // 1000))
    broken = [client.xadd(STREAM, {"event": b"\xff{"}), client.xadd(STREAM, {"other": "x"})]
    async with consuming(redis_url) as registry:
        await until(lambda: done(client))
    dead = [fields for _, fields in client.xrange(DEAD)]

    assert [one[b"_id"] for one in dead] == [*ids[1:], *broken]
    assert [one[b"_reason"] for one in dead] == [b"invalid", b"future", b"late", b"invalid", b"invalid"]
    assert dead[0][b"_error"] == b"item_id: found -1, allowed: an integer from 0 to 2^63 - 1"
    assert json.loads(dead[0][b"event"]) == event("b", item_id=-1)
    assert dead[4][b"other"] == b"x"
    assert items(client) == [42]
    assert registry.get_sample_value("ctr_events_dead_total") == 5


async def test_the_dead_letter_stream_is_bounded(client, redis_url):
    """The newest are kept, about as many as the setting says."""
    send(client, *[5] * 1_000)
    async with consuming(redis_url, events_dead_keep=1):
        await until(lambda: done(client))

    assert client.xlen(DEAD) < 200


async def test_a_key_of_another_kind_stops_nobody(client, redis_url):
    """Under one user's key is no history: that event is put aside, all others are stored."""
    client.set("ctr:h:7", "not a history")
    send(client, event("a"), event("b", user_id=8), event("c", user_id=9))
    async with consuming(redis_url):
        await until(lambda: done(client))

    ((_, dead),) = client.xrange(DEAD)
    assert dead[b"_reason"] == b"occupied"
    assert (items(client, 8), items(client, 9)) == ([42], [42])


async def test_entries_of_a_dead_consumer_are_taken_over(client, redis_url):
    """Another consumer read them and never acknowledged: after `claim_s` they are this one's."""
    send(client, *(event(f"e{i}", item_id=i) for i in range(25)))
    client.xgroup_create(STREAM, GROUP, "0")
    client.xreadgroup(GROUP, "killed", {STREAM: ">"}, count=25)
    async with consuming(redis_url, events_claim_s=0.1, events_batch=10) as registry:
        await until(lambda: done(client))

    assert sorted(items(client)) == list(range(25))
    assert registry.get_sample_value("ctr_events_claimed_total") == 25


async def test_a_consumer_that_comes_back_goes_on_with_its_own(client, redis_url):
    """What it held when it was killed comes first, without waiting for the claim."""
    send(client, *(event(f"e{i}", item_id=i) for i in range(25)))
    client.xgroup_create(STREAM, GROUP, "0")
    client.xreadgroup(GROUP, "one", {STREAM: ">"}, count=15)
    async with consuming(redis_url, "one", events_claim_s=3600, events_batch=10):
        await until(lambda: done(client))

    assert sorted(items(client)) == list(range(25))


async def test_two_consumers_share_the_stream(client, redis_url):
    """Each entry goes to one of them, and all of them are stored."""
    async with consuming(redis_url, "one", events_batch=5), consuming(redis_url, "two", events_batch=5):
        send(client, *(event(f"e{i}", user_id=i % 5, item_id=i) for i in range(200)))
        await until(lambda: done(client))

    assert sorted(item for user in range(5) for item in items(client, user)) == list(range(200))


async def test_entries_that_were_cut_while_they_waited_are_counted(client, redis_url):
    """The producer bounds the stream; what it cuts before it was written is lost, and not read for ever."""
    ids = send(client, event("a"), event("b"))
    client.xgroup_create(STREAM, GROUP, "0")
    client.xreadgroup(GROUP, "one", {STREAM: ">"})
    client.xdel(STREAM, ids[0])
    async with consuming(redis_url, "one") as registry:
        await until(lambda: client.xpending(STREAM, GROUP)["pending"] == 0)

    assert registry.get_sample_value("ctr_events_lost_total") == 1
    assert len(items(client)) == 1


async def test_redis_goes_and_comes_back(own_redis):
    """The consumer waits for it, makes stream and group again, and goes on."""
    with Redis.from_url(own_redis.url) as client:
        async with consuming(own_redis.url) as registry:
            send(client, event("a", item_id=1))
            await until(lambda: done(client))
            own_redis.stop()
            await until(lambda: (registry.get_sample_value("ctr_events_retries_total", {"at": "stream"}) or 0) > 0)
            own_redis.start()
            send(client, event("b", item_id=2))
            await until(lambda: items(client) == [2])
            await until(lambda: done(client))


async def test_redis_that_hangs_is_waited_for(own_redis):
    """No entry is acknowledged that is not stored."""
    with Redis.from_url(own_redis.url) as client:
        async with consuming(own_redis.url):
            await until(lambda: bool(client.exists(STREAM)))
            own_redis.pause()
            await asyncio.sleep(0.2)
            own_redis.resume()
            send(client, event("a", item_id=1))
            await until(lambda: done(client))
        assert items(client) == [1]


@pytest.mark.parametrize("kind", ["cluster_url", "sentinel_url"])
async def test_a_cluster_and_sentinels_do_as_well(request, kind):
    """Stream, dead letters and histories are on whichever server has their key."""
    url = request.getfixturevalue(kind)
    chosen = Settings(store=url)
    servers, store, users = stream_servers(chosen), choose_store(chosen), range(20)
    bodies = [json.dumps(event(f"e{user}", user_id=user, item_id=user)) for user in users]
    sent = [("XADD", STREAM, "*", "event", body) for body in [*bodies, "5"]]
    await servers.ask([(STREAM.encode(), sent)], timeout_s=5, purpose="write")
    async with consuming(url, store_timeout_ms=2_000) as registry:
        await until(lambda: registry.get_sample_value("ctr_events_dead_total") == 1)
    histories = await store.read_many(users, limit=5, timeout_s=5)
    ((dead,),) = await servers.ask([(DEAD.encode(), [("XLEN", DEAD)])], timeout_s=5, purpose="read")
    await store.close()
    await servers.close()

    assert [history["item"].tolist() for history in histories] == [[user] for user in users]
    assert dead == 1


async def test_lag_counts_what_is_not_acknowledged(client, redis_url):
    """Entries nobody read and entries in somebody's hands, and the age of the oldest."""
    chosen = Settings(store=redis_url, events_consumer="one")
    servers = stream_servers(chosen)
    stream = EventStream(servers, stream_names(chosen), dead_keep=10)
    await stream.open()
    empty = await stream.lag(now_ms=NOW)
    for second in (5, 3, 1):
        client.xadd(STREAM, {"event": "{}"}, id=f"{NOW - second * 1000}-0")
    unread = await stream.lag(now_ms=NOW)
    read = await stream.read(count=2, wait_s=1)
    held = await stream.lag(now_ms=NOW)
    await stream.acknowledge([entry.id for entry in read])
    rest = await stream.lag(now_ms=NOW)
    await servers.close()

    assert (empty, unread, held, rest) == ((0, 0.0), (3, 5.0), (3, 5.0), (1, 1.0))
