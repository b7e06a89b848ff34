"""A split as encoded tensors, and the order in which training goes through it.

N rows, B rows of a batch, T behaviors of all rows end to end, L the longest history of a batch, F fields of a behavior.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.bundle.encode import Columns, Encoder, Tensors, pad_history
from model.bundle.records import make_behaviors
from model.bundle.schema import Side
from model.bundle.vocabulary import Ids
from model.data.columns import history_columns
from model.data.ragged import slices, to_flat

_SIDES: tuple[Side, ...] = ("user", "context", "item")
_CHUNK = 1 << 20  # behaviors encoded at a time: their records are wide, and all at once would be most of the memory
_POOL_BATCHES = 50  # rows are sorted by length inside pools of this many batches: little padding, still random


@dataclass(frozen=True, kw_only=True)
class EncodedSplit:
    """One split, encoded once; batches are cut from it.

    label [N] float32; user [N] int64, equal for rows of one user (GAUC); timestamp [N] int64, seconds; request and
    items [N, ...] tensors by name; history [T, F] int64 and offsets [N + 1]: row i owns
    history[offsets[i] : offsets[i + 1]]
    """

    label: NDArray[np.float32]
    user: Ids
    timestamp: Ids
    request: Tensors
    items: Tensors
    history: Ids
    offsets: Ids

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.label)

    @property
    def lengths(self) -> Ids:
        """[N] behaviors in each row's history."""
        return np.diff(self.offsets)

    def take(self, rows: Ids) -> Tensors:
        """The tensors of a batch: user_*, context_* [B, ...], item_* [B, 1, ...], history [B, L, F], history_len [B],
        label [B]. Without behaviors in the schema there are no history tensors.
        """
        out: Tensors = {name: tensor[rows] for name, tensor in self.request.items()}
        out |= {name: tensor[rows][:, None] for name, tensor in self.items.items()}
        if self.history.shape[1]:
            starts = self.offsets[rows]
            lengths = self.offsets[rows + 1] - starts
            out |= pad_history(self.history[slices(starts, lengths)], lengths)
        return {**out, "label": self.label[rows]}


def encode_split(frame: pl.DataFrame, encoder: Encoder) -> EncodedSplit:
    """Encode a split with the methods that serve requests. Raises EncodeError for a value that cannot be encoded."""
    keys = encoder.schema.keys
    user, context, item = (_columns(frame, encoder, side) for side in _SIDES)
    history, lengths = _history(frame, encoder)
    return EncodedSplit(
        label=frame[keys.label].to_numpy().astype(np.float32),
        user=_groups(frame[keys.user]),
        timestamp=frame[keys.timestamp].to_numpy(),
        request=encoder.encode_request(user, context, rows=len(frame)),
        items=encoder.encode_items(item),
        history=history,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
    )


def batches(
    split: EncodedSplit, *, batch_size: int, rng: np.random.Generator | None = None, bucket: bool = True
) -> Iterator[Ids]:
    """Row numbers of one batch after another; every row comes exactly once, and the last batch may be shorter.

    Without `rng` the rows come in the split's order. With it they are shuffled; `bucket` then puts rows of similar
    history length together, so that less is padded: rows are shuffled, sorted by length within pools of 50 batches, cut
    into batches, and all batches shuffled again. The same `rng` state gives the same batches.
    """
    order = np.arange(len(split)) if rng is None else rng.permutation(len(split))
    if rng is not None and bucket:
        order = _sorted_in_pools(order, split.lengths, pool=batch_size * _POOL_BATCHES)
    starts = np.arange(0, len(order), batch_size)
    for start in starts if rng is None else rng.permutation(starts):
        yield order[start : start + batch_size]


def _sorted_in_pools(order: Ids, lengths: Ids, *, pool: int) -> Ids:
    """`order`, with each run of `pool` rows sorted by history length; equal lengths stay as shuffled."""
    at = np.arange(len(order)) // pool
    return order[np.lexsort((lengths[order], at))]


def _columns(frame: pl.DataFrame, encoder: Encoder, side: Side) -> Columns:
    """Raw values by feature name, as a request would carry them: text as a list, everything else as an array."""
    names = [feature.name for feature in encoder.schema.features(side)]
    return {n: frame[n].to_list() if frame[n].dtype == pl.String else frame[n].to_numpy() for n in names}


def _history(frame: pl.DataFrame, encoder: Encoder) -> tuple[Ids, Ids]:
    """All rows' encoded behaviors end to end [T, F], and how many belong to each row [N]."""
    schema = encoder.schema
    columns = history_columns(schema)
    if not columns:
        return np.empty((0, 0), dtype=np.int64), np.zeros(len(frame), dtype=np.int64)
    flat = {key: to_flat(frame[column].list.tail(schema.max_history)) for key, column in columns.items()}
    items, lengths = flat[schema.keys.item]
    categories = flat.get(schema.keys.category or "")
    encoded = np.empty((len(items), len(schema.behavior)), dtype=np.int64)
    for start in range(0, len(items), _CHUNK):
        part = slice(start, start + _CHUNK)
        category = None if categories is None else categories[0][part].to_numpy()
        encoded[part] = encoder.encode_behaviors(make_behaviors(items[part].to_numpy(), category=category))
    return encoded, lengths


def _groups(users: pl.Series) -> Ids:
    """An integer per user: the id itself, or its place among the text ids."""
    integers = users.rank("dense") if users.dtype == pl.String else users
    return integers.cast(pl.Int64).to_numpy()
