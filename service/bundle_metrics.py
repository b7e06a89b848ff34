"""Metrics of the bundle's life: which serve, what was loaded or refused, and how two of them differ."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from model.bundle.manifest import Manifest
from service.pctr_metrics import PctrMetrics
from service.process import Place
from service.source import ROLES, Role

LoadOutcome = Literal["swapped", "refused"]
ScoredFor = Literal["stable", "canary", "shadow"]
ShadowOutcome = Literal["scored", "dropped", "failed"]
_LOAD_EDGES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_DIFFERENCE_EDGES = (1e-6, 1e-5, 1e-4, 1e-3, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """A bundle that serves."""

    name: str
    version: str
    role: Role
    created: int | None = None  # seconds since the epoch
    score_distribution: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, *, role: Role) -> Self:
        """What its manifest says."""
        return cls(
            name=manifest.name,
            version=manifest.version,
            role=role,
            created=manifest.created,
            score_distribution=manifest.score_distribution,
        )

    @property
    def labels(self) -> tuple[str, str, str]:
        """In the order that the metrics have them."""
        return self.name, self.version, self.role


class BundleMetrics:
    """A part of Metrics. Every label comes from a closed set but names and versions, of which at most two serve."""

    def __init__(self, registry: CollectorRegistry, *, shown: CollectorRegistry, place: Place | None) -> None:
        """At a place among several, other processes show these metrics too, from files that cannot drop a label."""
        self._shared = place is not None
        self.pctr = PctrMetrics(registry, shown=shown, place=place)
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

    def serve(self, bundles: Iterable[BundleFacts]) -> None:
        """Remember what serves now."""
        for gauge in (self._info, self._created):
            for gone in self._serving:
                gauge.labels(*gone).set(0)  # where metrics are shared a label stays, and 0 is not shown
            if not self._shared:
                gauge.clear()
        serving = {bundle.role: bundle for bundle in bundles}
        self._serving = {bundle.labels for bundle in serving.values()}
        for bundle in serving.values():
            self._info.labels(*bundle.labels).set(1)
            if bundle.created is not None:
                self._created.labels(*bundle.labels).set(bundle.created)
        for role in ROLES:
            found = serving.get(role)
            self.pctr.expect(role, found, found.score_distribution if found else {})

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
