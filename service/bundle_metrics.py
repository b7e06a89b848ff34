"""Metrics of the bundle's life: which serve, what was loaded or refused, and how two of them differ."""

from collections.abc import Iterable, Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LoadOutcome = Literal["swapped", "refused"]
ScoredFor = Literal["stable", "canary", "shadow"]
ShadowOutcome = Literal["scored", "dropped", "failed"]
_LOAD_EDGES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_DIFFERENCE_EDGES = (1e-6, 1e-5, 1e-4, 1e-3, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class BundleMetrics:
    """A part of Metrics. Every label comes from a closed set but names and versions, of which at most two serve."""

    def __init__(self, registry: CollectorRegistry, *, shared: bool) -> None:
        """`shared`: other processes show these metrics too, from files that cannot drop a label."""
        self._shared = shared
        self._info = Gauge(
            "ctr_bundle_info",
            "The bundles that serve now.",
            ["name", "version", "role"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._created = Gauge(
            "ctr_bundle_created_timestamp_seconds",
            "When the bundles that serve now were exported.",
            ["name", "version", "role"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._serving: set[tuple[str, str, str]] = set()
        loads = Counter("ctr_bundle_loads", "Bundles loaded, by outcome.", ["outcome"], registry=registry)
        self._loads = _children(loads, ("swapped", "refused"))
        self.load_seconds = Histogram(
            "ctr_bundle_load_seconds",
            "Time to fetch, verify and warm up a bundle that then served.",
            buckets=_LOAD_EDGES,
            registry=registry,
        )
        scored = Counter("ctr_scored_by_role", "Requests scored, by role of the bundle.", ["role"], registry=registry)
        self._scored = _children(scored, ("stable", "canary", "shadow"))
        shadow = Counter("ctr_shadow", "Requests chosen for shadow scoring.", ["outcome"], registry=registry)
        self._shadow = _children(shadow, ("scored", "dropped", "failed"))
        self.shadow_difference = Histogram(
            "ctr_shadow_difference",
            "Difference of pCTR between the bundle that answered and the other, per candidate.",
            buckets=_DIFFERENCE_EDGES,
            registry=registry,
        )

    def serve(self, bundles: Iterable[tuple[str, str, str]]) -> None:
        """Remember what serves now: (name, version, role) each."""
        for gone in self._serving:
            self._info.labels(*gone).set(0)  # where metrics are shared a label stays, and 0 is not shown
        if not self._shared:
            self._info.clear()
        self._serving = set(bundles)
        for labels in self._serving:
            self._info.labels(*labels).set(1)

    def loaded(self, outcome: LoadOutcome) -> None:
        """Count a bundle that was put in service, or refused for the first time."""
        self._loads[outcome].inc()

    def scored(self, role: ScoredFor) -> None:
        """Count a request that a bundle of this role has scored."""
        self._scored[role].inc()

    def shadow(self, outcome: ShadowOutcome) -> None:
        """Count a request that was chosen for shadow scoring."""
        self._shadow[outcome].inc()


def _children(counter: Counter, values: tuple[str, ...]) -> Mapping[str, Counter]:
    return {value: counter.labels(value) for value in values}
