"""Which split each row of a log is of, for a log that comes piece by piece.

Two ways: the shares of `split.split_by_time`, and the newest hours apart, as `newest_day.by_newest_hours` does it for
a log in memory. In both a row that was learned before is left out of what is learned now.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model.bundle.vocabulary import Ids
from model.data.clicked_pairs import pairs_of
from model.data.split import time_borders

SPLITS = ("train", "valid", "test")
LEFT_OUT = -1  # of rows that are there for the histories of others
_TRAIN, _VALID, _TEST = range(3)


class Division(Protocol):
    """Rows to splits."""

    def __call__(self, times: Ids, users: Ids) -> Ids:
        """[N] which of SPLITS each row is of, or LEFT_OUT, by its time and its user's number."""


@dataclass(frozen=True, kw_only=True)
class ByShares:
    """Later rows validate, the latest test. Training rows up to the time `after` are left out."""

    borders: Ids
    after: int | None

    def __call__(self, times: Ids, users: Ids) -> Ids:
        """As `Division`."""
        split = np.searchsorted(self.borders, times, side="right")
        return split if self.after is None else np.where((split == _TRAIN) & (times <= self.after), LEFT_OUT, split)


@dataclass(frozen=True, kw_only=True)
class ByNewestHours:
    """Rows later than `border` test; of the others a share validates, drawn by a hash of user and time, for the newest
    rows of a day would be those of one time of day. Rows up to the time `after` are in no other split.
    """

    border: float
    valid_fraction: float
    after: int | None

    def __call__(self, times: Ids, users: Ids) -> Ids:
        """As `Division`."""
        drawn = pairs_of(users, times) < np.uint64(int(self.valid_fraction * 2**64))
        earlier = np.where(drawn, _VALID, _TRAIN)
        if self.after is not None:
            earlier = np.where(times <= self.after, LEFT_OUT, earlier)
        return np.where(times > self.border, _TEST, earlier)


def divide(
    times: Callable[[], Iterator[Ids]],
    *,
    valid_fraction: float,
    test_fraction: float,
    hours: float | None = None,
    after: int | None = None,
) -> Division:
    """The division of a log whose times come piece by piece, as often as they are asked for; with `hours` the newest
    ones of it test, whatever `test_fraction` says. Raises ConfigError if a split by shares stays empty.
    """
    if hours is None:
        borders = time_borders(times, valid_fraction=valid_fraction, test_fraction=test_fraction)
        return ByShares(borders=borders, after=after)
    last = max(int(piece.max()) for piece in times() if len(piece))
    return ByNewestHours(border=last - hours * 3600, valid_fraction=valid_fraction, after=after)
