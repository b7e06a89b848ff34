"""Metrics of the scores themselves: their histogram, and how far they are from those of training."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from model.bundle.distribution import EDGES, Scores, counts_up_to
from service.drift import ENOUGH, Expected
from service.process import Place
from service.recent_scores import RecentScores
from service.source import ROLES, Role
from service.tally import Tally

_TOGETHER = 16  # requests: what is cold in the processor's caches by then is paid for once
_BINS = len(EDGES) + 1
_UPPER = np.array([*EDGES, np.inf], dtype=np.float32)


class PctrMetrics(Collector):
    """A part of Metrics. Scores of some requests are counted together, and shown after the next `show`."""

    def __init__(self, registry: CollectorRegistry, *, shown: CollectorRegistry, place: Place | None) -> None:
        """The index is computed for `shown` when that is asked, from what all processes remember."""
        histogram = Histogram("ctr_pctr", "pCTR of candidates.", ["role"], buckets=EDGES, registry=registry)
        self._tallies = {role: Tally(histogram.labels(role), EDGES) for role in ROLES}
        self._waiting: dict[Role, list[Scores]] = {role: [] for role in ROLES}  # not counted yet
        self._recent = RecentScores(place)
        self._expected: dict[Role, Expected | None] = dict.fromkeys(ROLES)
        self._edges: dict[Role, Scores] = dict.fromkeys(ROLES, _UPPER)  # of the histogram, then ends of groups
        self._bundles: dict[Role, object] = dict.fromkeys(ROLES)
        shown.register(self)

    def record(self, role: Role, pctr: Scores) -> None:
        """One request's scores [C]."""
        waiting = self._waiting[role]
        waiting.append(pctr)
        if len(waiting) == _TOGETHER:
            self._count(role)

    def expect(self, role: Role, bundle: object, distribution: Mapping[str, Any]) -> None:
        """What the scores of this role's bundle should look like; another bundle begins anew."""
        if self._bundles[role] != bundle:
            self._count(role)
            self._bundles[role] = bundle
            self._expected[role] = expected = Expected.read(distribution)
            self._edges[role] = _UPPER if expected is None else np.concatenate([_UPPER, expected.ends])
            self._recent.forget(role)

    def show(self) -> None:
        """Show what was recorded."""
        for role, tally in self._tallies.items():
            self._count(role)
            tally.show()
        self._recent.refresh()

    def collect(self) -> Iterator[Metric]:
        """The index of each role, for the registry."""
        meaning = "Population stability index of the latest pCTR against the bundle's validation split."
        family = GaugeMetricFamily("ctr_pctr_psi", meaning, labels=["role"])
        for role in ROLES:
            family.add_metric([role], self._psi(role))
        yield family

    def _count(self, role: Role) -> None:
        waiting = self._waiting[role]
        if not waiting:
            return
        pctr = np.concatenate(waiting)
        counts = counts_up_to(pctr, self._edges[role])
        self._tallies[role].add(np.diff(counts[:_BINS], prepend=0).tolist(), total=float(pctr.sum(dtype=np.float64)))
        if len(counts) > _BINS:
            self._recent.add(role, counts[_BINS:], requests=len(waiting))
        waiting.clear()

    def _psi(self, role: Role) -> float:
        expected, (counts, requests) = self._expected[role], self._recent.summed(role)
        return math.nan if expected is None or requests < ENOUGH else expected.psi(counts)
