"""The outermost layer of the app: opens the exchange, counts it, logs it, and catches what nobody expected.

Plain ASGI, and POST /score goes from here to its endpoint: FastAPI's middlewares and routing would cost it a tenth of a
millisecond and have nothing to do for it.
"""

import math
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from service.api.answers import refused, unexpected
from service.api.door import Door
from service.api.exchange import Exchange, open_exchange
from service.drain import Drain
from service.errors import DeadlineExceeded, ServiceError
from service.logs import in_request
from service.metrics import Metrics
from service.scoring.engine import Clock
from service.tracing import Tracing

SCORE_PATH = "/score"
Endpoint = Callable[[Request], Awaitable[Response]]
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"))  # of every answer


class Observe:
    """Wraps `app` and `score`. One access log line and one count per request; phase times for POST /score."""

    def __init__(  # noqa: PLR0913  # it joins what the edge has
        self,
        app: ASGIApp,
        score: Endpoint,
        *,
        door: Door,
        metrics: Metrics,
        log: FilteringBoundLogger,
        clock: Clock,
        drain: Drain,
        slow_s: float = 0.0,
        tracing: Tracing | None = None,
    ) -> None:
        """A request that takes longer than `slow_s` is logged as a warning; 0: none is."""
        self._app = app
        self._score = score
        self._door = door
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._drain = drain
        self._slow_s = slow_s or math.inf
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (or the lifespan, which is passed through)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = self._open(scope)

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message["headers"], *self._headers(exchange)]
            await send(message)

        self._metrics.process.in_flight.inc()
        try:
            if exchange.route == SCORE_PATH and scope["method"] == "POST":
                answer = await self._answer(exchange, Request(scope, receive))
                await answer(scope, receive, send_observed)
            else:
                app = self._refusal(exchange, scope) or self._app
                await app(scope, receive, send_observed)
        except Exception:
            self._log.error("unexpected error", request_id=exchange.request_id, route=exchange.route, exc_info=True)
            if exchange.status:  # too late for another answer; the server closes the connection
                raise
            await unexpected(exchange)(scope, receive, send_observed)
        finally:
            self._metrics.process.in_flight.dec()
            self._close(exchange)

    def _open(self, scope: Scope) -> Exchange:
        exchange = open_exchange(scope, started=self._clock())
        in_request.set(exchange)
        if self._tracing is not None:
            self._tracing.begin(scope, exchange)
        return exchange

    def _headers(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        headers = [(b"x-request-id", exchange.request_id.encode()), *_HEADERS]
        if exchange.trace is not None:
            headers.append((b"traceresponse", exchange.trace.response.encode()))
        if self._drain.draining:  # so that callers with a connection go elsewhere
            headers.append((b"connection", b"close"))
        return headers

    async def _answer(self, exchange: Exchange, request: Request) -> Response:
        try:
            self._door.check(request.scope)
            return await self._score(request)
        except ServiceError as error:
            return refused(exchange, error, self._log)

    def _refusal(self, exchange: Exchange, scope: Scope) -> Response | None:
        """The answer to whoever is not let in."""
        try:
            self._door.check(scope)
        except ServiceError as error:
            return refused(exchange, error, self._log)
        return None

    def _close(self, exchange: Exchange) -> None:
        exchange.phases["total"] = self._clock() - exchange.started
        self._metrics.request(exchange.route, exchange.status)
        if exchange.route == SCORE_PATH:
            self._metrics.phases(exchange.phases)
            if exchange.error_type:
                self._metrics.refused(exchange.error_type)
            if exchange.phases["total"] > exchange.granted_s or exchange.error_type == DeadlineExceeded.error_type:
                self._metrics.missed_deadline()
        if self._tracing is not None:
            self._tracing.end(exchange)
        self._log_access(exchange)

    def _log_access(self, exchange: Exchange) -> None:
        line: dict[str, object] = {
            "request_id": exchange.request_id,
            "route": exchange.route[:200],
            "status": exchange.status,
            "error_type": exchange.error_type,
            "phases_ms": {name: round(seconds * 1e3, 3) for name, seconds in exchange.phases.items()},
            "candidates": exchange.candidates,
            "degraded": exchange.degraded,
            "bundle_version": exchange.bundle_version,
        }
        if exchange.trace is not None:
            line["trace_id"] = exchange.trace.trace_id
        if exchange.phases["total"] > self._slow_s:
            self._log.warning("access", **line, slowest=_slowest(exchange.phases))
        else:
            self._log.info("access", **line)


def _slowest(phases: Mapping[str, float]) -> str:
    """The phase that took longest; `other` for the time that is in none: the body's arrival, a late event loop."""
    own = {name: seconds for name, seconds in phases.items() if name != "total"}
    own["other"] = phases["total"] - sum(own.values())
    return max(own, key=own.__getitem__)
