"""An open loop: requests at random moments (Poisson), whether or not earlier ones are answered.

Latency counts from the moment a request was meant to be sent, so a generator or a server that falls behind cannot hide
it. Connections come from a pool that grows: a request that finds no free one opens one.
"""

import asyncio
import contextlib
import selectors
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
from httptools import HttpParserError, HttpResponseParser

from service.bench.answers import Answer, kind_of

GRACE_S = 10.0  # for answers after the last request; what is still open then is lost
MOST_CONNECTIONS = 900  # select(2) takes file numbers below 1024
Observer = Callable[[int, int, bytes], None]  # index, status, body of an answer


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """When requests come: `rate` per second for `seconds`; `first` is the number of the first request."""

    rate: float
    seconds: float
    seed: int = 0
    first: int = 0

    def times(self) -> list[float]:
        """Seconds from the start, ascending; the same for the same seed."""
        rng = np.random.default_rng(self.seed)
        gaps = rng.exponential(1 / self.rate, size=int(self.rate * self.seconds * 1.5) + 50)
        times = np.cumsum(gaps)
        return [float(t) for t in times[times < self.seconds]]


def run_poisson(
    url: str, request: Callable[[int], bytes], *, arrivals: Arrivals, observe: Observer | None = None
) -> list[Answer]:
    """Send `request(number)` at each arrival; one Answer per request, in the order of the arrivals.

    `observe` sees each answer's number, status and body as it comes; it should be quick.
    """
    # select(2) keeps microseconds where epoll rounds up to milliseconds, which would be counted as latency.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_Load(url, request, observe).run(arrivals))


class _Load:
    """One run: its pool of idle connections and its answers so far."""

    def __init__(self, url: str, request: Callable[[int], bytes], observe: Observer | None) -> None:
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or (443 if self._tls else 80)
        self._request = request
        self._observe = observe
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._answers: dict[int, Answer] = {}
        self._missing = 0
        self._complete = asyncio.Event()
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, arrivals: Arrivals) -> list[Answer]:
        loop = asyncio.get_running_loop()
        times = arrivals.times()
        self._missing = len(times)
        start = loop.time()
        for i, at in enumerate(times):
            request = self._request(arrivals.first + i)
            await asyncio.sleep(max(start + at - loop.time(), 0))
            behind = loop.time() - start - at
            self._send(_Sent(number=arrivals.first + i, intended_s=at, behind_s=behind, started=start, request=request))
        if times:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._complete.wait(), GRACE_S)
        return self._finish(times, arrivals, loop.time() - start)

    def answered(self, connection: "_Connection", sent: "_Sent", status: int, body: bytes) -> None:
        """A connection has the whole answer, or none (status 0)."""
        seen = asyncio.get_running_loop().time() - sent.started
        if status:
            if connection.reusable:
                self._idle.append(connection)
            if self._observe is not None:
                self._observe(sent.number, status, body)
        self._answers[sent.number] = Answer(
            index=sent.number,
            intended_s=sent.intended_s,
            latency_s=seen - sent.intended_s,
            kind=kind_of(status, body) if status else "lost",
            behind_s=sent.behind_s,
        )
        self._missing -= 1
        if not self._missing:
            self._complete.set()

    def dropped(self, connection: "_Connection") -> None:
        """The server closed a connection."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _send(self, sent: "_Sent") -> None:
        if self._idle:
            self._idle.pop().send(sent)
            return
        task = asyncio.create_task(self._open(sent))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, sent: "_Sent") -> None:
        connection = _Connection(self)
        if len(self._all) >= MOST_CONNECTIONS:
            self.answered(connection, sent, 0, b"")
            return
        self._all.add(connection)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._tls)
        except OSError:
            self._all.discard(connection)
            self.answered(connection, sent, 0, b"")
        else:
            connection.send(sent)

    def _finish(self, times: list[float], arrivals: Arrivals, now: float) -> list[Answer]:
        """All answers in order; a request without one is lost."""
        for connection in list(self._all):
            connection.close()
        numbers = range(arrivals.first, arrivals.first + len(times))
        return [
            self._answers.get(n) or Answer(index=n, intended_s=at, latency_s=now - at, kind="lost")
            for n, at in zip(numbers, times, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """A request on its way. `started` is the loop's time when the load began."""

    number: int
    intended_s: float
    behind_s: float
    started: float
    request: bytes


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, load: _Load) -> None:
        self.reusable = True
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._sent: _Sent | None = None
        self._parser = HttpResponseParser(self)
        self._body = bytearray()

    def send(self, sent: _Sent) -> None:
        self._sent = sent
        if self._transport is None or self._transport.is_closing():
            self._answer(0, b"")
        else:
            self._transport.write(sent.request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.close()  # what was asked is lost

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """httptools: the answer is whole."""
        self.reusable = self._parser.should_keep_alive()
        body = bytes(self._body)
        self._body.clear()
        self._answer(self._parser.get_status_code(), body)
        if not self.reusable and self._transport is not None:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.dropped(self)
        if self._sent is not None:
            self._answer(0, b"")

    def _answer(self, status: int, body: bytes) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            self._load.answered(self, sent, status, body)
