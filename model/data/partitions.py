"""A rating log on disk in partitions by user, so that all rows of a user can be sorted together in little memory.

A partition that is still too large is cut again by user. What one user alone makes too large is cut by time, and the
user's newest clicks are carried from each cut to the next: histories come out as if the log had been sorted as a whole.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from model.bundle.schema import Schema
from model.data.history import ORDER

CARRIED = "__carried"  # true for clicks that came before, and are no impressions of this piece
_PART = "__part"
_PARTITIONS = 64
_DEEPEST = 2  # times that a partition is cut by user before it is cut by time


@dataclass(frozen=True)
class Piece:
    """All rows of some users, with the column `CARRIED`; or of some time, and then `met` has user and item of all rows
    of theirs.
    """

    rows: pl.DataFrame
    met: pl.DataFrame | None = None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How rows are put into pieces.

    positive_rating  which ratings are clicks
    once  columns; of rows that are equal in them the first one counts
    """

    positive_rating: float
    once: tuple[str, ...] = ()

    def read(self, files: list[Path], where: pl.Expr | None = None) -> pl.DataFrame:
        """The rows of some files of which `where` is true, none of them carried."""
        parts = (pl.read_parquet(file) for file in files)  # one at a time: all may be more than a piece
        rows = pl.concat(parts if where is None else (part.filter(where) for part in parts))
        if self.once:
            rows = rows.unique(self.once, keep="first", maintain_order=True)
        return rows.with_columns(pl.lit(value=False).alias(CARRIED))


class Partitions:
    """Ratings by user in files of `folder`."""

    def __init__(self, folder: Path, schema: Schema, cut: Cut, *, depth: int = 0, parts: int = _PARTITIONS) -> None:
        self._folder, self._schema, self._how, self._depth = folder, schema, cut, depth
        self._rows = np.zeros(parts, dtype=np.int64)
        self._files = 0
        self._finer: dict[int, Partitions] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._rows.sum())

    def add(self, piece: pl.DataFrame) -> None:
        """Append rows, which have the column `ORDER`."""
        hashed = pl.col(self._schema.keys.user).hash(self._depth) % len(self._rows)
        for (part,), rows in piece.with_columns(hashed.alias(_PART)).partition_by(_PART, as_dict=True).items():
            rows.drop(_PART).write_parquet(self._folder / f"{part:02}-{self._files:06}.parquet", compression="lz4")
            self._rows[part] += len(rows)
        self._files += 1

    def divided(self, parts: int) -> "list[Partitions]":
        """The partitions dealt to at most so many, each with some rows; they share the files."""
        out = []
        for part in range(parts):
            mine = copy.copy(self)
            mine._rows = np.where(np.arange(len(self._rows)) % parts == part, self._rows, 0)
            out.append(mine)
        return [mine for mine in out if len(mine)]

    def times(self, where: pl.Expr) -> Iterator[np.ndarray]:
        """The timestamps of all rows of whose ratings `where` is true, some at a time."""
        for file in sorted(self._folder.glob("*.parquet")):
            rows = pl.read_parquet(file, columns=[self._schema.keys.timestamp, "rating"])
            yield rows.filter(where)[self._schema.keys.timestamp].to_numpy()

    def pieces(self, most: int) -> Iterator[Piece]:
        """All rows once, about `most` at a time.

        The rows of a user come in one piece, or in several by time, and then each begins with the user's newest
        `max_history` clicks of the pieces before.
        """
        together: list[int] = []
        for part in np.flatnonzero(self._rows).tolist():
            if self._rows[part] > most:
                yield from self._large(part, most)
                continue
            if together and self._rows[[*together, part]].sum() > most:
                yield self._read(together)
                together = []
            together.append(part)
        if together:
            yield self._read(together)

    def _read(self, parts: list[int]) -> Piece:
        return Piece(self._how.read([file for part in parts for file in self._of(part)]))

    def _of(self, part: int) -> list[Path]:
        return sorted(self._folder.glob(f"{part:02}-*.parquet"))

    def _large(self, part: int, most: int) -> Iterator[Piece]:
        """A partition too large: cut by user, and where that was tried before, by time."""
        if self._depth == _DEEPEST:
            yield from self._by_time(part, most)
            return
        if part not in self._finer:
            self._finer[part] = self._cut(part, most)
        yield from self._finer[part].pieces(most)

    def _cut(self, part: int, most: int) -> "Partitions":
        folder, parts = self._folder / f"{part:02}", min(2 * int(self._rows[part]) // most + 1, _PARTITIONS)
        finer = Partitions(folder, self._schema, self._how, depth=self._depth + 1, parts=parts)
        read: list[pl.DataFrame] = []
        for file in self._of(part):
            read.append(pl.read_parquet(file))
            if sum(map(len, read)) >= most:
                finer.add(pl.concat(read))
                read = []
        if read:
            finer.add(pl.concat(read))
        return finer

    def _by_time(self, part: int, most: int) -> Iterator[Piece]:
        keys, files = self._schema.keys, self._of(part)
        times = np.sort(
            np.concatenate([pl.read_parquet(f, columns=[keys.timestamp])[keys.timestamp].to_numpy() for f in files])
        )
        met = pl.concat(pl.read_parquet(f, columns=[keys.user, keys.item]).unique() for f in files).unique()
        # Rows of one time stay together: none may see another.
        borders = [None, *np.unique(times[most::most]).tolist(), None]
        carried: pl.DataFrame | None = None
        for first, after in pairwise(borders):
            at = pl.col(keys.timestamp)
            inside = (pl.lit(value=True) if first is None else at >= first) & (
                pl.lit(value=True) if after is None else at < after
            )
            rows = self._how.read(files, inside)
            piece = rows if carried is None else pl.concat([carried, rows])
            yield Piece(piece, met)
            clicks = piece.filter(pl.col("rating") >= self._how.positive_rating).sort(keys.user, keys.timestamp, ORDER)
            newest = clicks.group_by(keys.user, maintain_order=True).tail(self._schema.max_history)
            carried = newest.select(rows.columns).with_columns(pl.lit(value=True).alias(CARRIED))
