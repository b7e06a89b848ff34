"""Fits the curve from raw logits to calibrated ones on a validation split. N rows."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.bundle.calibration import Calibration, Method, sigmoid

Floats = NDArray[np.floating]
Logits = NDArray[np.float64]

METHODS: tuple[Method, ...] = ("none", "platt", "isotonic")
_BINS, _BIN_ROWS = 24, 100  # of isotonic regression: at most so many blocks, each of at least so many rows
_STEEPEST, _FLATTEST = 8.0, 0.02  # slope; a steeper one would follow noise and magnify rounding, a flatter one ties


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """How pCTR is calibrated on the validation split."""

    method: Method = "platt"


def fit_calibration(
    method: Method, logit: Floats, *, label: Floats, negative_sampling_rate: float = 1.0
) -> Calibration:
    """The curve of `method` for raw logits [N] and labels [N].

    A split of one class, or with a logit that is no number, has nothing to tell: then only the correction for the
    `negative_sampling_rate` of training is left.
    """
    none = Calibration(negative_sampling_rate=negative_sampling_rate)
    raw = logit.astype(np.float64) + none.shift
    if method == "none" or label.min() == label.max() or not np.isfinite(raw).all():
        return none
    slope, bias = platt(raw, label)
    line = replace(none, kind="platt", y=(bias,), below=slope, above=slope)
    if method == "platt":
        return line
    x, y = isotonic(raw, label)
    return replace(line, kind="isotonic", x=tuple(x.tolist()), y=tuple(y.tolist()))


def cross_fitted(method: Method, logit: Floats, *, label: Floats, user: NDArray[np.int64], rate: float) -> Floats:
    """Calibrated pCTR [N]: the users are cut in two halves, and each is scored by the curve fitted on the other.

    What the method does on rows that it has not seen, without touching the test split. `rate` is that of the negatives.
    """
    half = np.unique(user, return_inverse=True)[1] % 2 == 0
    pctr = np.empty(len(logit), dtype=np.float32)
    for one, other in ((half, ~half), (~half, half)):
        if other.any() and one.any():
            curve = fit_calibration(method, logit[one], label=label[one], negative_sampling_rate=rate)
        else:
            curve = Calibration(negative_sampling_rate=rate)
        pctr[other] = curve.pctr(logit[other])
    return pctr


def platt(logit: Logits, label: Floats) -> tuple[float, float]:
    """Slope and bias of the logistic regression of clicks on the logit, slope above 0, by Newton's method.

    The targets are Platt's (1999, section 2.2), a little inside 0 and 1, so that separable rows have an answer too.
    """
    clicks = float(label.sum())
    target = np.where(label > 0.5, (clicks + 1) / (clicks + 2), 1 / (len(label) - clicks + 2))
    center, scale = float(logit.mean()), float(logit.std()) or 1.0
    z = np.stack([(logit - center) / scale, np.ones_like(logit)], axis=1)
    rate = float(target.mean())
    weight = _newton(z, target, np.array([0.0, np.log(rate / (1 - rate))]))
    slope = max(float(weight[0]) / scale, _FLATTEST)
    return slope, float(weight[1]) - slope * center


def isotonic(logit: Logits, label: Floats) -> tuple[Logits, Logits]:
    """Knots of the isotonic regression of clicks on the logit: mean logit and logit of the click rate per block.

    Rows are put into bins of equal number first, at most 24, and pooled where the rate falls (the pool-adjacent-
    violators algorithm) or rises too steeply. Both arrays strictly increase. Between knots the curve is linear: a
    step would tie scores that the net tells apart, and AUC would fall.
    """
    bins = max(min(_BINS, len(logit) // _BIN_ROWS), 1)
    edges = np.unique(np.quantile(logit, np.linspace(0, 1, bins + 1)[1:-1]))
    at = np.searchsorted(edges, logit, side="right")
    rows, x, clicks = (np.bincount(at, weights=w, minlength=len(edges) + 1) for w in (None, logit, label))
    used = rows > 0
    return _pooled(rows[used].astype(np.float64), x[used] / rows[used], (clicks[used] + 0.5) / (rows[used] + 1))


def _pooled(rows: Logits, x: Logits, rate: Logits) -> tuple[Logits, Logits]:
    blocks: list[list[float]] = []
    for block in zip(rows.tolist(), x.tolist(), rate.tolist(), strict=True):
        blocks.append(list(block))
        while len(blocks) > 1 and _violates(blocks[-2], blocks[-1]):
            (n, a, p), (m, b, q) = blocks[-2:]
            blocks[-2:] = [[n + m, (n * a + m * b) / (n + m), (n * p + m * q) / (n + m)]]
    _, at, rates = np.array(blocks).T
    return at, np.log(rates / (1 - rates))


def _violates(before: list[float], after: list[float]) -> bool:
    (_, a, p), (_, b, q) = before, after
    rise = float(np.log(q / (1 - q)) - np.log(p / (1 - p)))
    return not _FLATTEST * (b - a) < rise < _STEEPEST * (b - a)


def _newton(z: Logits, target: Logits, start: Logits) -> Logits:
    """Weights that minimise the log loss of sigmoid(z @ weight) against `target`; z is [N, 2]."""

    def loss(weight: Logits) -> float:
        logit = z @ weight
        return float(np.mean(np.logaddexp(0, logit) - target * logit))

    weight = start
    for _ in range(50):
        p = sigmoid(z @ weight)
        gradient = z.T @ (p - target) / len(z)
        hessian = (z * (p * (1 - p))[:, None]).T @ z / len(z) + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(weight - step) > loss(weight) and np.abs(step).max() > 1e-12:
            step = step / 2
        weight = weight - step
        if np.abs(step).max() < 1e-10:
            break
    return weight
