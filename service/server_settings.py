"""The settings of the server: where it listens, what it reads at most, how it ends, what it logs.

A part of Settings (`service/config.py`), which is what everybody receives.
"""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class ServerSettings(BaseSettings):
    """Fields only. No source of its own: Settings decides what is read."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 in a container.")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    max_body_bytes: int = Field(2 * 1024**2, ge=1024, description="Largest body; a larger one is refused (413).")
    drain_delay_s: float = Field(
        0,
        ge=0,
        le=600,
        description="On SIGTERM, seconds in which the service is not ready but still listens, so that load balancers "
        "notice.",
    )
    drain_s: int = Field(20, ge=0, description="After that, the longest wait for requests in flight, in seconds.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged; `warning` turns the access log off."
    )
