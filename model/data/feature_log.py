"""The service's feature log as a log to train on: scored requests and the clicks that were reported for them, joined.

folder/features-*.jsonl    lines of scored requests and lines of clicks (docs/training.md), by several processes

An impression is a candidate with a report. Candidates without one were not shown, or nobody said so, and are left out.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from model.bundle.errors import ConfigError
from model.bundle.records import NOT_GIVEN
from model.bundle.schema import Schema
from model.data.columns import Kind, history_columns, impression_columns
from model.data.reading import Reading

Line = dict[str, Any]  # a JSON object

_FILES = "features-*.jsonl"
_TYPES: dict[Kind, Any] = {  # polars' types and their instances
    "id": pl.Int64,
    "text": pl.String,
    "number": pl.Float64,
    "label": pl.Int8,
    "time": pl.Int64,
    "ids": pl.List(pl.Int64),
    "texts": pl.List(pl.String),
}


def read_lines(path: Path, reading: Reading | None = None) -> Iterator[Line]:
    """Every line of a folder of the feature log, or of one file of it, in the order of files and lines.

    Erased lines are blank and those that a killed process left may be torn; both are passed over, and `reading` is told
    of the torn ones, however many. Raises ConfigError if there is no log.
    """
    reading = reading or Reading()
    files = sorted(path.glob(_FILES)) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise ConfigError(
            file=str(path), key="path", found="no feature log", allowed=f"a folder with {_FILES}, or a file"
        )
    for file in files:
        with file.open("rb") as lines:
            for number, raw in enumerate(lines, start=1):
                line = _parsed(raw)
                reading.took(file, 1)
                if isinstance(line, dict):
                    yield line
                elif raw.strip():
                    reading.malformed(file, [(number, raw.decode("utf-8", "replace").rstrip("\n"))])


def read_feature_log(path: Path, schema: Schema, reading: Reading | None = None) -> pl.DataFrame:
    """The impressions, by time: the columns of `impression_columns`, and request_id, bundle_version and served_pctr.

    Left out are requests without a report, those scored without their history (`degraded`), behaviors without the
    category that the schema asks for, and impressions that lack an id of the schema, since an id has no value for
    "not given"; `reading` is told how many. Raises ConfigError naming the column if that leaves nothing.
    """
    clicks, reading = _clicks(path), reading or Reading()
    columns = {**impression_columns(schema), "request_id": "text", "bundle_version": "text", "served_pctr": "number"}
    values: dict[str, list[Any]] = {name: [] for name in columns}
    for line in read_lines(path, reading):
        if "degraded" not in line:
            continue  # a report
        if line["degraded"] != "none":
            reading.leave_out("request scored without its history", 1)
        elif reported := clicks.get(line["request_id"]):
            for name, column in _rows(line, reported, schema).items():
                values[name].extend(column)
        else:
            reading.leave_out("request that nobody reported on", 1)
    frame = _frame(values, columns, schema)
    complete = [name for name, kind in columns.items() if kind != "number"]
    kept = frame.drop_nulls(complete)
    if not len(kept):
        raise _nothing(path, frame)
    reading.leave_out("impression without an id that the schema has", len(frame) - len(kept))
    return kept.sort(schema.keys.timestamp, maintain_order=True)


def _clicks(path: Path) -> dict[str, dict[int, bool]]:
    """Request id -> item -> whether it was clicked; what was reported first counts."""
    found: dict[str, dict[int, bool]] = {}
    for line in read_lines(path):
        if (request_id := line.get("feedback_for")) is not None:
            found.setdefault(request_id, dict(zip(line["items"], line["clicked"], strict=True)))
    return found


def _rows(line: Line, reported: dict[int, bool], schema: Schema) -> Line:
    """The columns of one request's impressions."""
    keys, items = schema.keys, line["items"]
    place = {item: row for row, item in reversed(list(enumerate(items[keys.item])))}
    rows = [place[item] for item in reported if item in place]
    shown = [items[keys.item][row] for row in rows]
    once = {keys.user: line["user_id"], keys.timestamp: line["time_ms"] // 1000, **_history(line["history"], schema)}
    once |= {f.name: line["user"].get(f.name) for f in schema.user if f.name != keys.user}
    once |= {f.name: line["context"].get(f.name) for f in schema.context}
    once |= {"request_id": line["request_id"], "bundle_version": line["bundle_version"]}
    out: Line = {name: [value] * len(rows) for name, value in once.items()}
    for feature in schema.item:
        column = items.get(feature.name)
        out[feature.name] = [None if column is None else column[row] for row in rows]
    out[keys.label] = [int(reported[item]) for item in shown]
    return {**out, "served_pctr": [line["pctr"][row] for row in rows]}


def _history(history: Line, schema: Schema) -> Line:
    named = history_columns(schema)
    columns = {column: history["item" if key == schema.keys.item else "category"] for key, column in named.items()}
    if schema.times is not None:
        columns[schema.times.column] = [ms // 1000 for ms in history["time"]]
    if schema.keys.category not in named:
        return columns
    told = [category != NOT_GIVEN for category in history["category"]]
    return {name: [v for v, here in zip(column, told, strict=True) if here] for name, column in columns.items()}


def _frame(values: Line, columns: dict[str, Kind], schema: Schema) -> pl.DataFrame:
    user = schema.keys.user
    if not all(type(one) is int for one in values[user]):  # 7 and "7" are one user
        values[user] = list(map(str, values[user]))
    types = {**_TYPES, "user": pl.Int64 if values[user] and type(values[user][0]) is int else pl.String}
    return pl.DataFrame([pl.Series(name, values[name], dtype=types[kind]) for name, kind in columns.items()])


def _nothing(path: Path, frame: pl.DataFrame) -> ConfigError:
    if not len(frame):
        allowed = "requests with clicks reported by POST /feedback"
        return ConfigError(file=str(path), key="lines", found="no impressions", allowed=allowed)
    missing = Counter({name: frame[name].null_count() for name in frame.columns})
    name, count = missing.most_common(1)[0]
    found = f"{count} of {len(frame)} impressions without it"
    return ConfigError(file=str(path), key=f"column {name}", found=found, allowed="a feature that requests give")


def _parsed(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
