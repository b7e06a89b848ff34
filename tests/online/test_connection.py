"""The head of a request has a longest length and a longest time; the rest of a connection is uvicorn's."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.app import create_app
from service.config import Settings
from service.connection import HEAD_BYTES, Connection
from service.server import _config

pytestmark = pytest.mark.anyio
GOOD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
WAIT_S = 20


class Impatient(Connection):
    """One that a test can wait for."""

    head_s, idle_s = 0.2, 0.1


async def echo(scope, receive, send) -> None:
    """Answers the body's length, a little later than an impatient connection waits for a head."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await asyncio.sleep(0.3)
    body = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connected(kind=Connection):
    """`async with connected() as (reader, writer)`: a connection to a server of that kind."""
    config = uvicorn.Config(echo, log_config=None, lifespan="off", ws="none")
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: kind(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async with asyncio.timeout(WAIT_S):
        yield reader, writer
    writer.close()
    server.close()


@pytest.mark.parametrize(("first", "piece"), [(b"x-big: ", b"a" * 1000), (b"", b"x-a: b\r\n" * 125)])
async def test_a_head_without_an_end_is_refused(first, piece):
    """One header without an end or headers without an end, in pieces: 431 at the limit, and the connection ends."""
    async with connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n" + first)
        await asyncio.sleep(0.05)
        for _ in range(HEAD_BYTES // len(piece) + 1):  # the last one goes beyond
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HTTP/1.1\r\nhost:", b"P"])
async def test_a_head_that_does_not_come_ends_the_connection(sent):
    """Nothing at all, or the beginning of one: closed without an answer."""
    async with connected(Impatient) as (reader, writer):
        writer.write(sent)

        assert await reader.read() == b""


async def test_only_heads_are_timed_and_measured():
    """A long answer, a long body that comes slowly, and the request after it on the same connection are left alone."""
    size = 4 * HEAD_BYTES
    async with connected(Impatient) as (reader, writer):
        writer.write(GOOD)
        first = await reader.readuntil(b"\r\n\r\n5")
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(4):
            await asyncio.sleep(0.1)
            writer.write(b"a" * HEAD_BYTES)
        second = await reader.readuntil(b"\r\n\r\n%d" % size)

    assert [head.split(b"\r\n")[0] for head in (first, second)] == [b"HTTP/1.1 200 OK"] * 2


async def test_requests_in_a_row_are_answered():
    """Heads that share a packet with bodies are each measured from their own beginning."""
    async with connected() as (reader, writer):
        for _ in range(3):
            writer.write(GOOD * 2)
        for _ in range(6):
            await reader.readuntil(b"\r\n\r\n5")
        writer.write(GOOD[:20])
        await asyncio.sleep(0.01)
        writer.write(GOOD[20:])

        assert await reader.readuntil(b"\r\n\r\n5")


def test_the_service_uses_it():
    """What listens is this kind of connection."""
    settings = Settings(store="memory://")
    config = _config(create_app(settings), settings)
    config.load()

    assert config.http_protocol_class is Connection


@pytest.mark.parametrize(
    "path", ["/readyz", "/score", "/bundle", "/metrics", "/docs", "/", "/nowhere", "/admin/bundles"]
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_no_other_origin_is_let_in(serve, method, path):
    """No answer carries a CORS header, so a page from elsewhere reads nothing; and no answer's type is guessed."""
    asks = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "POST"}
    async with serve(admin_key="k" * 16) as client:
        answer = await client.request(method, path, headers=asks)

    assert [name for name in answer.headers if name.startswith("access-control")] == []
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
