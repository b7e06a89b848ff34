"""Histograms of pCTR: what a net gave in training, to compare with what it gives in service.

EDGES are the same in every bundle, so that histograms of several bundles and processes can be added; they are finest
where click rates are. A net whose scores are close together may have most of them between two of these, so a bundle's
own histogram ends bins at its twentieths too.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES = (
    *(0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008),
    *(0.01, 0.012, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15),
    *(0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98),
)
_PARTS = 20

Scores = NDArray[np.float32]


def counts_up_to(pctr: Scores, edges: Scores) -> NDArray[np.int64]:
    """How many of `pctr` [N] are at most each of `edges` [E], in any order: [E].

    Sorted first, because looking 50 edges up in 500 scores is half the work of looking 500 scores up in 50 edges.
    """
    return np.searchsorted(np.sort(pctr), edges, side="right")


def distribution(pctr: Scores, *, split: str) -> dict[str, Any]:
    """`score_distribution` of a manifest: the split that was scored, edges from 0 to 1, and rows in between."""
    inner = sorted({*EDGES, *_quantiles(np.sort(pctr))})
    counts = counts_up_to(pctr, np.array([*inner, np.inf], dtype=np.float32))
    return {"split": split, "edges": [0.0, *inner, 1.0], "counts": np.diff(counts, prepend=0).tolist()}


def _quantiles(ordered: Scores) -> list[float]:
    """Where each twentieth of the rows ends: in the middle between two scores, for no rounding to move it past one."""
    ends = (np.arange(1, _PARTS) * len(ordered) + _PARTS - 1) // _PARTS - 1
    following = np.searchsorted(ordered, ordered[ends], side="right")  # the first that is larger
    between = [(ordered[at - 1] + ordered[at]) / 2 for at in following if at < len(ordered)]
    return [float(edge) for edge in between if 0 < edge < 1]
