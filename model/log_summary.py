"""What a log is and what was read of it, as `ctr-model prepare` prints it."""

from datetime import UTC, datetime

import polars as pl
from rich.table import Table

from model.bundle.schema import Schema
from model.data.columns import history_columns
from model.data.log import Log
from model.data.reading import Reading

_QUANTILES = {"min": 0.0, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}


def summary_table(log: Log, schema: Schema) -> Table:
    """Time range and lengths of the histories of each split; items and behaviors of the log."""
    title = f"{len(log.items):,} items, {len(log.behaviors):,} behaviors"
    table = Table("split", "from", "to", "history lengths: " + ", ".join(_QUANTILES), "no history", title=title)
    for name, part in log.splits().items():
        times = part[schema.keys.timestamp]
        history = _lengths(part, schema)
        quantiles = ", ".join(f"{history.quantile(q, 'nearest'):.0f}" for q in _QUANTILES.values())
        without = history.eq(0).sum() / len(history)
        table.add_row(name, _day(times.min()), _day(times.max()), quantiles, f"{without:.1%}")
    return table


def reading_lines(reading: Reading, *, seconds: float | None = None) -> list[str]:
    """What was read, what of it was malformed with the first few lines, and what was left out and why.

    With `seconds`, how many lines a second that was.
    """
    said = []
    if reading.lines:
        pace = f", {reading.lines / max(seconds, 1e-9):,.0f} lines/s" if seconds else ""
        said.append(f"read {reading.lines:,} lines of {len(reading.files)} files{pace}")
    for file, read in reading.files.items():
        if read.malformed:
            said.append(f"{file}: {read.malformed:,} of {read.lines:,} lines are malformed and left out")
            said += [f"  line {number}: {text!r}" for number, text in read.examples]
    said += [f"left out: {rows:,} x {why}" for why, rows in reading.left_out.most_common()]
    return said


def _lengths(part: pl.DataFrame, schema: Schema) -> pl.Series:
    column = history_columns(schema).get(schema.keys.item)
    return part[column].list.len() if column else pl.Series("length", [0] * len(part))


def _day(seconds: object) -> str:
    """Seconds since the epoch as a date and time in UTC; as they are where no calendar has them."""
    try:
        return datetime.fromtimestamp(int(str(seconds)), UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
