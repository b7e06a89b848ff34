"""Columns of the synthetic log for every kind of feature: lists, numbers that are not always known, open-ended ids.

items      tags: 1 to 3 ids, the first from the category; stock: a number, not known for every tenth item
users      languages: none, one or two texts
ratings    device: a text, new ones all the time; session_s: skewed seconds, not known for every fifth impression

They come from a generator of their own, so that the log is the same with and without them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl

from model.bundle.schema import SIDES, Schema
from model.data.interactions import Interactions
from model.data.ragged import to_lists

_LANGUAGES = ("de", "en", "es", "fr", "no")
_TAGS = 30  # of which a category has one, and an item up to two more
_STREAM = 1  # of random numbers, beside the log's own


def add_extras(log: Interactions, schema: Schema, *, seed: int) -> Interactions:
    """`log` with those of the further columns that the schema names."""
    rng = np.random.default_rng([seed, _STREAM])
    asked = {feature.name for side in SIDES for feature in schema.features(side)}
    assert log.users is not None  # the synthetic log has some
    return dataclasses.replace(
        log,
        items=_with(log.items, _of_items(log.items, schema, rng), asked),
        users=_with(log.users, _of_users(len(log.users), rng), asked),
        ratings=_with(log.ratings, _of_ratings(log.ratings, schema, rng), asked) if asked & _RATED else log.ratings,
    )


_RATED = {"device", "session_s"}


def _with(frame: pl.DataFrame, columns: Sequence[pl.Series], asked: set[str]) -> pl.DataFrame:
    return frame.with_columns(column for column in columns if column.name in asked)


def _of_items(items: pl.DataFrame, schema: Schema, rng: np.random.Generator) -> list[pl.Series]:
    category = items[schema.keys.category or "cate_id"].to_numpy()
    lengths = rng.integers(1, 4, len(items))
    first = np.cumsum(lengths) - lengths
    tags = rng.integers(_TAGS, size=lengths.sum())
    tags[first] = category % _TAGS
    stock = np.round(rng.exponential(100.0, len(items)))
    return [to_lists(pl.Series("tags", tags), lengths), _sometimes_null("stock", stock, every=10)]


def _of_users(users: int, rng: np.random.Generator) -> list[pl.Series]:
    lengths = rng.integers(3, size=users)
    return [to_lists(pl.Series("languages", rng.choice(_LANGUAGES, lengths.sum())), lengths)]


def _of_ratings(ratings: pl.DataFrame, schema: Schema, rng: np.random.Generator) -> list[pl.Series]:
    number = pl.Series("device", rng.integers(1000, size=len(ratings))).cast(pl.String)
    device = ("d" + ratings[schema.keys.user].cast(pl.String) + "-" + number).alias("device")
    return [device, _sometimes_null("session_s", np.round(rng.lognormal(4.0, 1.5, len(ratings)), 1), every=5)]


def _sometimes_null(name: str, numbers: np.ndarray, *, every: int) -> pl.Series:
    null = np.arange(len(numbers)) % every == every - 1
    return pl.Series(name, np.where(null, np.nan, numbers)).fill_nan(None)
