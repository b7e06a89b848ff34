"""One Redis server: its connections, and the circuit that leaves it alone while it is dead."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.stores.circuit import Circuit
from service.stores.connections import Command, Connections
from service.stores.patience import patience

PROBE_S = 1.0  # a probe may take longer than a request: it is nobody's answer


class CircuitOpen(RedisConnectionError):
    """The server failed too often in a row and has not answered a probe yet."""


class Node:
    """A server. Its probe runs in the background, only while the circuit is open."""

    def __init__(
        self, make: Callable[[], Connections], *, circuit: Circuit, fair_s: float, clock: Callable[[], float]
    ) -> None:
        """`make` makes its connections. A time-out after less than `fair_s` says nothing of the server."""
        self._connections = make()
        self._waiting = make()  # of their own: who waits for replicas must not hold up those who read
        self._circuit = circuit
        self._fair_s = fair_s
        self._clock = clock
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the server is left alone now."""
        return self._circuit.is_open

    async def ask(self, commands: Sequence[Command], *, timeout_s: float, waits: bool = False) -> list[Any]:
        """See Connections.ask; waiting for a turn and connecting count. Raises TimeoutError and CircuitOpen too.

        `waits`: the server may be busy waiting for others, so that its silence is not held against it.
        """
        if self._circuit.is_open:
            raise CircuitOpen("left alone until it answers a probe")
        try:
            async with patience(timeout_s):
                replies = await (self._waiting if waits else self._connections).ask(commands)
        except TimeoutError:
            if timeout_s >= self._fair_s and not waits:
                self._failed()
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError):
            self._failed()
            raise
        self._circuit.succeeded()
        return replies

    async def close(self) -> None:
        """Stop probing and let go of connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        await self._connections.close()
        await self._waiting.close()

    def _failed(self) -> None:
        self._circuit.failed(self._clock())
        if self._circuit.is_open and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while (pause_s := self._circuit.probe_due_in(self._clock())) is not None:
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(PROBE_S):
                    await self._connections.ask([("PING",)])  # any reply will do, a refusal too
            except (RedisConnectionError, RedisTimeoutError, OSError):  # TimeoutError is an OSError
                self._circuit.probe_failed(self._clock())
            else:
                self._circuit.succeeded()
