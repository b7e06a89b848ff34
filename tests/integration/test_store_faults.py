"""The service as a process, on a real port, with a real Redis that stops, hangs, comes back or was never filled."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from redis import Redis

from model.bundle.records import make_behaviors, to_members
from service.embedded import EmbeddedRedis
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

REQUEST = {"user_id": 1, "candidates": [{"item_id": 100}, {"item_id": 117}]}
DEADLINE_MS = 500
WAIT_S = 15


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


def remember(url: str, user_id: int, items: list[int]) -> None:
    """Write a history as another program would."""
    behaviors = make_behaviors(items, time=range(1, len(items) + 1))
    with Redis.from_url(url) as client:
        client.zadd(f"ctr:h:{user_id}", dict(zip(to_members(behaviors), behaviors["time"].tolist(), strict=True)))


@contextmanager
def service(bundle: Path, redis_url: str, **settings: object) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """`ctr-service serve` on a free port, ready, and a client for it; ended by SIGTERM."""
    chosen = {"bundle": bundle, "store": redis_url, "port": 0, "deadline_ms": DEADLINE_MS, **settings}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CTR_")}
    environ = {**clean, **{f"CTR_{name.upper()}": str(value) for name, value in chosen.items()}}
    command = [str(Path(sys.executable).with_name("ctr-service")), "serve"]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE)
    try:
        with httpx.Client(base_url=_address(process), timeout=WAIT_S) as client:
            _wait(lambda: client.get("/readyz").status_code == 200)
            yield process, client
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)


def _address(process: subprocess.Popen[bytes]) -> str:
    """Where it listens, from its log."""
    assert process.stdout is not None
    for line in process.stdout:
        event = str(orjson.loads(line)["event"])
        if "running on" in event:
            return event.split("running on ")[1].split(maxsplit=1)[0]
    raise AssertionError("the service ended before it listened")


def _wait(condition) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def score(client: httpx.Client) -> dict[str, object]:
    """The answer to a request, which must come within the deadline."""
    began = time.monotonic()
    answer = client.post("/score", json=REQUEST)
    took_ms = (time.monotonic() - began) * 1e3

    assert answer.status_code == 200, answer.text
    assert took_ms < DEADLINE_MS
    return answer.json()


def pctr(answer) -> list[float]:
    """Its scores."""
    return [row["pctr"] for row in answer["scores"]]


@pytest.mark.parametrize("fault", ["stopped", "paused"])
def test_redis_may_fail_while_serving(bundle, own_redis: EmbeddedRedis, fault):
    """Stopped or hanging: still 200 in time, marked, scored without a history; later back to normal by itself."""
    remember(own_redis.url, 1, [101, 102, 103])
    with service(bundle, own_redis.url) as (_, client):
        healthy = score(client)
        own_redis.stop() if fault == "stopped" else own_redis.pause()
        degraded = [score(client) for _ in range(3)]
        live, ready = client.get("/livez"), client.get("/readyz")
        if fault == "stopped":
            own_redis.start()
            remember(own_redis.url, 1, [101, 102, 103])  # it keeps nothing on disk
        else:
            own_redis.resume()
        _wait(lambda: score(client)["degraded"] == "none")
        recovered = score(client)
        metrics = client.get("/metrics").text

    assert (healthy["degraded"], healthy["history_len"]) == ("none", 3)
    assert [(answer["degraded"], answer["history_len"]) for answer in degraded] == [("history", 0)] * 3
    assert pctr(degraded[0]) != pctr(healthy)
    assert [live.status_code, ready.status_code] == [200, 200]
    assert (recovered["history_len"], pctr(recovered)) == (3, pctr(healthy))
    assert 'ctr_store_operations_total{operation="read",outcome="failed"} 3.0' in metrics


def test_ten_megabytes_on_a_real_connection_are_refused(bundle, redis_url):
    """The caller reads a 413 in the one shape although it was still sending, and the service goes on."""
    with service(bundle, redis_url) as (_, client):
        refused = [client.post("/score", content=content) for content in (b"x" * 10**7, iter([b"x" * 10**6] * 10))]
        after = score(client)

    assert [answer.status_code for answer in refused] == [413, 413]
    assert all(answer.json().keys() == {"error", "error_type", "request_id"} for answer in refused)
    assert after["degraded"] == "none"


def test_redis_may_be_empty(bundle, redis_url):
    """A user without behaviors is scored with an empty history; nothing is degraded."""
    with service(bundle, redis_url) as (_, client):
        answer = score(client)

    assert (answer["degraded"], answer["history_len"]) == ("none", 0)


def test_redis_may_be_absent_at_the_start(bundle, own_redis: EmbeddedRedis):
    """The service starts and is ready without its Redis, and uses it once it is there."""
    own_redis.stop()
    with service(bundle, own_redis.url) as (_, client):
        before = score(client)
        own_redis.start()
        remember(own_redis.url, 1, [101])
        _wait(lambda: score(client)["degraded"] == "none")
        after = score(client)

    assert (before["degraded"], after["history_len"]) == ("history", 1)


def test_something_else_under_the_key_degrades(bundle, redis_url):
    """A key of another type or records of another width are a store failure, not a crash."""
    with Redis.from_url(redis_url) as redis:
        redis.set("ctr:h:1", "not a sorted set")
    with service(bundle, redis_url) as (_, client):
        answers = [score(client)]
        with Redis.from_url(redis_url) as redis:
            redis.delete("ctr:h:1")
            redis.zadd("ctr:h:1", {b"short": 1})
        answers.append(score(client))

    assert [answer["degraded"] for answer in answers] == ["history", "history"]


def test_sigterm_answers_what_is_in_flight(bundle, own_redis: EmbeddedRedis):
    """On SIGTERM requests that wait for a hanging Redis are still answered; then the process ends."""
    with service(bundle, own_redis.url, store_timeout_ms=1000, deadline_ms=4000) as (process, client):
        own_redis.pause()
        sending = subprocess.Popen(
            [sys.executable, "-c", _SEND, str(client.base_url)],
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
        )
        _wait(lambda: "ctr_rows 2.0" in client.get("/metrics").text)
        process.send_signal(signal.SIGTERM)
        answered, _ = sending.communicate(timeout=WAIT_S)
        status = process.wait(timeout=WAIT_S)
        own_redis.resume()

    assert answered.split() == [b"200", b"history"]
    assert status == 0


_SEND = """
import sys, httpx
body = {"user_id": 1, "candidates": [{"item_id": 100}, {"item_id": 117}]}
answer = httpx.post(sys.argv[1] + "/score", json=body, timeout=30)
print(answer.status_code, answer.json()["degraded"])
"""
