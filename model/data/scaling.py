"""What a dense feature's transform needs to know of the training split."""

import numpy as np
import polars as pl

from model.bundle.dense import Buckets, Fitted, Range, Scaling, signed_log
from model.bundle.errors import ConfigError
from model.bundle.schema import Feature


def fit_scaling(feature: Feature, values: pl.Series) -> Fitted:
    """Fit the feature's transform on its training column; rows without a value are left out.

    Raises ConfigError if no row has one.
    """
    # In ascending order: sums are rounded, and the same numbers in another order must come to the same bits.
    numbers = np.sort(values.drop_nulls().to_numpy())
    if not len(numbers):
        raise ConfigError(
            file="the log", key=f"column {feature.name}", found="no value in train", allowed="one or more"
        )
    match feature.transform:
        case "bucketise":
            # Edges between equally many rows; where one value fills several buckets they are one.
            shares = np.arange(1, feature.buckets) / feature.buckets
            return Buckets(edges=tuple(np.unique(np.quantile(numbers, shares)).tolist()))
        case "none":
            low, high, mean = (float(f(numbers)) for f in (np.min, np.max, np.mean))
            return Range(low=low, high=high, absent=mean)
        case _:
            logged = feature.transform == "log"
            numbers = signed_log(numbers) if logged else numbers
            # Compared by value: rounding can leave a constant column a tiny deviation, and dividing by that magnifies
            # anything.
            constant = numbers.min() == numbers.max()
            std = 1.0 if constant else float(numbers.std())
            return Scaling(mean=float(numbers.mean()), std=std, log=logged)
