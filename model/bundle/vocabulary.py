"""id -> index, in int64 from end to end; 0 is padding, 1 is unknown, then the training split's ids, or hash buckets."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from model.bundle.schema import FIRST_ID, UNKNOWN

Ids = NDArray[np.int64]

# A table as long as the ids' span beats a binary search tenfold, but costs too much memory above this many per id.
_DENSE_SPAN = 8


class Vocabulary:
    """The ids of one sparse feature in index order: `keys[i]` has index `i + 2`."""

    def __init__(self, keys: NDArray[np.int64] | NDArray[np.str_]) -> None:
        self.keys = keys
        self.is_text = keys.dtype.kind == "U"
        self._by_text: dict[str, int] = {}
        self._table: Ids | None = None
        if self.is_text:
            self._by_text = {str(k): i for i, k in enumerate(keys, start=FIRST_ID)}
        elif len(keys):
            self._index_integers(np.asarray(keys, dtype=np.int64))

    def __len__(self) -> int:
        """Rows that an embedding table for this vocabulary needs."""
        return len(self.keys) + FIRST_ID

    def lookup(self, ids: Ids | Sequence[str]) -> Ids:
        """The index of each id; UNKNOWN for one that training never saw."""
        if self.is_text:
            return np.array([self._by_text.get(str(i), UNKNOWN) for i in ids], dtype=np.int64)
        wanted = np.asarray(ids, dtype=np.int64)
        if not len(self.keys):
            return np.full(wanted.shape, UNKNOWN, dtype=np.int64)
        if self._table is not None:
            # Ids outside are clipped to the ends, which are unknown; so is one whose difference wraps around.
            return self._table.take(wanted - self._before, mode="clip")
        at = np.searchsorted(self._sorted, wanted)
        at[at == len(self._sorted)] = 0
        return np.where(self._sorted[at] == wanted, self._order[at] + FIRST_ID, UNKNOWN)

    def _index_integers(self, keys: Ids) -> None:
        low, high = int(keys.min()), int(keys.max())
        if high - low < _DENSE_SPAN * len(keys) + 1024:
            self._before = low - 1
            self._table = np.full(high - low + 3, UNKNOWN, dtype=np.int64)
            self._table[keys - self._before] = np.arange(FIRST_ID, FIRST_ID + len(keys))
            return
        self._order = np.argsort(keys, kind="stable").astype(np.int64)
        self._sorted = keys[self._order]


class Hashed:
    """Any id -> one of `buckets` indices from 2, for ids that are too many or too new to list.

    The same on every platform and in every process, without a seed. Different ids may meet in one bucket: of n ids each
    shares its bucket with about n / buckets others. No id is UNKNOWN.
    """

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def __len__(self) -> int:
        """Rows that an embedding table for these buckets needs."""
        return self.buckets + FIRST_ID

    def lookup(self, ids: Ids | Sequence[str]) -> Ids:
        """The index of each id: texts by blake2b of their UTF-8 bytes, integers by the finaliser of splitmix64."""
        if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
            hashed = mixed(ids.astype(np.uint64))
        else:
            hashed = np.array([_digest(text) for text in ids], dtype=np.uint64)
        return (hashed % np.uint64(self.buckets)).astype(np.int64) + FIRST_ID


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[N] numbers hashed by splitmix64 (Steele, Lea and Flood, OOPSLA 2014), modulo 2^64 as numpy's arrays count."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(str(text).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


IdIndex = Vocabulary | Hashed
