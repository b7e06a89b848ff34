"""Settings of what people see: slow requests in the log, traces, and the console.

A part of Settings (`service/config.py`), which is what everybody receives.
"""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


class ObserveSettings(BaseSettings):
    """Fields only. No source of its own: Settings decides what is read."""

    slow_ms: float = Field(
        100,
        ge=0,
        le=3_600_000,
        description="A request that takes longer is logged as a warning that names its slowest phase; 0: none is.",
    )
    otlp_endpoint: str = Field(
        "",
        description="Where traces go by OTLP over HTTP, such as http://collector:4318; needs the extra `tracing`; "
        "empty: no tracing.",
    )
    trace_percent: float = Field(
        1, ge=0, le=100, description="Share of requests traced where the caller's `traceparent` does not say."
    )

    console: bool = Field(True, description="The page at /, for people; false: it and what it asks are not there.")

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url
