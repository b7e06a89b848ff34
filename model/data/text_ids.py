"""Integers for the text ids of a log, which nets and requests know as integers only.

The id is a hash, so it needs no file, is the same in every log and on every day, and any client can compute it: the
first 53 bits of the SHA-256 of the UTF-8 text. 53 bits survive JSON in every language; among a million ids two are
equal with a chance of 6e-5, which is an error and not a mix-up.
"""

import hashlib
from pathlib import Path

import polars as pl

from model.data.reading import Reading
from model.data.text_names import TextNames


def text_id(text: str) -> int:
    """The integer that stands for `text`, below 2^53; 0 for an empty text, which means none."""
    if not text:
        return 0
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 11


def numbered(frame: pl.DataFrame, columns: list[str], reading: Reading) -> pl.DataFrame:
    """`frame` with the text of those columns as integers; `reading.names` gets what became of what.

    Raises ConfigError if two texts of a column have one integer.
    """
    for name in columns:
        texts = frame[name].unique()
        ids = pl.Series("id", [text_id(text) for text in texts], dtype=pl.Int64)
        reading.names.setdefault(name, TextNames(name)).add(pl.DataFrame([ids, texts.alias("text")]))
        integers = frame[name].replace_strict(texts, ids, return_dtype=pl.Int64)
        frame = frame.with_columns(integers.cast(pl.Int64))  # of no rows polars leaves them texts
    return frame


def write_names(reading: Reading, folder: Path) -> None:
    """`names_<column>.parquet` (id, text) for every column whose texts became integers."""
    for name, told in reading.names.items():
        told.total().write_parquet(folder / f"names_{name}.parquet")
