"""A rating log that is read in pieces: what preparation out of core needs of a reader.

Interactions are one such log in one piece. A folder of Parquet files is read a row group at a time:

    ratings*.parquet   user, item, rating, timestamp and the columns of the context, by the schema's names
    items.parquet      item, category and the other item features; users.parquet likewise, if the schema asks for any
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.interactions import Interactions, asked_beyond

PIECE_ROWS = 1 << 19


@dataclass(frozen=True, kw_only=True)
class RatingStream:
    """`Interactions` whose ratings come in pieces, in the log's order, as often as they are asked for."""

    pieces: Callable[[], Iterator[pl.DataFrame]]
    items: pl.DataFrame
    users: pl.DataFrame | None


def in_pieces(log: Interactions, *, rows: int = PIECE_ROWS) -> RatingStream:
    """A log that is in memory, cut."""

    def pieces() -> Iterator[pl.DataFrame]:
        yield from log.ratings.iter_slices(rows)

    return RatingStream(pieces=pieces, items=log.items, users=log.users)


def read_rating_parquet(folder: Path, schema: Schema) -> RatingStream:
    """The Parquet files in `folder`, the ratings unread. Raises ConfigError naming the file at fault, then or later."""
    files = sorted(folder.glob("ratings*.parquet"))
    if not files:
        raise ConfigError(file=str(folder), key="file", found="no ratings", allowed="a folder with ratings*.parquet")
    keys = schema.keys
    columns = [keys.user, keys.item, "rating", keys.timestamp, *(f.name for f in schema.context)]

    def pieces() -> Iterator[pl.DataFrame]:
        for file in files:
            yield from _pieces(file, columns)

    items = _whole(folder / "items.parquet")
    users = _whole(folder / "users.parquet") if asked_beyond(keys.user, schema.user) else None
    return RatingStream(pieces=pieces, items=items, users=users)


def _pieces(file: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    try:
        rows, scan = pl.scan_parquet(file).select(pl.len()).collect().item(), pl.scan_parquet(file)
        for start in range(0, rows, PIECE_ROWS):
            yield scan.select(columns).slice(start, PIECE_ROWS).collect()
    except PolarsError as error:
        raise ConfigError(file=str(file), key="file", found=str(error)[:200], allowed=", ".join(columns)) from error


def _whole(file: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(file)
    except (OSError, PolarsError) as error:
        raise ConfigError(file=str(file), key="file", found=str(error)[:200], allowed="a Parquet file") from error
