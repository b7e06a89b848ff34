"""How far the scores of now are from those that the net was evaluated with: the population stability index.

    PSI = sum over groups of scores of (found - expected) * ln(found / expected)

`expected` comes from the manifest, `found` from a memory that fades: a request that is n requests old weighs
(1 - 1/WINDOW)^n. Groups hold at least a tenth of the validation rows each: about the deciles that the usual
thresholds (0.1: look; 0.2: it is another population) are meant for, and enough rows for noise to stay far below them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from model.bundle.distribution import BINS, EDGES

WINDOW = 1000  # requests: a request of that age weighs 1/e, and the memory holds that many requests' worth
ENOUGH = 500  # requests' worth: with less, noise could be taken for drift
_LEAST_GROUP = 0.1  # of the validation rows
_LEAST_SHARE = 1e-4  # stands for a group in which nothing was found: the logarithm needs something

Counts = NDArray[np.float64]  # [BINS] candidates up to each edge, as `counts_up_to` has them


class Expected:
    """The distribution in a manifest, by groups of bins."""

    def __init__(self, ends: Sequence[int], shares: Counts) -> None:
        """`ends` [G - 1]: the edge that each group but the last ends at. `shares` [G] of each group, above 0."""
        self._ends = [*ends, BINS - 1]
        self._shares = shares

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Self | None:
        """From `score_distribution` of a manifest; None if it tells nothing: no rows, or all of them in one group.

        Edges may be others than ours: groups end at edges that both have.
        """
        rows = np.cumsum(np.asarray(table.get("counts", []), dtype=np.float64))
        edges = table.get("edges", [])[1:]
        if len(edges) != len(rows) or not rows[-1:].any():
            return None
        up_to = dict(zip(edges, rows.tolist(), strict=True))
        least = rows[-1] * _LEAST_GROUP
        ends, below = [], [0.0]
        for place, edge in enumerate(EDGES):
            found = up_to.get(edge, 0.0)
            if found - below[-1] >= least and rows[-1] - found >= least:
                ends.append(place)
                below.append(found)
        return cls(ends, np.diff([*below, rows[-1]]) / rows[-1]) if ends else None

    def psi(self, counts: Counts) -> float:
        """The index of these candidates; NaN of none."""
        if not counts[-1] > 0:
            return math.nan
        found = np.maximum(np.diff(counts[self._ends], prepend=0.0) / counts[-1], _LEAST_SHARE)
        return float(((found - self._shares) * np.log(found / self._shares)).sum())


class Memory:
    """Candidates of the latest requests: [BINS] up to each edge, and in the last place the requests' worth of them."""

    def __init__(self) -> None:
        self._state: NDArray[np.float64] = np.zeros(BINS + 1)
        self._requests = 0

    def add(self, counts: NDArray[np.int64]) -> None:
        """One request's candidates up to each edge [BINS]. What was there fades a little."""
        self._state *= 1 - 1 / WINDOW
        self._state[:BINS] += counts
        self._state[BINS] += 1
        self._requests += 1

    def take(self) -> tuple[NDArray[np.float64], int]:
        """What is remembered, and the requests since the last time; it is empty from then on."""
        taken = self._state, self._requests
        self._state, self._requests = np.zeros(BINS + 1), 0
        return taken


def faded(state: NDArray[np.float64], *, requests: float) -> NDArray[np.float64]:
    """What is remembered of it after so many more requests."""
    left: float = (1 - 1 / WINDOW) ** max(requests, 0.0)
    return state * left
