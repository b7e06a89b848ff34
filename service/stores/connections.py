"""A few connections to one Redis, each used by one caller at a time.

redis-py's connections without its client: the way through `Redis.execute_command` and its pool costs 0.1 ms more per
read, which is as long as Redis itself takes three times over.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

Command = tuple[bytes | str | int, ...]


class Connections:
    """At most `size` connections; more callers at once wait their turn. Connects when first used."""

    def __init__(self, arguments: Mapping[str, Any], *, size: int) -> None:
        """`arguments` are those of redis-py's connection, as `Address.connection` has them."""
        chosen = {
            "protocol": 2,  # RESP3 would add two round trips to each connect, for push messages that nobody reads
            "socket_timeout": None,  # the caller's timeout bounds all; a second clock would start a task per command
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
        }
        self._factory = ConnectionPool(**{**chosen, **arguments})
        self._turns = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._closed = False

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in one round trip (`Any`: each as its command has it, ResponseError where Redis refused it).

        Raises what redis-py raises.
        """
        async with self._turns:
            if self._idle:
                try:
                    return await self._ask_on(self._idle.pop(), commands)
                except RedisConnectionError:
                    await self._drop_idle()  # closed while it was idle, as old as the others; once more on a fresh one
            fresh: Connection = self._factory.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
            return await self._ask_on(fresh, commands)

    async def close(self) -> None:
        """Close those that are idle; connections in use close when their caller is done."""
        self._closed = True
        await self._drop_idle()

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _ask_on(self, connection: Connection, commands: Sequence[Command]) -> list[Any]:
        try:
            if not connection.is_connected:
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
            # In C: redis-py's own packing, in Python, would take as long as all the rest of a bulk load.
            packed: list[bytes] = [pack_command(command) for command in commands]  # type: ignore[arg-type]  # its stub knows tuples of one
            await connection.send_packed_command(packed, check_health=False)
            replies = [await self._reply(connection) for _ in commands]
        except BaseException:  # cancelled too: the replies are still to come, and must not meet the next caller
            await connection.disconnect(nowait=True)
            raise
        if self._closed:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)
        return replies

    async def _reply(self, connection: Connection) -> Any:  # noqa: ANN401  # as the command has it
        try:
            return await connection.read_response(disable_decoding=True)
        except ResponseError as error:  # one command's; the connection is as good as before
            return error


async def read_only(connection: Connection) -> None:
    """redis-py's `redis_connect_func` where replicas of a cluster are read: without READONLY they send us away."""
    await connection.on_connect()
    await connection.send_command("READONLY")
    await connection.read_response()
