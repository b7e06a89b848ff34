"""Second tries, and servers that are left alone, over a network that misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from model.bundle.records import make_behaviors
from service.embedded import EmbeddedRedis
from service.stores.base import StoreError, StoreNotReplicated
from service.stores.redis import RedisStore
from service.stores.servers import ServerOptions
from tests.integration.tcp_proxy import TcpProxy

pytestmark = pytest.mark.anyio
LONG_S = 30.0
SHORT_S = 0.1


@pytest.fixture
def proxy(own_redis: EmbeddedRedis) -> Iterator[TcpProxy]:
    """The way to a Redis of this test."""
    with TcpProxy(own_redis.port) as between:
        yield between


@asynccontextmanager
async def opened(proxy: TcpProxy, **options: object) -> AsyncIterator[RedisStore]:
    """A store behind the proxy that has read once, so that it has a connection, and knows user 1."""
    url = f"redis://127.0.0.1:{proxy.port}/0"
    store = RedisStore.from_url(url, history_keep=100, ttl_s=60, options=ServerOptions(**options))
    try:
        await store.append(1, make_behaviors([5, 6]), timeout_s=LONG_S)
        yield store
    finally:
        await store.close()


async def fail(store: RedisStore, *, times: int, timeout_s: float = SHORT_S) -> None:
    """Read in vain."""
    for _ in range(times):
        with pytest.raises(StoreError):
            await store.read(1, limit=9, timeout_s=timeout_s)


async def until_closed(store: RedisStore) -> None:
    """Wait for the probe."""
    async with asyncio.timeout(LONG_S):
        while store.open_circuits:  # noqa: ASYNC110  # nobody is told
            await asyncio.sleep(0.01)


async def test_a_read_that_hangs_is_tried_again_on_another_connection(proxy):
    """A connection that a firewall forgot costs `read_timeout_s`, not the answer."""
    async with opened(proxy, read_timeout_s=SHORT_S) as store:
        proxy.lose()

        assert [5, 6] == (await store.read(1, limit=9, timeout_s=LONG_S))["item"].tolist()


async def test_without_a_time_of_its_own_a_read_that_hangs_has_one_try(proxy):
    """Then the first try has all the time."""
    async with opened(proxy) as store:
        proxy.lose()

        await fail(store, times=1)


async def test_a_server_is_left_alone_until_a_probe_succeeds(proxy):
    """After `failures` in a row nobody waits for it any more; it is found again though nobody asks for it."""
    async with opened(proxy, failures=2, fair_s=SHORT_S) as store:
        proxy.blackhole = True
        await fail(store, times=2)
        assert store.open_circuits == 1
        with pytest.raises(StoreError, match="left alone"):
            await store.read(1, limit=9, timeout_s=LONG_S)

        proxy.blackhole = False
        await until_closed(store)
        assert len(await store.read(1, limit=9, timeout_s=LONG_S)) == 2


async def test_a_caller_in_a_hurry_opens_no_circuit(proxy):
    """Time-outs below `fair_s` are the caller's choice; otherwise one caller could turn the store off for all."""
    async with opened(proxy, failures=1, fair_s=10.0) as store:
        proxy.blackhole = True
        await fail(store, times=3, timeout_s=0.02)

        assert store.open_circuits == 0


async def test_closing_ends_a_probe(proxy):
    """A store that is closed while its server is dead leaves no task and no connection behind."""
    async with opened(proxy, failures=1, fair_s=SHORT_S) as store:
        proxy.blackhole = True
        await fail(store, times=1)
        before = asyncio.all_tasks()
    await asyncio.sleep(0)

    assert {task for task in asyncio.all_tasks() if "_probe" in repr(task)} == set()
    assert any("_probe" in repr(task) for task in before)


async def test_replicas_are_read_and_the_master_where_they_fail(sentinel_server, sentinel_url):
    """With `read_replicas` a history comes from a replica that has it, and writes still go to the master."""
    options = ServerOptions(read_replicas=True, wait_replicas=2)
    store = RedisStore.from_url(sentinel_url, history_keep=100, ttl_s=60, options=options)
    await store.append(1, make_behaviors([5, 6]), timeout_s=LONG_S)
    found = [(await store.read(1, limit=9, timeout_s=LONG_S))["item"].tolist() for _ in range(4)]
    await store.close()

    asked = {}
    for port, server in sentinel_server.servers.items():
        with server.client() as client:
            asked[port] = client.info("commandstats").get("cmdstat_zrange", {}).get("calls", 0)
    assert found == [[5, 6]] * 4
    replicas = asked.keys() - {sentinel_server.master_of("").port}
    assert min(asked[port] for port in replicas) > 0


async def test_too_few_replicas_do_not_count(redis_url):
    """A write that must be on a replica, where there is none, is an error though the master has it."""
    options = ServerOptions(wait_replicas=1, failures=1)
    store = RedisStore.from_url(redis_url, history_keep=100, ttl_s=60, options=options)
    with pytest.raises(StoreNotReplicated):
        await store.append(1, make_behaviors([5]), timeout_s=0.5)
    left_alone = store.open_circuits
    history = await store.read(1, limit=9, timeout_s=LONG_S)
    await store.close()

    assert (left_alone, len(history)) == (0, 1)


async def test_who_waits_for_replicas_holds_up_nobody_who_reads(redis_url):
    """With one connection and a write that waits for a replica that there is not, a read is answered at once."""
    options = ServerOptions(pool_size=1, wait_replicas=1)
    store = RedisStore.from_url(redis_url, history_keep=100, ttl_s=60, options=options)
    writing = asyncio.create_task(store.append(1, make_behaviors([5]), timeout_s=LONG_S))
    async with asyncio.timeout(LONG_S / 2):
        while not len(await store.read(1, limit=9, timeout_s=LONG_S)):
            pass
    waited_on = not writing.done()
    writing.cancel()
    await asyncio.wait([writing])
    await store.close()

    assert waited_on
