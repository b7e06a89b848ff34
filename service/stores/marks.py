"""Keys that are remembered for a while, by all processes and replicas that share a Redis."""

from collections.abc import Callable, Sequence
from uuid import uuid4

from service.stores.servers import Request, Servers

MARK_PREFIX = "ctr:f:"  # request ids of POST /feedback


class RedisMarks:
    """Marks in Redis, each a key with a time to live."""

    def __init__(
        self, servers: Servers, *, prefix: str = MARK_PREFIX, token: Callable[[], str] = lambda: uuid4().hex
    ) -> None:
        """`token` gives a text that no other call has."""
        self._servers = servers
        self._prefix = prefix
        self._token = token

    async def mark(self, keys: Sequence[str], *, ttl_s: int, timeout_s: float) -> list[bool]:
        """Whether each key was not marked before; it is for the next `ttl_s` seconds. Raises StoreError.

        The mark is read back: commands that were sent twice, because a connection broke, must not look like two calls.
        """
        token = self._token()
        requests: list[Request] = []
        for key in keys:
            name = f"{self._prefix}{key}".encode()
            requests.append((name, [("SET", name, token, "NX", "EX", ttl_s), ("GET", name)]))
        replies = await self._servers.ask(requests, timeout_s=timeout_s, purpose="write")
        return [reply[1] == token.encode() for reply in replies]
