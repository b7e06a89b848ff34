"""The job of every load: 10,000 users of 100 behaviors in Redis, another user and other candidates in each request."""

import asyncio
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson

from benchmarks.sized import CATEGORIES, HISTORY, ITEMS
from model.bundle.records import Behaviors, make_behaviors
from service.stores.redis import RedisStore

FIRST_USER, USERS = 10_001, 10_000
STRIDE = 7_919  # a prime, so that the walk visits every user before it meets one again
TAILS = 1_000
_CHUNK = 250


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Request bodies with `candidates` candidates each. Body i is made of parts that are there beforehand."""

    candidates: int
    seed: int = 0
    users: int = USERS  # fewer: the same ones come back sooner

    @cached_property
    def tails(self) -> list[bytes]:
        """Candidate lists as JSON, each closing the body."""
        rng = np.random.default_rng((self.seed, self.candidates))
        shape = (TAILS, self.candidates)
        items, categories = rng.integers(1, ITEMS - 1, shape), rng.integers(1, CATEGORIES - 1, shape)
        return [orjson.dumps(_rows(i, c)) + b"}" for i, c in zip(items.tolist(), categories.tolist(), strict=True)]

    def body(self, index: int) -> bytes:
        """The body of the request with that number."""
        return b'{"user_id":%d,"candidates":%b' % (self.user(index), self.tails[index % TAILS])

    def request(self, url: str, index: int) -> bytes:
        """The whole request, to be sent in one write."""
        body, parts = self.body(index), urlsplit(url)
        head = f"POST /score HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
        return b"%b%d\r\n\r\n%b" % (head.encode(), len(body), body)

    def user(self, index: int) -> int:
        """The user of the request with that number."""
        return FIRST_USER + index * STRIDE % self.users

    def write_tails(self, path: Path) -> Path:
        """One candidate list per line, as the wrk script reads them."""
        path.write_bytes(b"\n".join(self.tails) + b"\n")
        return path


def _rows(items: list[int], categories: list[int]) -> list[dict[str, int]]:
    return [{"item_id": i, "cate_id": c} for i, c in zip(items, categories, strict=True)]


def histories() -> list[tuple[int, Behaviors]]:
    """Every user with 100 behaviors, oldest first; the same in each run."""
    rng = np.random.default_rng(1)
    items, categories = (rng.integers(1, most - 1, (USERS, HISTORY)) for most in (ITEMS, CATEGORIES))
    return [(FIRST_USER + i, make_behaviors(items[i], category=categories[i])) for i in range(USERS)]


def fill_redis(url: str) -> None:
    """Write all histories in the service's own layout."""
    asyncio.run(_fill(url))


async def _fill(url: str) -> None:
    store = RedisStore.from_url(url, history_keep=200, ttl_s=86_400)
    users = histories()
    for start in range(0, len(users), _CHUNK):
        await store.append_many(users[start : start + _CHUNK], timeout_s=30)
    await store.close()
