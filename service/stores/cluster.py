"""The Directory of a Redis Cluster: 16,384 slots, each with an owner and its replicas."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from redis.crc import key_slot
from redis.exceptions import MovedError, RedisError, ResponseError

from service.stores.address import Place
from service.stores.directory import LOOK_EVERY_S, MakeNode, Searched
from service.stores.node import Node

SLOTS = 16_384
LOOK_S = 0.3  # for one server; then the next is asked

Owners = list[tuple[Place, ...]]  # by slot: the master and then its replicas; empty where nobody owns it


class Cluster(Searched):
    """Knows the owners from CLUSTER SLOTS, and from servers that say MOVED."""

    def __init__(self, seeds: Sequence[Place], *, make: MakeNode, clock: Callable[[], float]) -> None:
        self._seeds = seeds
        super().__init__(make, self._look, clock=clock)
        self._owners: Owners = [()] * SLOTS
        self._turn = count()

    def find(self, key: bytes, *, replica: bool) -> Node | None:
        """See Directory."""
        self._lookup.begin(pause_s=LOOK_EVERY_S)
        owners = self._owners[key_slot(key)]
        if replica and (found := self._servers.in_turn(owners[1:])) is not None:
            return found
        return self._servers.at(owners[0]) if owners else None

    def moved(self, error: MovedError) -> None:
        """See Directory. The replicas of that slot are known after the next look."""
        if error.host:
            self._owners[error.slot_id] = ((error.host, error.port),)

    async def ask(self) -> Owners:
        """Who owns what, from the first server that answers. Raises what the last one raised."""
        last: Exception = OSError("no server of the cluster is named")
        known = list(dict.fromkeys([*(owners[0] for owners in self._owners if owners), *self._seeds]))
        first = next(self._turn) % len(known)  # not always the same: one that was cut off from the others knows less
        for place in [*known[first:], *known[:first]]:
            try:
                (reply,) = await self._servers.at(place).ask([("CLUSTER", "SLOTS")], timeout_s=LOOK_S)
                if isinstance(reply, ResponseError):
                    raise reply
                return owners_of(reply, asked=place)
            except (RedisError, OSError) as error:
                last = error
        raise last

    async def _look(self) -> None:
        try:
            self._owners = await self.ask()
        except (RedisError, OSError) as error:
            self.trouble = error  # what was known may still be right
            return
        self.trouble = None
        self._servers.keep({place for owners in self._owners for place in owners})


def owners_of(ranges: Sequence[Sequence[Any]], *, asked: Place) -> Owners:
    """The reply to CLUSTER SLOTS by slot. A server that does not know its own name is the one that was asked.

    `Any`: a range is two numbers and then servers, each with host, port and more.
    """
    owners: Owners = [()] * SLOTS
    for first, last, *servers in ranges:
        places = tuple((host.decode() if host else asked[0], int(port)) for host, port, *_ in servers)
        owners[first : last + 1] = [places] * (last + 1 - first)
    return owners
