"""Every metric of the service, in one class over a registry that is passed in. All labels come from closed sets."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.bundle_metrics import BundleMetrics
from service.event_metrics import EventMetrics
from service.feedback_metrics import FeedbackMetrics
from service.process_metrics import ProcessMetrics

PHASES = ("parse", "store", "encode", "queue", "compute", "render", "total")
DEGRADED = ("none", "history", "prior")
OTHER_ROUTE = "other"  # unknown paths: a label must not be the caller's to choose
_PHASE_EDGES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2)
_CANDIDATE_EDGES = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Metrics:
    """Counts and times what the service does. Label children are made once, so that recording stays cheap."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        slo_s: float,
        routes: tuple[str, ...],
        shown: CollectorRegistry | None = None,
    ) -> None:
        """`slo_s` becomes an edge of the time histogram, so that "within the promise" is a bucket, not a guess.

        `shown` is what /metrics answers with where it is not `registry`: the merged metrics of several processes.
        """
        self.registry = registry
        self.shown = shown or registry
        edges = sorted({*_PHASE_EDGES, slo_s})
        phase = Histogram(
            "ctr_phase_seconds", "Time per phase of POST /score.", ["phase"], buckets=edges, registry=registry
        )
        self._phases = {name: phase.labels(name) for name in PHASES}
        self._requests = Counter("ctr_requests", "Requests by route and status.", ["route", "code"], registry=registry)
        self._routes = frozenset(routes)
        self._refused = Counter("ctr_refused", "POST /score refused, by reason.", ["reason"], registry=registry)
        degraded = Counter("ctr_scored", "Requests scored, by level of degradation.", ["degraded"], registry=registry)
        self._scored = {level: degraded.labels(level) for level in DEGRADED}
        self._candidates = Histogram(
            "ctr_candidates", "Candidates per scored request.", buckets=_CANDIDATE_EDGES, registry=registry
        )
        self._unknown_items = Counter(
            "ctr_unknown_items", "Candidates whose item was never seen in training.", registry=registry
        )
        self._unknown_users = Counter(
            "ctr_unknown_users", "Scored requests of users never seen in training.", registry=registry
        )
        self._store_errors = Counter("ctr_store_errors", "Reads that the store did not answer.", registry=registry)
        self.events = EventMetrics(registry)
        self.feedback = FeedbackMetrics(registry)
        self.process = ProcessMetrics(registry)
        self.bundles = BundleMetrics(registry, shared=self.shown is not registry)

    def request(self, route: str, code: int) -> None:
        """Count an answered request."""
        self._requests.labels(route if route in self._routes else OTHER_ROUTE, str(code)).inc()

    def refused(self, reason: str) -> None:
        """Count a request that got an error; `reason` is a ServiceError's error_type."""
        self._refused.labels(reason).inc()

    def phases(self, seconds: Mapping[str, float]) -> None:
        """Record the phases of one POST /score."""
        for name, value in seconds.items():
            self._phases[name].observe(value)

    def scored(self, *, degraded: str, candidates: int, unknown_items: int, user_known: bool) -> None:
        """Count one scored request."""
        self._scored[degraded].inc()
        self._candidates.observe(candidates)
        if unknown_items:
            self._unknown_items.inc(unknown_items)
        if not user_known:
            self._unknown_users.inc()
        if degraded == "history":
            self._store_errors.inc()
