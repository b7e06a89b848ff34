"""Tracing as the edge sees it, and the choice whether there is any.

Nothing of OpenTelemetry is imported unless CTR_OTLP_ENDPOINT is set: `service/otlp.py` is what then is.
"""

from typing import Protocol

from starlette.types import Scope

from service.api.exchange import Exchange
from service.config import PREFIX, Settings, SettingsError


class Tracing(Protocol):
    """Makes a span of a request, with one below it for each of its phases."""

    def begin(self, scope: Scope, exchange: Exchange) -> None:
        """Open the request's span below the one that the caller names, and note it in `exchange.trace`."""
        ...

    def end(self, exchange: Exchange) -> None:
        """Close it, if there is one, once the phases are known."""
        ...

    def close(self) -> None:
        """Send what waits, for a short while."""
        ...


def open_tracing(settings: Settings) -> Tracing | None:
    """The tracing that the settings ask for. Raises SettingsError if what it needs is not installed."""
    if not settings.otlp_endpoint:
        return None
    try:
        from service.otlp import OtlpTracing  # noqa: PLC0415  # an extra, and slow to import
    except ModuleNotFoundError as error:
        raise SettingsError([f"{PREFIX}OTLP_ENDPOINT: needs ctr-scorer[tracing], {error.name} is missing"]) from error
    return OtlpTracing(settings.otlp_endpoint, percent=settings.trace_percent)
