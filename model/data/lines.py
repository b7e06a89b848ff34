"""A delimited text file as typed frames, a block of lines at a time: every line is read, malformed ones are told.

A block goes through polars' CSV reader. Where that stumbles, or leaves anything in doubt, the block is cut line by
line, which finds the malformed lines; so the speed is that of the reader wherever a file is clean.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl
from polars.exceptions import PolarsError

from model.bundle.errors import ConfigError
from model.data.reading import Reading
from model.data.source import File, line_blocks

FieldTypes = dict[str, type[pl.DataType]]  # Int64, Float64 or String by field name

_SMALL, _PARTS = 1 << 16, 8  # bytes of a part that is cut line by line; how many parts are made of a block
_QUOTED = re.compile(rb'"[^"\n]*"')
_MEANS: Mapping[type[pl.DataType], str] = {pl.Int64: "integer", pl.Float64: "number", pl.String: "text"}


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a line looks like.

    fields     name and type of each field, in the file's order
    skip       lines before the first row
    quoted     whether a field may stand between double quotes; a line break inside them is malformed
    optional   numbers that may be missing: nothing or `missing` in their place
    filled     text that may not be empty
    valid      what else must be true of a row
    """

    fields: FieldTypes
    separator: str = ","
    skip: int = 0
    quoted: bool = False
    encoding: str = "utf-8"
    optional: frozenset[str] = frozenset()
    missing: str = "NULL"
    filled: frozenset[str] = frozenset()
    valid: pl.Expr | None = None

    def __str__(self) -> str:
        """For messages."""
        fields = ", ".join(f"{name} ({_MEANS[dtype]})" for name, dtype in self.fields.items())
        return f"{self.encoding} text in {len(self.fields)} fields separated by {self.separator!r}: {fields}"


def read_rows(file: File, form: Form, reading: Reading) -> pl.DataFrame:
    """All rows of the file. Raises ConfigError naming the file, and the first malformed line if they are too many."""
    return pl.concat(scan_rows(file, form, reading))


def scan_rows(file: File, form: Form, reading: Reading) -> Iterator[pl.DataFrame]:
    """The rows of the file, a frame per block, so that no more than a block is in memory. Raises as `read_rows`."""
    yield pl.DataFrame(schema=form.fields)
    for first, block in line_blocks(file, reading):
        skipped = max(form.skip + 1 - first, 0)
        lines = block.split(b"\n", skipped)[-1] if skipped else block
        reading.took(file, lines.count(b"\n"))
        number = first + skipped
        for part, rows in _parts(lines, form):
            whole, malformed = (rows, []) if rows is not None else _cut(part, form)
            reading.malformed(file, [(number + at, text) for at, text in malformed])
            number += part.count(b"\n")
            yield whole
    reading.finish(file, allowed=str(form))


def first_line(file: File, *, encoding: str = "utf-8") -> str:
    """The first line, without its end or a byte order mark; empty if there is none. Raises ConfigError naming the
    file if it cannot be read or is no text.
    """
    head = next(line_blocks(file, Reading(block_bytes=1 << 16)), (1, b""))[1].partition(b"\n")[0]
    try:
        return head.decode(encoding).removesuffix("\r").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ConfigError(file=str(file), key="line 1", found=str(head[:80]), allowed=f"{encoding} text") from error


def _parts(lines: bytes, form: Form) -> Iterator[tuple[bytes, pl.DataFrame | None]]:
    """The block and its rows if the reader takes it; if not, ever smaller parts with theirs, until those that are left
    without are small, so that one malformed line costs little.
    """
    rows = _parsed(lines, form)
    if rows is not None or len(lines) <= _SMALL:
        yield lines, rows
        return
    size, start = len(lines) // _PARTS, 0
    while start < len(lines):
        end = lines.find(b"\n", min(start + size, len(lines) - 1)) + 1
        yield from _parts(lines[start:end], form)
        start = end


def _parsed(lines: bytes, form: Form) -> pl.DataFrame | None:
    """The rows as polars' CSV reader sees them; None if any line may be malformed."""
    plain = _plain(lines, form)
    if plain is None:
        return None
    try:
        rows = pl.read_csv(
            plain,
            has_header=False,
            schema=form.fields,
            separator="\t" if len(form.separator) > 1 else form.separator,
            quote_char='"' if form.quoted else None,
            null_values=dict.fromkeys(sorted(form.optional), form.missing),
        )
    except PolarsError:
        return None
    sure = len(rows) == lines.count(b"\n") and all(_sure(rows[name], form) for name in form.fields)
    rows = rows.with_columns(pl.col(pl.String).fill_null(""))
    return rows if sure and _valid(rows, form).all() else None


def _plain(lines: bytes, form: Form) -> bytes | None:
    """Lines for a reader that knows one-byte separators and UTF-8; None where they cannot be had for sure."""
    if not lines:
        return None
    if len(form.separator) > 1:
        if b"\t" in lines:
            return None
        lines = lines.replace(form.separator.encode(), b"\t")
    separator = "\t" if len(form.separator) > 1 else form.separator
    bare = _QUOTED.sub(b"", lines) if form.quoted and b'"' in lines else lines
    # The reader fills a line that is too short with nulls, and lets a field in quotes go over lines.
    if bare.count(separator.encode()) != lines.count(b"\n") * (len(form.fields) - 1) or (form.quoted and b'"' in bare):
        return None
    return lines if form.encoding == "utf-8" else lines.decode(form.encoding).encode()


def _sure(values: pl.Series, form: Form) -> bool:
    """Whether no value of a column may be malformed. An empty text is null so far."""
    name, empty = values.name, bool(values.null_count())
    if values.dtype == pl.String:
        return name not in form.filled or not (empty or (values == "").any())
    if empty and name not in form.optional:
        return False
    return values.dtype != pl.Float64 or bool(values.is_finite().all())


def _valid(rows: pl.DataFrame, form: Form) -> pl.Series:
    return rows.select((pl.lit(True) if form.valid is None else form.valid.fill_null(False)).alias("valid"))["valid"]


def _cut(lines: bytes, form: Form) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """The rows of the well-formed lines, and place and text of the malformed ones."""
    raw = [line.removesuffix(b"\r") for line in lines.split(b"\n")[:-1]]
    parts = pl.Series("parts", [_fields(line, form) for line in raw], dtype=pl.List(pl.String))
    cut = parts.to_frame().select(
        pl.col("parts").list.get(i, null_on_oob=True).alias(name) for i, name in enumerate(form.fields)
    )
    typed = cut.select(_typed(pl.col(name), dtype) for name, dtype in form.fields.items())
    bad = (parts.list.len() != len(form.fields)).fill_null(True)
    for name in form.fields:
        fault = typed[name].is_null()
        if name in form.optional:
            fault = fault & ~cut[name].is_in(["", form.missing])
        if name in form.filled:
            fault = fault | (typed[name] == "")
        bad = bad | fault
    bad = bad | ~_valid(typed, form)
    malformed = [(at, raw[at].decode(form.encoding, "replace")) for at in bad.arg_true()]
    return typed.filter(~bad), malformed


def _fields(line: bytes, form: Form) -> list[str] | None:
    try:
        text = line.decode(form.encoding)
        if not form.quoted or '"' not in text:
            return text.split(form.separator)
        return next(csv.reader([text], delimiter=form.separator, strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None


def _typed(text: pl.Expr, dtype: type[pl.DataType]) -> pl.Expr:
    """The text as `dtype`; null where it is not one."""
    if dtype is pl.Float64:
        number = text.str.strip_chars(" ").cast(pl.Float64, strict=False)
        return pl.when(number.is_finite()).then(number)
    return text.str.strip_chars(" ").cast(dtype, strict=False) if dtype is pl.Int64 else text
