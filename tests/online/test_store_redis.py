"""What RedisStore does beyond the contract: layout, timeouts, and servers that hang, die and come back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import numpy as np
import pytest
from redis import Redis

from model.bundle.records import Behaviors, make_behaviors
from service.embedded import EmbeddedRedis
from service.stores.base import StoreError
from service.stores.redis import RedisStore
from service.stores.servers import ServerOptions

pytestmark = pytest.mark.anyio
SHORT_S = 0.1  # the server is paused: it would not answer in any time
LONG_S = 30.0


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: the service runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def opened(url: str, *, pool_size: int = 4, **kwargs: object) -> AsyncIterator[RedisStore]:
    options = ServerOptions(pool_size=pool_size, failures=0)
    store = RedisStore.from_url(url, **{"history_keep": 100, "ttl_s": 60, "options": options, **kwargs})
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def paused(server: EmbeddedRedis) -> Iterator[None]:
    """The server hangs inside the block, its connections open, and runs again after it."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


def of_user(user: int) -> Behaviors:
    """A history that tells whose it is."""
    return make_behaviors([user * 100, user * 100 + 1])


async def items(store: RedisStore, user: int) -> list[int]:
    return (await store.read(user, limit=10, timeout_s=LONG_S))["item"].tolist()


async def test_layout_is_one_sorted_set_per_user(redis_url):
    """Key ctr:h:{user_id}, score = time in ms, member = the record: another program can read and write it."""
    behaviors = make_behaviors([5, 6], time=[1_700_000_000_123, 1_700_000_000_456])
    async with opened(redis_url) as store:
        await store.append("u1", behaviors, timeout_s=LONG_S)

    with Redis.from_url(redis_url) as client:
        stored = client.zrange("ctr:h:u1", 0, -1, withscores=True)
    assert [(b.tobytes(), float(b["time"])) for b in behaviors] == [tuple(pair) for pair in stored]


async def test_key_prefix_keeps_two_services_apart(redis_url):
    """Services with different prefixes share a Redis without seeing each other's users."""
    async with opened(redis_url, key_prefix="a:") as one, opened(redis_url, key_prefix="b:") as two:
        await one.append(1, of_user(1), timeout_s=LONG_S)

        assert [len(await store.read(1, limit=10, timeout_s=LONG_S)) for store in (one, two)] == [2, 0]


async def test_each_append_renews_the_time_to_live(redis_url):
    """An idle user is forgotten after `ttl_s`, counted from the last append."""
    async with opened(redis_url, ttl_s=500) as store:
        await store.append(1, of_user(1), timeout_s=LONG_S)
    async with opened(redis_url, ttl_s=9_000) as store:
        await store.append(1, of_user(1), timeout_s=LONG_S)

    with Redis.from_url(redis_url) as client:
        assert 8_000 < client.ttl("ctr:h:1") <= 9_000


async def test_late_reply_never_reaches_the_next_caller(own_redis):
    """After a timeout the connection is dropped: the next read, of another user, gets that user's history."""
    async with opened(own_redis.url, pool_size=1) as store:
        for user in (1, 2):
            await store.append(user, of_user(user), timeout_s=LONG_S)
        for _ in range(3):
            with paused(own_redis), pytest.raises(StoreError, match="did not answer within 100 ms"):
                await store.read(1, limit=10, timeout_s=SHORT_S)

            assert await items(store, 2) == [200, 201]


async def test_cancelled_read_never_reaches_the_next_caller(own_redis):
    """A caller who goes away, as a client that hangs up, leaves nothing behind either."""
    async with opened(own_redis.url, pool_size=1) as store:
        for user in (1, 2):
            await store.append(user, of_user(user), timeout_s=LONG_S)
        with paused(own_redis):
            reading = asyncio.create_task(store.read(1, limit=10, timeout_s=LONG_S))
            await asyncio.sleep(SHORT_S)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

        assert await items(store, 2) == [200, 201]


async def test_timeouts_at_any_moment_mix_up_nobody(redis_url):
    """Reads given up while waiting, connecting, sending or receiving: each that ends well is of its own user."""
    random = np.random.default_rng(0)
    given_up, wrong = 0, []

    async def reader(patience_s: list[float]) -> None:
        nonlocal given_up
        for user, timeout_s in enumerate(patience_s):
            try:
                found = (await store.read(user, limit=10, timeout_s=timeout_s))["item"].tolist()
            except StoreError:
                given_up += 1
            else:
                wrong.extend([(user, found)] if found != [user * 100, user * 100 + 1] else [])

    async with opened(redis_url, pool_size=4) as store:
        await store.append_many([(user, of_user(user)) for user in range(50)], timeout_s=LONG_S)
        moments = np.where(random.random((12, 50)) < 0.5, LONG_S, random.uniform(0, 0.003, (12, 50)))
        await asyncio.gather(*(reader(patience_s) for patience_s in [*moments.tolist(), [0.0]]))

    assert given_up > 0
    assert wrong == []


async def test_timed_out_append_may_be_repeated(own_redis):
    """Whether or not the first try arrived, a second one leaves the history as one append would, for all users."""
    histories = [(user, of_user(user)) for user in range(1, 200)]
    async with opened(own_redis.url, pool_size=1) as store:
        await store.append_many(histories[:1], timeout_s=LONG_S)
        with paused(own_redis), pytest.raises(StoreError, match="did not answer"):
            await store.append_many(histories, timeout_s=SHORT_S)
        await store.append_many(histories, timeout_s=LONG_S)

        assert [await items(store, user) for user in (1, 2, 199)] == [[100, 101], [200, 201], [19900, 19901]]


async def test_connecting_counts_in_the_timeout(own_redis):
    """A server that accepts and says nothing delays the first operation by no more than its timeout."""
    async with opened(own_redis.url) as store:
        with paused(own_redis), pytest.raises(StoreError, match="did not answer"):
            await store.read(1, limit=10, timeout_s=SHORT_S)


async def test_waiting_for_a_connection_counts_in_the_timeout(own_redis):
    """With one connection and a hung server, everybody in the queue gives up in time, and the queue is free again."""
    async with opened(own_redis.url, pool_size=1) as store:
        with paused(own_redis):
            reads = (store.read(user, limit=10, timeout_s=SHORT_S) for user in range(20))
            outcomes = await asyncio.gather(*reads, return_exceptions=True)
        await store.append(1, of_user(1), timeout_s=LONG_S)

        assert {type(outcome) for outcome in outcomes} == {StoreError}
        assert await items(store, 1) == [100, 101]


async def test_pool_is_bounded_and_serves_everybody(redis_url):
    """Forty readers on three connections: each gets the right user, and the server never sees a fourth connection."""
    async with opened(redis_url + "?client_name=bounded", pool_size=3) as store:
        await store.append_many([(user, of_user(user)) for user in range(40)], timeout_s=LONG_S)
        histories = await asyncio.gather(*(items(store, user) for user in range(40)))
        with Redis.from_url(redis_url) as client:
            connections = [c for c in client.client_list() if c["name"] == "bounded"]

    assert histories == [[user * 100, user * 100 + 1] for user in range(40)]
    assert len(connections) == 3


async def test_connects_again_after_redis_was_away(own_redis):
    """While Redis is down an operation fails at once; when it is back the same store works, with nobody's help."""
    async with opened(own_redis.url) as store:
        await store.append(1, of_user(1), timeout_s=LONG_S)
        own_redis.stop()
        with pytest.raises(StoreError, match="out of reach"):
            await store.read(1, limit=10, timeout_s=LONG_S)
        own_redis.start()
        await store.append(2, of_user(2), timeout_s=LONG_S)

        assert [await items(store, user) for user in (1, 2)] == [[], [200, 201]]


async def test_restart_between_two_reads_is_not_noticed(own_redis):
    """An idle connection that the server closed meanwhile is replaced, not reported."""
    async with opened(own_redis.url, pool_size=1) as store:
        await store.append(1, of_user(1), timeout_s=LONG_S)
        own_redis.stop()
        own_redis.start()

        assert await items(store, 1) == []


@pytest.mark.parametrize("widths", [[33, 5], [34], [0], [32, 34]], ids=str)
async def test_member_of_another_width_is_an_error(redis_url, widths):
    """What is not a record is reported, never decoded into something, not even where wrong widths add up."""
    with Redis.from_url(redis_url) as client:
        client.zadd("ctr:h:1", {bytes(width): width for width in widths})
    async with opened(redis_url) as store:
        await store.append(2, of_user(2), timeout_s=LONG_S)

        with pytest.raises(StoreError, match="33 bytes"):
            await store.read(1, limit=10, timeout_s=LONG_S)
        assert await items(store, 2) == [200, 201]


async def test_key_of_another_type_is_an_error(redis_url):
    """Somebody else's key under our name: read and append say so, and the connection stays usable."""
    with Redis.from_url(redis_url) as client:
        client.set("ctr:h:1", "mine")
    async with opened(redis_url, pool_size=1) as store:
        with pytest.raises(StoreError, match="something else"):
            await store.read(1, limit=10, timeout_s=LONG_S)
        with pytest.raises(StoreError, match="something else"):
            await store.append_many([(1, of_user(1)), (2, of_user(2))], timeout_s=LONG_S)

        assert await items(store, 2) == [200, 201]


async def test_wrong_password_is_not_repeated(redis_url):
    """A refused login is a StoreError whose text holds no secret."""
    async with opened(redis_url.replace("//", "//:hunter2@")) as store:
        with pytest.raises(StoreError) as caught:
            await store.read(1, limit=10, timeout_s=LONG_S)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://:hunter2@host", "redis://:hunter2/x@host:1", "redis://host:1/?db=hunter2", ""])
async def test_url_that_is_not_redis_is_refused_without_repeating_it(url):
    """A URL may hold a password, so the message says what is allowed and nothing else."""
    with pytest.raises(ValueError, match="not a Redis URL, allowed: redis://") as caught:
        RedisStore.from_url(url, history_keep=1, ttl_s=1)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("bound", ["history_keep", "ttl_s"])
async def test_bounds_must_leave_room(bound):
    """Zero would mean: delete everything, forget at once, or never connect."""
    with pytest.raises(ValueError, match="at least 1"):
        RedisStore.from_url("redis://127.0.0.1:1", **{"history_keep": 1, "ttl_s": 1, bound: 0})


async def test_there_must_be_room_for_a_connection():
    """A pool of none would never connect."""
    with pytest.raises(ValueError, match="at least 1"):
        ServerOptions(pool_size=0)
