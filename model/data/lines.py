"""A delimited text file as a typed frame: every line is read, and a broken one is an error with its number."""

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from model.bundle.errors import ConfigError

FieldTypes = dict[str, type[pl.DataType]]  # Int64, Float64 or String by field name

_MEANS: Mapping[type[pl.DataType], str] = {pl.Int64: "integer", pl.Float64: "number", pl.String: "text"}


def read_lines(path: Path, *, encoding: str) -> pl.Series:
    """The lines of a text file, without their ends; a name that ends in .gz is unpacked.

    Raises ConfigError naming the file if it cannot be read, and the line if its bytes are no text in `encoding`.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        text = raw.decode(encoding)
    except FileNotFoundError as error:
        raise ConfigError(file=str(path), key="file", found="nothing there", allowed="a readable file") from error
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            file=str(path), key=f"line {number}", found=raw[error.start], allowed=f"{encoding} text"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(file=str(path), key="file", found=str(error), allowed="a readable file") from error
    lines = pl.Series("line", [text]).str.split("\n").explode().str.strip_suffix("\r")
    return lines.head(len(lines) - 1) if lines[-1] == "" else lines


def split_fields(
    lines: pl.Series, fields: FieldTypes, *, separator: str, path: Path, first_line: int = 1
) -> pl.DataFrame:
    """The lines cut at `separator` into exactly these fields: Int64, Float64 or String.

    Raises ConfigError naming the file, the number of the first line at fault, that line, and what a line looks like.
    """
    parts = lines.str.split(separator)
    cut = parts.to_frame("parts").select(
        pl.col("parts").list.get(i, null_on_oob=True).alias(name) for i, name in enumerate(fields)
    )
    typed = cut.select(_typed(pl.col(name), dtype) for name, dtype in fields.items())
    bad = parts.list.len() != len(fields)
    for name in fields:
        bad = bad | typed[name].is_null()
    if bad.any():
        at = bad.arg_true()[0]
        allowed = f"{len(fields)} fields separated by {separator!r}: " + ", ".join(
            f"{name} ({_MEANS[dtype]})" for name, dtype in fields.items()
        )
        raise ConfigError(file=str(path), key=f"line {at + first_line}", found=str(lines[at])[:200], allowed=allowed)
    return typed


def _typed(text: pl.Expr, dtype: type[pl.DataType]) -> pl.Expr:
    """The text as `dtype`; null where it is not one."""
    if dtype is pl.Float64:
        number = text.cast(pl.Float64, strict=False)
        return pl.when(number.is_finite()).then(number)
    return text.cast(dtype, strict=False)
