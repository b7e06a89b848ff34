"""Encoded rows on disk in shards, each of the size of the others and a random sample of the split.

<split>/00017/label.npy user.npy timestamp.npy lengths.npy activity.npy history.npy request.*.npy items.*.npy

A shard's files are plain `.npy`, a row or a behavior per entry, ids in the smallest integers that hold them. Rows are
dealt to the shards in a random order, so that a reader who takes shards, or some rows of each, in any order, sees no
user, time or partition before the others.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from model.bundle.errors import ConfigError
from model.bundle.vocabulary import Ids
from model.data.batches import EncodedSplit
from model.data.npy_files import NpyAppender, read_into

_Arrays = dict[str, NDArray[np.generic]]
RAGGED = ("history",)  # one entry per behavior; all other arrays have one per row
INDEX = "shards.json"
Cut = tuple[int, slice]  # a shard, and which of its rows


class ShardWriter:
    """Deals the rows of one split to `shards` shards in `folder`."""

    def __init__(self, folder: Path, *, shards: int, rng: np.random.Generator) -> None:
        self._folder, self._rng = folder, rng
        self._rows = np.zeros(shards, dtype=np.int64)
        self._behaviors = np.zeros(shards, dtype=np.int64)
        self._files = [NpyAppender(folder / f"{shard:05}") for shard in range(shards)]
        self._next = 0  # the shard whose turn it is

    def append(self, rows: EncodedSplit, activity: Ids) -> None:
        """Deal rows in a random order, one to each shard in turn; `activity` [N] goes with them."""
        shards = len(self._files)
        shuffled, turn = self._rng.permutation(len(rows)), (np.arange(len(rows)) + self._next) % shards
        order = shuffled[np.argsort(turn, kind="stable")]
        counts = np.bincount(turn, minlength=shards)
        self._next = (self._next + len(rows)) % shards
        rows, ends = rows.rows(order), np.cumsum(counts)
        arrays = {**_arrays(rows), "activity": activity[order].astype(np.int32)}
        for shard, (stop, count) in enumerate(zip(ends.tolist(), counts.tolist(), strict=True)):
            if count:
                first, last = rows.offsets[[stop - count, stop]].tolist()
                cut = {n: a[first:last] if n in RAGGED else a[stop - count : stop] for n, a in arrays.items()}
                self._files[shard].append(cut)
                self._rows[shard] += count
                self._behaviors[shard] += last - first

    def close(self) -> None:
        """Complete the files and write the list of shards."""
        digests = [file.close() for file in self._files]
        index = {"rows": self._rows.tolist(), "behaviors": self._behaviors.tolist(), "digests": digests}
        (self._folder / INDEX).write_text(json.dumps(index) + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The shards of a split: names, rows and behaviors of each, checksum of each."""

    folder: Path
    names: tuple[str, ...]
    rows: Ids
    behaviors: Ids
    digests: tuple[str, ...]

    def __len__(self) -> int:
        """Number of shards."""
        return len(self.names)

    def bytes_per_row(self) -> float:
        """Bytes in memory, about: what the files of the fullest shard hold per row."""
        sizes = [sum(f.stat().st_size for f in (self.folder / n).iterdir()) for n in self.names[:3]]
        return max(size / max(int(rows), 1) for size, rows in zip(sizes, self.rows[:3], strict=True))

    def cuts(self, shards: Iterable[int], rows: slice) -> list[Cut]:
        """Where the `rows` of these shards, one shard after another, are."""
        out: list[Cut] = []
        before = 0
        for shard in shards:
            start, stop = max(rows.start - before, 0), min(rows.stop - before, int(self.rows[shard]))
            if start < stop:
                out.append((shard, slice(start, stop)))
            before += int(self.rows[shard])
        return out

    def whole(self) -> list[Cut]:
        """All rows of every shard that has some."""
        return self.cuts(range(len(self)), slice(0, int(self.rows.sum())))

    def arrays(self, shard: int) -> list[str]:
        """The names of a shard's arrays."""
        return sorted(path.stem for path in (self.folder / self.names[shard]).glob("*.npy"))

    def read(self, cuts: Sequence[Cut]) -> EncodedSplit:
        """Rows of some shards, at least one, in this order. Nothing else is read but lengths of rows before them."""
        folders = [self.folder / self.names[shard] for shard, _ in cuts]
        rows, behaviors = [rows for _, rows in cuts], [self.behaviors_of(cut) for cut in cuts]
        names = self.arrays(cuts[0][0])
        spans = {name: behaviors if name in RAGGED else rows for name in names}
        arrays = {name: read_into([folder / f"{name}.npy" for folder in folders], spans[name]) for name in names}
        return split_of(arrays)

    def column(self, name: str, cuts: Sequence[Cut] | None = None) -> NDArray[np.generic]:
        """One column of all rows, or of some."""
        if cuts is None:
            return read_into([self.folder / shard / f"{name}.npy" for shard in self.names])
        files = [self.folder / self.names[shard] / f"{name}.npy" for shard, _ in cuts]
        return read_into(files, [rows for _, rows in cuts])

    def behaviors_of(self, cut: Cut) -> slice:
        """Which of a shard's behaviors some of its rows have."""
        shard, rows = cut
        if rows == slice(0, int(self.rows[shard])):
            return slice(0, int(self.behaviors[shard]))
        lengths = self.column("lengths", [(shard, slice(0, rows.stop))]).astype(np.int64)
        return slice(int(lengths[: rows.start].sum()), int(lengths.sum()))


def read_shards(folder: Path) -> Shards:
    """The shards that a `ShardWriter` wrote. Raises ConfigError if there are none."""
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        rows, behaviors = (np.array(index[name], dtype=np.int64) for name in ("rows", "behaviors"))
        digests = tuple(map(str, index["digests"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        allowed = "a folder that `ctr-model prepare --shards` wrote to its end"
        raise ConfigError(file=str(path), key="(file)", found=str(error), allowed=allowed) from error
    names = tuple(f"{shard:05}" for shard in range(len(rows)))
    return Shards(folder=folder, names=names, rows=rows, behaviors=behaviors, digests=digests)


def _arrays(rows: EncodedSplit) -> _Arrays:
    """What a shard keeps of its rows, by file name."""
    out: _Arrays = {"label": rows.label.astype(np.int8), "user": rows.user, "timestamp": rows.timestamp}
    out |= {f"request.{name}": _small(tensor) for name, tensor in rows.request.items()}
    out |= {f"items.{name}": _small(tensor) for name, tensor in rows.items.items()}
    return {**out, "lengths": rows.lengths.astype(np.int32), "history": _small(rows.history)}


def _small(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    """Ids in 32 bits: no table has more rows."""
    return tensor.astype(np.int32) if tensor.dtype == np.int64 else tensor


def split_of(arrays: _Arrays) -> EncodedSplit:
    """The rows whose columns these are, by file name."""

    def side(name: str) -> Tensors:
        return {key.partition(".")[2]: array for key, array in arrays.items() if key.startswith(name + ".")}

    return EncodedSplit(
        label=arrays["label"].astype(np.float32),
        user=arrays["user"].astype(np.int64, copy=False),
        timestamp=arrays["timestamp"].astype(np.int64, copy=False),
        request=side("request"),
        items=side("items"),
        history=arrays["history"],  # type: ignore[arg-type]  # int32 here; `take` gives int64
        offsets=np.concatenate([[0], np.cumsum(arrays["lengths"], dtype=np.int64)]),
    )
