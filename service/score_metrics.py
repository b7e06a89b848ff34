"""Metrics of what was scored: how many candidates, with which history, and how much of it unknown."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.scoring.scored import Degraded, Scored
from service.tally import Tally

DEGRADED: tuple[Degraded, ...] = ("none", "history", "prior")
_CANDIDATE_EDGES = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_HISTORY_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class ScoreMetrics:
    """A part of Metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        degraded = Counter("ctr_scored", "Requests scored, by level of degradation.", ["degraded"], registry=registry)
        self._scored = {level: degraded.labels(level) for level in DEGRADED}
        candidates = Histogram(
            "ctr_candidates", "Candidates per scored request.", buckets=_CANDIDATE_EDGES, registry=registry
        )
        self._candidates = Tally(candidates, _CANDIDATE_EDGES)
        history = Histogram(
            "ctr_history_length", "Behaviors that the net saw, per request.", buckets=_HISTORY_EDGES, registry=registry
        )
        self._history = Tally(history, _HISTORY_EDGES)
        self._unknown_items = Counter(
            "ctr_unknown_items", "Candidates whose item was never seen in training.", registry=registry
        )
        self._unknown_features = Counter(
            "ctr_unknown_features",
            "Candidates of a known item with a feature that was never seen in training.",
            registry=registry,
        )
        self._unknown_users = Counter(
            "ctr_unknown_users", "Scored requests of users never seen in training.", registry=registry
        )

    def record(self, scored: Scored) -> None:
        """Count one scored request."""
        self._scored[scored.degraded].inc()
        self._candidates.observe(len(scored.pctr))
        self._history.observe(scored.history_len)
        if scored.unknown_items:
            self._unknown_items.inc(scored.unknown_items)
        if scored.unknown_features:
            self._unknown_features.inc(scored.unknown_features)
        if scored.user_status == "unknown":
            self._unknown_users.inc()

    def show(self) -> None:
        """Show what was recorded."""
        self._candidates.show()
        self._history.show()
