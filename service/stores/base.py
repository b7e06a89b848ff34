"""Where behaviors live: the one thing that scoring asks of a store."""

from collections.abc import Sequence
from typing import Protocol

from model.bundle.records import Behaviors

UserId = int | str  # 7 and "7" are one user, as in a Redis key


class StoreError(Exception):
    """The store could not answer: unreachable, too slow, or holding something that is not a behavior record.

    The message is safe to log: no password, no user id.
    """


class BehaviorStore(Protocol):
    """Behaviors per user, in order of time; equal times in order of the record's bytes.

    The newest `history_keep` are kept, whatever order they came in. Every operation ends within its timeout or raises
    StoreError; after that, what was to be appended may be there or not, and appending it again is right.
    """

    async def read(self, user_id: UserId, *, limit: int, timeout_s: float) -> Behaviors:
        """The user's newest `limit` behaviors, oldest first; empty for a user never seen."""
        ...

    async def append(self, user_id: UserId, behaviors: Behaviors, *, timeout_s: float) -> None:
        """Add behaviors in any order; one that is already there, byte for byte, changes nothing."""
        ...

    async def append_many(self, histories: Sequence[tuple[UserId, Behaviors]], *, timeout_s: float) -> None:
        """`append` for many users at once; a user may occur twice. A few thousand behaviors a call are fastest."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
