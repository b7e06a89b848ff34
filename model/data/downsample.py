"""Training on fewer non-clicks, for logs where clicks are rare."""

import numpy as np
import polars as pl


def downsampled(frame: pl.DataFrame, *, label: str, rate: float, rng: np.random.Generator) -> pl.DataFrame:
    """All clicked rows and each other row with probability `rate`, in their order.

    A net trained on them predicts too many clicks; calibration takes that back (He et al., ADKDD 2014, section 6.3).
    """
    if rate == 1.0:
        return frame
    keep = (frame[label].to_numpy() > 0) | (rng.random(len(frame)) < rate)
    return frame.filter(pl.Series(keep))
