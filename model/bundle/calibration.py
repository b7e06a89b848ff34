"""What turns a raw logit into a calibrated pCTR: one increasing, piecewise linear curve from logit to logit.

Every method is that curve, so that the graphs, the native runtime and the report need to know one form only:
`none` is the identity, Platt scaling one straight line, isotonic regression straight lines between its blocks. The
correction for negative downsampling adds a constant before the curve: with negatives kept at rate w, the odds of
p / (p + (1 - p) / w) are w times those of p (He et al., ADKDD 2014, section 6.3), so its logit is the raw one + ln w.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.bundle.typed_table import setting

Method = Literal["none", "platt", "isotonic"]

_SATURATED = 700.0  # exp of more overflows
_FAR = 1e4  # beyond every logit; a line through a knot there goes on with the slope at that end


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The curve through the knots (x, y), with slope `below` the first and `above` the last; the default is none.

    Raises ValueError unless the curve is increasing, so that it never turns the order of two scores around.
    """

    kind: Method = "none"
    x: tuple[float, ...] = (0.0,)  # raw logits, corrected for downsampling
    y: tuple[float, ...] = (0.0,)  # calibrated logits
    below: float = setting(1.0, low=0.0)
    above: float = setting(1.0, low=0.0)
    negative_sampling_rate: float = setting(1.0, low=0.0, high=1.0)  # share of negatives that training saw

    def __post_init__(self) -> None:
        knots = np.array([self.x, self.y]) if len(self.x) == len(self.y) > 0 else np.array([[np.nan]])
        if not (np.isfinite(knots).all() and (np.diff(knots) > 0).all()):
            raise ValueError("calibration: x and y must be finite, of one length, and increasing")
        if not (self.below > 0 and self.above > 0 and self.negative_sampling_rate > 0):
            raise ValueError("calibration: slopes and the sampling rate must be above 0")

    @property
    def identity(self) -> bool:
        """Whether pCTR is the plain sigmoid of the logit."""
        return self.kind == "none" and self.negative_sampling_rate == 1.0

    @property
    def shift(self) -> float:
        """What the correction for negative downsampling adds to a logit; 0 without it."""
        return math.log(self.negative_sampling_rate)

    def logit(self, raw: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated logits of raw ones, any shape."""
        x = [self.x[0] - _FAR, *self.x, self.x[-1] + _FAR]
        y = [self.y[0] - _FAR * self.below, *self.y, self.y[-1] + _FAR * self.above]
        return np.interp(raw.astype(np.float64) + self.shift, x, y)

    def pctr(self, raw: NDArray[np.floating]) -> NDArray[np.float32]:
        """Calibrated pCTR of raw logits, any shape. Equal to the graphs' to float32's precision."""
        scores: NDArray[np.float32] = sigmoid(self.logit(raw)).astype(np.float32)
        return scores


UNCALIBRATED = Calibration()


def sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-logit)), which neither overflows nor warns."""
    scores: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(logit, -_SATURATED, _SATURATED)))
    return scores
