"""A request in the form of POST /score, read offline: raw values to the tensors of both halves. U = 1 user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.bundle.encode import Encoder, Tensors
from model.bundle.errors import ConfigError, EncodeError
from model.bundle.explanation import Seen
from model.bundle.raw import as_ids, as_numbers
from model.bundle.records import Behaviors, make_behaviors
from model.bundle.schema import Schema

# What a request may hold; the last three mean nothing offline.
_FIELDS = ("user_id", "candidates", "user", "context", "history", "top_k", "request_id", "bundle", "explain")
_TIME = "time"

Columns = dict[str, list[Any]]  # `Any`: as JSON has it


@dataclass(frozen=True, kw_only=True)
class OfflineRequest:
    """What a file asks for: candidates and history as columns by feature, one value each of user and context."""

    file: str
    candidates: Columns
    user: Mapping[str, Any]
    context: Mapping[str, Any]
    history: Columns
    top_k: int | None


def read_request(table: Mapping[str, Any], schema: Schema, *, file: str) -> OfflineRequest:
    """Check names and shapes; values are the encoder's to check. Raises ConfigError naming `file` and the key."""
    keys = schema.keys
    _check_names(table, _FIELDS, file=file, key="")
    user = _object(table.get("user"), [f.name for f in schema.user if f.name != keys.user], file=file, key="user")
    if keys.user in {feature.name for feature in schema.user}:
        user = {**user, keys.user: table.get("user_id")}
    times = [keys.timestamp] if schema.times else []
    context = _object(table.get("context"), [*times, *(f.name for f in schema.context)], file=file, key="context")
    behavior = [name for name in (keys.item, keys.category, _TIME) if name]
    top_k = table.get("top_k")
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise ConfigError(file=file, key="top_k", found=top_k, allowed="an integer from 1")
    candidates = _columns(table.get("candidates"), [f.name for f in schema.item], file=file, key="candidates")
    history = _columns(table.get("history") or [], behavior, file=file, key="history")
    if not candidates.get(keys.item):
        raise ConfigError(file=file, key="candidates", found="none", allowed=f"one or more with {keys.item}")
    return OfflineRequest(file=file, candidates=candidates, user=user, context=context, history=history, top_k=top_k)


def encode_request(request: OfflineRequest, encoder: Encoder, *, now_ms: int) -> Seen:
    """What the service would hand to the net. `now_ms` counts unless the context has a time. Raises EncodeError."""
    schema = encoder.schema
    context = {name: [value] for name, value in request.context.items()}
    if schema.times and (given := context.pop(schema.keys.timestamp, None)) is not None:
        now_ms = int(as_numbers(given, feature=schema.keys.timestamp)[0] * 1000)
    history = _behaviors(request.history, schema)
    user: Tensors = encoder.encode_request({n: [v] for n, v in request.user.items()}, context, rows=1)
    return Seen(
        history=history,
        user={**user, **encoder.encode_history([history], now_ms=np.array([now_ms]))},
        items=encoder.encode_items(request.candidates),
        item_ids=as_ids(request.candidates[schema.keys.item], feature=schema.keys.item),
    )


def _behaviors(columns: Columns, schema: Schema) -> Behaviors:
    """Oldest first: by time where there is one."""
    ids = {name: as_ids(values, feature=f"history.{name}") for name, values in columns.items()}
    item, time = ids.get(schema.keys.item, np.empty(0, dtype=np.int64)), ids.get(_TIME)
    if time is None and schema.times and len(item):
        raise EncodeError(feature=f"history.{_TIME}", found="none", allowed="milliseconds since the epoch")
    behaviors = make_behaviors(item, category=ids.get(schema.keys.category or ""), time=time)
    return behaviors if time is None else behaviors[np.argsort(time, kind="stable")]


def _object(value: Any, names: list[str], *, file: str, key: str) -> Mapping[str, Any]:  # noqa: ANN401  # JSON
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(file=file, key=key, found=value, allowed="an object")
    _check_names(value, names, file=file, key=f"{key}.")
    return value


def _columns(value: Any, names: list[str], *, file: str, key: str) -> Columns:  # noqa: ANN401  # JSON
    """Rows or columns as columns of one length."""
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        first = list(value[0]) if value else []
        if any(row.keys() != set(first) for row in value):
            raise ConfigError(file=file, key=key, found="rows of different fields", allowed="the same in every row")
        value = {name: [row[name] for row in value] for name in first}
    if not isinstance(value, dict) or not all(isinstance(column, list) for column in value.values()):
        raise ConfigError(file=file, key=key, found=value, allowed="a list of objects, or an object of lists")
    if len({len(column) for column in value.values()}) > 1:
        raise ConfigError(file=file, key=key, found="columns of different lengths", allowed="equal lengths")
    _check_names(value, names, file=file, key=f"{key}.")
    return value


def _check_names(table: Mapping[str, Any], names: "list[str] | tuple[str, ...]", *, file: str, key: str) -> None:
    for name in table:
        if name not in names:
            raise ConfigError(file=file, key=f"{key}{name}", found=name, allowed="one of " + ", ".join(names))
