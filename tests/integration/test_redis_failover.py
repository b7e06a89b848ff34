"""Scoring and ingestion go on while a master dies, and no acknowledged event is lost or doubled."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.stores.redis import RedisStore
from tests.integration.redis_topologies import RedisCluster, SentinelSetUp, wait_until
from tests.integration.service_process import serving
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

USERS = 12
WRITERS = 3
STEADY_S = 1.0
SETTINGS = {
    "history_keep": 10_000,
    "store_wait_replicas": 1,
    "events_timeout_ms": 500,
    "deadline_ms": 2000,
    "threads": 1,
    "log_level": "warning",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


@pytest.fixture(params=[SentinelSetUp, RedisCluster], ids=["sentinel", "cluster"])
def set_up(request: pytest.FixtureRequest) -> Iterator[SentinelSetUp | RedisCluster]:
    """A set-up of this test alone, since it kills a server."""
    with request.param() as servers:
        yield servers


class Traffic:
    """Writers, each of whom sends an event until it is acknowledged; and one who scores every user in turn."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        writers = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        self._threads = [*writers, threading.Thread(target=self._score)]
        self.acknowledged: dict[int, list[int]] = defaultdict(list)  # user -> items
        self.refused = 0  # tries that were not acknowledged
        self.scored: list[tuple[float, int, str]] = []  # when, status, degraded

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def writes(self) -> int:
        """Events acknowledged so far."""
        return sum(map(len, self.acknowledged.values()))

    def _write(self, writer: int) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._ended.is_set():
                user = writer + WRITERS * (number % (USERS // WRITERS))
                item = 1_000_000 * (writer + 1) + number
                event = {"user_id": user, "item_id": item, "event_id": f"{writer}-{number}", "category": 1}
                self._send(client, {**event, "time": int(time.time() * 1000)})
                self.acknowledged[user].append(item)
                number += 1
                time.sleep(0.01)  # other tests share this machine

    def _send(self, client: httpx.Client, event: dict[str, object]) -> None:
        while client.post("/events", json=event).status_code != 202:
            self.refused += 1
            time.sleep(0.05)

    def _score(self) -> None:
        user = 0
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._ended.is_set():
                user = (user + 1) % USERS
                answer = client.post("/score", json={"user_id": user, "candidates": [{"item_id": 100}]})
                self.scored.append((time.monotonic(), answer.status_code, answer.json().get("degraded", "")))
                time.sleep(0.01)


def goes_on(count: Callable[[], int]) -> Callable[[], bool]:
    """Whether it grew by 50 since now."""
    before = count()
    return lambda: count() > before + 50


async def histories(url: str) -> dict[int, list[int]]:
    """What the store holds in the end: every user's items, sorted."""
    store = RedisStore.from_url(url, history_keep=10_000, ttl_s=3600)
    found = await store.read_many(range(USERS), limit=10_000, timeout_s=10)
    await store.close()
    return {user: sorted(history["item"].tolist()) for user, history in enumerate(found)}


def degraded_time(scored: list[tuple[float, int, str]]) -> float:
    """Seconds from the first degraded answer to the first good one after the last."""
    bad = [i for i, (_, _, level) in enumerate(scored) if level != "none"]
    return scored[min(bad[-1] + 1, len(scored) - 1)][0] - scored[bad[0]][0] if bad else 0.0


def test_nothing_acknowledged_is_lost_or_doubled_when_a_master_dies(bundle, set_up):
    """kill -9 of a master that has users, under traffic; it comes back later as a replica."""
    with serving(bundle, set_up.url, **SETTINGS) as (_, url), Traffic(url) as traffic:
        wait_until(goes_on(lambda: traffic.writes))
        victim = set_up.master_of("ctr:h:0")
        victim.kill()
        time.sleep(STEADY_S)
        wait_until(lambda: set_up.master_of("ctr:h:0") is not victim)
        victim.start()
        wait_until(goes_on(lambda: len(traffic.acknowledged[0]) * 10))
        time.sleep(STEADY_S)
        wait_until(goes_on(lambda: traffic.writes))
        wait_until(lambda: {level for _, _, level in traffic.scored[-2 * USERS :]} == {"none"})
    stored = asyncio.run(histories(set_up.url))

    kind = type(set_up).__name__
    print(f"{kind}: {traffic.writes} events acknowledged, {traffic.refused} tries refused, ", end="")
    print(f"{len(traffic.scored)} scores, answers degraded for {degraded_time(traffic.scored):.2f} s")
    assert {status for _, status, _ in traffic.scored} == {200}
    assert stored == {user: sorted(items) for user, items in traffic.acknowledged.items()}
