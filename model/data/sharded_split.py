"""A split in shards as training and evaluation read it: in windows, and of those no more than the own lanes."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from model.bundle.vocabulary import Ids
from model.data.batch_order import by_length
from model.data.batches import EncodedSplit
from model.data.lanes import Lanes
from model.data.rows import Drawn
from model.data.shards import Shards

_SCANNED = 16  # batches that are read and sorted by length together, to be scored
_SCANS = 4  # how many such reads there are at least, if there are as many batches: for readers who divide them


class ShardedSplit:
    """A `Split` of which no more than some shards are in memory at a time, the window, and of these the own lanes.

    Rows are numbered shard after shard. An epoch draws the order of the shards, reads them window by window, and draws
    the order of the rows inside each lane; a batch never spans two windows.
    """

    def __init__(self, shards: Shards, *, window_rows: int, lanes: Lanes | None = None) -> None:
        """A window is as many shards as have `window_rows` rows for each lane, at least one."""
        self.shards, self.lanes = shards, lanes or Lanes()
        self._rows = max(window_rows, 1)  # in memory for a lane, or for a reader who takes no lane
        self.window = max(self._rows * self.lanes.count // max(int(shards.rows.max(initial=1)), 1), 1)
        self._loaded: tuple[int, EncodedSplit] | None = None
        self._starts = np.concatenate([[0], np.cumsum(self.shards.rows)])
        self._group(np.arange(len(self.shards)))

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._starts[-1])

    @property
    def label(self) -> NDArray[np.float32]:
        """[N] read anew each time, as are the other columns."""
        return self.shards.column("label").astype(np.float32, copy=False)

    @property
    def user(self) -> Ids:
        """[N] equal for rows of one user."""
        return self.shards.column("user").astype(np.int64, copy=False)

    @property
    def timestamp(self) -> Ids:
        """[N] seconds."""
        return self.shards.column("timestamp").astype(np.int64, copy=False)

    @property
    def lengths(self) -> Ids:
        """[N] behaviors in each row's history."""
        return self.shards.column("lengths").astype(np.int64)

    def parts(self, reader: int = 0, readers: int = 1) -> Iterator[EncodedSplit]:
        """The rows of one of several readers in their order, as many at a time as a lane of a window has."""
        first, end = len(self) * reader // readers, len(self) * (reader + 1) // readers
        for start in range(first, end, self._rows):
            yield self._between(start, min(start + self._rows, end))

    def scan(self, batch_size: int, *, reader: int = 0, readers: int = 1) -> Iterator[tuple[Ids, Tensors]]:
        """Batches of rows of similar length, sorted in runs of some batches; a reader takes runs that are together."""
        batches = -(-len(self) // batch_size)
        together = min(_SCANNED, batches // _SCANS, self._rows // batch_size)
        edges = [*range(0, len(self), max(together, 1) * batch_size), len(self)]
        runs = list(pairwise(edges))
        for start, stop in runs[len(runs) * reader // readers : len(runs) * (reader + 1) // readers]:
            part = self._between(start, stop)
            for rows in by_length(part.lengths, batch_size):
                yield start + rows, part.take(rows)

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch; one of other windows may have a few more or less. Raises ConfigError if a window has
        fewer rows than there are lanes.
        """
        return sum(self.lanes.batches(int(self.shards.rows[w].sum()), batch_size) for w in self._windows)

    def order(self, *, batch_size: int, rng: np.random.Generator, bucket: bool) -> Iterator[Drawn]:
        """An epoch's batches; two numbers are drawn from `rng`, from which all else follows."""
        seed = rng.integers(2**63, size=2).tolist()
        self._group(np.random.default_rng(seed).permutation(len(self.shards)))
        return self._order(batch_size, seed, bucket=bucket)

    def take(self, rows: Ids) -> Tensors:
        """The tensors of rows of one window's own lanes. Raises ValueError for rows of several, or of another's."""
        window, at = self._in_window(rows)
        return window.take(at)

    def users(self, rows: Ids) -> Ids:
        """[B] the users of such rows."""
        window, at = self._in_window(rows)
        return window.user[at]

    def span(self) -> tuple[int, int]:
        """First and last timestamp, shard by shard."""
        columns = (self.shards.column("timestamp", [cut]).astype(np.int64) for cut in self.shards.whole())
        spans = [(int(times.min()), int(times.max())) for times in columns]
        return min(first for first, _ in spans), max(last for _, last in spans)

    def digest(self) -> str:
        """Equal for shards that hold equal rows."""
        return hashlib.sha256("".join(self.shards.digests).encode()).hexdigest()[:16]

    def _group(self, order: Ids) -> None:
        windows = (order[i : i + self.window] for i in range(0, len(order), self.window))
        self._windows = [window for window in windows if self.shards.rows[window].any()]
        self._window_of = np.zeros(len(order), dtype=np.int64)
        for at, window in enumerate(self._windows):
            self._window_of[window] = at
        self._loaded = None

    def _in_window(self, rows: Ids) -> tuple[EncodedSplit, Ids]:
        """What is held of the window of these rows, read if it is another than the last, and where in it they are."""
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        at = int(self._window_of[shard[0]])
        if (self._window_of[shard] != at).any():
            raise ValueError("rows of several windows; a batch comes from `order`")
        window = self._windows[at]
        held, count = self._held(at), self.shards.rows
        before = np.zeros(len(self.shards), dtype=np.int64)
        before[window] = np.cumsum(count[window]) - count[window] - self._starts[window] - held.start
        places = rows + before[shard]
        if places.min() < 0 or places.max() >= held.stop - held.start:
            raise ValueError("rows of another process's lane; a batch comes from `order`")
        if self._loaded is None or self._loaded[0] != at:
            self._loaded = None  # the old one is freed before the new one is read
            self._loaded = at, self.shards.read(self.shards.cuts(window.tolist(), held))
        return self._loaded[1], places

    def _order(self, batch_size: int, seed: list[int], *, bucket: bool) -> Iterator[Drawn]:
        for at, window in enumerate(self._windows):
            sizes_LK = self.lanes.sizes(int(self.shards.rows[window].sum()), batch_size)
            cuts = self.shards.cuts(window.tolist(), self._held(at))
            numbers = np.concatenate([np.arange(rows.start, rows.stop) + self._starts[shard] for shard, rows in cuts])
            lengths = self.shards.column("lengths", cuts).astype(np.int64)
            yield from self.lanes.draw(numbers, lengths, sizes_LK=sizes_LK, seed=[*seed, at], bucket=bucket)

    def _held(self, at: int) -> slice:
        """Which of a window's rows this process reads."""
        return self.lanes.cut(int(self.shards.rows[self._windows[at]].sum()))

    def _between(self, start: int, stop: int) -> EncodedSplit:
        """Rows by their numbers."""
        return self.shards.read(self.shards.cuts(range(len(self.shards)), slice(start, stop)))
