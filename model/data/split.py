"""One log into train, valid and test by global time, so that nothing is learned from the future."""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.vocabulary import Ids

_DAY = 86_400  # seconds; any other length would do


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


def time_borders(times: Callable[[], Iterator[Ids]], *, valid_fraction: float, test_fraction: float) -> Ids:
    """The two borders of `split_by_time` for a log whose times come piece by piece, as often as they are asked for.

    Two passes find the very values that sorting would: rows are counted by day, then by second in two of the days.
    Raises ConfigError if a split stays empty.
    """
    days = _counted(times(), lambda piece: piece // _DAY)
    rows = sum(days.values())
    if not rows:
        raise ConfigError(file="the log", key="timestamp", found="no rows", allowed="rows in every split")
    shares = (1 - valid_fraction - test_fraction, 1 - test_fraction)
    ranks = [min(round(rows * share), rows - 1) for share in shares]
    found = [_nth(days, rank) for rank in ranks]
    seconds = _counted(times(), lambda piece: piece[np.isin(piece // _DAY, [day for day, _ in found])])
    exact = [
        _nth({s: n for s, n in seconds.items() if s // _DAY == day}, rank - before)
        for (day, before), rank in zip(found, ranks, strict=True)
    ]
    borders, in_train = [second for second, _ in exact], found[0][1] + exact[0][1]
    if borders[0] == borders[1] or not in_train:
        raise ConfigError(file="the log", key="timestamp", found=f"borders at {borders}", allowed="rows in every split")
    return np.array(borders, dtype=np.int64)


def _counted(pieces: Iterator[Ids], key: Callable[[Ids], Ids]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for piece in pieces:
        values, rows = np.unique(key(piece), return_counts=True)
        counts.update(dict(zip(values.tolist(), rows.tolist(), strict=True)))
    return counts


def _nth(counts: dict[int, int], rank: int) -> tuple[int, int]:
    """The value of the row in place `rank` of the ascending order, from 0, and how many rows have lower values."""
    before = 0
    for value in sorted(counts):
        if before + counts[value] > rank:
            return value, before
        before += counts[value]
    raise ValueError(f"{rank} of {before} rows")
