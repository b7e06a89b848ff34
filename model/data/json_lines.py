"""Files of one object per line, as JSON or, as the Amazon metadata of 2014 has them, as Python dicts."""

import ast
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import polars as pl

from model.data.reading import Reading
from model.data.source import File, line_blocks

Object = dict[str, Any]  # of JSON values
Schema = dict[str, type[pl.DataType]]

_FIRST = 1 << 16  # bytes


def scan_objects(
    file: File, columns: Schema, reading: Reading, *, pick: Callable[[Object], tuple[Any, ...]], allowed: str
) -> Iterator[pl.DataFrame]:
    """A frame per block of lines: the values of `columns` that `pick` takes from each object.

    A line is malformed if it holds no object, or if `pick` raises KeyError, TypeError, ValueError or IndexError;
    `allowed` says what it should be. Raises ConfigError naming the first one if they are too many.
    """
    yield pl.DataFrame(schema=columns)
    for first, block in line_blocks(file, reading):
        lines = block.split(b"\n")[:-1]
        rows, malformed = [], []
        for at, line in enumerate(lines):
            try:
                rows.append(pick(_object(line)))
            except (KeyError, TypeError, ValueError, IndexError):
                malformed.append((first + at, line.decode("utf-8", "replace")))
        reading.took(file, len(lines))
        reading.malformed(file, malformed)
        values = zip(*rows, strict=True) if rows else [[] for _ in columns]
        yield pl.DataFrame([pl.Series(n, v, dtype=t) for (n, t), v in zip(columns.items(), values, strict=True)])
    reading.finish(file, allowed=allowed)


def first_names(file: File) -> set[str]:
    """The names that occur in the objects of the first lines. Raises ConfigError if the file cannot be read."""
    _, block = next(line_blocks(file, Reading(block_bytes=_FIRST)), (1, b""))
    names: set[str] = set()
    for line in block.split(b"\n"):
        with suppress(ValueError):
            names |= _object(line).keys()
    return names


def _object(line: bytes) -> Object:
    """The object of a line. Raises ValueError if there is none."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        found = _python(line)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _python(line: bytes) -> object:
    if not line.startswith(b"{'"):
        raise ValueError("neither JSON nor a Python dict")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes in the text of reviews
            return ast.literal_eval(line.decode().strip())  # literals only: nothing is called
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("no Python dict") from error
