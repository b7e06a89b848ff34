"""Commands to whichever server has their key, within a time, with one more try where there is time for it.

requests --Directory.find--> one pipeline per server --> replies in the order of the requests
   ^                                  |
   +---- once more, elsewhere --------+ not reached, no master any more, MOVED
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.stores.address import Address, Place, Tls, read_address
from service.stores.base import StoreError, StoreNotReplicated, StoreOccupied
from service.stores.circuit import Circuit
from service.stores.cluster import Cluster
from service.stores.connections import Command, Connections, read_only
from service.stores.directory import Directory, OneServer
from service.stores.node import Node
from service.stores.sentinel import Sentinels

TRIES = 2
WORTH_S = 0.001  # with less time left another try would only be cut off
_WAIT_LATE_S = 0.15  # Redis ends a WAIT up to a tenth of a second late; its answer must still come in time

Request = tuple[bytes, Sequence[Command]]  # a key, and commands that touch no other
Purpose = Literal["read", "write"]
Outcome = list[Any] | Exception  # `Any`: replies are as their commands have them
_ELSEWHERE = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,  # TimeoutError is one
    ReadOnlyError,
    MovedError,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
)


class NotReplicated(RedisError):
    """Fewer replicas than asked for have confirmed a write in time."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How servers are connected to and asked. Times are seconds; None: as long as the caller's timeout."""

    pool_size: int = 16  # connections to each server
    connect_timeout_s: float | None = None
    read_timeout_s: float | None = None  # of the first try of a read; what is left is for the second
    fair_s: float = 0.01  # a time-out after less than this is not held against a server
    failures: int = 5  # in a row until a server is left alone; 0: never
    read_replicas: bool = False
    wait_replicas: int = 0  # that must have a write before it counts
    tls: Tls = field(default_factory=Tls)

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise ValueError("pool_size must be at least 1")


class Servers:
    """The servers behind one URL. Connects when first used, and again by itself after they were away."""

    def __init__(self, directory: Directory, options: ServerOptions, *, clock: Callable[[], float]) -> None:
        """Own `directory`."""
        self._directory = directory
        self._options = options
        self._clock = clock

    @property
    def open_circuits(self) -> int:
        """Servers that are left alone now because they did not answer."""
        return sum(node.is_open for node in self._directory.nodes())

    async def ask(self, requests: Sequence[Request], *, timeout_s: float, purpose: Purpose) -> list[list[Any]]:
        """The replies to each request's commands, one round trip per server. Raises StoreError.

        Commands may be sent twice, after a connection broke: they must bear that. Only reads go to replicas, only
        writes wait for them, as the options say.
        """
        until = self._clock() + timeout_s
        reading = purpose == "read"
        first_s = min(timeout_s, self._options.read_timeout_s or timeout_s) if reading else timeout_s
        replica = reading and self._options.read_replicas
        outcomes = await self._round(requests, timeout_s=first_s, purpose=purpose, replica=replica)
        failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, _ELSEWHERE)]
        if failed and await self._worth_another_try([outcomes[i] for i in failed], until=until):
            again = [requests[i] for i in failed]
            retried = await self._round(again, timeout_s=until - self._clock(), purpose=purpose, replica=False)
            for i, outcome in zip(failed, retried, strict=True):
                outcomes[i] = outcome
        return [_replies(outcome, timeout_s=timeout_s) for outcome in outcomes]

    async def close(self) -> None:
        """Let go of connections."""
        await self._directory.close()

    async def _round(
        self, requests: Sequence[Request], *, timeout_s: float, purpose: Purpose, replica: bool
    ) -> list[Outcome]:
        """Ask every server once, all at the same time."""
        outcomes: list[Outcome] = [_NOWHERE] * len(requests)
        shares: dict[Node, list[int]] = {}
        for i, (key, _) in enumerate(requests):
            node = self._directory.find(key, replica=replica)
            if node is not None:
                shares.setdefault(node, []).append(i)
            elif self._directory.trouble is not None:
                outcomes[i] = self._directory.trouble
        asked = [
            self._ask(node, [requests[i] for i in share], timeout_s=timeout_s, purpose=purpose)
            for node, share in shares.items()
        ]
        answered = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        for share, found in zip(shares.values(), answered, strict=True):
            for i, outcome in zip(share, found, strict=True):
                outcomes[i] = outcome
        return outcomes

    async def _ask(
        self, node: Node, requests: Sequence[Request], *, timeout_s: float, purpose: Purpose
    ) -> list[Outcome]:
        commands = [command for _, own in requests for command in own]
        replicas = self._options.wait_replicas if purpose == "write" else 0
        if replicas:
            wait_s = max(timeout_s - _WAIT_LATE_S, timeout_s / 2)
            commands.append(("WAIT", replicas, max(1, int(wait_s * 1000))))
        try:
            replies = await node.ask(commands, timeout_s=timeout_s, waits=replicas > 0)
        except (RedisError, OSError) as error:
            return [error] * len(requests)
        outcomes = _split(replies, [len(own) for _, own in requests])
        if replicas and not (isinstance(replies[-1], int) and replies[-1] >= replicas):
            short = replies[-1] if isinstance(replies[-1], ResponseError) else _NOT_REPLICATED
            outcomes = [short if isinstance(outcome, list) else outcome for outcome in outcomes]
        for i, outcome in enumerate(outcomes):
            if isinstance(outcome, AskError):  # the slot is on its way, and this key has arrived there
                outcomes[i] = await self._ask_there(outcome, requests[i], timeout_s=timeout_s)
        return outcomes

    async def _ask_there(self, error: AskError, request: Request, *, timeout_s: float) -> Outcome:
        commands: list[Command] = [part for command in request[1] for part in (("ASKING",), command)]
        try:
            replies = await self._directory.at((error.host, error.port)).ask(commands, timeout_s=timeout_s)
        except (RedisError, OSError) as failed:
            return failed
        return _split(replies[1::2], [len(request[1])])[0]

    async def _worth_another_try(self, failures: Sequence[Outcome], *, until: float) -> bool:
        """Find out where to try again, and whether there is time left for it."""
        if until - self._clock() < WORTH_S:
            return False
        told = [error for error in failures if isinstance(error, MovedError)]
        for error in told:
            self._directory.moved(error)
        hung = any(isinstance(error, TimeoutError | RedisTimeoutError) for error in failures)
        elsewhere = len(told) == len(failures) or await self._directory.look_again(timeout_s=until - self._clock())
        return (hung or elsewhere) and until - self._clock() > WORTH_S


def open_servers(
    url: str, options: ServerOptions | None = None, *, clock: Callable[[], float] = time.monotonic
) -> Servers:
    """The servers that a URL names. Raises ValueError for a URL or a file that cannot be read, repeating neither."""
    options = options or ServerOptions()
    address = read_address(url, options.tls)
    make = _maker(address, options, clock=clock)
    directory: Directory
    if address.kind == "single":
        directory = OneServer(make(None))
    elif address.kind == "cluster":
        directory = Cluster(address.places, make=make, clock=clock)
    else:
        sentinels = [
            Connections({**address.to_sentinels, "host": host, "port": port}, size=1) for host, port in address.places
        ]
        directory = Sentinels(sentinels, address.service, make=make, clock=clock)
    return Servers(directory, options, clock=clock)


def _maker(address: Address, options: ServerOptions, *, clock: Callable[[], float]) -> Callable[[Place | None], Node]:
    """Makes the server at a place; None: the one that the URL names."""
    shared = {**address.connection, "socket_connect_timeout": options.connect_timeout_s}
    if address.kind == "cluster" and options.read_replicas:
        shared["redis_connect_func"] = read_only

    def make(place: Place | None) -> Node:
        where = {} if place is None else {"host": place[0], "port": place[1]}
        connect = partial(Connections, {**shared, **where}, size=options.pool_size)
        return Node(connect, circuit=Circuit(failures=options.failures), fair_s=options.fair_s, clock=clock)

    return make


def _split(replies: Sequence[Any], counts: Sequence[int]) -> list[Outcome]:
    """The replies of each request, or the first refusal among them."""
    outcomes: list[Outcome] = []
    at = 0
    for count in counts:
        own = list(replies[at : at + count])
        refused = [reply for reply in own if isinstance(reply, ResponseError)]
        outcomes.append(refused[0] if refused else own)
        at += count
    return outcomes


def _replies(outcome: Outcome, *, timeout_s: float) -> list[Any]:
    """The outcome if it is one, or StoreError. What Redis says of a command can quote it, so only the name goes on."""
    if isinstance(outcome, list):
        return outcome
    if isinstance(outcome, TimeoutError | RedisTimeoutError):
        raise StoreError(f"redis did not answer within {timeout_s * 1000:.0f} ms") from outcome
    if isinstance(outcome, NotReplicated):
        raise StoreNotReplicated("redis has it, but too few replicas confirmed it in time") from outcome
    if isinstance(outcome, RedisConnectionError):
        raise StoreError(f"redis is out of reach: {outcome}") from outcome
    if isinstance(outcome, ResponseError) and str(outcome).startswith("WRONGTYPE"):
        raise StoreOccupied("redis holds something else than a history under a user's key") from outcome
    raise StoreError(f"redis refused: {type(outcome).__name__}") from outcome


_NOWHERE = RedisConnectionError("no server is known that has it")
_NOT_REPLICATED = NotReplicated()
