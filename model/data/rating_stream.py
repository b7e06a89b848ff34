"""A log that is read in pieces: what preparation out of core asks of a reader."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.amazon_reviews import TWICE as REVIEW_TWICE
from model.data.amazon_reviews import stream_amazon_reviews
from model.data.atomic import read_atomic
from model.data.columns import checked_impressions, history_columns, negative_columns
from model.data.data_config import DataConfig
from model.data.given_rows import Given, GivenItems
from model.data.history import ORDER
from model.data.interactions import Interactions
from model.data.movielens import read_movielens
from model.data.next_item_rows import NextItems
from model.data.piece_rows import Beside, Kind, Labelled
from model.data.reading import Reading
from model.data.synthetic import synthesize
from model.data.table import TWICE, scan_table
from model.data.table_columns import FORMS
from model.data.taobao_ads import stream_taobao_ads
from model.data.text_ids import numbered

PIECE_ROWS = 1 << 19
_BLOCK_BYTES = 1 << 23  # of a text file at a time: parsing takes many times that


@dataclass(frozen=True, kw_only=True)
class RatingStream:
    """`Interactions` whose ratings come in pieces, in the log's order; `kind` says what impressions they are.

    `items` is asked for when the pieces are read; without it the catalogue is gathered from the ratings: of an item the
    newest values. `reading` is told what is left out later.
    """

    pieces: Iterator[pl.DataFrame]
    kind: Kind
    items: Callable[[], pl.DataFrame] | None = None
    users: pl.DataFrame | None = None
    reading: Reading = field(default_factory=Reading)


def in_pieces(log: Interactions, *, positive_rating: float, rows: int = PIECE_ROWS) -> RatingStream:
    """A log of ratings that is in memory, cut."""
    pieces = log.ratings.iter_slices(rows)
    return RatingStream(pieces=pieces, kind=Labelled(positive_rating), items=lambda: log.items, users=log.users)


def read_stream(config: DataConfig, schema: Schema, *, base: Path, reading: Reading) -> RatingStream:
    """The configured log in pieces: the large formats block by block, the smaller ones read as a whole and cut.

    Raises ConfigError for a format that cannot be cut, and as `read_log`, also while it is read.
    """
    reading.block_bytes = min(reading.block_bytes, _BLOCK_BYTES)
    if negative_columns(schema):
        raise _refused(config, "a schema without logged negatives")
    stream = replace(_stream(config, schema, base, reading), reading=reading)
    if config.split != "time" and not isinstance(stream.kind, NextItems):
        allowed = "'time': only a log of behaviors alone has a last item of each user"
        raise ConfigError(file="the log", key="data.split", found=config.split, allowed=allowed)
    return stream


def newest_items(schema: Schema) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """One row per item: the newest values of its features, their time and `ORDER`; of equal times the last one's."""
    keys = schema.keys

    def newest(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.sort(keys.timestamp, ORDER).unique(keys.item, keep="last", maintain_order=True)

    return newest


def _stream(config: DataConfig, schema: Schema, base: Path, reading: Reading) -> RatingStream:
    if config.format == "synthetic":
        return in_pieces(synthesize(config.synthetic, schema), positive_rating=1.0)
    if config.format in FORMS:
        return _table(config.url or base / (config.path or ""), config, schema, reading)
    known = [*_READERS, "amazon_reviews", "taobao_ads"]
    if config.format not in known or config.path is None:
        raise _refused(config, ", ".join([*FORMS, *known, "synthetic"]) + "; others are prepared without --shards")
    folder = base / config.path
    if config.format == "amazon_reviews":
        reviews = stream_amazon_reviews(folder, schema, reading)
        kind = NextItems(config, schema, twice=REVIEW_TWICE, reading=reading)
        return RatingStream(pieces=_sliced(reviews.pieces), kind=kind, items=reviews.items)
    if config.format == "taobao_ads":
        ads = stream_taobao_ads(folder, schema, reading)
        return RatingStream(pieces=_sliced(ads.pieces), kind=Beside(), items=ads.items, users=ads.users)
    return in_pieces(_READERS[config.format](folder, schema, reading), positive_rating=config.positive_rating)


_READERS: Mapping[str, Callable[[Path, Schema, Reading], Interactions]] = {
    "movielens": read_movielens,
    "atomic": read_atomic,
}


def _table(place: Path | str, config: DataConfig, schema: Schema, reading: Reading) -> RatingStream:
    blocks = scan_table(place, config, schema, reading)
    first = next(blocks)
    label = schema.keys.label
    given = any(name in first.columns for name in history_columns(schema).values())
    rating = pl.col(label).cast(pl.Float64) if label in first.columns else pl.lit(1.0)

    def pieces() -> Iterator[pl.DataFrame]:
        for block in itertools.chain([first], blocks):
            rows = numbered(block, [name for name in config.text_ids if name in block.columns], reading)
            yield rows.with_columns(rating.alias("rating"))

    if given:
        items = GivenItems(schema)
        rows = _checked(_sliced(pieces()), items, schema, file=str(place))
        return RatingStream(pieces=rows, kind=Given(), items=items.total)
    rated = (rows.drop(label, strict=False) for rows in _sliced(pieces()))
    kind = Labelled(1.0) if label in first.columns else NextItems(config, schema, twice=TWICE, reading=reading)
    return RatingStream(pieces=rated, kind=kind)


def _checked(blocks: Iterator[pl.DataFrame], items: GivenItems, schema: Schema, *, file: str) -> Iterator[pl.DataFrame]:
    """Rows with their histories, which `items` takes note of."""
    for block in blocks:
        rows = checked_impressions(block, schema, file=file)
        items.add(rows)
        yield rows.with_columns(block["rating"])


def _sliced(blocks: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Blocks of any size as pieces of about `PIECE_ROWS`, and at most so many rows."""
    held: list[pl.DataFrame] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= PIECE_ROWS:
            yield from pl.concat(held).iter_slices(PIECE_ROWS)
            held = []
    if any(map(len, held)):
        yield from pl.concat(held).iter_slices(PIECE_ROWS)


def _refused(config: DataConfig, allowed: str) -> ConfigError:
    return ConfigError(file="--shards", key="data.format", found=config.format, allowed=allowed)
