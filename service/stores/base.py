"""Where behaviors live: the one thing that scoring asks of a store."""

from typing import Protocol

from model.bundle.records import Behaviors

UserId = int | str


class StoreError(Exception):
    """The store could not answer: unreachable, too slow, or holding something that is not a behavior record."""


class BehaviorStore(Protocol):
    """Behaviors per user. Every operation ends within its timeout or raises StoreError."""

    async def read(self, user_id: UserId, *, limit: int, timeout_s: float) -> Behaviors:
        """The user's newest `limit` behaviors, oldest first; empty for a user never seen."""
        ...

    async def append(self, user_id: UserId, behaviors: Behaviors, *, timeout_s: float) -> None:
        """Add behaviors in any order; one that is already there, byte for byte, changes nothing."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
