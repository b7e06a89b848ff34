"""POST /score keeps its deadline, whatever the network between the service and Redis does."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from redis import Redis

from model.bundle.records import make_behaviors, to_members
from service.embedded import EmbeddedRedis
from tests.integration.service_process import metric, serving, wait_until
from tests.integration.tcp_proxy import TcpProxy
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

REQUEST = {"user_id": 1, "candidates": [{"item_id": 100}, {"item_id": 117}]}
DEADLINE_MS = 500.0
PHASE_S = 1.0
CALLERS = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


@pytest.fixture
def proxy(own_redis: EmbeddedRedis) -> Iterator[TcpProxy]:
    """A proxy before a Redis that knows user 1."""
    behaviors = make_behaviors([101, 102, 103], time=[1, 2, 3])
    with Redis.from_url(own_redis.url) as client:
        client.zadd("ctr:h:1", dict(zip(to_members(behaviors), behaviors["time"].tolist(), strict=True)))
    with TcpProxy(urlsplit(own_redis.url).port) as between:
        yield between


class Callers:
    """Some who ask one request after the other, until the block ends; each answer with its time and what was wrong."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CALLERS)]
        self.answers: list[tuple[float, int, str]] = []  # ms, status, degraded

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._ended.is_set():
                began = time.perf_counter()
                answer = client.post("/score", json=REQUEST)
                took_ms = (time.perf_counter() - began) * 1e3
                self.answers.append((took_ms, answer.status_code, answer.json().get("degraded", "")))
                time.sleep(0.005)  # other tests share this machine


def phase(url: str, name: str, act) -> list[tuple[float, int, str]]:
    """Answers while `act` is done to the network."""
    with Callers(url) as callers:
        until = time.monotonic() + PHASE_S
        while time.monotonic() < until:
            act()
            time.sleep(0.05)
    p99 = np.percentile([ms for ms, _, _ in callers.answers], 99)
    degraded = sum(level == "history" for _, _, level in callers.answers)
    print(f"{name}: {len(callers.answers)} answers, {degraded} degraded, p99 {p99:.1f} ms")
    return callers.answers


def test_score_keeps_its_deadline_whatever_the_network_does(bundle, own_redis, proxy):
    """Latency, cut connections, silence: always a 200 in time; degraded in silence, and normal again afterwards."""
    store = f"redis://127.0.0.1:{proxy.port}/0"
    with serving(bundle, store, deadline_ms=DEADLINE_MS, threads=1) as (_, url):
        found = {"healthy": phase(url, "healthy", lambda: None)}
        proxy.latency_s = 0.004
        found["late"] = phase(url, "8 ms more", lambda: None)
        proxy.latency_s = 0.05
        found["too late"] = phase(url, "100 ms more", lambda: None)
        proxy.latency_s = 0.0
        wait_until(lambda: metric(url, "ctr_store_circuit") == 0)
        found["cut"] = phase(url, "cut every 50 ms", proxy.cut)
        proxy.blackhole = True
        found["silent"] = phase(url, "nothing arrives", lambda: None)
        left_alone = metric(url, "ctr_store_circuit")
        proxy.blackhole = False
        wait_until(lambda: metric(url, "ctr_store_circuit") == 0)
        found["after"] = phase(url, "afterwards", lambda: None)

    for name, answers in found.items():
        assert {status for _, status, _ in answers} == {200}, name
        assert max(ms for ms, _, _ in answers) < DEADLINE_MS, name
    assert {level for _, _, level in found["silent"][-5:]} == {"history"}
    assert {level for _, _, level in found["after"][-5:]} == {"none"}
    assert left_alone == 1


def test_a_dead_server_is_left_alone(bundle, own_redis, proxy):
    """Once the circuit is open a request costs the store's timeout no more, and sends the server nothing."""
    store = f"redis://127.0.0.1:{proxy.port}/0"
    with (
        serving(bundle, store, deadline_ms=5000, store_timeout_ms=400, threads=1) as (_, url),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        client.post("/score", json=REQUEST)
        proxy.blackhole = True
        waits = [client.post("/score", json=REQUEST).json()["timings_ms"]["store"] for _ in range(8)]

    assert min(waits[:5]) > 350
    assert max(waits[5:]) < 100
