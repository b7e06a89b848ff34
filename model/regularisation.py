"""Mini-batch aware regularisation of embedding tables (DIN, section 5.2, eq. 4 to 6). N rows of the log, E width.

L2 over all rows of a table costs a pass over millions of them in every step. Only the rows that a batch touches are
shrunk here, each by 1 / n_j with n_j the number of training impressions that have id j, so that an id met a thousand
times is not shrunk a thousand times as much as one met once:

    w_j  <-  w_j - rate * [gradient of the batch's mean loss + strength / n_j * w_j]    for the touched j  (eq. 6)
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.bundle.schema import PADDING, Schema, Side
from model.bundle.vocabulary import Ids
from model.data.batches import EncodedSplit
from model.data.rows import Split
from model.ranks import ALONE, Ranks

_CHUNK = 1 << 18  # impressions counted at a time: with their histories they are sorted
_SIDES: tuple[Side, ...] = ("user", "context", "item")


def count_impressions(split: EncodedSplit, schema: Schema, name: str, *, size: int) -> Ids:
    """[size] the number of impressions that have each index of the feature `name`, in its own columns or in a
    behavior field that shares its table; an impression that has it several times counts once.
    """
    counts = np.zeros(size, dtype=np.int64)
    for start in range(0, len(split), _CHUNK):
        stop = min(start + _CHUNK, len(split))
        owners, ids = (
            np.concatenate(part) for part in zip(*_met(split, schema, name, slice(start, stop)), strict=True)
        )
        once = np.unique(owners * size + ids)
        counts += np.bincount(once % size, minlength=size)
    return counts


def l2_gradient(weight_TE: Tensor, impressions_T: Tensor, *, strength: float) -> Tensor:
    """[T, E] what eq. 6 adds to the gradient of the touched rows, given the impressions that each appears in.

    An id that no impression has counts as one impression: a negative of DIEN's auxiliary loss may be such.
    """
    return weight_TE * (strength / impressions_T.clamp(min=1).to(weight_TE.dtype))[:, None]


def impressions_by_table(
    split: Split, schema: Schema, sizes: dict[str, int], *, ranks: Ranks = ALONE
) -> dict[str, Tensor]:
    """`count_impressions` of every feature that has a table, as tensors; several ranks divide the rows."""
    counts = {name: np.zeros(size, dtype=np.int64) for name, size in sizes.items()}
    for part in split.parts(ranks.rank, ranks.size):
        for name, size in sizes.items():
            counts[name] += count_impressions(part, schema, name, size=size)
    return {name: ranks.total(torch.from_numpy(count)) for name, count in counts.items()}


def _met(split: EncodedSplit, schema: Schema, name: str, rows: slice) -> Iterator[tuple[Ids, Ids]]:
    """Pairs (impression counted from the slice's start, index) of every column that looks up the feature's table."""
    for side in _SIDES:
        columns = schema.columns(side)
        if name in columns:
            tensors = split.items if side == "item" else split.request
            yield _pairs(tensors[f"{side}_sparse"][rows, columns[name]])
    offsets = split.offsets[rows.start : rows.stop + 1]
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    for sequence, places in zip(schema.behavior, schema.history_columns(), strict=True):
        if sequence.shares == name:
            behaviors, ids = _pairs(split.history[offsets[0] : offsets[-1], places])
            yield owners[behaviors], ids


def _pairs(ids: NDArray[np.generic]) -> tuple[Ids, Ids]:
    """Each index of [rows, places] with the row it is in, padding left out."""
    rows, places = np.nonzero(ids != PADDING)
    return rows, ids[rows, places].astype(np.int64, copy=False)
