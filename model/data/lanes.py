"""Lanes: the equal cuts of a log in shards that processes read side by side.

The rows of a window are cut into `count` ranges of equal size to one row, its lanes, and every batch has a part of
each. What is in a batch depends on the number of lanes and never on who reads them: one process that takes all lanes
trains on the same batches as several of which each takes one, as MosaicML Streaming's "canonical nodes" do it.

L lanes, K batches of a window.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model.bundle.errors import ConfigError
from model.bundle.vocabulary import Ids
from model.data.batch_order import POOL_BATCHES
from model.data.rows import Drawn


@dataclass(frozen=True)
class Lanes:
    """`count` lanes, of which this process takes `mine`. The default is one process that trains alone."""

    count: int = 1
    mine: range = range(1)

    def cut(self, rows: int) -> slice:
        """Which of a window's rows this process reads."""
        edges_L = self._edges(rows)
        return slice(int(edges_L[self.mine.start]), int(edges_L[self.mine.stop]))

    def batches(self, rows: int, batch_size: int) -> int:
        """Into how many batches a window of so many rows is cut: none is larger, and each has rows of every lane.

        Raises ConfigError if there are fewer rows than lanes.
        """
        if rows < self.count:
            allowed = f"at most {rows}, the rows of a window"
            raise ConfigError(file="config", key="data.lanes", found=self.count, allowed=allowed)
        longest, most = -(-rows // self.count), max(batch_size // self.count, 1)
        return min(-(-longest // most), rows // self.count)

    def draw(self, numbers: Ids, lengths: Ids, *, sizes_LK: Ids, seed: list[int], bucket: bool) -> Iterator[Drawn]:
        """A window's batches, of which `numbers` are the rows that this process reads, with histories of `lengths`."""
        ends = np.cumsum(sizes_LK[self.mine.start : self.mine.stop].sum(1))[:-1]
        parts = {}
        for lane, own, long in zip(self.mine, np.split(numbers, ends), np.split(lengths, ends), strict=True):
            rng = np.random.default_rng([*seed, 1 + lane])
            parts[lane] = _parts(own, long if bucket else None, sizes_LK[lane], rng)
        for at in np.random.default_rng([*seed, 0]).permutation(sizes_LK.shape[1]):
            sizes_L = sizes_LK[:, at]
            held = [parts[lane][at] for lane in self.mine]
            ends = np.cumsum([0, *map(len, held)]).tolist()
            yield Drawn(
                rows=np.concatenate(held),
                size=int(sizes_L.sum()),
                start=int(sizes_L[: self.mine.start].sum()),
                places={lane: slice(*ends[i : i + 2]) for i, lane in enumerate(self.mine)},
            )

    def sizes(self, rows: int, batch_size: int) -> Ids:
        """[L, K] rows of each lane in each batch of a window; a lane's differ by one at most."""
        batches = self.batches(rows, batch_size)
        edges_LK = np.diff(self._edges(rows))[:, None] * np.arange(batches + 1) // batches
        return np.diff(edges_LK, axis=1)

    def _edges(self, rows: int) -> Ids:
        """[L + 1] where each lane begins, and the end."""
        return rows * np.arange(self.count + 1) // self.count


def lanes_of(count: int, *, rank: int, ranks: int) -> Lanes:
    """The lanes of one of `ranks` processes; a `count` of 0 is one for each. Raises ConfigError if some had more."""
    count = count or ranks
    each, left = divmod(count, ranks)
    if left:
        allowed = f"a multiple of {ranks}, the processes that train"
        raise ConfigError(file="config", key="data.lanes", found=count, allowed=allowed)
    return Lanes(count, range(rank * each, (rank + 1) * each))


def _parts(numbers: Ids, lengths: Ids | None, sizes_K: Ids, rng: np.random.Generator) -> list[Ids]:
    """A lane's rows in parts of these sizes: shuffled; with `lengths` then sorted by them in pools of parts, so that
    parts of the same place in all lanes are of similar lengths.
    """
    order = rng.permutation(len(numbers))
    if lengths is not None:
        pool = np.repeat(np.arange(len(sizes_K)), sizes_K) // POOL_BATCHES
        order = order[np.lexsort((lengths[order], pool))]
    return np.split(numbers[order], np.cumsum(sizes_K)[:-1])
