"""The settings of events: what POST /events and the stream's consumer take, and how the consumer reads.

A part of Settings (`service/config.py`), which is what everybody receives.
"""

from pydantic import Field
from pydantic_settings import BaseSettings

from service.events import EventRules


class EventSettings(BaseSettings):
    """Fields only. No source of its own: Settings decides what is read."""

    max_events: int = Field(1000, ge=1, le=100_000, description="Events in one POST /events; more are refused (413).")
    events_timeout_ms: float = Field(
        1000, gt=0, le=60_000, description="Longest time of POST /events and of /users, body and store together."
    )
    event_max_age_s: int = Field(
        3650 * 86_400,
        ge=0,
        description="Events older than this are rejected as late; 0: none. Finds seconds sent as ms.",
    )
    event_max_future_s: int = Field(
        300, ge=0, description="Events further ahead of the service's clock are rejected; less ahead is kept as it is."
    )
    events_stream: str = Field(
        "ctr:events",
        min_length=1,
        max_length=256,
        description="Redis Stream that `consume-events` reads; refused events go to the one with `:dead` behind its "
        "name.",
    )
    events_group: str = Field("ctr", min_length=1, max_length=256, description="Consumer group, made if it is absent.")
    events_consumer: str = Field(
        "", max_length=256, description="Name of this consumer in the group, one per process; empty: the host's name."
    )
    events_batch: int = Field(500, ge=1, le=10_000, description="Most entries read and written at once.")
    events_pause_ms: int = Field(
        500, ge=1, le=60_000, description="Longest wait for new entries, and so the longest that SIGTERM waits for it."
    )
    events_claim_s: float = Field(
        30, gt=0, le=86_400, description="Entries that another consumer holds for longer are taken over."
    )
    events_dead_keep: int = Field(100_000, ge=1, description="Newest refused events kept in the dead-letter stream.")
    consumer_port: int = Field(0, ge=0, le=65_535, description="Port of the consumer's /metrics on CTR_HOST; 0: none.")

    def event_rules(self) -> EventRules:
        """The rules that these settings ask for: one set of rules for HTTP and for the stream."""
        return EventRules(max_age_ms=self.event_max_age_s * 1000, max_future_ms=self.event_max_future_s * 1000)
