"""Past behaviors in a Parquet or CSV file, read in slices and checked.

file --slices of rows--> checked columns --sort by user--> histories
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.records import Behaviors, event_key, make_behaviors
from service.stores.base import UserId

TimeUnit = Literal["s", "ms"]
History = tuple[UserId, Behaviors]

MS_PER = {"s": 1000, "ms": 1}
MAX_ID = 2**63 - 1
MAX_TIME_MS = 253_402_300_799_999  # the end of year 9999; a log in ms that is read as seconds lies far beyond
BATCH_ROWS = 500_000


@dataclass(frozen=True, kw_only=True)
class BehaviorColumns:
    """Names of a log's columns. Those of `event` and `action` may be missing from the file, the others not."""

    user: str = "user_id"
    item: str = "item_id"
    category: str = "cate_id"
    time: str = "timestamp"
    event: str = "event_id"
    action: str = "action"


DEFAULT_COLUMNS = BehaviorColumns()


def count_rows(path: Path) -> int:
    """Behaviors in the file. Raises ConfigError as `load_history` does."""
    return int(_collect(path, _scan(path).select(pl.len())).item())


def read_histories(
    path: Path,
    *,
    time_unit: TimeUnit,
    columns: BehaviorColumns = DEFAULT_COLUMNS,
    batch_rows: int = BATCH_ROWS,
    first_row: int = 0,
) -> Iterator[list[History]]:
    """The file's behaviors by user from `first_row` on: a list per `batch_rows` rows, so memory does not grow with it.

    A row without an event id gets its number among the user's rows of that time in its batch: that tells doubles apart
    and, since a record begins with it, keeps equal times in the order of the log.
    Raises ConfigError naming file, column, row (from 1), what was found and what is allowed.
    """
    scan, wanted = _scan(path), wanted_columns(path, columns)
    for row in range(first_row, count_rows(path), batch_rows):
        rows = _Rows(path, _collect(path, scan.select(wanted).slice(row, batch_rows)), row)
        yield _by_user(_checked(rows, columns, MS_PER[time_unit]))


def wanted_columns(path: Path, columns: BehaviorColumns) -> list[str]:
    """The columns to read. Raises ConfigError if one is missing that must be there."""
    present = _collect(path, _scan(path).head(0)).columns
    for name in (columns.user, columns.item, columns.category, columns.time):
        if name not in present:
            raise ConfigError(file=str(path), key="columns", found=present, allowed=f"columns with {name!r} among them")
    return [name for name in vars(columns).values() if name in present]


def _scan(path: Path) -> pl.LazyFrame:
    """CSV columns come as text: a user id keeps its zeros, and a wrong number is refused by name and row."""
    if not path.is_file():
        raise ConfigError(file=str(path), key="path", found="no file", allowed="a Parquet or CSV file")
    match path.suffix:
        case ".parquet":
            return pl.scan_parquet(path)
        case ".csv":
            return pl.scan_csv(path, infer_schema=False)
    raise ConfigError(file=str(path), key="path", found=path.suffix, allowed=".parquet or .csv")


def _collect(path: Path, scan: pl.LazyFrame) -> pl.DataFrame:
    try:
        return scan.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(file=str(path), key="content", found=reason, allowed="readable rows") from error


@dataclass(frozen=True)
class _Rows:
    """A slice of the file, and how to say where in the file a wrong value is."""

    path: Path
    frame: pl.DataFrame
    first_row: int

    def integers(self, column: str, *, largest: int) -> pl.Series:
        """The column as int64 in [0, largest]."""
        found = self.frame[column]
        if not (found.dtype.is_integer() or found.dtype == pl.String):
            raise ConfigError(file=str(self.path), key=column, found=str(found.dtype), allowed="integers")
        whole = found.cast(pl.Int64, strict=False)
        self._require(column, whole.is_between(0, largest), f"an integer from 0 to {largest}")
        return whole

    def ids(self, column: str) -> pl.Series:
        """The column, integers as they are, which sort faster than text, or text that is not empty."""
        found = self.frame[column]
        if not found.dtype.is_integer():
            return self.text(column)
        self._require(column, found.is_not_null(), "an id")
        return found

    def text(self, column: str) -> pl.Series:
        """The column, text or integers, as text that is not empty."""
        found = self.frame[column]
        if not (found.dtype.is_integer() or found.dtype == pl.String):
            raise ConfigError(file=str(self.path), key=column, found=str(found.dtype), allowed="text or integers")
        text = found.cast(pl.String)
        self._require(column, text != "", "an id")
        return text

    def _require(self, column: str, valid: pl.Series, allowed: str) -> None:
        valid = valid.fill_null(False)
        if not valid.all():
            row = int((~valid).arg_true()[0])
            key = f"{column}, row {self.first_row + row + 1}"
            raise ConfigError(file=str(self.path), key=key, found=self.frame[column][row], allowed=allowed)


def _checked(rows: _Rows, columns: BehaviorColumns, ms: int) -> pl.DataFrame:
    """Columns user (integer or text), item, category, time (ms), action and event, as a record holds them."""
    frame = pl.DataFrame(
        {
            "user": rows.ids(columns.user),
            "item": rows.integers(columns.item, largest=MAX_ID),
            "category": rows.integers(columns.category, largest=MAX_ID),
            "time": rows.integers(columns.time, largest=MAX_TIME_MS // ms) * ms,
        }
    )
    given = rows.frame.columns
    action = rows.integers(columns.action, largest=255) if columns.action in given else pl.lit(0)
    frame = frame.with_columns(action.alias("action"))
    if columns.event in given:
        keys = [event_key(event) for event in rows.text(columns.event)]
        return frame.with_columns(pl.Series("event", keys, dtype=pl.UInt64))
    return frame.with_columns(pl.int_range(pl.len(), dtype=pl.UInt64).over("user", "time").alias("event"))


def _by_user(frame: pl.DataFrame) -> list[History]:
    frame = frame.sort("user", maintain_order=True)
    behaviors = make_behaviors(
        frame["item"].to_numpy(),
        category=frame["category"].to_numpy(),
        time=frame["time"].to_numpy(),
        event=frame["event"].to_numpy(),
    )
    behaviors["action"] = frame["action"].to_numpy()
    runs = frame["user"].rle().struct.unnest()
    ends = runs["len"].cum_sum()
    bounds = zip(runs["value"].to_list(), (ends - runs["len"]).to_list(), ends.to_list(), strict=True)
    return [(user, behaviors[start:end]) for user, start, end in bounds]
