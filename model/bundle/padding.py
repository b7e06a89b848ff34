"""Lists end to end -> rows of one width, filled up with PADDING at the end."""

import numpy as np
from numpy.typing import NDArray

from model.bundle.schema import PADDING
from model.bundle.vocabulary import Ids


def padded(flat: Ids, lengths: Ids, *, width: int) -> Ids:
    """Lists end to end as rows [N, width]: the first `width` of each, padded at the end."""
    out = np.full((len(lengths), width), PADDING, dtype=np.int64)
    if not len(lengths) or int(lengths.max()) <= width:
        out[np.arange(width) < lengths[:, None]] = flat
        return out
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    fits = place < width
    out[row[fits], place[fits]] = flat[fits]
    return out


def pad_history(flat: Ids, lengths: Ids) -> dict[str, NDArray[np.generic]]:
    """Behaviors of several users end to end [T, F] as history [U, L, F] padded at the end, and history_len [U].

    L is the longest length, at least 1, because a graph with an empty axis is a graph nobody tests.
    """
    width = max(int(lengths.max(initial=0)), 1)
    history = np.full((len(lengths), width, flat.shape[1]), PADDING, dtype=np.int64)
    history[np.arange(width) < lengths[:, None]] = flat
    return {"history": history, "history_len": lengths}
