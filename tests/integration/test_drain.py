"""SIGTERM to the real process: what was admitted is answered, readiness goes first, and the exit code is 0."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.embedded import EmbeddedRedis
from tests.integration.service_process import REQUEST, WAIT_S, address, ask, metric, score, serving, wait_until
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

IN_FLIGHT = 8
# The requests wait for a store that hangs, so that there is time to ask the process to end.
SLOW = {"store_timeout_ms": 3000, "deadline_ms": 60_000, "drain_s": 60}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_answers_everything_in_flight(bundle, own_redis: EmbeddedRedis, workers):
    """Eight requests that wait for a hanging store are all answered after SIGTERM, a second one too; exit code 0."""
    with (
        serving(bundle, own_redis.url, workers=workers, drain_delay_s=1, **SLOW) as (process, url),
        ThreadPoolExecutor(IN_FLIGHT) as pool,
    ):
        own_redis.pause()
        sent = [pool.submit(score, url) for _ in range(IN_FLIGHT)]
        wait_until(lambda: metric(url, "ctr_rows") == IN_FLIGHT * len(REQUEST["candidates"]))
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not_ready(url))
        process.send_signal(signal.SIGTERM)
        answers = [request.result() for request in sent]
        code = process.wait(timeout=WAIT_S)
        own_redis.resume()

    assert [answer.status for answer in answers] == [200] * IN_FLIGHT
    assert {answer.body["degraded"] for answer in answers} == {"history"}
    assert {answer.connection for answer in answers} == {"close"}
    assert code == 0


def test_readiness_goes_first_and_listening_last(bundle, redis_url):
    """During the pause /readyz is a 503 on new connections while requests are still scored and told to go elsewhere."""
    with serving(bundle, redis_url, drain_delay_s=2) as (process, url):
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not_ready(url))
        answers = [(ask(url, "/readyz"), score(url)) for _ in range(5)]
        code = process.wait(timeout=WAIT_S)

    assert {(ready.status, scored.status) for ready, scored in answers} == {(503, 200)}
    assert {ready.body["error"] for ready, _ in answers} == {"draining: this process is about to end"}
    assert {scored.connection for _, scored in answers} == {"close"}
    assert code == 0


def not_ready(url: str) -> bool:
    """Whether every process says so: with two, a new connection may reach either."""
    return all(ask(url, "/readyz").status == 503 for _ in range(8))


def test_an_idle_connection_does_not_hold_the_end(bundle, redis_url):
    """Ctrl-C is a clean end too, and a caller who keeps a connection and sends nothing is hung up on at once."""
    with serving(bundle, redis_url, drain_s=60) as (process, url), socket.create_connection(address(url)):
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=WAIT_S)

    assert code == 0
