"""Histograms of pCTR over fixed bins: what a net gave in training, to compare with what it gives in service.

The edges are finest where click rates are: a share of rows below 0.05 says nothing of a net whose scores are around
0.01. They are the same in every bundle, so that histograms of several bundles and processes can be added.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES = (
    *(0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008),
    *(0.01, 0.012, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15),
    *(0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98),
)
BINS = len(EDGES) + 1  # one ends at each edge, and holds it, as in Prometheus; the last ends at 1
_UPPER = np.array([*EDGES, np.inf], dtype=np.float32)  # as scores are: with float64 every array would be converted


def counts_up_to(pctr: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many of `pctr` [N] are at most each edge, and in the last place all of them: [BINS].

    Sorted first, because looking 41 edges up in 500 scores is half the work of looking 500 scores up in 41 edges.
    """
    return np.searchsorted(np.sort(pctr), _UPPER, side="right")


def distribution(pctr: NDArray[np.float32], *, split: str) -> dict[str, Any]:
    """`score_distribution` of a manifest: the split that was scored, edges from 0 to 1, and rows in between."""
    counts = np.diff(counts_up_to(pctr), prepend=0)
    return {"split": split, "edges": [0.0, *EDGES, 1.0], "counts": counts.tolist()}
