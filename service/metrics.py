"""Every metric of the service, in one class over a registry that is passed in. All labels come from closed sets."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.bundle_metrics import BundleMetrics
from service.errors import ServiceError
from service.event_metrics import EventMetrics
from service.feedback_metrics import FeedbackMetrics
from service.process import Place
from service.process_metrics import ProcessMetrics
from service.score_metrics import ScoreMetrics
from service.shared_metrics import merged
from service.store_metrics import StoreMetrics
from service.tally import Tally

PHASES = ("parse", "store", "encode", "queue", "compute", "explain", "render", "total")
OTHER = "other"  # unknown paths, statuses and reasons: a label must not be the caller's to choose
SCORE_ROUTE = "/score"
_CODES = (200, 202, 401, 403, 404, 405, 409, 413, 422, 429, 499, 500, 503, 504)
# Shown from the start: a rate needs the 0 before the 1.
_SCORE_CODES = (200, 401, 403, 405, 413, 422, 429, 499, 500, 503, 504)
_REASONS = (
    *(error.error_type for error in ServiceError.__subclasses__()),
    *("internal_error", "method_not_allowed", OTHER),
)
_PHASE_EDGES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2)


class Metrics:
    """Counts and times what the service does. Label children are made once, so that recording stays cheap."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        slo_s: float,
        routes: tuple[str, ...],
        place: Place | None = None,
    ) -> None:
        """`slo_s` becomes an edge of the time histogram, so that "within the promise" is a bucket, not a guess.

        `place` is this process's among several. `shown` is what /metrics answers with: the merged metrics of all.
        """
        self.registry = registry
        self.shown = registry if place is None else merged(place.metrics)
        edges = sorted({*_PHASE_EDGES, slo_s})
        phase = Histogram(
            "ctr_phase_seconds", "Time per phase of POST /score.", ["phase"], buckets=edges, registry=registry
        )
        self._phases = {name: Tally(phase.labels(name), edges) for name in PHASES}
        self._requests = Counter("ctr_requests", "Requests by route and status.", ["route", "code"], registry=registry)
        self._routes = frozenset(routes)
        self._answered = {(SCORE_ROUTE, code): self._requests.labels(SCORE_ROUTE, str(code)) for code in _SCORE_CODES}
        refused = Counter("ctr_refused", "POST /score refused, by reason.", ["reason"], registry=registry)
        self._refused = {reason: refused.labels(reason) for reason in _REASONS}
        self._misses = Counter(
            "ctr_deadline_misses", "POST /score that was not answered by its deadline.", registry=registry
        )
        self.scores = ScoreMetrics(registry)
        self.store = StoreMetrics(registry)
        self.events = EventMetrics(registry)
        self.feedback = FeedbackMetrics(registry)
        self.process = ProcessMetrics(registry)
        self.bundles = BundleMetrics(registry, shown=self.shown, place=place)

    def request(self, route: str, code: int) -> None:
        """Count an answered request."""
        counter = self._answered.get((route, code))
        if counter is None:
            labels = route if route in self._routes else OTHER, str(code) if code in _CODES else OTHER
            counter = self._requests.labels(*labels)
            if OTHER not in labels:
                self._answered[route, code] = counter
        counter.inc()

    def refused(self, reason: str) -> None:
        """Count a request that got an error; `reason` is a ServiceError's error_type."""
        self._refused.get(reason, self._refused[OTHER]).inc()

    def missed_deadline(self) -> None:
        """Count a request that was answered, or given up, after its deadline."""
        self._misses.inc()

    def phases(self, seconds: Mapping[str, float]) -> None:
        """Record the phases of one POST /score."""
        for name, value in seconds.items():
            self._phases[name].observe(value)

    def show(self) -> None:
        """Show what was recorded since the last time. To be called before /metrics is answered, and now and then."""
        for tally in self._phases.values():
            tally.show()
        self.scores.show()
        self.bundles.pctr.show()
