"""What many tests need: a real server that speaks Redis, and an event loop for async tests (anyio's plugin)."""

from collections.abc import Iterator

import pytest
from redis import Redis

from service.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests carry `@pytest.mark.anyio` and run on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One server for the whole run. A test that pauses or stops it takes `own_redis` instead."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of the shared server, empty."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[EmbeddedRedis]:
    """A server for one test, which may pause, stop and start it."""
    with EmbeddedRedis() as server:
        yield server
