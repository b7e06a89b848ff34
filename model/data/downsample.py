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
from model.data.shards import RAGGED, Shards, split_of

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

    rate: float
    seed: int

    def read(self, shards: Sequence[int]) -> EncodedSplit:
        """Some shards' rows, one shard after another."""
        names = sorted(path.stem for path in (self.folder / self.names[shards[0]]).glob("*.npy"))
        kept = [self._kept(shard) for shard in shards]
        return split_of({name: self._read(name, shards, kept) for name in names})

    def column(self, name: str, shards: Sequence[int] | None = None) -> NDArray[np.generic]:
        """One column of all rows, or of some shards' rows."""
        asked = range(len(self.names)) if shards is None else shards
        return self._read(name, asked, [self._kept(shard) for shard in asked])

    def _kept(self, shard: int) -> Kept:
        return _kept_rows(self, shard, rate=self.rate, seed=self.seed)

    def _read(self, name: str, shards: Sequence[int], kept: Sequence[Kept]) -> NDArray[np.generic]:
        folders = [self.folder / self.names[shard] for shard in shards]
        if name in RAGGED:
            lengths = (np.load(folder / "lengths.npy", allow_pickle=False) for folder in folders)
            kept = [np.repeat(rows, behaviors) for rows, behaviors in zip(kept, lengths, strict=True)]
        return read_kept([folder / f"{name}.npy" for folder in folders], kept)


def downsampled_shards(shards: Shards, *, rate: float, seed: int) -> Shards:
    """`downsampled` of rows on disk. Labels and lengths of all rows are read, shard by shard."""
    if rate == 1.0:
        return shards
    rows, behaviors = np.zeros_like(shards.rows), np.zeros_like(shards.behaviors)
    for shard in range(len(shards)):
        kept = _kept_rows(shards, shard, rate=rate, seed=seed)
        rows[shard], behaviors[shard] = kept.sum(), Shards.column(shards, "lengths", [shard])[kept].sum()
    told = {**vars(shards), "rows": rows, "behaviors": behaviors}
    return DownsampledShards(**told, rate=rate, seed=seed)


def _kept_rows(shards: Shards, shard: int, *, rate: float, seed: int) -> Kept:
    """[N] which of all rows of a shard stay; drawn by the shard's name, so that every reader draws the same."""
    name = shards.names[shard]
    label = np.load(shards.folder / name / "label.npy", allow_pickle=False)
    return _drawn(label, rate, np.random.default_rng([seed, int(name)]))


def _drawn(label: NDArray[np.generic], rate: float, rng: np.random.Generator) -> Kept:
    kept: Kept = (label > 0) | (rng.random(len(label)) < rate)  # type: ignore[operator]  # a number
    return kept
