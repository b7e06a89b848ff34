"""The files of the public DIEN code (github.com/mouna99/dien), which several benchmarks copied.

local_train_splitByUser, local_test_splitByUser   label user item category items categories, separated by tabs; items
                                                  and categories of the history by the byte 0x02, oldest first
uid_voc.pkl mid_voc.pkl cat_voc.pkl               user, item, category -> integer; 0 is an item or category by default
item-info      item category        reviews-info  user item rating time

A user has one impression and one non-click, and is in one of the two files. The files tell no time of an impression;
`reviews-info` tells that of the click, and the non-click is given the same. A share of the training users validates.
"""

from pathlib import Path

import numpy as np
import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.data.columns import behavior_columns, checked, checked_impressions, checked_items, history_columns
from model.data.data_config import DataConfig
from model.data.id_file import read_ids
from model.data.interactions import field_types
from model.data.lines import Form, read_rows
from model.data.reading import Reading
from model.data.task import Log

_TRAIN, _TEST, _ITEMS, _REVIEWS = "local_train_splitByUser", "local_test_splitByUser", "item-info", "reviews-info"
_WITHIN = "\x02"
_T = pl.String
_LIST = rf"^([^{_WITHIN}]+({_WITHIN}[^{_WITHIN}]+)*)?$"
_PAIRS = Form(
    fields={"label": pl.Int64, "user": _T, "item": _T, "category": _T, "items": _T, "categories": _T},
    separator="\t",
    filled=frozenset({"user", "item"}),
    valid=pl.col("label").is_in([0, 1])
    & pl.col("items").str.contains(_LIST)
    & pl.col("categories").str.contains(_LIST)
    & (pl.col("items").str.count_matches(_WITHIN) == pl.col("categories").str.count_matches(_WITHIN))
    & ((pl.col("items") == "") == (pl.col("categories") == "")),
)
_ITEM_INFO = Form(fields={"item": _T, "category": _T}, separator="\t", filled=frozenset({"item"}))
_REVIEWS_INFO = Form(
    fields={"user": _T, "item": _T, "rating": pl.Float64, "time": pl.Int64},
    separator="\t",
    filled=frozenset({"user", "item"}),
)


class _Ids:
    """The integers of one `_voc.pkl`; a text that is not in it gets a number of its own behind them."""

    def __init__(self, path: Path) -> None:
        self._ids = read_ids(path)
        self._next = max(self._ids.values(), default=-1) + 1

    def add(self, texts: pl.Series) -> None:
        """Number what is not known yet, in ascending order."""
        for text in sorted(set(texts.unique()) - self._ids.keys()):
            self._ids[text] = self._next
            self._next += 1

    def of(self, column: str) -> pl.Expr:
        """The column's texts as integers; all of them must have been added."""
        texts = pl.Series("text", list(self._ids), dtype=pl.String)
        return pl.col(column).replace_strict(texts, pl.Series(self._ids.values()), return_dtype=pl.Int64)


def read_dien_files(folder: Path, config: DataConfig, schema: Schema, reading: Reading) -> Log:
    """The log: train and valid from the training file, by user; test from the other.

    Users are text, or the integers of `uid_voc.pkl` where the schema has the user as a feature of integers. Raises
    ConfigError naming the file, and the line where there is one.
    """
    if schema.times is not None:
        raise ConfigError(
            file=str(folder), key="schema.times", found="a table", allowed="none: histories have no times"
        )
    parts = {name: _pairs(folder / name, reading) for name in (_TRAIN, _TEST)}
    info = read_rows(folder / _ITEMS, _ITEM_INFO, reading)
    once = info.unique("item", keep="first", maintain_order=True)
    reading.leave_out(f"second line of an item in {_ITEMS}", len(info) - len(once))
    reviews = read_rows(folder / _REVIEWS, _REVIEWS_INFO, reading)
    every = pl.concat(parts.values())
    numbers = _Numbers(folder, schema, items=once, reviews=reviews, every=every)
    timed = {name: _timed(part, reviews) for name, part in parts.items()}
    rows = {n: checked_impressions(numbers.rows(p), schema, file=str(folder / n)) for n, p in timed.items()}
    valid = _validating(rows[_TRAIN][schema.keys.user], config)
    return Log(
        train=rows[_TRAIN].filter(~valid),
        valid=rows[_TRAIN].filter(valid),
        test=rows[_TEST],
        items=checked_items(numbers.items(once, every), schema, file=str(folder / _ITEMS)),
        behaviors=checked(numbers.behaviors(reviews, once), behavior_columns(schema), file=str(folder / _REVIEWS)),
    )


class _Numbers:
    """The files' texts under the schema's names, as integers."""

    def __init__(
        self, folder: Path, schema: Schema, *, items: pl.DataFrame, reviews: pl.DataFrame, every: pl.DataFrame
    ) -> None:
        self._schema, self._user = schema, pl.col("user")
        self._items, self._categories = _Ids(folder / "mid_voc.pkl"), _Ids(folder / "cat_voc.pkl")
        for ids, one, many in ((self._items, "item", "items"), (self._categories, "category", "categories")):
            for texts in (items[one], every[one], every[many].explode().drop_nulls()):
                ids.add(texts)
        self._items.add(reviews["item"])
        if field_types(schema.user).get(schema.keys.user) == pl.Int64:
            users = _Ids(folder / "uid_voc.pkl")
            users.add(pl.concat([every["user"], reviews["user"]]))
            self._user = users.of("user")

    def rows(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """The impressions."""
        keys = self._schema.keys
        flat = pairs.select(pl.int_range(pl.len()).alias("row"), "items", "categories").explode("items", "categories")
        flat = flat.drop_nulls().with_columns(self._items.of("items"), self._categories.of("categories"))
        newest = pl.col("items", "categories").tail(self._schema.max_history)
        lists = flat.group_by("row", maintain_order=True).agg(newest)
        out = pairs.drop("items", "categories").with_row_index("row").cast({"row": pl.Int64})
        out = out.join(lists, on="row", how="left", maintain_order="left")
        told = history_columns(self._schema)
        named = {keys.item: "items", keys.category: "categories"}
        return out.select(
            self._user.alias(keys.user),
            *self._item(),
            pl.col("label").alias(keys.label),
            pl.col("time").alias(keys.timestamp),
            *(pl.col(named[key]).fill_null([]).alias(column) for key, column in told.items()),
        )

    def items(self, info: pl.DataFrame, every: pl.DataFrame) -> pl.DataFrame:
        """The catalogue: what `item-info` tells, and the category that the impressions tell of other items."""
        seen = every.select("item", "category").unique("item", keep="first", maintain_order=True)
        known = pl.concat([info, seen]).unique("item", keep="first", maintain_order=True)
        return known.select(self._item())

    def behaviors(self, reviews: pl.DataFrame, info: pl.DataFrame) -> pl.DataFrame:
        """Every review of an item, by user and time; its category is 0 where `item-info` does not tell it."""
        keys = self._schema.keys
        joined = reviews.join(info, on="item", how="left", maintain_order="left")
        category = [self._categories.of("category").fill_null(0).alias(keys.category)] if keys.category else []
        user, item = self._user.alias(keys.user), self._items.of("item").alias(keys.item)
        named = joined.select(user, item, *category, pl.col("time").alias(keys.timestamp))
        return named.sort(keys.user, keys.timestamp, maintain_order=True)

    def _item(self) -> list[pl.Expr]:
        keys = self._schema.keys
        category = [self._categories.of("category").alias(keys.category)] if keys.category else []
        return [self._items.of("item").alias(keys.item), *category]


def _pairs(path: Path, reading: Reading) -> pl.DataFrame:
    """The impressions of a file, histories as lists of texts."""
    lists = pl.col("items", "categories").str.split(_WITHIN).list.eval(pl.element().filter(pl.element() != ""))
    return read_rows(path, _PAIRS, reading).with_columns(lists)


def _timed(pairs: pl.DataFrame, reviews: pl.DataFrame) -> pl.DataFrame:
    """`pairs` with the time of the user's click on that item, or of the other line of its pair; 0 if nobody tells."""
    newest = reviews.group_by("user", "item").agg(pl.col("time").max())
    told = pairs.join(newest, on=["user", "item"], how="left", maintain_order="left")
    clicked = pl.when(pl.col("label") == 1).then(pl.col("time")).max().over("user")
    return told.with_columns(clicked.fill_null(0).alias("time"))


def _validating(users: pl.Series, config: DataConfig) -> pl.Series:
    """[N] true for the rows of the users that validate."""
    names = users.unique().sort()
    drawn = np.random.default_rng(config.seed).random(len(names)) < config.valid_fraction
    return users.is_in(names.filter(pl.Series(drawn)).implode())
