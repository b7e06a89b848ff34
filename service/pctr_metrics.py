"""Metrics of the scores themselves: their histogram, and how far they are from those of training."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from model.bundle.distribution import EDGES, Scores, counts_up_to
from service.drift import ENOUGH, Expected
from service.process import Place
from service.recent_scores import RecentScores
from service.source import ROLES, Role

_BINS = len(EDGES) + 1
_UPPER = np.array([*EDGES, np.inf], dtype=np.float32)


class PctrMetrics(Collector):
    """A part of Metrics. What is recorded is shown after the next `refresh`: a request costs no look at 41 buckets."""

    def __init__(self, registry: CollectorRegistry, *, shown: CollectorRegistry, place: Place | None) -> None:
        """The index is computed for `shown` when that is asked, from what all processes remember."""
        histogram = Histogram("ctr_pctr", "pCTR of candidates.", ["role"], buckets=EDGES, registry=registry)
        self._histograms = {role: histogram.labels(role) for role in ROLES}
        self._counts = {role: np.zeros(_BINS, dtype=np.int64) for role in ROLES}  # not in the histogram yet
        self._sums = dict.fromkeys(ROLES, 0.0)
        self._recent = RecentScores(place)
        self._expected: dict[Role, Expected | None] = dict.fromkeys(ROLES)
        self._edges: dict[Role, Scores] = dict.fromkeys(ROLES, _UPPER)  # of the histogram, then ends of groups
        self._bundles: dict[Role, object] = dict.fromkeys(ROLES)
        shown.register(self)

    def record(self, role: Role, pctr: Scores) -> None:
        """One request's scores [C]."""
        counts = counts_up_to(pctr, self._edges[role])
        self._counts[role] += counts[:_BINS]
        self._sums[role] += float(np.add.reduce(pctr))
        if len(counts) > _BINS:
            self._recent.add(role, counts[_BINS:])

    def expect(self, role: Role, bundle: object, distribution: Mapping[str, Any]) -> None:
        """What the scores of this role's bundle should look like; another bundle begins anew."""
        if self._bundles[role] != bundle:
            self._bundles[role] = bundle
            self._expected[role] = expected = Expected.read(distribution)
            self._edges[role] = _UPPER if expected is None else np.concatenate([_UPPER, expected.ends])
            self._recent.forget(role)

    def refresh(self) -> None:
        """Show what was recorded."""
        self._recent.refresh()
        for role, up_to in self._counts.items():
            if up_to[-1]:
                _observe(self._histograms[role], np.diff(up_to, prepend=0), total=self._sums[role])
                up_to[:] = 0
                self._sums[role] = 0.0

    def collect(self) -> Iterator[Metric]:
        """The index of each role, for the registry."""
        meaning = "Population stability index of the latest pCTR against the bundle's validation split."
        family = GaugeMetricFamily("ctr_pctr_psi", meaning, labels=["role"])
        for role in ROLES:
            family.add_metric([role], self._psi(role))
        yield family

    def _psi(self, role: Role) -> float:
        expected, (counts, requests) = self._expected[role], self._recent.summed(role)
        return math.nan if expected is None or requests < ENOUGH else expected.psi(counts)


def _observe(histogram: Histogram, counts: NDArray[np.int64], *, total: float) -> None:
    """`observe` for many values at once, which the library lacks: `counts` by bucket, `total` their sum."""
    for bucket, count in zip(histogram._buckets, counts.tolist(), strict=True):
        if count:
            bucket.inc(count)
    histogram._sum.inc(total)
