"""One behavior as bytes: the fixed-width record that stores keep and that the encoder reads.

Raw ids, never vocabulary indices, so that a new bundle reads old histories (DESIGN 6).
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

NOT_GIVEN = -1  # a behavior whose category is to be looked up in the bundle's catalogue

# What `action` stands for: the position is the code. Stored for good, so the list only ever grows at its end.
ACTIONS = ("click", "view", "cart", "favorite", "buy", "rate", "play", "like", "dislike", "share")

# `event` makes a record unique: the same event written twice is the same bytes, so writing is idempotent.
# It comes first and big-endian because a store orders equal times by bytes: a log's own order survives a bulk load.
BEHAVIOR = np.dtype([("event", ">u8"), ("item", "<i8"), ("category", "<i8"), ("time", "<i8"), ("action", "u1")])

Behaviors = NDArray[np.void]  # of dtype BEHAVIOR, oldest first; `time` in ms since the epoch


def no_behaviors() -> Behaviors:
    """An empty history."""
    return np.empty(0, dtype=BEHAVIOR)


def make_behaviors(
    item: Sequence[int] | NDArray[np.int64],
    *,
    category: Sequence[int] | NDArray[np.int64] | None = None,
    time: Sequence[int] | NDArray[np.int64] | None = None,
    event: Sequence[int] | NDArray[np.uint64] | None = None,
    action: int = 0,
) -> Behaviors:
    """Records from columns. A missing `category` is NOT_GIVEN; a missing `time` is the position, so order is kept."""
    out = np.empty(len(item), dtype=BEHAVIOR)
    out["item"] = item
    out["category"] = NOT_GIVEN if category is None else category
    out["time"] = np.arange(len(item)) if time is None else time
    out["event"] = 0 if event is None else event
    out["action"] = action
    return out


def to_members(behaviors: Behaviors) -> list[bytes]:
    """One `bytes` of BEHAVIOR.itemsize per behavior."""
    raw, width = behaviors.tobytes(), BEHAVIOR.itemsize
    return [raw[i : i + width] for i in range(0, len(raw), width)]


def from_members(members: Sequence[bytes]) -> Behaviors:
    """The inverse of `to_members`. Raises ValueError if a member has another width than a record."""
    if wrong := set(map(len, members)) - {BEHAVIOR.itemsize}:
        raise ValueError(f"behavior records are {BEHAVIOR.itemsize} bytes wide, found {sorted(wrong)}")
    return np.frombuffer(b"".join(members), dtype=BEHAVIOR)


def event_key(event_id: str) -> int:
    """A caller's event id of any length as the 64 bits that fit a record."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "little")


def action_code(action: str) -> int:
    """The code of one of ACTIONS. Raises ValueError for another name."""
    return ACTIONS.index(action)
