"""The newest hours of a log, on which nets are judged, and the rows before them, from which one more is learned."""

import dataclasses

import numpy as np
import polars as pl

from model.bundle.errors import ConfigError
from model.data.log import Log


def newest(frame: pl.DataFrame, *, timestamp: str, hours: float) -> pl.DataFrame:
    """The rows of the newest `hours`. Raises ConfigError if there are none at all."""
    if not len(frame):
        raise ConfigError(file="the log", key="test", found="no rows", allowed="rows to judge by")
    return frame.filter(pl.col(timestamp) > _newest(frame, timestamp) - hours * 3600)


def by_newest_hours(log: Log, *, timestamp: str, hours: float, valid_fraction: float, after: int | None = None) -> Log:
    """The log split anew, whatever its splits were: the newest `hours` test, rows spread evenly before them validate.

    Rows up to the time `after` are left out of both. Logged negatives are lost, since only a train split has them.
    Raises ConfigError if a split stays empty.
    """
    names = [n for n in log.train.columns if n in log.valid.columns and n in log.test.columns]
    rows = pl.concat([part.select(names) for part in log.splits().values()]).sort(timestamp, maintain_order=True)
    time, last = pl.col(timestamp), _newest(rows, timestamp)
    earlier = rows.filter((time <= last - hours * 3600) & (time > (-1 if after is None else after)))
    train, valid = spread(earlier, fraction=valid_fraction)
    parts = {"train": train, "valid": valid, "test": rows.filter(time > last - hours * 3600)}
    for name, part in parts.items():
        if not len(part):
            since = "" if after is None else f" later than {after}, up to where the parent was trained"
            allowed = f"rows{since}, before the newest {hours:g} hours"
            found = f"no rows for {name} among {len(rows):,}, of {rows[timestamp][0]} to {last}"
            raise ConfigError(file="the log", key=f"column {timestamp}", found=found, allowed=allowed)
    return dataclasses.replace(log, **parts, bayes_auc=None)


def spread(frame: pl.DataFrame, *, fraction: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows, which are in order of time, without and with a `fraction` of them at even distances.

    The newest rows of one day are those of one time of day, and a calibration fitted on them is wrong at others.
    """
    due = np.floor(np.arange(len(frame) + 1) * fraction)
    taken = pl.Series(np.diff(due) > 0, dtype=pl.Boolean)
    return frame.filter(~taken), frame.filter(taken)


def _newest(frame: pl.DataFrame, timestamp: str) -> int:
    return int(frame[timestamp].max())  # type: ignore[arg-type]  # polars types a max by the column
