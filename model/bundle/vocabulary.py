"""id -> index, in int64 from end to end; 0 is padding, 1 is unknown, the training split's ids follow."""

from collections.abc import Sequence

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
