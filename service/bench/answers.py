"""How an answer counts, the same for every load generator."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["ok", "degraded", "refused", "late", "other", "lost"]
# ok: 200 with full scores. degraded: 200 with less. refused: 429. late: 504. other: any other status. lost: no answer.
KINDS: tuple[Kind, ...] = ("ok", "degraded", "refused", "late", "other", "lost")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One request of an open loop. Times are seconds; `intended_s` counts from the start of the load."""

    index: int
    intended_s: float
    latency_s: float  # from the intended time of sending until the last byte
    kind: Kind
    behind_s: float = 0.0  # how late the generator itself was; part of `latency_s`


def kind_of(status: int, body: bytes) -> Kind:
    """The kind of an answer. Only an answer that names its `degraded` level can be degraded."""
    match status:
        case 200:
            return "degraded" if b'"degraded":"' in body and b'"degraded":"none"' not in body else "ok"
        case 429:
            return "refused"
        case 504:
            return "late"
        case _:
            return "other"


def percentile_ms(seconds: list[float] | NDArray[np.float64], percent: float) -> float | None:
    """A percentile of times in seconds, as milliseconds; None of nothing."""
    return float(np.percentile(seconds, percent)) * 1e3 if len(seconds) else None
