"""What impressions a piece of a log holds, and with which histories: one strategy per kind of log.

Labelled   rows with a label: the clicks among them make the histories
Beside     impressions, and behaviors in a log apart that make the histories
NextItems  behaviors alone (`next_item_rows`)
Given      rows with their histories (`given_rows`)
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from model.bundle.schema import Schema
from model.bundle.vocabulary import Ids
from model.data.columns import behavior_columns, checked, impression_columns, list_columns, only
from model.data.history import PointInTime, point_in_time
from model.data.partitions import CARRIED, Cut, Partitions, Piece

CLICKED = "__clicked"  # the label of an impression that has behaviors beside it

Times = Callable[[], Iterator[Ids]]


@dataclass(frozen=True, kw_only=True)
class PieceRows:
    """The impressions of a piece, N of them, and the behaviors that their histories are slices of, C.

    rows       label, user, time and every feature, checked
    behaviors  by user and time, what a store would hold; with `CARRIED` for those that an earlier piece told of
    starts, lengths  [N] row i's history is behaviors[starts[i] : starts[i] + lengths[i]], oldest first
    stored     what a store would hold of the piece, if that is something else than its behaviors
    place      [N] 1 for a user's last behavior, 2 for the one before, if the log is split by that
    left_out   why rows of the log are none -> how many
    """

    rows: pl.DataFrame
    behaviors: pl.DataFrame
    starts: Ids
    lengths: Ids
    place: Ids | None = None
    stored: pl.DataFrame | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a log tells of items and users beside its rows; `file` is for messages."""

    schema: Schema
    items: pl.DataFrame
    users: pl.DataFrame | None
    file: str

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows in their order, with what they lack of their items and users."""
        item = self.schema.keys.item
        told = [name for name in self.items.columns if name not in rows.columns]
        items = only(self.items.select(item, *told), item, rows[item])
        rows = rows.join(items, on=item, how="left", maintain_order="left")
        if self.users is None:
            return rows
        user = self.schema.keys.user
        return rows.join(only(self.users, user, rows[user]), on=user, how="left", maintain_order="left")

    def checked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The columns of impressions, histories apart."""
        schema = self.schema
        lists = list_columns(schema)
        columns = {name: kind for name, kind in impression_columns(schema).items() if name not in lists}
        return checked(rows, columns, file=self.file)

    def behaviors(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The columns of behaviors, and `CARRIED`."""
        item, columns = self.schema.keys.item, behavior_columns(self.schema)
        if lacks := [name for name in columns if name not in rows.columns]:
            items = only(self.items.select(item, *lacks), item, rows[item])
            rows = rows.join(items, on=item, how="left", maintain_order="left")
        return checked(rows, columns, file=self.file).with_columns(rows[CARRIED])


class Kind(Protocol):
    """A kind of log."""

    @property
    def cut(self) -> Cut:
        """How its rows are put into pieces."""

    @property
    def impressions(self) -> int:
        """At most so many are made of a row."""

    def survey(self, partitions: Partitions, pieces: Iterator[Piece], scratch: Path) -> Times | None:
        """Learn what `rows` needs to know of the whole log, which `pieces` go through once. The times of all
        impressions, from which the borders of the splits follow, or None if those are by place.
        """

    def rows(self, piece: Piece, told: Told) -> PieceRows:
        """The impressions of a piece."""


@dataclass(frozen=True)
class Labelled:
    """Every row is an impression, and a click if its rating is at least so much."""

    positive_rating: float
    impressions: int = 1

    @property
    def cut(self) -> Cut:
        """As they are."""
        return Cut(positive_rating=self.positive_rating)

    def survey(self, partitions: Partitions, pieces: Iterator[Piece], scratch: Path) -> Times:
        """Nothing to learn."""
        return lambda: partitions.times(pl.lit(value=True))

    def rows(self, piece: Piece, told: Told) -> PieceRows:
        """All rows but those carried."""
        point = point_in_time(piece.rows, told.schema, positive_rating=self.positive_rating)
        return _sliced(point, np.flatnonzero(~point.rows[CARRIED].to_numpy()), told)


@dataclass(frozen=True)
class Beside:
    """Rows of rating 1 are behaviors, rows of rating 0 impressions, whose label is `CLICKED`."""

    impressions: int = 1

    @property
    def cut(self) -> Cut:
        """Behaviors make the histories."""
        return Cut(positive_rating=1.0)

    def survey(self, partitions: Partitions, pieces: Iterator[Piece], scratch: Path) -> Times:
        """Nothing to learn."""
        return lambda: partitions.times(pl.col("rating") == 0)

    def rows(self, piece: Piece, told: Told) -> PieceRows:
        """The impressions."""
        point = point_in_time(piece.rows, told.schema, positive_rating=1.0)
        labelled = replace(point, rows=point.rows.with_columns(pl.col(CLICKED).alias(told.schema.keys.label)))
        return _sliced(labelled, np.flatnonzero(point.rows["rating"].to_numpy() == 0), told)


def _sliced(point: PointInTime, own: Ids, told: Told) -> PieceRows:
    """The rows of the numbers `own`, with the histories that they have at `point`."""
    return PieceRows(
        rows=told.checked(told.of(point.rows[own])),
        behaviors=told.behaviors(point.rows[point.clicks]),
        starts=point.starts[own],
        lengths=point.lengths[own] * bool(told.schema.behavior),
    )
