"""How far a bulk load has come, kept where its behaviors are: a store that is emptied forgets the load too."""

from service.stores.servers import Servers

MARK_PREFIX = "ctr:load:"
KEPT_S = 7 * 86_400
_ANSWER_S = 5.0


class RedisLoadMarks:
    """One number per load. Everything raises StoreError when Redis does not answer."""

    def __init__(self, servers: Servers, *, of: str) -> None:
        """`of` are the keys that loads fill, by their prefix: filling others is another load."""
        self._servers = servers
        self._of = of

    async def get(self, load: str) -> int:
        """Rows of this load that are in the store; 0 for one that was never begun, or was finished."""
        key = self._key(load)
        ((rows,),) = await self._servers.ask([(key, [("GET", key)])], timeout_s=_ANSWER_S, purpose="write")
        return int(rows or 0)

    async def put(self, load: str, rows: int) -> None:
        """So many are in the store. Forgotten after a week."""
        key = self._key(load)
        await self._servers.ask([(key, [("SET", key, rows, "EX", KEPT_S)])], timeout_s=_ANSWER_S, purpose="write")

    async def drop(self, load: str) -> None:
        """The load is finished."""
        key = self._key(load)
        await self._servers.ask([(key, [("DEL", key)])], timeout_s=_ANSWER_S, purpose="write")

    def _key(self, load: str) -> bytes:
        return f"{MARK_PREFIX}{self._of}{load}".encode()
