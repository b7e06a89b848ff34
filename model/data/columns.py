"""Which columns the frames of a log have, of what type, and the check that says what is wrong with one that differs."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.raw import Lists
from model.bundle.records import NOT_GIVEN
from model.bundle.schema import Feature, Schema
from model.data.ragged import to_flat

Kind = Literal["id", "text", "number", "user", "category", "label", "time", "ids", "texts"]

BAYES_PCTR = "bayes_pctr"  # a synthetic log's true click probability, kept beside the schema's columns

_ALLOWED: Mapping[Kind, str] = {
    "id": "integers from 0 to 2^63 - 1",
    "text": "strings",
    "number": "finite numbers",
    "user": "integers from 0 to 2^63 - 1, or strings",
    "category": "integers from 0 to 2^63 - 1, or -1 where not given",
    "label": "0 or 1",
    "time": "seconds below 2^53",
    "ids": "lists of integers from 0 to 2^63 - 1",
    "texts": "lists of strings",
}
_TYPES: Mapping[Kind, type[pl.DataType]] = {
    "id": pl.Int64,
    "text": pl.String,
    "number": pl.Float64,
    "category": pl.Int64,
    "label": pl.Int8,
    "time": pl.Int64,
}


def impression_columns(schema: Schema) -> dict[str, Kind]:
    """The columns of train, valid and test: keys, every feature, and the history's list columns."""
    columns: dict[str, Kind] = {schema.keys.user: "user"}
    for side in ("user", "item", "context"):
        columns |= {f.name: _kind(f) for f in schema.features(side)}
    columns |= {schema.keys.label: "label", schema.keys.timestamp: "time"}
    columns |= {column: "ids" for column in history_columns(schema).values()}
    return columns if schema.times is None else {**columns, schema.times.column: "ids"}


def item_columns(schema: Schema) -> dict[str, Kind]:
    """The columns of the catalogue: the item id and every other item feature."""
    return {f.name: _kind(f) for f in schema.item}


def behavior_columns(schema: Schema) -> dict[str, Kind]:
    """The columns of the behaviors that are loaded into a store."""
    columns: dict[str, Kind] = {schema.keys.user: "user", schema.keys.item: "id", schema.keys.timestamp: "time"}
    return columns if schema.keys.category is None else {**columns, schema.keys.category: "category"}


def history_columns(schema: Schema) -> dict[str, str]:
    """Key column (item, category) -> the list column that holds it for past behaviors; empty without a history.

    A sequence that shares any other item feature has no list column of its own: like in serving, the encoder finds its
    values in the catalogue. Raises ConfigError when there is a history but no sequence of item ids.
    """
    keys = [schema.keys.item] if schema.keys.category is None else [schema.keys.item, schema.keys.category]
    found = {s.shares: s.column for s in schema.behavior if s.shares in keys}
    if schema.behavior and schema.keys.item not in found:
        allowed = f"a sequence that shares {schema.keys.item!r} among them: a behavior is known by its item"
        shares = [s.shares for s in schema.behavior]
        raise ConfigError(file="schema", key="schema.behavior", found=shares, allowed=allowed)
    return found


def list_columns(schema: Schema) -> set[str]:
    """The columns of histories and of their times."""
    return {*history_columns(schema).values(), *([schema.times.column] if schema.times else [])}


def negative_columns(schema: Schema) -> dict[str, str]:
    """Key column (item, category) -> the list column of logged negatives; empty where the schema names none."""
    return {s.shares: s.negatives for s in schema.behavior if s.negatives is not None}


def checked(frame: pl.DataFrame, columns: Mapping[str, Kind], *, file: str) -> pl.DataFrame:
    """The named columns, in that order, ids as Int64 and dense values as Float64.

    Raises ConfigError naming file, column, what was found and what is allowed.
    """
    for name, kind in columns.items():
        if name not in frame.columns:
            found = "no such column, only " + ", ".join(frame.columns)
            raise ConfigError(file=file, key=f"column {name}", found=found, allowed=_ALLOWED[kind])
        fault = _fault(frame[name], kind)
        if fault:
            raise ConfigError(file=file, key=f"column {name}", found=fault, allowed=_ALLOWED[kind])
    return frame.select(_cast(frame[name], kind) for name, kind in columns.items())


def checked_impressions(frame: pl.DataFrame, schema: Schema, *, file: str, training: bool = False) -> pl.DataFrame:
    """`checked` for one split; the list columns must agree in length, and the true click probability is kept.

    Logged negatives are asked of the split that is for `training` and dropped from others.
    """
    columns = impression_columns(schema)
    negatives = list(negative_columns(schema).values()) if training else []
    columns |= dict.fromkeys(negatives, "ids")
    if BAYES_PCTR in frame.columns:
        columns[BAYES_PCTR] = "number"
    frame = checked(frame, columns, file=file)
    times = [] if schema.times is None else [schema.times.column]
    lists = [frame[column] for column in (*history_columns(schema).values(), *times, *negatives)]
    for other in lists[1:]:
        differ = int((other.list.len() != lists[0].list.len()).sum())
        if differ:
            found = f"{differ} rows of another length than in {lists[0].name}"
            raise ConfigError(file=file, key=f"column {other.name}", found=found, allowed="one entry per behavior")
    return frame


def checked_items(frame: pl.DataFrame, schema: Schema, *, file: str) -> pl.DataFrame:
    """`checked` for the catalogue: one row per item, in ascending order of ids."""
    frame, item = checked(frame, item_columns(schema), file=file), schema.keys.item
    doubled = frame.filter(pl.col(item).is_duplicated())
    if len(doubled):
        raise ConfigError(file=file, key=f"column {item}", found=doubled[item][0], allowed="each item once")
    return frame.sort(item)


def only(table: pl.DataFrame, key: str, values: pl.Series) -> pl.DataFrame:
    """The table's rows with one of the values, which is what to join few rows with: all of a large table costs more."""
    return table.filter(pl.col(key).is_in(values.unique().implode()))


def raw_column(values: pl.Series) -> object:
    """A checked column as a request would carry it: text as a list, numbers with those that are missing masked."""
    if isinstance(values.dtype, pl.List):
        flat, lengths = to_flat(values)
        return Lists(values=flat.to_list() if flat.dtype == pl.String else flat.to_numpy(), lengths=lengths)
    if values.dtype == pl.String:
        return values.to_list()
    if values.null_count():
        return np.ma.masked_array(values.fill_null(0).to_numpy(), mask=values.is_null().to_numpy())
    return values.to_numpy()


def _kind(feature: Feature) -> Kind:
    if feature.kind == "dense":
        return "number"
    if feature.kind == "multi":
        return "texts" if feature.dtype == "str" else "ids"
    return "text" if feature.dtype == "str" else "id"


def _fault(values: pl.Series, kind: Kind) -> str | None:
    """What is wrong with the column, None if nothing is."""
    if values.null_count() and kind != "number":
        return f"{values.null_count()} missing values"
    if kind in ("ids", "texts"):
        return _list_fault(values, kind)
    if kind == "text" or (kind == "user" and values.dtype == pl.String):
        return None if values.dtype == pl.String else str(values.dtype)
    if kind in ("id", "user", "category"):
        return _id_fault(values, lowest=NOT_GIVEN if kind == "category" else 0)
    if not (values.dtype.is_numeric() or (kind == "label" and values.dtype == pl.Boolean)):
        return str(values.dtype)
    return _range_fault(values, kind)


def _list_fault(values: pl.Series, kind: Kind) -> str | None:
    if not isinstance(values.dtype, pl.List):
        return str(values.dtype)
    flat, _ = to_flat(values)
    if flat.null_count():
        return f"{flat.null_count()} missing values inside its lists"
    if not len(flat) and values.dtype.inner == pl.Null:
        return None
    fault = _id_fault(flat) if kind == "ids" else None if flat.dtype == pl.String else str(flat.dtype)
    return f"a list of {fault}" if fault else None


def _id_fault(values: pl.Series, *, lowest: int = 0) -> str | None:
    if not values.dtype.is_integer():
        return str(values.dtype)
    for extreme in (values.min(), values.max()):
        if isinstance(extreme, int) and not lowest <= extreme < 2**63:
            return str(extreme)
    return None


def _range_fault(values: pl.Series, kind: Kind) -> str | None:
    numbers = values.cast(pl.Float64)
    match kind:
        case "label":
            good = numbers.is_in([0.0, 1.0])
        case "time":
            good = numbers.abs() < 2**53  # exact as a float, and in ms still an int64; false for NaN
        case _:
            good = numbers.is_finite()
    return None if good.fill_null(True).all() else str(values.filter(~good)[0])


def _cast(values: pl.Series, kind: Kind) -> pl.Series:
    if kind in ("ids", "texts"):
        return values.cast(pl.List(pl.Int64 if kind == "ids" else pl.String))
    if kind == "user":
        return values if values.dtype == pl.String else values.cast(pl.Int64)
    return values.cast(_TYPES[kind])
