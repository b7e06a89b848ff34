"""Turns a parsed TOML or JSON table into a frozen dataclass, or says exactly what is wrong with it."""

import dataclasses
import math
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from model.bundle.errors import ConfigError

T = TypeVar("T")
_NAMES: dict[object, str] = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def setting(default: Any = dataclasses.MISSING, *, low: float | None = None, high: float | None = None) -> Any:  # noqa: ANN401
    """A dataclass field whose value must lie in [low, high]; floats must be finite in any case.

    `Any` as in `dataclasses.field`, whose twin it is.
    """
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def from_table(cls: type[T], table: object, *, file: str, key: str = "") -> T:
    """Build the dataclass `cls` from `table`.

    Raises ConfigError naming `file`, the dotted key below `key`, what was found and what is allowed, for an unknown or
    missing key, a wrong type, or a number out of its `setting` bounds.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(file=file, key=key or "(top level)", found=table, allowed="a table")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # T is always a dataclass here
    hints = get_type_hints(cls)
    for name in table:
        if name not in fields:
            raise ConfigError(file=file, key=_join(key, name), found=name, allowed="one of " + ", ".join(fields))
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _value(hints[name], table[name], file=file, key=_join(key, name))
            _check_bounds(values[name], field, file=file, key=_join(key, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(
                file=file, key=_join(key, name), found=None, allowed=f"{_describe(hints[name])} (required)"
            )
    return cls(**values)


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


def _check_bounds(value: object, field: "dataclasses.Field[Any]", *, file: str, key: str) -> None:
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    endless = isinstance(value, float) and not math.isfinite(value)
    if endless or (low is not None and value < low) or (high is not None and value > high):
        bounds = [f">= {low}"] if low is not None else []
        bounds += [f"<= {high}"] if high is not None else []
        bounds += ["a finite number"] if endless else []
        raise ConfigError(file=file, key=key, found=value, allowed=" and ".join(bounds))


def _value(hint: Any, value: object, *, file: str, key: str) -> Any:  # noqa: ANN401  # type hints are runtime values
    """Check `value` against the annotation `hint` and convert lists to tuples and tables to dataclasses."""
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_table(hint, value, file=file, key=key)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_value(args[0], item, file=file, key=f"{key}[{i}]") for i, item in enumerate(value))
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _value(next(arg for arg in args if arg is not type(None)), value, file=file, key=key)
    if _fits(hint, value):
        return float(value) if hint is float and isinstance(value, int) else value
    if hint is Path and isinstance(value, str):
        return Path(value)
    raise ConfigError(file=file, key=key, found=value, allowed=_describe(hint))


def _fits(hint: object, value: object) -> bool:
    if hint is Any:  # since Python 3.11 a class, but not one to ask isinstance about
        return True
    if get_origin(hint) is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if get_origin(hint) in (dict, Mapping):
        return isinstance(value, Mapping)
    if hint is float:  # TOML's integers have no limit, but a float has
        return isinstance(value, float) or (type(value) is int and abs(value) <= sys.float_info.max)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(hint, type) and isinstance(value, hint)


def _describe(hint: object) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(arg) for arg in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_describe(arg) for arg in get_args(hint) if arg is not type(None))
    return _NAMES.get(hint, "a table" if not isinstance(hint, type) else hint.__name__)
