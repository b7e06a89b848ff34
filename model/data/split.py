"""One log into train, valid and test by global time, so that nothing is learned from the future."""

import polars as pl

from model.bundle.errors import ConfigError


def split_by_time(
    frame: pl.DataFrame, timestamp: str, *, valid_fraction: float, test_fraction: float
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Train, valid and test rows, each in the frame's order.

    A border is the time of the first row after it in time order; all rows of that very time go behind the border, so
    equal times never straddle one and the fractions are met up to such ties. Raises ConfigError if a split stays empty.
    """
    times = frame[timestamp].sort()
    rows = len(times)
    shares = (1 - valid_fraction - test_fraction, 1 - test_fraction)
    borders = [times[min(round(rows * share), rows - 1)] if rows else 0 for share in shares]
    at = pl.col(timestamp)
    train = frame.filter(at < borders[0])
    valid = frame.filter((at >= borders[0]) & (at < borders[1]))
    test = frame.filter(at >= borders[1])
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if not len(part):
            found = f"no rows for {name} among {rows} rows at {times.n_unique()} distinct times"
            raise ConfigError(file="the log", key=f"column {timestamp}", found=found, allowed="rows in every split")
    return train, valid, test
