"""A load of one size, and what came of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from service.bench.answers import KINDS, Answer, Kind, percentile_ms


@dataclass(frozen=True, kw_only=True)
class Point(ABC):
    """A load of one size for some seconds, and what it cost the server."""

    candidates: int
    seconds: float
    cpu_s: float = 0.0
    rss_mb: float = 0.0

    @property
    @abstractmethod
    def counts(self) -> Mapping[Kind, int]:
        """Answers by kind."""

    @property
    def per_s(self) -> float:
        """Candidates that got full scores, per second."""
        return self.counts["ok"] * self.candidates / self.seconds

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds of the server's processes per 1,000 candidates scored."""
        return self.cpu_s / (self.counts["ok"] * self.candidates / 1000) if self.counts["ok"] else 0.0


@dataclass(frozen=True, kw_only=True)
class ClosedPoint(Point):
    """A closed loop: so many connections, each sending its next request when it has its answer."""

    connections: int
    answered: dict[Kind, int]
    p50_ms: float  # of all answers, refusals included: wrk does not tell them apart
    p99_ms: float

    @property
    def counts(self) -> Mapping[Kind, int]:
        """Answers by kind."""
        return self.answered


@dataclass(frozen=True, kw_only=True)
class OpenPoint(Point):
    """An open loop: requests come when they come, whether or not earlier ones are answered."""

    rate: float  # requests per second
    answers: list[Answer]
    share: float = 0.0  # of the capacity

    @property
    def counts(self) -> Mapping[Kind, int]:
        """Answers by kind."""
        return {kind: sum(a.kind == kind for a in self.answers) for kind in KINDS}

    def percentile_ms(self, kind: Kind, percent: float) -> float | None:
        """Latency of the answers of a kind; None if there are none."""
        return percentile_ms([a.latency_s for a in self.answers if a.kind == kind], percent)
