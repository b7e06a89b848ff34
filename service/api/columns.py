"""Rows or columns of raw values, as JSON gave them, to checked columns: one pass per column, no object per row.

    [{"item_id": 1, "cate_id": 2}, ...]  or  {"item_id": [1, ...], "cate_id": [2, ...]}  ->  {"item_id": int64 [N], ...}

Types are checked before numpy sees a column: it would turn [1, true] into integers, and one long string among the
ids into a column of equally long strings. What `rows.py` has read is checked already.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Literal

import numpy as np

from model.bundle.errors import EncodeError
from model.bundle.raw import Lists, as_ids, as_numbers
from model.bundle.schema import Feature
from model.bundle.vocabulary import Ids
from service.api.rows import IdRows
from service.errors import InvalidRequest

Kind = Literal["id", "text", "number", "ids", "texts"]
Fields = Mapping[str, Kind]
Values = Sequence[object] | Ids

_TYPES: Mapping[Kind, frozenset[type]] = {
    "id": frozenset({int}),
    "text": frozenset({str}),
    "number": frozenset({int, float}),
    "ids": frozenset({list}),
    "texts": frozenset({list}),
}
_INNER: Mapping[Kind, Kind] = {"ids": "id", "texts": "text"}
_ALLOWED: Mapping[Kind, str] = {
    "id": "an integer from 0 to 2^63 - 1",
    "text": "a string",
    "number": "a finite number",
    "ids": "a list of integers from 0 to 2^63 - 1",
    "texts": "a list of strings",
}


def kind_of(feature: Feature) -> Kind:
    """What a request must send for this feature."""
    if feature.kind == "dense":
        return "number"
    if feature.kind == "multi":
        return "ids" if feature.dtype == "int" else "texts"
    return "id" if feature.dtype == "int" else "text"


def to_columns(value: object, fields: Fields, *, key: str, where: str) -> dict[str, Values]:
    """Equally long columns, `key` always among them, from rows or columns. `where` names the place in messages.

    Raises InvalidRequest naming the field or the row at fault: unknown, missing in some rows, or not a list.
    """
    if isinstance(value, IdRows):
        if key in value.columns and all(fields.get(name) == "id" for name in value.columns):
            return dict(value.columns)
        value = value.to_rows()
    if isinstance(value, list):
        return _from_rows(value, fields, key=key, where=where)
    if isinstance(value, dict):
        return _from_columns(value, fields, key=key, where=where)
    raise InvalidRequest(f"{where}: found {shown(value)}, allowed: a list of objects, or an object of lists")


def to_single_row(value: object, fields: Fields, *, where: str) -> dict[str, object]:
    """Checked columns of length one from an object; none from null."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}: found {shown(value)}, allowed: an object")
    _check_names(value, fields, where=where)
    return {name: check_column([v], fields[name], where=f"{where}.{name}") for name, v in value.items()}


def check_columns(columns: Mapping[str, Values], fields: Fields, *, where: str) -> dict[str, object]:
    """The columns as the encoder takes them. Raises InvalidRequest naming field, row, found and allowed."""
    return {name: check_column(v, fields[name], where=f"{where}.{name}") for name, v in columns.items()}


def check_column(values: Values, kind: Kind, *, where: str) -> object:
    """One column: int64 ids, float64 numbers, the strings themselves, or a list per row."""
    if kind == "id":
        return check_ids(values, where=where)
    _check_types(values, kind, where=where)
    if kind in _INNER:
        return _check_lists(list(values), kind, where=where)
    return as_numbers(np.array(values, dtype=np.float64), feature=where) if kind == "number" else values


def _check_lists(values: list[Any], kind: Kind, *, where: str) -> Lists:
    """`Any`: lists, of what JSON gave."""
    inner = _INNER[kind]
    lengths = np.array(list(map(len, values)), dtype=np.int64)
    try:
        flat = check_column(list(chain.from_iterable(values)), inner, where=where)
    except InvalidRequest:
        raise _refused(values, kind, where=where) from None
    return Lists(values=flat, lengths=lengths)  # type: ignore[arg-type]  # ids or texts


def check_ids(values: Values, *, where: str) -> Ids:
    """One column of ids as int64. Raises InvalidRequest."""
    if isinstance(values, np.ndarray):
        return values
    _check_types(values, "id", where=where)
    try:
        return as_ids(np.array(values, dtype=np.int64), feature=where)
    except (EncodeError, OverflowError):
        raise _refused(values, "id", where=where) from None


def shown(value: object) -> str:
    """A value for a message: short, whatever it is."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_types(values: Values, kind: Kind, *, where: str) -> None:
    if not _TYPES[kind].issuperset(set(map(type, values))):
        raise _refused(values, kind, where=where)


def _refused(values: Values, kind: Kind, *, where: str) -> InvalidRequest:
    row = next(i for i, value in enumerate(values) if not _fits(value, kind))
    place = where if len(values) == 1 else f"{where}, row {row}"
    inner = _INNER.get(kind)
    if inner is None or not isinstance(value := values[row], list):
        return InvalidRequest(f"{place}: found {shown(values[row])}, allowed: {_ALLOWED[kind]}")
    wrong = next(one for one in value if not _fits(one, inner))
    return InvalidRequest(f"{place}: found {shown(wrong)} in a list, allowed: {_ALLOWED[kind]}")


def _fits(value: object, kind: Kind) -> bool:
    if isinstance(value, list):
        return kind in _INNER and all(_fits(one, _INNER[kind]) for one in value)
    return type(value) in _TYPES[kind] and not (kind == "id" and isinstance(value, int) and not 0 <= value < 2**63)


def _from_rows(rows: list[Any], fields: Fields, *, key: str, where: str) -> dict[str, Values]:
    """`Any`: what JSON gave; a row that is no object fails the lookups, and `_uneven` says which one it was."""
    if not rows:
        return {key: []}
    names = list(rows[0]) if isinstance(rows[0], dict) else [key]
    try:
        columns: dict[str, Values] = {name: list(map(itemgetter(name), rows)) for name in names}
        even = set(map(len, rows)) == {len(names)}
    except (KeyError, TypeError):
        even = False
    if not even or not columns.keys() <= fields.keys() or key not in columns:
        raise _uneven(rows, names, fields, key=key, where=where)
    return columns


def _uneven(rows: list[Any], names: list[str], fields: Fields, *, key: str, where: str) -> InvalidRequest:
    """What is wrong with the first row that is not an object of exactly these fields."""
    for row, value in enumerate(rows):
        if not isinstance(value, dict):
            return InvalidRequest(f"{where}[{row}]: found {shown(value)}, allowed: an object")
        _check_names(value, fields, key=key, where=f"{where}[{row}]")
        if differing := sorted(set(names) ^ value.keys()):
            name = differing[0]
            without, having = (row, 0) if name in names else (0, row)
            return InvalidRequest(
                f"{where}[{without}]: has no {name}, which row {having} has; allowed: in every row or in none"
            )
    raise AssertionError("rows are even")


def _from_columns(columns: dict[str, object], fields: Fields, *, key: str, where: str) -> dict[str, Values]:
    _check_names(columns, fields, where=where, key=key)
    lengths: dict[str, int] = {}
    for name, values in columns.items():
        if not isinstance(values, list):
            raise InvalidRequest(f"{where}.{name}: found {shown(values)}, allowed: a list")
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InvalidRequest(f"{where}: found columns of different lengths ({found}), allowed: equal lengths")
    return columns  # type: ignore[return-value]  # lists all


def _check_names(given: Mapping[str, object], fields: Fields, *, where: str, key: str | None = None) -> None:
    if not given.keys() <= fields.keys():
        name = next(name for name in given if name not in fields)
        allowed = ", ".join(fields) or "none"
        raise InvalidRequest(f"{where}: unknown field {shown(name)}, allowed: {allowed}")
    if key is not None and key not in given:
        raise InvalidRequest(f"{where}: has no {key}, which must be there")
