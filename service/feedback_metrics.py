"""Metrics of what callers report back, of the feature log, and of items that are newer than the bundle."""

from collections.abc import Mapping
from typing import Literal

from prometheus_client import CollectorRegistry, Counter

Role = Literal["stable", "canary", "other"]
FeedbackOutcome = Literal["accepted", "duplicate", "rejected"]
LineOutcome = Literal["written", "dropped", "failed"]
ItemOutcome = Literal["cached", "found", "missing", "failed"]


class FeedbackMetrics:
    """A part of Metrics. Only counters: they stay right when several processes are summed, and rates divide them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        roles = ("stable", "canary", "other")
        impressions = Counter(
            "ctr_feedback_impressions", "Impressions in POST /feedback, by bundle.", ["role"], registry=registry
        )
        self._impressions = _children(impressions, roles)
        clicks = Counter("ctr_feedback_clicks", "Clicks among them.", ["role"], registry=registry)
        self._clicks = _children(clicks, roles)
        pctr = Counter("ctr_feedback_pctr", "Sum of their pCTR.", ["role"], registry=registry)
        self._pctr = _children(pctr, roles)
        feedback = Counter("ctr_feedback", "Requests reported in POST /feedback.", ["outcome"], registry=registry)
        self._feedback = _children(feedback, ("accepted", "duplicate", "rejected"))
        lines = Counter("ctr_feature_log_lines", "Lines for the feature log.", ["outcome"], registry=registry)
        self._lines = _children(lines, ("written", "dropped", "failed"))
        items = Counter(
            "ctr_new_items", "Candidates that the bundle's catalogue lacks, looked up.", ["outcome"], registry=registry
        )
        self._items = _children(items, ("cached", "found", "missing", "failed"))

    def impressions(self, role: Role, *, count: int, clicks: int, pctr: float) -> None:
        """Count the impressions of one request; sum of `pctr` over clicks is predicted over observed."""
        self._impressions[role].inc(count)
        self._clicks[role].inc(clicks)
        self._pctr[role].inc(pctr)

    def feedback(self, outcome: FeedbackOutcome, count: int = 1) -> None:
        """Count reported requests."""
        self._feedback[outcome].inc(count)

    def lines(self, outcome: LineOutcome, count: int = 1) -> None:
        """Count lines of the feature log."""
        self._lines[outcome].inc(count)

    def items(self, outcome: ItemOutcome, count: int) -> None:
        """Count candidates that the bundle does not know."""
        self._items[outcome].inc(count)


def _children(counter: Counter, values: tuple[str, ...]) -> Mapping[str, Counter]:
    return {value: counter.labels(value) for value in values}
