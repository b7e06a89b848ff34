"""The figures of a click model, in numpy. N rows; label 0 or 1; pctr in [0, 1]."""

import math

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
    order = np.argsort(user, kind="stable")
    borders = np.flatnonzero(np.diff(user[order])) + 1
    total, weight = 0.0, 0
    for rows in np.split(order, borders):
        value = auc(label[rows], pctr[rows])
        if not math.isnan(value):
            total, weight = total + value * len(rows), weight + len(rows)
    return total / weight if weight else float("nan")


def log_loss(label: Floats, pctr: Floats) -> float:
    """Mean negative log likelihood, in nats."""
    p = np.clip(pctr.astype(np.float64), _EPS, 1 - _EPS)
    return float(-np.mean(np.where(label > 0.5, np.log(p), np.log1p(-p))))


def normalized_entropy(label: Floats, pctr: Floats) -> float:
    """Log loss over that of always predicting the click rate (He et al., ADKDD 2014, section 3); below 1 helps."""
    rate = float(label.mean())
    base = log_loss(label, np.full(len(label), rate))
    return log_loss(label, pctr) / base if 0 < rate < 1 else float("nan")


def pcoc(label: Floats, pctr: Floats) -> float:
    """Predicted over observed clicks: sum of pCTR / number of clicks; 1.0 is calibrated."""
    clicks = float(label.sum())
    return float(pctr.sum(dtype=np.float64)) / clicks if clicks else float("nan")


def all_metrics(label: Floats, pctr: Floats, user: NDArray[np.int64]) -> dict[str, float]:
    """Every figure of this file by name, with the number of rows and the click rate."""
    return {
        "auc": auc(label, pctr),
        "gauc": gauc(label, pctr, user),
        "log_loss": log_loss(label, pctr),
        "ne": normalized_entropy(label, pctr),
        "pcoc": pcoc(label, pctr),
        "rows": float(len(label)),
        "click_rate": float(label.mean()),
    }
