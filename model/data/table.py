"""A log that is one table, in Parquet, CSV or JSON lines: columns as the schema names them, or under names of its own.

What is read depends on what is there. With list columns of the history, a row is an impression as it stands. With a
label and no history, it is an impression, and the clicks before it are its history. Without a label it is a behavior,
and what can be predicted is the next item.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from model.bundle.errors import ConfigError
from model.bundle.records import ACTIONS
from model.bundle.schema import Schema
from model.data.columns import history_columns
from model.data.data_config import DataConfig
from model.data.interactions import Interactions
from model.data.json_lines import Object, first_names, scan_objects
from model.data.lines import FieldTypes, Form, first_line, scan_rows
from model.data.reading import Reading
from model.data.source import File, find_files, opened
from model.data.table_columns import ACTION, Wanted
from model.data.text_ids import numbered

TWICE = "the same user, item and time once more"
_BETWEEN = "|"  # of the values of a list in a text file


def read_table(place: Path | str, config: DataConfig, schema: Schema, reading: Reading) -> Interactions | pl.DataFrame:
    """The table at a path or URL: impressions with their histories as a frame, anything else as Interactions.

    Raises ConfigError naming the file, and the line or column.
    """
    rows = pl.concat(scan_table(place, config, schema, reading))
    rows = numbered(rows, [name for name in config.text_ids if name in rows.columns], reading)
    if any(column in rows.columns for column in history_columns(schema).values()):
        return rows
    keys = schema.keys
    newest = rows.sort(keys.timestamp, maintain_order=True).unique(keys.item, keep="last", maintain_order=True)
    labelled = keys.label in rows.columns
    if not labelled:
        once = rows.unique([keys.user, keys.item, keys.timestamp], keep="first", maintain_order=True)
        reading.leave_out(TWICE, len(rows) - len(once))
        rows = once
    rating = pl.col(keys.label).cast(pl.Float64) if labelled else pl.lit(1.0)
    features = [f.name for f in schema.item if f.name in rows.columns]
    ratings = rows.with_columns(rating.alias("rating")).drop(keys.label, strict=False)
    return Interactions(ratings=ratings, items=newest.select(features), next_item=not labelled)


def scan_table(place: Path | str, config: DataConfig, schema: Schema, reading: Reading) -> Iterator[pl.DataFrame]:
    """The rows of the table under the schema's names, a frame per block of lines or per file of Parquet; texts of
    `config.text_ids` as they are. Raises as `read_table`.
    """
    readers: Mapping[str, Callable[[File, Wanted, Reading], Iterator[pl.DataFrame]]]
    readers = {"csv": _csv, "tsv": _csv, "parquet": _parquet, "jsonl": _json, "ndjson": _json, "json": _json}
    wanted, first = Wanted(config, schema), list[str]()
    for file in find_files(place, tuple(f".{suffix}" for suffix in readers)):
        for frame in readers[_suffix(file)](file, wanted, reading):
            rows = _of_asked_actions(frame, wanted, schema, reading)
            first = first or rows.columns
            if rows.columns != first:
                allowed = "in every file the columns " + ", ".join(first)
                raise ConfigError(file=str(file), key="columns", found=rows.columns, allowed=allowed)
            yield rows


def _suffix(file: File) -> str:
    return file.name.removesuffix(".gz").rpartition(".")[2]


def _csv(file: File, wanted: Wanted, reading: Reading) -> Iterator[pl.DataFrame]:
    separator = "\t" if _suffix(file) == "tsv" else ","
    published = wanted.form
    names = next(csv.reader([first_line(file)], delimiter=separator), []) if published.header else None
    names = list(published.columns.values()) if names is None else names
    found = wanted.among(names, file)
    lists = {ours: wanted.types[ours] for ours in found.values() if isinstance(wanted.types[ours], pl.List)}
    fields: FieldTypes = {
        found.get(name, f"not read {i}"): pl.String
        if name not in found or found[name] in lists
        else wanted.types[found[name]]
        for i, name in enumerate(names)
    }
    form = Form(
        fields=fields,
        separator=separator,
        skip=int(published.header),
        quoted=published.header,
        optional=wanted.numbers & fields.keys(),
        filled=frozenset(wanted.keys) & {name for name, dtype in fields.items() if dtype == pl.String},
        valid=wanted.valid([name for name in found.values() if name not in lists]) & _integers(lists),
    )
    for frame in scan_rows(file, form, reading):
        yield frame.select(_split(name).cast(lists[name]) if name in lists else name for name in found.values())


def _integers(lists: Mapping[str, pl.List]) -> pl.Expr:
    """Whether the texts of the lists of integers are such."""
    patterns = [pl.col(n).str.contains(r"^(\d{1,18}(\|\d{1,18})*)?$") for n, t in lists.items() if t.inner == pl.Int64]
    return pl.all_horizontal(pl.lit(True), *patterns)


def _split(name: str) -> pl.Expr:
    return pl.col(name).str.split(_BETWEEN).list.eval(pl.element().filter(pl.element() != ""))


def _json(file: File, wanted: Wanted, reading: Reading) -> Iterator[pl.DataFrame]:
    """A line has to have every column that one of the first lines has, numbers apart."""
    found = wanted.among(sorted(first_names(file)), file)

    def pick(one: Object) -> tuple[Any, ...]:
        return tuple(_value(one.get(theirs), ours, wanted) for theirs, ours in found.items())

    columns = {ours: wanted.types[ours] for ours in found.values()}
    said = "an object with " + ", ".join(f"{theirs} ({wanted.types[ours]})" for theirs, ours in found.items())
    for frame in scan_objects(file, columns, reading, pick=pick, allowed=said):
        yield frame.filter(wanted.valid(list(columns)))


def _value(value: object, name: str, wanted: "Wanted") -> object:
    """A JSON value as its column's. Raises TypeError if it is none."""
    dtype = wanted.types[name]
    if value is None and name in wanted.numbers:
        return None
    if isinstance(dtype, pl.List):
        inner = int if dtype.inner == pl.Int64 else str
        if not isinstance(value, list) or any(type(one) is not inner for one in value):
            raise TypeError(name)
        return value
    if dtype == pl.String:
        if not isinstance(value, str | int) or (name in wanted.keys and value == ""):
            raise TypeError(name)
        return str(value)
    lowest, highest = wanted.bounds(name)
    if not isinstance(value, int if dtype == pl.Int64 else int | float) or not lowest <= value <= highest:
        raise TypeError(name)
    return int(value) if dtype == pl.Int64 else float(value)


def _parquet(file: File, wanted: Wanted, reading: Reading) -> Iterator[pl.DataFrame]:
    """The rows of a file. One is malformed if a value is missing, numbers apart, or of another type."""
    try:
        with opened(file) as stream:
            frame = pl.read_parquet(stream)
    except PolarsError as error:
        raise ConfigError(file=str(file), key="file", found=str(error)[:200], allowed="a Parquet file") from error
    found = wanted.among(frame.columns, file)
    raw = frame.select(pl.col(theirs).alias(ours) for theirs, ours in found.items())
    times = [n for n in wanted.keys if isinstance(raw.schema[n], pl.Datetime)]
    typed = raw.with_columns(pl.col(name).dt.epoch("s") for name in times)
    typed = typed.select(pl.col(name).cast(wanted.types[name], strict=False) for name in typed.columns)
    whole = [pl.col(name).is_not_null() for name in typed.columns if name not in wanted.numbers]
    finite = [pl.col(n).is_finite() | pl.col(n).is_null() for n in typed.columns if n in wanted.numbers]
    good = typed.select(pl.all_horizontal(wanted.valid(typed.columns), *whole, *finite).fill_null(False).alias("good"))[
        "good"
    ]
    reading.took(file, len(raw))
    bad = (~good).arg_true()
    reading.malformed(file, [(at + 1, str(raw.row(at, named=True))) for at in bad])
    reading.finish(file, allowed=", ".join(f"{name} ({dtype})" for name, dtype in typed.schema.items()))
    yield typed.filter(good)


def _of_asked_actions(rows: pl.DataFrame, wanted: Wanted, schema: Schema, reading: Reading) -> pl.DataFrame:
    """The rows of the actions that the schema asks for, without their action."""
    if ACTION not in rows.columns:
        return rows
    kept = rows
    if schema.actions:
        theirs = wanted.form.actions or dict(zip(ACTIONS, ACTIONS, strict=True))
        kept = rows.filter(pl.col(ACTION).replace(theirs).is_in(schema.actions))
        reading.leave_out("action that schema.actions does not name", len(rows) - len(kept))
    return kept.drop(ACTION)
