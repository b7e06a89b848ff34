"""Reading a request's body and its deadline, each within a bound."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from service.api.exchange import header
from service.errors import ClientGone, DeadlineExceeded, InvalidRequest, TooLarge

T = TypeVar("T")
DEADLINE_HEADER = "X-Deadline-Ms"
_WATCH_AFTER_S = 0.005


def deadline_s(scope: Scope, *, default_ms: float, max_ms: float) -> float:
    """Seconds granted by X-Deadline-Ms, at most `max_ms`. Raises InvalidRequest unless it is a number above 0."""
    given = header(scope, b"x-deadline-ms")
    if given is None:
        return default_ms / 1e3
    try:
        milliseconds = float(given)
    except ValueError:
        milliseconds = math.nan
    if not 0 < milliseconds < math.inf:
        raise InvalidRequest(f"{DEADLINE_HEADER}: found {given[:80]!r}, allowed: milliseconds, a number above 0")
    return min(milliseconds, max_ms) / 1e3


async def read_body(scope: Scope, receive: Receive, *, limit: int, timeout_s: float) -> bytes:
    """The body, if it has at most `limit` bytes and arrives in time.

    Raises TooLarge without reading the rest, ClientGone, or DeadlineExceeded.
    """
    declared = header(scope, b"content-length") or ""
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(f"the body has {declared[:20]} bytes, allowed: {limit}")
    try:
        async with asyncio.timeout(timeout_s):
            return await _receive_all(receive, limit=limit)
    except TimeoutError:
        raise DeadlineExceeded("the deadline passed before the body had arrived") from None


async def unless_gone(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """The result of `work`; if the caller disconnects first, `work` is cancelled and ClientGone is raised.

    `work` runs in the caller's own task. The watch begins after a while: most answers are there before.
    """
    task = asyncio.current_task()
    assert task is not None
    gone: list[asyncio.Future[None]] = []
    watch = asyncio.get_running_loop().call_later(
        _WATCH_AFTER_S, lambda: gone.append(asyncio.ensure_future(_cancel_when_gone(receive, task)))
    )
    try:
        return await work
    except asyncio.CancelledError:
        if not (gone and gone[0].done()) or task.uncancel() > 0:  # somebody else wants this task to end
            raise
        raise ClientGone("the caller closed the connection") from None
    finally:
        watch.cancel()
        for watching in gone:
            watching.cancel()


async def _receive_all(receive: Receive, *, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the caller closed the connection")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any]) -> None:
    """`Any`: whatever the task returns."""
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
