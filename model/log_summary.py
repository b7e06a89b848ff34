"""What a log is and what was read of it, as `ctr-model prepare` prints it."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from rich.table import Table

from model.bundle.schema import Schema
from model.bundle.vocabulary import Ids
from model.data.columns import history_columns
from model.data.reading import Reading
from model.data.sharded_log import ShardedLog
from model.log_facts import AnyLog
from model.report.assessment import summary

_QUANTILES = {"min": 0.0, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}


def summary_table(log: AnyLog, schema: Schema) -> Table:
    """Time range and lengths of the histories of each split; items and behaviors of the log."""
    items, behaviors = _sizes(log)
    title = f"{items:,} items, {behaviors:,} behaviors"
    table = Table("split", "from", "to", "history lengths: " + ", ".join(_QUANTILES), "no history", title=title)
    for name, told in summary(log, schema).items():
        rows = np.cumsum(_rows_by_length(log, name, schema))
        lengths = np.searchsorted(rows, [round(q * (rows[-1] - 1)) + 1 for q in _QUANTILES.values()])
        quantiles = ", ".join(map(str, lengths))
        table.add_row(name, _day(told["first"]), _day(told["last"]), quantiles, f"{rows[0] / rows[-1]:.1%}")
    return table


def reading_lines(reading: Reading, *, seconds: float | None = None) -> list[str]:
    """What was read, what of it was malformed with the first few lines, and what was left out and why.

    With `seconds`, how many lines a second that was.
    """
    said = []
    if reading.lines:
        files = "1 file" if len(reading.files) == 1 else f"{len(reading.files)} files"
        pace = f", {reading.lines / max(seconds, 1e-9):,.0f} lines/s" if seconds else ""
        said.append(f"read {reading.lines:,} lines of {files}{pace}")
    for file, read in reading.files.items():
        if read.malformed:
            said.append(f"{file}: {read.malformed:,} of {read.lines:,} lines are malformed and left out")
            said += [f"  line {number}: {text!r}" for number, text in read.examples]
    said += [f"left out: {rows:,} x {why}" for why, rows in reading.left_out.most_common()]
    return said


def _sizes(log: AnyLog) -> tuple[int, int]:
    """Items of the catalogue, and behaviors."""
    if isinstance(log, ShardedLog):
        files = (pl.scan_parquet(log.folder / name) for name in ("items.parquet", "behaviors.parquet"))
        items, behaviors = (int(file.select(pl.len()).collect().item()) for file in files)
        return items, behaviors
    return len(log.items), len(log.behaviors)


def _rows_by_length(log: AnyLog, split: str, schema: Schema) -> Ids:
    """[longest history + 1] rows whose history is so long; of a log in shards one shard at a time."""
    if isinstance(log, ShardedLog):
        shards = log.shards(split)
        counts = [np.bincount(shards.column("lengths", [cut]).astype(np.int64)) for cut in shards.whole()]
    else:
        part, column = log.splits()[split], history_columns(schema).get(schema.keys.item)
        counts = [np.bincount(part[column].list.len().to_numpy().astype(np.int64)) if column else np.array([len(part)])]
    total = np.zeros(max(map(len, counts)), dtype=np.int64)
    for count in counts:
        total[: len(count)] += count
    return total


def _day(seconds: object) -> str:
    """Seconds since the epoch as a date and time in UTC; where no calendar has them, such as milliseconds, so told."""
    try:
        return datetime.fromtimestamp(int(str(seconds)), UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return f"no date: {seconds}"
