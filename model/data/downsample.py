"""Training on fewer non-clicks, for logs where clicks are rare.

A net trained on them predicts too many clicks; calibration takes that back (He et al., ADKDD 2014, section 6.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.data.batches import EncodedSplit
from model.data.npy_files import read_kept
from model.data.shards import RAGGED, Cut, Shards, split_of

Kept = NDArray[np.bool_]


def downsampled(frame: pl.DataFrame, *, label: str, rate: float, rng: np.random.Generator) -> pl.DataFrame:
    """All clicked rows and each other row with probability `rate`, in their order."""
    if rate == 1.0:
        return frame
    return frame.filter(pl.Series(_drawn(frame[label].to_numpy(), rate, rng)))


@dataclass(frozen=True, kw_only=True)
class DownsampledShards(Shards):
    """Shards without the non-clicks that are not drawn: for the same seed the same ones, however often they are read.

    What is left out is read file by file and dropped, so that a window takes what its rows take.
    """

    every: Shards  # with all rows
    rate: float
    seed: int

    def read(self, cuts: Sequence[Cut]) -> EncodedSplit:
        """Rows of some shards, at least one, in this order, and what is read to find them: labels of these shards."""
        names = self.every.arrays(cuts[0][0])
        found = [self._found(cut) for cut in cuts]
        return split_of({name: self._read(name, found) for name in names})

    def column(self, name: str, cuts: Sequence[Cut] | None = None) -> NDArray[np.generic]:
        """One column of all rows, or of some."""
        return self._read(name, [self._found(cut) for cut in (self.whole() if cuts is None else cuts)])

    def _found(self, cut: Cut) -> tuple[Cut, Kept]:
        """The rows of all rows that these are in, and which of those they are."""
        shard, rows = cut
        kept = _kept_rows(self.every, shard, rate=self.rate, seed=self.seed)
        at = np.flatnonzero(kept)[rows]
        span = slice(int(at[0]), int(at[-1]) + 1)
        return (shard, span), kept[span]

    def _read(self, name: str, found: Sequence[tuple[Cut, Kept]]) -> NDArray[np.generic]:
        files = [self.folder / self.names[shard] / f"{name}.npy" for (shard, _), _ in found]
        spans, kept = [rows for (_, rows), _ in found], [rows for _, rows in found]
        if name in RAGGED:
            lengths = [self.every.column("lengths", [cut]).astype(np.int64) for cut, _ in found]
            kept = [np.repeat(rows, behaviors) for rows, behaviors in zip(kept, lengths, strict=True)]
            spans = [self.every.behaviors_of(cut) for cut, _ in found]
        return read_kept(files, spans, kept)


def downsampled_shards(shards: Shards, *, rate: float, seed: int) -> Shards:
    """`downsampled` of rows on disk. Labels and lengths of all rows are read, shard by shard."""
    if rate == 1.0:
        return shards
    rows, behaviors = np.zeros_like(shards.rows), np.zeros_like(shards.behaviors)
    for cut in shards.whole():
        kept = _kept_rows(shards, cut[0], rate=rate, seed=seed)
        rows[cut[0]], behaviors[cut[0]] = kept.sum(), shards.column("lengths", [cut])[kept].sum()
    told = {**vars(shards), "rows": rows, "behaviors": behaviors}
    return DownsampledShards(**told, every=shards, rate=rate, seed=seed)


def _kept_rows(shards: Shards, shard: int, *, rate: float, seed: int) -> Kept:
    """[N] which of all rows of a shard stay; drawn by the shard's name, so that every reader draws the same."""
    label = shards.column("label", [(shard, slice(0, int(shards.rows[shard])))])
    return _drawn(label, rate, np.random.default_rng([seed, int(shards.names[shard])]))


def _drawn(label: NDArray[np.generic], rate: float, rng: np.random.Generator) -> Kept:
    kept: Kept = (label > 0) | (rng.random(len(label)) < rate)  # type: ignore[operator]  # a number
    return kept
