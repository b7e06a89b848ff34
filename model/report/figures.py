"""Every figure of one split from its scores, as plain JSON values: with intervals, by history length, by activity.

Nothing here depends on time or machine, and numbers are rounded to 6 decimals, so equal runs give equal reports.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bootstrap import Replicates, interval, replicates
from model.bundle.calibration import UNCALIBRATED, Calibration
from model.metrics import all_metrics, equal_bins, rela_impr
from model.predictions import Predictions

SAMPLES = 200  # of the bootstrap
METRICS = ("auc", "gauc", "log_loss", "ne", "pcoc", "ece", "rela_impr")
CALIBRATED = ("log_loss", "ne", "pcoc", "ece")  # what calibration changes; it leaves AUC and GAUC alone
# Lowest value of each bucket; the last one has no end.
HISTORY_BUCKETS = (0, 1, 3, 6, 11, 21, 51)
ACTIVITY_BUCKETS = (0, 1, 6, 21, 51, 201)
_CURVE_POINTS, _CURVE_BINS, _SCORE_BINS = 101, 15, 20

Table = dict[str, Any]  # JSON


def split_figures(
    rows: Predictions, calibration: Calibration, *, base: "Scores | None" = None, samples: int = SAMPLES
) -> Table:
    """The figures of a split; `base` adds RelaImpr and must have scored the same rows."""
    scores = Scores(rows, calibration)
    before = scores.with_calibration(UNCALIBRATED)
    return {
        "rows": len(rows),
        "users": len(np.unique(rows.user)),
        "click_rate": rounded(rows.label.mean()),
        "fingerprint": rows.fingerprint,
        "metrics": measured(scores, base=base, samples=samples),
        "before_calibration": {name: rounded(before.metrics()[name]) for name in CALIBRATED},
        "by_history_length": _by_bucket(scores, HISTORY_BUCKETS, at=rows.length, base=base, samples=samples),
        "by_activity": _by_bucket(scores, ACTIVITY_BUCKETS, at=rows.activity, base=base, samples=samples),
        "roc": _roc(rows.label, scores.pctr),
        "calibration_curve": {"before": _curve(rows.label, before.pctr), "after": _curve(rows.label, scores.pctr)},
        "score_distribution": score_distribution(rows.label, scores.pctr),
    }


class Scores:
    """Rows with their calibrated pCTR [N]."""

    def __init__(self, rows: Predictions, calibration: Calibration) -> None:
        self.rows, self.calibration = rows, calibration
        self.pctr = calibration.pctr(rows.logit)

    def with_calibration(self, calibration: Calibration) -> "Scores":
        """The same rows by another curve."""
        return Scores(self.rows, calibration)

    def take(self, mask: NDArray[np.bool_]) -> "Scores":
        """Some of the rows."""
        return Scores(self.rows.take(mask), self.calibration)

    def metrics(self) -> dict[str, float]:
        """Every figure without its interval."""
        return all_metrics(self.rows.label, self.pctr, self.rows.user)

    def replicates(self, samples: int) -> Replicates:
        """Every figure of every bootstrap replicate."""
        return replicates(self.rows.label, self.pctr, self.rows.user, samples=samples)


def measured(scores: Scores, *, base: Scores | None = None, samples: int = SAMPLES) -> Table:
    """Metric -> `{"value", "low", "high"}`, the interval at 95 %; RelaImpr only with a `base`."""
    values, drawn = scores.metrics(), scores.replicates(samples)
    if base is not None:
        values["rela_impr"] = rela_impr(values["auc"], base.metrics()["auc"])
        pairs = zip(drawn["auc"], base.replicates(samples)["auc"], strict=True)
        drawn["rela_impr"] = np.array([rela_impr(float(ours), float(theirs)) for ours, theirs in pairs])
    return {name: estimate(values[name], drawn[name]) for name in METRICS if name in values}


def estimate(value: float, drawn: NDArray[np.float64]) -> Table:
    """A figure with its 95 % interval, moved by the bias that the bootstrap shows.

    Most figures have next to none, but resampling raises ECE, whose interval would lie above it.
    """
    known = drawn[np.isfinite(drawn)]
    bias = float(known.mean()) - value if len(known) else 0.0
    low, high = (end - bias for end in interval(known))
    if len(known) and known.min() >= 0:  # what cannot be negative has no negative end
        low = max(low, 0.0)
    return {"value": rounded(value), "low": rounded(low), "high": rounded(high)}


def rounded(value: float) -> float | None:
    """6 decimals; None for what is no number, since JSON has no NaN."""
    return round(float(value), 6) if math.isfinite(value) else None


def score_distribution(label: NDArray[np.float32], pctr: NDArray[np.float32]) -> Table:
    """Histogram of pCTR over [0, 1], for clicked rows and for the others."""
    edges = np.linspace(0, 1, _SCORE_BINS + 1)
    counted = {
        name: np.histogram(pctr[label > 0.5] if clicked else pctr[label <= 0.5], bins=edges)[0].tolist()
        for name, clicked in (("clicked", True), ("not_clicked", False))
    }
    return {"edges": np.round(edges, 6).tolist(), **counted}


def bucket_name(lowest: int, following: int | None) -> str:
    """`3` to `5`, `51` and more, or the one value that there is."""
    if following is None:
        return f"{lowest}+"
    return str(lowest) if following == lowest + 1 else f"{lowest}-{following - 1}"


def _by_bucket(
    scores: Scores, lowest: tuple[int, ...], *, at: NDArray[np.int64], base: Scores | None, samples: int
) -> list[Table]:
    place = np.searchsorted(np.array(lowest), at, side="right") - 1
    found = []
    for i, following in enumerate([*lowest[1:], None]):
        mask = place == i
        if mask.any():
            part = scores.take(mask)
            figures = measured(part, base=base.take(mask) if base else None, samples=samples)
            users = len(np.unique(part.rows.user))
            found.append(
                {"bucket": bucket_name(lowest[i], following), "rows": int(mask.sum()), "users": users, **figures}
            )
    return found


def _roc(label: NDArray[np.float32], pctr: NDArray[np.float32]) -> Mapping[str, list[float]]:
    """True and false positive rate, at evenly spaced false positive rates."""
    order = np.argsort(-pctr, kind="stable")
    last_of_equals = np.append(np.flatnonzero(np.diff(pctr[order])), len(order) - 1)
    clicks, rows = np.cumsum(label[order], dtype=np.float64)[last_of_equals], last_of_equals + 1.0
    tpr = np.concatenate([[0], clicks / max(clicks[-1], 1)])
    fpr = np.concatenate([[0], (rows - clicks) / max(rows[-1] - clicks[-1], 1)])
    at = np.linspace(0, 1, _CURVE_POINTS)
    return {"fpr": np.round(at, 6).tolist(), "tpr": np.round(np.interp(at, fpr, tpr), 6).tolist()}


def _curve(label: NDArray[np.float32], pctr: NDArray[np.float32]) -> list[Table]:
    """Mean pCTR against click rate in bins of equal number of rows."""
    at = equal_bins(pctr, _CURVE_BINS)
    return [
        {"pctr": rounded(pctr[at == b].mean()), "click_rate": rounded(label[at == b].mean()), "rows": int(n)}
        for b, n in enumerate(np.bincount(at))
        if n
    ]
