"""Frames that come piece by piece and are made one now and then, so that what is held grows with their keys alone."""

from collections.abc import Callable

import polars as pl

_COMPACT = 1 << 18  # rows that pile up before they are made fewer: 2^20 took 80 MB more, and no less time


class Pile:
    """`combine` makes fewer rows of a frame; of its own result and more rows it makes what it would of all rows."""

    def __init__(self, combine: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self._combine = combine
        self._pieces: list[pl.DataFrame] = []
        self._limit = _COMPACT

    def add(self, piece: pl.DataFrame) -> None:
        """Add rows, all pieces with the same columns."""
        self._pieces.append(piece)
        if sum(map(len, self._pieces)) > self._limit:
            self._limit = 2 * len(self.total()) + _COMPACT

    def total(self) -> pl.DataFrame:
        """All pieces, combined. Raises ValueError if there is none."""
        together = self._combine(pl.concat(self._pieces))
        self._pieces = [together]
        return together


class Tally(Pile):
    """Sums by value: the first column of every piece is `id`, all others are summed up."""

    def __init__(self) -> None:
        super().__init__(_summed)


def _summed(pieces: pl.DataFrame) -> pl.DataFrame:
    return pieces.group_by("id").agg(pl.all().sum())
