"""Rows that come with their history, as another pipeline wrote it: only the catalogue and what a store would hold are
gathered, as of such a log in memory (`gathered`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from model.bundle.schema import Schema
from model.data.columns import behavior_columns, history_columns, item_columns, list_columns
from model.data.gathered import gather_behaviors, past_of
from model.data.history import ORDER, numbered_from
from model.data.partitions import CARRIED, Cut, Partitions, Piece
from model.data.piece_rows import PieceRows, Times, Told
from model.data.pile import Pile

_EVERY = float("-inf")  # carried is any row: it tells that a user's first one was before


@dataclass(frozen=True)
class Given:
    """Every row is an impression as it stands."""

    impressions: int = 1

    @property
    def cut(self) -> Cut:
        """As they are."""
        return Cut(positive_rating=_EVERY)

    def survey(self, partitions: Partitions, pieces: Iterator[Piece], scratch: Path) -> Times:
        """Nothing to learn."""
        return lambda: partitions.times(pl.lit(value=True))

    def rows(self, piece: Piece, told: Told) -> PieceRows:
        """All rows but those carried."""
        schema, keys = told.schema, told.schema.keys
        rows = piece.rows.sort(ORDER)
        new, before = rows.filter(~pl.col(CARRIED)), rows.filter(pl.col(CARRIED))[keys.user].unique()
        later = new.filter(pl.col(keys.user).is_in(before.implode()), pl.col(keys.label) == 1)
        first = new.filter(~pl.col(keys.user).is_in(before.implode()))
        stored = pl.concat([gather_behaviors(first, told.items, schema), later.select(*behavior_columns(schema))])
        past = past_of(new, schema)
        if schema.times is not None:
            past = past.with_columns(pl.col("time").alias(keys.timestamp))
        lengths = new[history_columns(schema)[keys.item]].list.len().to_numpy().astype(np.int64)
        return PieceRows(
            rows=new.drop(list_columns(schema)),
            behaviors=past,
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            stored=stored,
        )


class GivenItems:
    """The catalogue of `gathered.gather_items`, from rows block by block."""

    def __init__(self, schema: Schema) -> None:
        self._schema, self._rows, self._done = schema, Pile(_newest(schema)), 0
        # What histories alone tell of an item is all of it only if they tell every feature.
        self._past = Pile(_newest(schema)) if set(item_columns(schema)) == set(history_columns(schema)) else None

    def add(self, rows: pl.DataFrame) -> None:
        """Take note of the next rows of the log."""
        names = [*item_columns(self._schema), self._schema.keys.timestamp, ORDER]
        numbered = numbered_from(rows, self._done)
        self._rows.add(numbered.select(names))
        self._done += len(rows)
        if self._past is not None:
            self._past.add(past_of(numbered, self._schema, ORDER).select(names))

    def total(self) -> pl.DataFrame:
        """A row per item."""
        names, item = list(item_columns(self._schema)), self._schema.keys.item
        shown = self._rows.total().select(names)
        if self._past is None:
            return shown
        return pl.concat([shown, self._past.total().select(names).join(shown, on=item, how="anti")])


def _newest(schema: Schema) -> Callable[[pl.DataFrame], pl.DataFrame]:
    keys = schema.keys

    def newest(rows: pl.DataFrame) -> pl.DataFrame:
        ordered = rows.sort(keys.timestamp, ORDER, maintain_order=True)
        return ordered.unique(keys.item, keep="last", maintain_order=True)

    return newest
