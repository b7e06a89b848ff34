"""Metrics of what was scored: how many candidates, how much of it unknown, with which history, and which pCTR."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from model.bundle.distribution import EDGES
from service.source import Role

DEGRADED = ("none", "history", "prior")
_ROLES: tuple[Role, ...] = ("stable", "canary")
_CANDIDATE_EDGES = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_HISTORY_EDGES = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class ScoreMetrics:
    """A part of Metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        degraded = Counter("ctr_scored", "Requests scored, by level of degradation.", ["degraded"], registry=registry)
        self._scored = {level: degraded.labels(level) for level in DEGRADED}
        self._candidates = Histogram(
            "ctr_candidates", "Candidates per scored request.", buckets=_CANDIDATE_EDGES, registry=registry
        )
        self._history = Histogram(
            "ctr_history_length", "Behaviors that the net saw, per request.", buckets=_HISTORY_EDGES, registry=registry
        )
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
        pctr = Histogram("ctr_pctr", "pCTR of candidates.", ["role"], buckets=EDGES, registry=registry)
        self._pctr = {role: pctr.labels(role) for role in _ROLES}
        self._psi = Gauge(
            "ctr_pctr_psi",
            "Population stability index of recent pCTR against the bundle's validation split.",
            ["role"],
            registry=registry,
        )

    def scored(self, *, degraded: str, candidates: int, unknown_items: int, user_known: bool) -> None:
        """Count one scored request."""
        self._scored[degraded].inc()
        self._candidates.observe(candidates)
        if unknown_items:
            self._unknown_items.inc(unknown_items)
        if not user_known:
            self._unknown_users.inc()
