"""What training and evaluation read: the rows of a split, in memory (`batches`) or on disk (`shards`)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from model.bundle.vocabulary import Ids

if TYPE_CHECKING:
    from model.data.batches import EncodedSplit


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

    def parts(self) -> "Iterator[EncodedSplit]":
        """All rows in their order, as many at a time as the memory holds."""

    def order(self, *, batch_size: int, rng: np.random.Generator, bucket: bool) -> Iterator[Ids]:
        """An epoch's batches, as row numbers. All that is drawn from `rng` is drawn before this returns."""

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
