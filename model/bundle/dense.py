"""What training learned about the numbers of each dense feature, applied: the same code in training and in serving.

standardise   (x - mean) / std, cut off at -10 and 10
log           the same of sign(x) log(1 + |x|)
none          x, cut off at the lowest and highest of the training split
bucketise     the number of edges at or below x, as an index into an embedding table
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle.schema import FIRST_ID, UNKNOWN, Feature

Numbers = NDArray[np.float64]

# Standardised values beyond this are outliers or nonsense; clipping keeps one of them from saturating every score.
_DENSE_CLIP = 10.0


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Mean and standard deviation of a dense feature, or of its logarithm, over the training split."""

    mean: float
    std: float
    log: bool = False
    absent = 0.0  # the mean

    def apply(self, numbers: Numbers) -> Numbers:
        """Standardised values [N]."""
        with np.errstate(over="ignore"):  # what overflows becomes infinite and is clipped as any outlier is
            scaled = ((signed_log(numbers) if self.log else numbers) - self.mean) / self.std
            return np.clip(scaled, -_DENSE_CLIP, _DENSE_CLIP, out=scaled)

    def to_array(self) -> Numbers:
        """As a bundle keeps it."""
        return np.array([self.mean, self.std])


@dataclass(frozen=True, kw_only=True)
class Range:
    """Lowest, highest and mean value of a dense feature over the training split; values are taken as they are."""

    low: float
    high: float
    absent: float  # the mean

    def apply(self, numbers: Numbers) -> Numbers:
        """The values [N], those beyond the training range cut off."""
        return np.clip(numbers, self.low, self.high)

    def to_array(self) -> Numbers:
        """As a bundle keeps it."""
        return np.array([self.low, self.high, self.absent])


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Ascending edges: bucket i holds the values from edge i - 1 up to, but without, edge i."""

    edges: tuple[float, ...]
    absent = UNKNOWN

    def __len__(self) -> int:
        """Rows that an embedding table for the buckets needs, padding and unknown included."""
        return len(self.edges) + 1 + FIRST_ID

    def apply(self, numbers: Numbers) -> NDArray[np.int64]:
        """Embedding index [N] of each value."""
        return np.searchsorted(np.array(self.edges), numbers, side="right") + FIRST_ID

    def to_array(self) -> Numbers:
        """As a bundle keeps it."""
        return np.array(self.edges, dtype=np.float64)


Fitted = Scaling | Range | Buckets


def fitted_from_array(feature: Feature, array: NDArray[np.generic]) -> Fitted:
    """The inverse of `to_array`. Raises ValueError if the array is not what the feature's transform needs."""
    numbers = array.astype(np.float64).tolist()
    match feature.transform:
        case "bucketise":
            return Buckets(edges=tuple(numbers))
        case "none":
            low, high, mean = numbers
            return Range(low=low, high=high, absent=mean)
        case _:
            mean, std = numbers
            return Scaling(mean=mean, std=std, log=feature.transform == "log")


def absent_value(feature: Feature, fitted: Fitted) -> float:
    """What stands for a number that is not given: the declared one, encoded, or the training mean."""
    if feature.missing is None:
        return fitted.absent
    return float(fitted.apply(np.array([feature.missing]))[0])


def signed_log(numbers: Numbers) -> Numbers:
    """sign(x) log(1 + |x|): the logarithm of large values, the value itself of small ones, defined everywhere."""
    return np.sign(numbers) * np.log1p(np.abs(numbers))
