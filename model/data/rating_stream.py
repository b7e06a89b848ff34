"""A log of labelled rows that is read in pieces: what preparation out of core asks of a reader."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.atomic import read_atomic
from model.data.columns import history_columns, negative_columns
from model.data.data_config import DataConfig
from model.data.interactions import Interactions
from model.data.movielens import read_movielens
from model.data.reading import Reading
from model.data.synthetic import synthesize
from model.data.table import scan_table
from model.data.table_columns import FORMS
from model.data.text_ids import numbered

PIECE_ROWS = 1 << 19


@dataclass(frozen=True, kw_only=True)
class RatingStream:
    """`Interactions` whose ratings come in pieces, in the log's order.

    Without `items` the catalogue is gathered from the ratings: of an item the newest values.
    """

    pieces: Iterator[pl.DataFrame]
    positive_rating: float
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None


def in_pieces(log: Interactions, *, positive_rating: float, rows: int = PIECE_ROWS) -> RatingStream:
    """A log that is in memory, cut."""
    pieces = log.ratings.iter_slices(rows)
    return RatingStream(pieces=pieces, positive_rating=positive_rating, items=log.items, users=log.users)


def read_stream(config: DataConfig, schema: Schema, *, base: Path, reading: Reading) -> RatingStream:
    """The configured log in pieces: a table block by block, the smaller formats read as a whole and cut.

    Raises ConfigError for a format that has no labelled rows, and as `read_log`, also while it is read.
    """
    if negative_columns(schema):
        raise _refused(config, "a schema without logged negatives")
    if config.split != "time":
        raise _refused(config, 'data.split = "time"')
    if config.format == "synthetic":
        return in_pieces(synthesize(config.synthetic, schema), positive_rating=1.0)
    if config.format in FORMS:
        place = config.url or base / (config.path or "")
        return RatingStream(pieces=_table(place, config, schema, reading), positive_rating=1.0)
    if config.format not in _READERS or config.path is None:
        raise _refused(config, "a table, " + ", ".join(_READERS) + " or synthetic: rows with a label and no history")
    log = _READERS[config.format](base / config.path, schema, reading)
    return in_pieces(log, positive_rating=config.positive_rating)


_READERS: Mapping[str, Callable[[Path, Schema, Reading], Interactions]] = {
    "movielens": read_movielens,
    "atomic": read_atomic,
}


def newest_items(known: pl.DataFrame | None, piece: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """One row per item, with the newest values of its features and their time; of equal times the last one's.

    `known` is what this gave for the pieces before.
    """
    keys = schema.keys
    names = [keys.timestamp, *(f.name for f in schema.item if f.name in piece.columns)]
    new = piece.select(names)
    rows = new if known is None else pl.concat([known, new])
    return rows.sort(keys.timestamp, maintain_order=True).unique(keys.item, keep="last", maintain_order=True)


def _table(place: Path | str, config: DataConfig, schema: Schema, reading: Reading) -> Iterator[pl.DataFrame]:
    label = schema.keys.label
    for block in scan_table(place, config, schema, reading):
        if label not in block.columns or any(name in block.columns for name in history_columns(schema).values()):
            raise _refused(config, f"a column {label}, and no histories: they are built")
        rows = numbered(block, [name for name in config.text_ids if name in block.columns], reading)
        rows = rows.with_columns(pl.col(label).cast(pl.Float64).alias("rating")).drop(label)
        yield from rows.iter_slices(PIECE_ROWS) if len(rows) else ()


def _refused(config: DataConfig, allowed: str) -> ConfigError:
    return ConfigError(file="--shards", key="data.format", found=config.format, allowed=allowed)
