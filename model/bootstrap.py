"""Confidence intervals by the bootstrap over users.

Impressions of one user are alike, so users are drawn, not rows: each replicate takes as many users as there are, with
replacement, and every row counts as often as its user was drawn (cluster bootstrap; Field and Welsh, JRSS B 2007). N
rows, U users, S replicates.

The draws depend on the seed and the number of users alone. Two nets that scored the same rows therefore see the same
replicates, and the difference of their figures, replicate by replicate, has the interval of a paired comparison.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from model.metrics import equal_bins, row_losses, user_auc

Floats = NDArray[np.floating]
Counts = NDArray[np.float64]
Replicates = dict[str, NDArray[np.float64]]  # metric -> [S]

ECE_BINS = 15


def replicates(
    label: Floats, pctr: Floats, user: NDArray[np.int64], *, samples: int = 200, seed: int = 0
) -> Replicates:
    """AUC, GAUC, log loss, NE, PCOC and ECE of each of `samples` replicates; NaN where a replicate does not have it.

    ECE keeps the bins of the whole sample. Everything but AUC is a ratio of sums over users, so that a replicate costs
    one pass over the users; AUC costs one over the rows, which are sorted once.
    """
    index = np.unique(user, return_inverse=True)[1]
    users = int(index.max(initial=-1)) + 1
    ranked = _Ranked(label, pctr, index)
    sums = _user_sums(label, pctr.astype(np.float64), index)
    found = [{"auc": ranked.auc(counts), **_ratios(counts @ sums)} for counts in _draws(users, samples, seed)]
    return {name: np.array([row[name] for row in found]) for name in found[0]} if found else {}


def interval(values: NDArray[np.float64], *, level: float = 0.95) -> tuple[float, float]:
    """Lower and upper end of the percentile interval; NaN replicates are left out, and two NaN if all are."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draws(users: int, samples: int, seed: int) -> Iterator[Counts]:
    """How often each user was drawn, replicate by replicate."""
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        yield np.bincount(rng.integers(0, users, users), minlength=users).astype(np.float64)


class _Ranked:
    """Rows in order of score, equal scores in one group, so that a weighted AUC is one pass."""

    def __init__(self, label: Floats, pctr: Floats, index: NDArray[np.int64]) -> None:
        order = np.argsort(pctr, kind="stable")
        score = pctr[order]
        self.index, self.clicked = index[order], (label[order] > 0.5).astype(np.float64)
        self.starts = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))

    def auc(self, counts: Counts) -> float:
        """AUC if each row counted as often as its user."""
        weight = counts[self.index]
        clicks = np.add.reduceat(weight * self.clicked, self.starts)
        others = np.add.reduceat(weight * (1 - self.clicked), self.starts)
        below = np.cumsum(others) - others / 2  # of the same score counts half
        pairs = float(clicks.sum() * others.sum())
        return float(clicks @ below) / pairs if pairs else float("nan")


# Columns of the sums over a user's rows; the bins of ECE come after them.
_ROWS, _CLICKS, _PCTR, _LOSS, _RANKED_ROWS, _RANKED_AUC = range(6)


def _user_sums(label: Floats, pctr: Counts, index: NDArray[np.int64]) -> Counts:
    """[U, 6 + ECE_BINS]: what the ratios need of each user."""
    users = int(index.max(initial=-1)) + 1
    rows, clicks, scores, losses = (
        np.bincount(index, weights=weights, minlength=users) for weights in (None, label, pctr, row_losses(label, pctr))
    )
    ranked, areas = user_auc(label, pctr, index)
    gaps = np.bincount(
        index * ECE_BINS + equal_bins(pctr, ECE_BINS), weights=label - pctr, minlength=users * ECE_BINS
    ).reshape(users, ECE_BINS)
    return np.column_stack([rows, clicks, scores, losses, ranked, ranked * areas, gaps])


def _ratios(sums: Counts) -> dict[str, float]:
    rows, clicks = float(sums[_ROWS]), float(sums[_CLICKS])
    rate, loss = clicks / rows, float(sums[_LOSS]) / rows
    entropy = -rate * np.log(rate) - (1 - rate) * np.log1p(-rate) if 0 < rate < 1 else float("nan")
    return {
        "gauc": float(sums[_RANKED_AUC] / sums[_RANKED_ROWS]) if sums[_RANKED_ROWS] else float("nan"),
        "log_loss": loss,
        "ne": loss / float(entropy),
        "pcoc": float(sums[_PCTR]) / clicks if clicks else float("nan"),
        "ece": float(np.abs(sums[_RANKED_AUC + 1 :]).sum()) / rows,
    }
