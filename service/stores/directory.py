"""Which server has a key: one server, the master that Sentinels name, or the owner of the key's slot in a cluster."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Protocol

from redis.exceptions import MovedError

from service.stores.address import Place
from service.stores.node import Node

MakeNode = Callable[[Place], Node]
LOOK_PAUSE_S = 0.1  # between two looks: who is master changes in seconds
LOOK_EVERY_S = 10.0  # without any failure: replicas come and go, and a demoted master still answers reads


class Directory(Protocol):
    """Knows the servers. What it knows may be old: then the server that is asked says so, or does not answer."""

    @property
    def trouble(self) -> Exception | None:
        """Why the last look found nothing."""
        ...

    def find(self, key: bytes, *, replica: bool) -> Node | None:
        """The server to ask, a replica if there is one and it is wanted; None: not known (yet)."""
        ...

    def at(self, place: Place) -> Node:
        """The server at this place, known before or not."""
        ...

    def moved(self, error: MovedError) -> None:
        """Take note of where a server said that a slot is."""
        ...

    async def look_again(self, *, timeout_s: float) -> bool:
        """Something failed: find out who is where now, if that was not done just before. Raises no error.

        Says whether another server may be the right one now.
        """
        ...

    def nodes(self) -> Iterable[Node]:
        """Every server that is in use."""
        ...

    async def close(self) -> None:
        """Let go of all of them."""
        ...


class OneServer:
    """The Directory of one server."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def trouble(self) -> None:
        """See Directory. There is nothing to look for."""

    def find(self, key: bytes, *, replica: bool) -> Node:  # noqa: ARG002, RUF100  # a Directory's
        """See Directory."""
        return self._node

    def at(self, place: Place) -> Node:  # noqa: ARG002, RUF100  # a Directory's
        """See Directory."""
        return self._node

    def moved(self, error: MovedError) -> None:
        """See Directory. One server of a cluster was named where the cluster should be; `check` says so."""

    async def look_again(self, *, timeout_s: float) -> bool:  # noqa: ARG002, RUF100  # a Directory's
        """See Directory."""
        return False

    def nodes(self) -> Iterable[Node]:
        """See Directory."""
        return (self._node,)

    async def close(self) -> None:
        """See Directory."""
        await self._node.close()


class Nodes:
    """Servers by place, made when first wanted."""

    def __init__(self, make: MakeNode) -> None:
        self._make = make
        self._nodes: dict[Place, Node] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._turn = 0

    def at(self, place: Place) -> Node:
        """The server at this place."""
        if place not in self._nodes:
            self._nodes[place] = self._make(place)
        return self._nodes[place]

    def in_turn(self, places: Sequence[Place]) -> Node | None:
        """One of these after the other, without those that are left alone; None if all are."""
        self._turn += 1
        for i in range(len(places)):
            node = self.at(places[(self._turn + i) % len(places)])
            if not node.is_open:
                return node
        return None

    def keep(self, places: Iterable[Place]) -> None:
        """Let go of all others."""
        for place in self._nodes.keys() - set(places):
            task = asyncio.create_task(self._nodes.pop(place).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    async def close(self) -> None:
        """Let go of all."""
        self.keep(())
        await asyncio.gather(*self._closing)


class Lookup:
    """One look at a time, for all who want one, and not too often."""

    def __init__(self, look: Callable[[], Awaitable[None]], *, clock: Callable[[], float]) -> None:
        """`look` raises no error and ends by itself."""
        self._look = look
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._began = float("-inf")

    async def wait(self, *, timeout_s: float) -> None:
        """Look, or wait for the look that is under way; return at once if the last one was just before."""
        self.begin(pause_s=LOOK_PAUSE_S)
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=timeout_s)

    def begin(self, *, pause_s: float) -> None:
        """Begin a look unless one is under way or began less than `pause_s` ago."""
        now = self._clock()
        if now - self._began < pause_s or (self._task is not None and not self._task.done()):
            return
        self._began = now
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._look()

    async def close(self) -> None:
        """End a look that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class Searched:
    """What directories share that find their servers by looking. `look` raises no error and ends by itself."""

    def __init__(self, make: MakeNode, look: Callable[[], Awaitable[None]], *, clock: Callable[[], float]) -> None:
        self._servers = Nodes(make)
        self._lookup = Lookup(look, clock=clock)
        self.trouble: Exception | None = None

    def at(self, place: Place) -> Node:
        """See Directory."""
        return self._servers.at(place)

    async def look_again(self, *, timeout_s: float) -> bool:
        """See Directory."""
        await self._lookup.wait(timeout_s=timeout_s)
        return True

    def nodes(self) -> Iterable[Node]:
        """See Directory."""
        return self._servers

    async def close(self) -> None:
        """See Directory."""
        await self._lookup.close()
        await self._servers.close()
