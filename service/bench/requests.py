"""The requests of a load: another user in each, and one of a few hundred candidate lists."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import numpy as np
import orjson

from service.bench.target import Served, Target

LISTS = 200  # candidate lists, made once, before the load
STRIDE = 7_919  # a prime, so that the walk visits every user before it meets one again


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Request `number` is the same in each run. Users come evenly, which is the worst case for a cache."""

    target: Target
    served: Served
    users: range
    candidates: int

    def __call__(self, number: int) -> bytes:
        """The whole request, to be sent in one write."""
        body = self.body(number)
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def body(self, number: int) -> bytes:
        """The JSON of a request."""
        user = self.users[number * STRIDE % len(self.users)]
        return b'{"user_id":%d,"candidates":%b}' % (user, self._lists[number % LISTS])

    @cached_property
    def _lists(self) -> list[bytes]:
        rng, served = np.random.default_rng(0), self.served
        rows = rng.integers(0, len(served.items), (LISTS, self.candidates)).tolist()
        return [orjson.dumps([{served.item_key: served.items[i]} for i in row]) for row in rows]

    @cached_property
    def _head(self) -> bytes:
        parts = urlsplit(self.target.url)
        headers = {"Host": parts.netloc, **self.target.headers}
        lines = [f"POST {parts.path}/score HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "Content-Length: "]).encode()
