"""What training and evaluation read: the rows of a split, in memory (`batches`) or on disk (`shards`)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from model.bundle.vocabulary import Ids

if TYPE_CHECKING:
    from model.data.batches import EncodedSplit


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One batch as a process has it: the `rows` that it holds, which are all `size` of them or, of a log in shards that
    several processes read, those from place `start` on.

    `places` says where in `rows` each lane's are; None: all in one, as in memory.
    """

    rows: Ids
    size: int
    start: int = 0
    places: Mapping[int, slice] | None = None

    @property
    def held(self) -> slice:
        """Which of the batch's rows are here."""
        return slice(self.start, self.start + len(self.rows))

    def lanes(self, rng: np.random.Generator) -> list[tuple[slice, np.random.Generator]]:
        """The places of each lane's rows, and what is to be drawn for them from.

        `rng` is then in the same state on all processes, and a lane's draws are the same whoever holds it.
        """
        if self.places is None:
            return [(slice(0, self.size), rng)]
        seed = int(rng.integers(2**63))
        return [(place, np.random.default_rng([seed, lane])) for lane, place in self.places.items()]


class Split(Protocol):
    """Encoded rows, numbered from 0, wherever they lie; a column is [N], in the order of the numbers."""

    @property
    def label(self) -> NDArray[np.float32]:
        """0 or 1."""

    @property
    def user(self) -> Ids:
        """Equal for rows of one user."""

    @property
    def timestamp(self) -> Ids:
        """Seconds."""

    @property
    def lengths(self) -> Ids:
        """Behaviors in each row's history."""

    def __len__(self) -> int:
        """Number of rows."""

    def parts(self, reader: int = 0, readers: int = 1) -> "Iterator[EncodedSplit]":
        """The rows of one of several readers, in their order, as many at a time as the memory holds."""

    def scan(self, batch_size: int, *, reader: int = 0, readers: int = 1) -> Iterator[tuple[Ids, Tensors]]:
        """The numbers and tensors of one batch after another, of rows of similar length, to be scored.

        Several readers divide the batches, which are the same for any number of them.
        """

    def order(self, *, batch_size: int, rng: np.random.Generator, bucket: bool) -> Iterator[Drawn]:
        """An epoch's batches. All that is drawn from `rng` is drawn before this returns."""

    def steps(self, batch_size: int) -> int:
        """About how many batches an epoch has."""

    def take(self, rows: Ids) -> Tensors:
        """The tensors of one batch of the newest `order`, or of some of its rows."""

    def users(self, rows: Ids) -> Ids:
        """[B] `user` of rows that `take` would take."""

    def span(self) -> tuple[int, int]:
        """First and last timestamp."""

    def digest(self) -> str:
        """Equal for equal rows in the same order."""
