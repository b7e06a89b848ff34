"""How far the scores of now are from those that the net was evaluated with: the population stability index.

    PSI = sum over groups of scores of (found - expected) * ln(found / expected)

`expected` comes from the manifest, `found` from a memory that fades: a request that is n requests old weighs
(1 - 1/WINDOW)^n. Groups hold about a tenth of the validation rows each, the deciles that the usual thresholds (0.1:
look; 0.2: it is another population) are meant for; noise stays far below them.
"""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

WINDOW = 1000  # requests: a request of that age weighs 1/e, and the memory holds that many requests' worth
ENOUGH = 500  # requests' worth: with less, noise could be taken for drift
GROUPS = 11  # at most
_LEAST_GROUP = 0.09  # of the validation rows: a bin ends close to each tenth of them
_LEAST_SHARE = 1e-4  # stands for a group in which nothing was found: the logarithm needs something

Counts = NDArray[np.float64]


class Expected:
    """The distribution in a manifest, by groups of scores."""

    def __init__(self, ends: NDArray[np.float32], shares: Counts) -> None:
        """`shares` [GROUPS] of the rows up to each of `ends` [GROUPS]; where there are fewer groups, ends repeat."""
        self.ends = ends
        self._shares = shares

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Self | None:
        """From `score_distribution` of a manifest; None if it tells nothing: no rows, or all of them in one bin."""
        up_to = np.cumsum(np.asarray(table.get("counts", []), dtype=np.float64))
        edges = table.get("edges", [])[1:]
        if len(edges) != len(up_to) or not up_to[-1:].any():
            return None
        shares, ends, found = up_to / up_to[-1], [], [0.0]
        for edge, share in zip(edges, shares.tolist(), strict=True):
            if share - found[-1] >= _LEAST_GROUP and 1 - share >= _LEAST_GROUP:
                ends.append(edge)
                found.append(share)
        padding = GROUPS - len(ends)
        padded = np.array([*ends, *[np.inf] * padding], dtype=np.float32)
        return cls(padded, np.diff([*found, *[1.0] * padding])) if ends else None

    def psi(self, counts: Counts) -> float:
        """The index of candidates, given as how many have at most each of `ends`; NaN of none."""
        if not counts[-1] > 0:
            return math.nan
        there = self._shares > 0
        found = np.maximum(np.diff(counts, prepend=0.0)[there] / counts[-1], _LEAST_SHARE)
        return float(((found - self._shares[there]) * np.log(found / self._shares[there])).sum())


class Memory:
    """Candidates of the latest requests: how many up to each end of a group, and the requests' worth of them."""

    def __init__(self) -> None:
        self._state: Counts = np.zeros(GROUPS + 1)
        self._requests = 0

    def add(self, counts: NDArray[np.int64], *, requests: int = 1) -> None:
        """Some requests' candidates up to each end [GROUPS]. What was there fades a little."""
        self._state = faded(self._state, requests=requests)
        self._state[:GROUPS] += counts
        self._state[GROUPS] += requests
        self._requests += requests

    def take(self) -> tuple[Counts, int]:
        """What is remembered, and the requests since the last time; it is empty from then on."""
        taken = self._state, self._requests
        self._state, self._requests = np.zeros(GROUPS + 1), 0
        return taken


def faded(state: Counts, *, requests: float) -> Counts:
    """What is remembered of it after so many more requests."""
    left: float = (1 - 1 / WINDOW) ** max(requests, 0.0)
    return state * left
