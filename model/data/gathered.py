"""The catalogue and the behaviors of a prepared task that has no files for them, gathered from its impressions."""

import numpy as np
import polars as pl

from model.bundle.records import NOT_GIVEN
from model.bundle.schema import Schema
from model.data.columns import behavior_columns, history_columns, item_columns
from model.data.ragged import to_flat


def gather_items(rows: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Every item of the impressions and of their histories, ascending, with the newest values of its features.

    An item that only histories hold is left out if the schema has item features that histories do not tell.
    """
    keys, names = schema.keys, list(item_columns(schema))
    items = _newest(rows.select(*names, keys.timestamp), schema)
    if set(names) == set(history_columns(schema)):
        past = past_of(rows, schema)
        only_past = past.filter(~pl.col(keys.item).is_in(items[keys.item].implode()))
        items = pl.concat([items, _newest(only_past.select(*names, keys.timestamp), schema)])
    return items.sort(keys.item)


def gather_behaviors(rows: pl.DataFrame, items: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Every behavior that the impressions tell of: the clicks, and the history of each user's first impression.

    Where the file has no times for the latter, they get the seconds just before that impression, which keeps their
    order.
    """
    keys, names = schema.keys, list(behavior_columns(schema))
    clicks = rows.filter(pl.col(keys.label) == 1).select(names)
    if not schema.behavior:
        return clicks.sort(keys.user, keys.timestamp, maintain_order=True)
    first = rows.sort(keys.timestamp, maintain_order=True).unique(keys.user, keep="first", maintain_order=True)
    past = past_of(first, schema)
    if keys.category is not None and keys.category not in past.columns:
        past = past.join(items.select(keys.item, keys.category), on=keys.item, how="left", maintain_order="left")
        past = past.with_columns(pl.col(keys.category).fill_null(NOT_GIVEN))
    then = pl.col("time") if schema.times else pl.col(keys.timestamp) - pl.col("age")
    past = past.with_columns(then.alias(keys.timestamp))
    return pl.concat([past.select(names), clicks]).sort(keys.user, keys.timestamp, maintain_order=True)


def _newest(values: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """One row per item: the last one in time. Of several at one time the last in the log's order."""
    keys = schema.keys
    ordered = values.sort(keys.timestamp, maintain_order=True)
    return ordered.unique(keys.item, keep="last", maintain_order=True).drop(keys.timestamp)


def past_of(rows: pl.DataFrame, schema: Schema, *more: str) -> pl.DataFrame:
    """The behaviors inside the rows' histories: item, category if told, the row's user and time, and how many
    places before the end of the history (`age`, the newest is 1); its own time (`time`) where the schema has one.

    `more` names other columns of the rows.
    """
    columns = history_columns(schema)
    flat = {key: to_flat(rows[column])[0].alias(key) for key, column in columns.items()}
    if schema.times is not None:
        flat["time"] = to_flat(rows[schema.times.column])[0].alias("time")
    lengths = rows[columns[schema.keys.item]].list.len().to_numpy().astype(np.int64)
    owners = np.repeat(np.arange(len(rows)), lengths)
    age = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(owners))
    told = rows.select(schema.keys.user, schema.keys.timestamp, *more)[owners]
    return told.with_columns(*flat.values(), pl.Series("age", age, dtype=pl.Int64))
