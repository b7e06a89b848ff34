"""Behaviors in this process: for the demo on a machine without Redis, and for tests."""

from collections.abc import Sequence

from model.bundle.records import Behaviors, from_members, no_behaviors, to_members
from service.stores.base import Actions, UserId, newest


class MemoryStore:
    """A BehaviorStore in a dict, with the rules of RedisStore.

    No time to live: instead, beyond `max_users` the user without events for longest is forgotten.
    """

    def __init__(self, *, history_keep: int, max_users: int = 100_000) -> None:
        if min(history_keep, max_users) < 1:
            raise ValueError("history_keep and max_users must be at least 1")
        self._history_keep = history_keep
        self._max_users = max_users
        self._histories: dict[str, Behaviors] = {}  # least recently appended first

    @property
    def open_circuits(self) -> int:
        """See BehaviorStore. There is no server."""
        return 0

    async def read(self, user_id: UserId, *, limit: int, timeout_s: float, actions: Actions = None) -> Behaviors:
        """See BehaviorStore. Answers at once."""
        return newest(self._histories.get(str(user_id), no_behaviors()), limit=limit, actions=actions)

    async def read_many(
        self, user_ids: Sequence[UserId], *, limit: int, timeout_s: float, actions: Actions = None
    ) -> list[Behaviors]:
        """See BehaviorStore."""
        return [await self.read(user, limit=limit, timeout_s=timeout_s, actions=actions) for user in user_ids]

    async def append(self, user_id: UserId, behaviors: Behaviors, *, timeout_s: float) -> None:
        """See BehaviorStore."""
        await self.append_many([(user_id, behaviors)], timeout_s=timeout_s)

    async def append_many(self, histories: Sequence[tuple[UserId, Behaviors]], *, timeout_s: float) -> None:
        """See BehaviorStore."""
        for user_id, behaviors in histories:
            if len(behaviors):
                known = self._histories.pop(str(user_id), no_behaviors())
                self._histories[str(user_id)] = self._merged(known, behaviors)
        while len(self._histories) > self._max_users:
            del self._histories[next(iter(self._histories))]

    async def erase(self, user_id: UserId, *, timeout_s: float) -> int:
        """See BehaviorStore."""
        return len(self._histories.pop(str(user_id), no_behaviors()))

    async def close(self) -> None:
        """See BehaviorStore. What was stored stays readable."""

    def _merged(self, known: Behaviors, added: Behaviors) -> Behaviors:
        """The newest of both without doubles; times compared as doubles, as Redis compares scores."""
        scores = dict(zip(to_members(known), known["time"].astype(float).tolist(), strict=True))
        scores |= dict(zip(to_members(added), added["time"].astype(float).tolist(), strict=True))
        members = sorted(scores, key=lambda member: (scores[member], member))
        return from_members(members[-self._history_keep :])
