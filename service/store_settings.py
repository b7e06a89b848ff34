"""The settings of the store: where it is, how it is asked, and what it keeps of each user.

A part of Settings (`service/config.py`), which is what everybody receives.
"""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

STORE_SCHEMES = (  # also in service/stores/address.py, which this file does not load: redis-py takes long
    "memory://",
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
)


class StoreSettings(BaseSettings):
    """Fields only. No source of its own: Settings decides what is read."""

    store: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Where behaviors live: redis://, unix://, redis+sentinel:// or redis+cluster:// (rediss with TLS), "
        "user and password as in redis-py, or memory:// for one process without Redis.",
    )
    store_file: str = Field(
        "", description="File that holds that URL instead, as secrets are mounted; read once, at the start."
    )
    key_prefix: str = Field("ctr:h:", description="Redis key of a user's history is this prefix and the user id.")
    history_keep: int = Field(
        200, ge=1, le=10_000, description="Behaviors kept per user; a request may not bring more either."
    )
    history_ttl_s: int = Field(90 * 86_400, ge=1, description="A user without events for so many seconds is forgotten.")
    store_timeout_ms: float = Field(20, gt=0, le=60_000, description="Longest wait for the store before degrading.")
    store_ca_file: str = Field("", description="Certificates to trust with TLS; empty: those of the system.")
    store_cert_file: str = Field("", description="Our certificate, where the store asks for one.")
    store_key_file: str = Field("", description="The key of that certificate, unless it is in the same file.")
    store_pool_size: int = Field(16, ge=1, le=1024, description="Connections of a process to each server of the store.")
    store_connect_timeout_ms: float = Field(
        0, ge=0, le=60_000, description="Longest wait for a connection; 0: as long as for the store."
    )
    store_read_timeout_ms: float = Field(
        0,
        ge=0,
        le=60_000,
        description="Longest wait of a read before it is tried once more on another connection; 0: no second try.",
    )
    store_failures: int = Field(
        5, ge=0, description="Failures in a row after which a server is left alone until a probe succeeds; 0: never."
    )
    store_read_replicas: bool = Field(
        False, description="Read histories from replicas (Sentinel, Cluster), which may be a little behind."
    )
    store_wait_replicas: int = Field(
        0, ge=0, le=16, description="Replicas that must confirm a write before it counts; 0: the master is enough."
    )

    @field_validator("store")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        if not url.startswith(STORE_SCHEMES):
            raise ValueError(f"must start with one of {', '.join(STORE_SCHEMES)}")
        return url
