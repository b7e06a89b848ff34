"""Encoded rows on disk in shards, each of the size of the others and a random sample of the split.

<split>/00017/label.npy user.npy timestamp.npy lengths.npy activity.npy history.npy request.*.npy items.*.npy

A shard's files are plain `.npy`, a row or a behavior per entry, ids in the smallest integers that hold them. Rows are
dealt to the shards in a random order, so that a reader who takes whole shards, in any order, sees no user, time or
partition before the others; readers on several machines divide the list of shards.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Tensors
from model.bundle.errors import ConfigError
from model.bundle.vocabulary import Ids
from model.data.batches import EncodedSplit, batches_of
from model.data.npy_files import NpyAppender, read_into

_Arrays = dict[str, NDArray[np.generic]]
RAGGED = ("history",)  # one entry per behavior; all other arrays have one per row
INDEX = "shards.json"


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

    def share(self, rank: int, ranks: int) -> "Shards":
        """The shards that one of several readers takes: every `ranks`-th, from `rank` on."""
        mine = slice(rank, None, ranks)
        return replace(
            self,
            names=self.names[mine],
            rows=self.rows[mine],
            behaviors=self.behaviors[mine],
            digests=self.digests[mine],
        )

    def bytes_per_row(self) -> float:
        """Bytes in memory, about: what the files of the fullest shard hold per row."""
        sizes = [sum(f.stat().st_size for f in (self.folder / n).iterdir()) for n in self.names[:3]]
        return max(size / max(int(rows), 1) for size, rows in zip(sizes, self.rows[:3], strict=True))

    def read(self, shards: Sequence[int]) -> EncodedSplit:
        """Some shards' rows, one shard after another."""
        folders = [self.folder / self.names[shard] for shard in shards]
        names = sorted(path.stem for path in folders[0].glob("*.npy"))
        arrays = {name: read_into([folder / f"{name}.npy" for folder in folders]) for name in names}
        return split_of(arrays)

    def column(self, name: str, shards: Sequence[int] | None = None) -> NDArray[np.generic]:
        """One column of all rows, or of some shards' rows."""
        names = self.names if shards is None else [self.names[shard] for shard in shards]
        return read_into([self.folder / shard / f"{name}.npy" for shard in names])


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


class ShardedSplit:
    """A `Split` of which no more than some shards are in memory at a time: the window.

    Rows are numbered shard after shard. An epoch draws the order of the shards, reads them window by window, and draws
    the order of the rows inside each; a batch never spans two windows, so the last one of a window may be shorter.
    """

    def __init__(self, shards: Shards, *, window_rows: int) -> None:
        """A window is as many shards as have `window_rows` rows, at least one."""
        self.shards = shards
        self.window = max(window_rows // max(int(shards.rows.max(initial=1)), 1), 1)
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

    def parts(self) -> Iterator[EncodedSplit]:
        """All rows, window by window."""
        for start in range(0, len(self.shards), self.window):
            yield self.shards.read(range(start, min(start + self.window, len(self.shards))))

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch; one of other windows may have a few more or less."""
        return sum(math.ceil(int(self.shards.rows[w].sum()) / batch_size) for w in self._windows)

    def order(self, *, batch_size: int, rng: np.random.Generator, bucket: bool) -> Iterator[Ids]:
        """An epoch's batches; two numbers are drawn from `rng`, from which all else follows."""
        seed = rng.integers(2**63, size=2).tolist()
        self._group(np.random.default_rng(seed).permutation(len(self.shards)))
        return self._order(batch_size, seed, bucket=bucket)

    def take(self, rows: Ids) -> Tensors:
        """The tensors of rows of one window. Raises ValueError for rows of several."""
        window, at = self._in_window(rows)
        return window.take(at)

    def users(self, rows: Ids) -> Ids:
        """[B] the users of rows of one window."""
        window, at = self._in_window(rows)
        return window.user[at]

    def span(self) -> tuple[int, int]:
        """First and last timestamp, shard by shard."""
        some = np.flatnonzero(self.shards.rows).tolist()
        columns = (self.shards.column("timestamp", [shard]).astype(np.int64) for shard in some)
        spans = [(int(times.min()), int(times.max())) for times in columns]
        return min(first for first, _ in spans), max(last for _, last in spans)

    def digest(self) -> str:
        """Equal for shards that hold equal rows."""
        return hashlib.sha256("".join(self.shards.digests).encode()).hexdigest()[:16]

    def _group(self, order: Ids) -> None:
        self._windows = [order[i : i + self.window] for i in range(0, len(order), self.window)]
        self._window_of = np.empty(len(order), dtype=np.int64)
        for at, window in enumerate(self._windows):
            self._window_of[window] = at
        self._loaded = None

    def _in_window(self, rows: Ids) -> tuple[EncodedSplit, Ids]:
        """The window that holds these rows, read if it is another one than the last, and where in it they are."""
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        at = int(self._window_of[shard[0]])
        if (self._window_of[shard] != at).any():
            raise ValueError("rows of several windows; a batch comes from `order`")
        window = self._windows[at]
        if self._loaded is None or self._loaded[0] != at:
            self._loaded = None  # the old one is freed before the new one is read
            self._loaded = at, self.shards.read(window.tolist())
        before = np.zeros(len(self.shards), dtype=np.int64)
        before[window] = np.cumsum(self.shards.rows[window]) - self.shards.rows[window] - self._starts[window]
        return self._loaded[1], rows + before[shard]

    def _order(self, batch_size: int, seed: list[int], *, bucket: bool) -> Iterator[Ids]:
        for at, window in enumerate(self._windows):
            numbers = np.concatenate([np.arange(self._starts[s], self._starts[s + 1]) for s in window])
            lengths = self.shards.column("lengths", window.tolist()).astype(np.int64)
            rng = np.random.default_rng([*seed, at])
            for batch in batches_of(lengths, batch_size=batch_size, rng=rng, bucket=bucket):
                yield numbers[batch]


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
