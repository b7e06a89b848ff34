"""The Directory of a master with replicas that Sentinels watch."""

from collections.abc import Callable, Sequence

from redis.exceptions import MovedError, RedisError, ResponseError

from service.stores.address import Place
from service.stores.base import StoreMisconfigured
from service.stores.connections import Connections
from service.stores.directory import LOOK_EVERY_S, MakeNode, Searched
from service.stores.node import Node
from service.stores.patience import patience

SENTINEL_S = 0.3  # for one Sentinel; then the next is asked
_UNFIT = ("s_down", "o_down", "disconnected")


class Sentinels(Searched):
    """Asks the Sentinels in turn, the one that answered last first."""

    def __init__(
        self, sentinels: Sequence[Connections], service: str, *, make: MakeNode, clock: Callable[[], float]
    ) -> None:
        self._sentinels = list(sentinels)
        self._service = service
        super().__init__(make, self._look, clock=clock)
        self._master: Place | None = None
        self._replicas: list[Place] = []

    def find(self, key: bytes, *, replica: bool) -> Node | None:  # noqa: ARG002, RUF100  # a Directory's
        """See Directory."""
        self._lookup.begin(pause_s=LOOK_EVERY_S)
        if replica and (found := self._servers.in_turn(self._replicas)) is not None:
            return found
        return None if self._master is None else self._servers.at(self._master)

    def moved(self, error: MovedError) -> None:
        """See Directory. Only a cluster says that."""

    async def close(self) -> None:
        """See Directory."""
        await super().close()
        for sentinel in self._sentinels:
            await sentinel.close()

    async def ask(self) -> tuple[Place, list[Place]]:
        """Master and fit replicas, from the first Sentinel that answers. Raises what the last one raised."""
        last: Exception = StoreMisconfigured("no Sentinel is named")
        for sentinel in list(self._sentinels):
            try:
                async with patience(SENTINEL_S):
                    return await self._ask(sentinel)
            except (RedisError, OSError, StoreMisconfigured) as error:
                last = error
                self._sentinels.append(self._sentinels.pop(self._sentinels.index(sentinel)))
        raise last

    async def _ask(self, sentinel: Connections) -> tuple[Place, list[Place]]:
        of = self._service
        named, listed = await sentinel.ask([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", of), ("SENTINEL", "REPLICAS", of)])
        if named is None:
            raise StoreMisconfigured("the Sentinels watch no service of the name in the URL")
        for reply in (named, listed):
            if isinstance(reply, ResponseError):
                raise reply
        return (named[0].decode(), int(named[1])), _fit(listed)

    async def _look(self) -> None:
        try:
            self._master, self._replicas = await self.ask()
        except (RedisError, OSError, StoreMisconfigured) as error:
            self.trouble = error  # what was known may still be right
            return
        self.trouble = None
        self._servers.keep([self._master, *self._replicas])


def _fit(listed: Sequence[Sequence[bytes]]) -> list[Place]:
    """Replicas that are up and follow the master, from the reply's names and values in turn."""
    replicas = [
        {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)} for flat in listed
    ]
    return [
        (replica["ip"], int(replica["port"]))
        for replica in replicas
        if replica.get("master-link-status") == "ok" and not any(flag in replica["flags"] for flag in _UNFIT)
    ]
