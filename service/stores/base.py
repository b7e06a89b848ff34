"""Where behaviors live: the one thing that scoring asks of a store."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from model.bundle.records import Behaviors, no_behaviors

UserId = int | str  # 7 and "7" are one user, as in a Redis key
Actions = frozenset[int] | None  # codes of the behaviors wanted; None: all


class StoreError(Exception):
    """The store could not answer: unreachable, too slow, or holding something that is not a behavior record.

    The message is safe to log: no password, no user id.
    """


class StoreMisconfigured(StoreError):
    """The store answers, and will go on refusing: a password, a right, a certificate or the kind of URL is wrong."""


class StoreNotReplicated(StoreError):
    """It is written, but fewer replicas than asked for have it: it does not count, and should be sent again."""


class StoreOccupied(StoreError):
    """The key of a user's history holds something else; the other users of the call were served."""


class BehaviorStore(Protocol):
    """Behaviors per user, in order of time; equal times in order of the record's bytes.

    The newest `history_keep` are kept, whatever order they came in. Every operation ends within its timeout or raises
    StoreError; after that, what was to be appended may be there or not, and appending it again is right.
    """

    @property
    def open_circuits(self) -> int:
        """Servers that are left alone now because they did not answer several times in a row."""
        ...

    async def read(self, user_id: UserId, *, limit: int, timeout_s: float, actions: Actions = None) -> Behaviors:
        """The user's newest `limit` behaviors, oldest first; empty for a user never seen.

        With `actions`, the newest of those codes among all that are kept.
        """
        ...

    async def read_many(
        self, user_ids: Sequence[UserId], *, limit: int, timeout_s: float, actions: Actions = None
    ) -> list[Behaviors]:
        """`read` for several users, in their order and in one round trip; a StoreError is everybody's."""
        ...

    async def append(self, user_id: UserId, behaviors: Behaviors, *, timeout_s: float) -> None:
        """Add behaviors in any order; one that is already there, byte for byte, changes nothing."""
        ...

    async def append_many(self, histories: Sequence[tuple[UserId, Behaviors]], *, timeout_s: float) -> None:
        """`append` for many users at once; a user may occur twice. A few thousand behaviors a call are fastest."""
        ...

    async def erase(self, user_id: UserId, *, timeout_s: float) -> int:
        """Forget the user's history. Says how many behaviors it was; 0 for a user never seen."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def newest(behaviors: Behaviors, *, limit: int, actions: Actions) -> Behaviors:
    """The last `limit` of `behaviors` that have one of these actions."""
    if actions is not None:
        behaviors = behaviors[np.isin(behaviors["action"], list(actions))]
    return behaviors[-limit:] if limit > 0 else no_behaviors()
