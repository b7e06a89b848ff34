"""How long ago things happened: gaps between behaviors as buckets, and histories cut where a user was long away.

T behaviors of U users end to end, `lengths` [U] of them each, oldest first; times in ms.
"""

import numpy as np
from numpy.typing import NDArray

from model.bundle.schema import FIRST_ID, UNKNOWN, Gap
from model.bundle.vocabulary import Ids

GAP_BUCKETS = 32  # of twice the length of the one before: the last one begins at 2^31 seconds, which is 68 years
GAP_ROWS = GAP_BUCKETS + FIRST_ID  # of an embedding table, padding and unknown included

_UNKNOWN_TIME = -1


def gap_index(times: Ids, lengths: Ids, *, gap: Gap, now: Ids | None) -> Ids:
    """[T] embedding index of each behavior's gap to the request at `now` [U], or to the next behavior.

    The newest behavior has no next one; the request is next. UNKNOWN where that needs a `now` that is not given.
    """
    until = np.full(len(lengths), _UNKNOWN_TIME) if now is None else now
    upto = np.repeat(until, lengths)
    if gap == "next" and len(times):
        newest = np.cumsum(lengths)[lengths > 0] - 1
        following = np.append(times[1:], 0)
        following[newest] = until[lengths > 0]
        upto = following
    return np.where(upto == _UNKNOWN_TIME, UNKNOWN, bucket(upto - times) + FIRST_ID)


def bucket(gap_ms: Ids) -> Ids:
    """Floor of log2(1 + seconds): 0 for less than a second, 16 for a day, 21 for a month; negative gaps count as 0."""
    seconds = np.maximum(gap_ms, 0) // 1000
    # frexp and not log2: exact at powers of two, on every platform.
    exponent = np.frexp((seconds + 1).astype(np.float64))[1].astype(np.int64) - 1
    return np.minimum(exponent, GAP_BUCKETS - 1)


def kept_after_cut(times: Ids, lengths: Ids, *, cut_ms: int) -> NDArray[np.bool_]:
    """[T] false for what lies before the last gap of its user's history that is longer than `cut_ms`."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    after = np.flatnonzero((np.diff(times) > cut_ms) & (np.diff(owner) == 0)) + 1
    first[owner[after]] = after  # ascending, so that the last gap stays
    return np.arange(len(times)) >= first[owner]
