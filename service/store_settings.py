"""Settings of how the store is connected to and asked."""

from pydantic import Field
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
    """A part of Settings."""

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
