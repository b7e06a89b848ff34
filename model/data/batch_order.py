"""Which rows make a batch: in which order a split is trained on, and scored."""

from collections.abc import Iterator

import numpy as np

from model.bundle.vocabulary import Ids

POOL_BATCHES = 50  # rows are sorted by length inside pools of this many batches: little padding, still random


def batches(
    lengths: Ids, *, batch_size: int, rng: np.random.Generator | None = None, bucket: bool = True
) -> Iterator[Ids]:
    """Row numbers of one batch after another, of rows with histories of these lengths [N].

    Every row comes exactly once, and the last batch may be shorter. Without `rng` the rows come in their own order.
    With it they are shuffled; `bucket` then puts rows of similar history length together, so that less is padded: rows
    are shuffled, sorted by length within pools of 50 batches, cut into batches, and all batches shuffled again. The
    same `rng` state gives the same batches.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    if rng is not None and bucket:
        order = _sorted_in_pools(order, lengths, pool=batch_size * POOL_BATCHES)
    starts = np.arange(0, len(order), batch_size)
    for start in starts if rng is None else rng.permutation(starts):
        yield order[start : start + batch_size]


def by_length(lengths: Ids, batch_size: int) -> list[Ids]:
    """Row numbers of batches of similar history length: less padding, and the order does not matter to who scores."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _sorted_in_pools(order: Ids, lengths: Ids, *, pool: int) -> Ids:
    """`order`, with each run of `pool` rows sorted by history length; equal lengths stay as shuffled."""
    at = np.arange(len(order)) // pool
    return order[np.lexsort((lengths[order], at))]
