"""Metrics of events: what became of them, and how far the stream's consumer is behind."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.events import REASONS, CheckedEvents

Trouble = Literal["store", "stream"]


class EventMetrics:
    """What became of events, from POST /events in a serving process, from the stream in a consumer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        outcomes = ("accepted", "duplicate", *REASONS)
        counter = Counter("ctr_events", "Events by what became of them.", ["outcome"], registry=registry)
        self._outcomes = {outcome: counter.labels(outcome) for outcome in outcomes}

    def checked(self, checked: CheckedEvents) -> None:
        """Count a call's events, once they are stored: those that are not come again."""
        self._outcomes["accepted"].inc(checked.accepted)
        self._outcomes["duplicate"].inc(checked.duplicates)
        for rejected in checked.rejected:
            self._outcomes[rejected.reason].inc()


class ConsumerMetrics:
    """How a consumer gets on with its stream."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = EventMetrics(registry)
        self.lag = Gauge("ctr_events_lag", "Entries of the stream that are not yet acknowledged.", registry=registry)
        self.lag_s = Gauge("ctr_events_lag_seconds", "Age of the oldest of them.", registry=registry)
        self.claimed = Counter("ctr_events_claimed", "Entries taken over from another consumer.", registry=registry)
        self.dead = Counter("ctr_events_dead", "Entries put into the dead-letter stream.", registry=registry)
        self.lost = Counter(
            "ctr_events_lost", "Entries that were cut from the stream before they were read.", registry=registry
        )
        retries = Counter("ctr_events_retries", "Tries that failed and are repeated.", ["at"], registry=registry)
        self.retries: dict[Trouble, Counter] = {"store": retries.labels("store"), "stream": retries.labels("stream")}
