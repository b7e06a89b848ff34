"""JSON answers, and the one shape that every refusal has: {"error", "error_type", "request_id"}."""

from collections.abc import Mapping

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from structlog.typing import FilteringBoundLogger

from service.api.exchange import Exchange, exchange_of
from service.errors import ServiceError

_METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT")
_ROUTING_ERRORS = {404: "not_found", 405: "method_not_allowed"}


def json_answer(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as JSON."""
    return Response(orjson.dumps(body), status_code=status, headers=headers, media_type="application/json")


def refusal(
    exchange: Exchange, message: str, *, status: int, error_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An error in the one shape."""
    exchange.error_type = error_type
    body = {"error": message, "error_type": error_type, "request_id": exchange.request_id}
    return json_answer(body, status=status, headers=headers)


def unexpected(exchange: Exchange) -> Response:
    """The answer to a defect of ours: no detail for the caller, who can quote the request id."""
    return refusal(exchange, "internal error; the log has it by request_id", status=500, error_type="internal_error")


def refused(exchange: Exchange, error: ServiceError, log: FilteringBoundLogger) -> Response:
    """The answer to one of our errors; the log has the cause of a 500."""
    if error.status == 500:
        log.error("request failed", request_id=exchange.request_id, error=str(error), exc_info=error)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return refusal(exchange, str(error), status=error.status, error_type=error.error_type, headers=headers)


def answer_errors(app: FastAPI, log: FilteringBoundLogger) -> None:
    """Map our errors and the framework's own to the one shape. Anything else is caught by `Observe`."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return refused(exchange_of(request.scope), error, log)

    async def routing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = _ROUTING_ERRORS.get(error.status_code, "http_error")
        exchange = exchange_of(request.scope)
        headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
        return refusal(exchange, error.detail, status=error.status_code, error_type=kind, headers=headers)

    app.add_exception_handler(ServiceError, ours)
    app.add_exception_handler(HTTPException, routing)


def _allowed(request: Request) -> str:
    """The methods of every route of that path; the framework names those of the first."""

    def taken(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return ", ".join(method for method in _METHODS if taken(method))
