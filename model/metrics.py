"""The figures of a click model, in numpy. N rows; label 0 or 1; pctr in [0, 1]."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# A pCTR that reached 0 or 1 in float32 would make the log loss infinite; this is what scikit-learn clips to as well.
_EPS = float(np.finfo(np.float32).eps)


def auc(label: Floats, pctr: Floats) -> float:
    """Chance that a random click outranks a random non-click, ties counting half; NaN with one class or a NaN score."""
    order = np.argsort(pctr, kind="stable")
    ranked, clicked = pctr[order], label[order] > 0.5
    clicks = int(clicked.sum())
    if clicks in (0, len(label)) or np.isnan(ranked[-1]):  # NaN sorts last; it would not tie with itself
        return float("nan")
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ends = np.concatenate([starts[1:], [len(ranked)]])
    mean_rank = np.repeat((starts + ends + 1) / 2, ends - starts)  # 1-based; equal scores share their mean rank
    return float((mean_rank[clicked].sum() - clicks * (clicks + 1) / 2) / (clicks * (len(label) - clicks)))


def gauc(label: Floats, pctr: Floats, user: NDArray[np.int64]) -> float:
    """AUC per user, averaged with impression weights; users with one class only are skipped; NaN if all are.

    NaN too if a score is: users whose scores are no numbers must not drop out like those with one class.

    Both choices as in the DIN paper (section 6.3, eq. 6: impressions as weights).
    """
    if np.isnan(pctr).any():
        return float("nan")
    rows, areas = user_auc(label, pctr, np.unique(user, return_inverse=True)[1])
    return float((rows * areas).sum() / rows.sum()) if rows.any() else float("nan")


def user_auc(label: Floats, pctr: Floats, index: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Rows and AUC of each user [U]; both are 0 for a user with one class. `index` [N] counts users from 0."""
    order = np.lexsort((pctr, index))
    user, score, clicked = index[order], pctr[order], label[order] > 0.5
    new = (user[1:] != user[:-1]) | (score[1:] != score[:-1])
    starts = np.flatnonzero(np.concatenate([[True], new]))
    ends = np.concatenate([starts[1:], [len(order)]])
    rows = np.bincount(index)
    first = np.concatenate([[0], np.cumsum(rows)[:-1]])
    mean_rank = np.repeat((starts + ends + 1) / 2, ends - starts) - first[user]  # within the user; ties share theirs
    clicks = np.bincount(user[clicked], minlength=len(rows))
    area = np.bincount(user[clicked], weights=mean_rank[clicked], minlength=len(rows)) - clicks * (clicks + 1) / 2
    pairs = clicks * (rows - clicks)
    return np.where(pairs > 0, rows, 0).astype(np.float64), area / np.maximum(pairs, 1)


def log_loss(label: Floats, pctr: Floats) -> float:
    """Mean negative log likelihood, in nats."""
    return float(row_losses(label, pctr).mean())


def row_losses(label: Floats, pctr: Floats) -> NDArray[np.float64]:
    """Negative log likelihood of each row [N], in nats."""
    p = np.clip(pctr.astype(np.float64), _EPS, 1 - _EPS)
    losses: NDArray[np.float64] = -np.where(label > 0.5, np.log(p), np.log1p(-p))
    return losses


def normalized_entropy(label: Floats, pctr: Floats) -> float:
    """Log loss over that of always predicting the click rate (He et al., ADKDD 2014, section 3); below 1 helps."""
    rate = float(label.mean())
    base = log_loss(label, np.full(len(label), rate))
    return log_loss(label, pctr) / base if 0 < rate < 1 else float("nan")


def pcoc(label: Floats, pctr: Floats) -> float:
    """Predicted over observed clicks: sum of pCTR / number of clicks; 1.0 is calibrated."""
    clicks = float(label.sum())
    return float(pctr.sum(dtype=np.float64)) / clicks if clicks else float("nan")


def ece(label: Floats, pctr: Floats, *, bins: int = 15) -> float:
    """Expected calibration error: mean of |click rate - mean pCTR| over bins, weighted by their rows.

    Guo et al., ICML 2017, equation 3, but with bins of equal number of rows instead of equal width, since the pCTR of a
    click model crowds at one end. Rows of equal pCTR share a bin.
    """
    at = equal_bins(pctr, bins)
    gap = np.bincount(at, weights=label.astype(np.float64) - pctr, minlength=bins)
    return float(np.abs(gap).sum() / len(label))


def equal_bins(pctr: Floats, bins: int) -> NDArray[np.int64]:
    """Bin [N] of each row, 0 to `bins` - 1 in order of pCTR; as equal in rows as equal scores allow."""
    edges = np.unique(np.quantile(pctr, np.arange(1, bins) / bins, method="inverted_cdf"))
    return np.searchsorted(edges, pctr, side="left").astype(np.int64)


def rela_impr(auc_of_net: float, auc_of_base: float) -> float:
    """Relative improvement of AUC over a base net, both above chance: DIN, section 6.3, equation 7.

    (AUC - 0.5) / (AUC of base - 0.5) - 1; NaN where the base ranks no better than chance.
    """
    return (auc_of_net - 0.5) / (auc_of_base - 0.5) - 1 if auc_of_base > 0.5 else float("nan")


def all_metrics(label: Floats, pctr: Floats, user: NDArray[np.int64]) -> dict[str, float]:
    """Every figure of this file by name, with the number of rows and the click rate."""
    return {
        "auc": auc(label, pctr),
        "gauc": gauc(label, pctr, user),
        "log_loss": log_loss(label, pctr),
        "ne": normalized_entropy(label, pctr),
        "pcoc": pcoc(label, pctr),
        "ece": ece(label, pctr),
        "rows": float(len(label)),
        "click_rate": float(label.mean()),
    }
