"""Amazon reviews as their collectors publish them, with the metadata of the items: who reviewed what, and when.

reviews   *.json[l][.gz]       2014, 2018: reviewerID, asin, overall, unixReviewTime
                               2023: user_id, parent_asin, rating, timestamp in ms
metadata  meta_*.json[l][.gz]  2014: asin, categories, a list of paths (a Python dict per line)
                               2018: asin, category, a path       2023: parent_asin, categories, a path

A review is a behavior whatever its rating, as in DIEN's experiments; what can be predicted is the next item. The
category is the last of the first path. Ids are hashes of the texts (`text_ids`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.interactions import Interactions, asked_beyond, field_types
from model.data.json_lines import Object, scan_objects
from model.data.reading import Reading
from model.data.source import File, find_files
from model.data.text_ids import numbered

TWICE = "the same review once more"
_META = "meta_"


def read_amazon_reviews(folder: Path, schema: Schema, reading: Reading) -> Interactions:
    """The reviews as behaviors, with the categories where the schema asks for them; users are text, or hashes where
    the schema has the user as a feature of integers.

    Left out and told are reviews of an item by a user at one time that are there twice. Raises ConfigError naming file
    and line.
    """
    keys = schema.keys
    stream = stream_amazon_reviews(folder, schema, reading)
    rows = pl.concat(stream.pieces)
    ratings = rows.unique([keys.user, keys.item, keys.timestamp], keep="first", maintain_order=True)
    reading.leave_out(TWICE, len(rows) - len(ratings))
    return Interactions(ratings=ratings, items=stream.items(), next_item=True)


@dataclass(frozen=True)
class ReviewStream:
    """The reviews block by block, those that are there twice included; `items` is asked for when they are read."""

    pieces: Iterator[pl.DataFrame]
    items: Callable[[], pl.DataFrame]


def stream_amazon_reviews(folder: Path, schema: Schema, reading: Reading) -> ReviewStream:
    """`read_amazon_reviews`, of which only the items are held in memory. Raises ConfigError, also while it is read."""
    keys = schema.keys
    files = find_files(folder, (".json", ".jsonl"))
    reviews = [file for file in files if not file.name.startswith(_META)]
    metadata = [file for file in files if file.name.startswith(_META)]
    if not reviews:
        raise ConfigError(file=str(folder), key="file", found=[f.name for f in files], allowed="a file of reviews")
    asked = asked_beyond(keys.item, schema.item)
    if asked and (not metadata or keys.category is None):
        raise ConfigError(file=str(folder), key="file", found="no metadata", allowed=f"a file {_META}*.json")
    texts = [keys.user] if field_types(schema.user).get(keys.user) == pl.Int64 else []
    columns = {keys.user: pl.String, keys.item: pl.String, "rating": pl.Float64, keys.timestamp: pl.Int64}
    said = "JSON with reviewerID, asin, overall, unixReviewTime"

    def pieces() -> Iterator[pl.DataFrame]:
        for block in (f for one in reviews for f in scan_objects(one, columns, reading, pick=_review, allowed=said)):
            yield numbered(block, [*texts, keys.item], reading).with_columns(pl.lit(1.0).alias("rating"))

    def items() -> pl.DataFrame:
        shown = reading.names[keys.item].total().select(pl.col("text").alias(keys.item)).sort(keys.item)
        if asked and keys.category is not None:
            shown = _with_categories(shown, metadata, keys.category, reading)
        return numbered(shown, [keys.item], reading)

    return ReviewStream(pieces(), items)


def _with_categories(items: pl.DataFrame, metadata: list[File], category: str, reading: Reading) -> pl.DataFrame:
    """The items, which have one column, with the integer of their category; 0 where nothing is told of one."""
    item, said = items.columns[0], "an object with asin and categories"
    columns: dict[str, type[pl.DataType]] = {item: pl.String, category: pl.String}
    told = pl.concat(f for one in metadata for f in scan_objects(one, columns, reading, pick=_meta, allowed=said))
    once = told.unique(item, keep="first", maintain_order=True)
    reading.leave_out("metadata of an item once more", len(told) - len(once))
    joined = items.join(once, on=item, how="left", maintain_order="left")
    return numbered(joined.with_columns(pl.col(category).fill_null("")), [category], reading)


def _review(one: Object) -> tuple[Any, ...]:
    new = "parent_asin" in one
    user = one["user_id" if new else "reviewerID"]
    item = one["parent_asin" if new else "asin"]
    time = one["timestamp"] // 1000 if new else one["unixReviewTime"]
    rating = one["rating" if new else "overall"]
    if not (_text(user) and _text(item) and type(time) is int and abs(time) < 2**53):
        raise ValueError("a field of another type")
    return user, item, float(rating), time


def _meta(one: Object) -> tuple[Any, ...]:
    item = one["parent_asin"] if "parent_asin" in one else one["asin"]
    path = one.get("categories", one.get("category"))
    if path and isinstance(path[0], list):
        path = path[0]
    category = path[-1] if path else ""
    if not (_text(item) and isinstance(category, str)):
        raise ValueError("a field of another type")
    return item, category


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""
