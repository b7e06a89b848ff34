"""Lists of different lengths: a polars list column on one side, numpy values end to end with lengths on the other."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.vocabulary import Ids


def to_flat(lists: pl.Series) -> tuple[pl.Series, Ids]:
    """The values of a list column end to end, and the length of each row's list [N]."""
    lengths = lists.list.len()
    # An empty list explodes to one null, which would be a value that nobody wrote.
    flat = lists.filter(lengths > 0).explode()
    return flat, lengths.to_numpy().astype(np.int64)


def to_lists(flat: pl.Series, lengths: Ids) -> pl.Series:
    """The list column whose rows hold `lengths` consecutive values of `flat`."""
    rows = pl.Series("row", np.repeat(np.arange(len(lengths)), lengths), dtype=pl.Int64)
    filled = pl.DataFrame([rows, flat.alias("value")]).group_by("row", maintain_order=True).agg("value")
    every = pl.DataFrame({"row": np.arange(len(lengths), dtype=np.int64)})
    return every.join(filled, on="row", how="left", maintain_order="left")["value"].fill_null([]).alias(flat.name)


def slices(starts: Ids, lengths: Ids) -> NDArray[np.int64]:
    """Positions start, start + 1, ... of every slice, end to end: what gathers rows out of flat values."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(total)
