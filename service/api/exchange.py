"""One request and its answer as the edge sees them: what the access log, the metrics and the error answers need."""

import math
import re
from dataclasses import dataclass, field
from uuid import uuid4

from starlette.types import Scope

HISTORY_PATH = "/users/{user_id}/history"
_STATE_KEY = "ctr.exchange"
# Printable ASCII without spaces: it goes back into a header and into logs.
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(kw_only=True, slots=True)
class Trace:
    """The request's span, where there is tracing. `began_ns` is when it began, since the epoch."""

    span: object
    began_ns: int
    trace_id: str
    span_id: str
    sampled: bool

    @property
    def response(self) -> str:
        """The header `traceresponse`, in which a caller finds this span (W3C Trace Context, level 2)."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


@dataclass(kw_only=True, slots=True)
class Exchange:
    """Filled in while the request is handled. Times in seconds; those that are moments are on the app's clock."""

    request_id: str
    started: float
    route: str
    received: float = 0.0  # when the body was there
    rendering: float = 0.0  # when the answer began to be written
    granted_s: float = math.inf  # from `started` to the deadline
    status: int = 0
    error_type: str | None = None  # of the refusal, if it was refused
    phases: dict[str, float] = field(default_factory=dict)
    candidates: int | None = None
    degraded: str | None = None
    bundle_version: str | None = None
    trace: Trace | None = None


def open_exchange(scope: Scope, *, started: float) -> Exchange:
    """Start one for an ASGI scope. A missing or unfit X-Request-Id is replaced by a random one.

    Metrics and log see the path as its route, and never a user's id in it, whoever answers.
    """
    given = header(scope, b"x-request-id") or ""
    request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
    path: str = scope["path"]
    route = HISTORY_PATH if path.startswith("/users/") else path
    exchange = Exchange(request_id=request_id, started=started, route=route)
    scope[_STATE_KEY] = exchange
    return exchange


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that belongs to this scope."""
    exchange: Exchange = scope[_STATE_KEY]
    return exchange


def header(scope: Scope, name: bytes) -> str | None:
    """The first header called `name` (lower case), or None."""
    value: bytes
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None
