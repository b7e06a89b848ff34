"""What happens when a process is killed, its parent is killed, or its log cannot be written. See docs/operations.md."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.embedded import EmbeddedRedis
from tests.integration.service_process import (
    REQUEST,
    WAIT_S,
    Answer,
    children,
    metric,
    score,
    serving,
    wait_until,
)
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

IN_FLIGHT = 8
SMALLEST_PIPE = 4096  # bytes


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


def attempt(url: str) -> Answer | None:
    """The answer to a request, or None if the connection broke."""
    try:
        return score(url)
    except OSError:
        return None


@contextmanager
def one_after_the_other(url: str, answers: list[Answer | None]) -> Iterator[None]:
    """A caller who opens a new connection for each of many requests while the block runs."""
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            answers.append(attempt(url))
            time.sleep(0.01)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        yield
    finally:
        stop.set()
        caller.join()


def test_a_killed_process_takes_only_its_own_requests_with_it(bundle, own_redis: EmbeddedRedis):
    """SIGKILL of one of two under load: what waits in the other is answered, new connections are served while the dead
    one is replaced, readiness returns, and no count is lost.
    """
    later: list[Answer | None] = []
    with (
        serving(bundle, own_redis.url, workers=2, store_timeout_ms=3000, deadline_ms=10_000) as (process, url),
        ThreadPoolExecutor(IN_FLIGHT) as pool,
    ):
        own_redis.pause()
        sent = [pool.submit(attempt, url) for _ in range(IN_FLIGHT)]
        wait_until(lambda: metric(url, "ctr_rows") == IN_FLIGHT * len(REQUEST["candidates"]))
        os.kill(children(process.pid)[0], signal.SIGKILL)
        wait_until(lambda: metric(url, "ctr_processes") == 1)
        survivors = metric(url, "ctr_rows") / len(REQUEST["candidates"])
        own_redis.resume()
        with one_after_the_other(url, later):
            answers = [request.result() for request in sent]
            wait_until(lambda: metric(url, "ctr_processes") == 2 and metric(url, "ctr_ready") == 1)
        scored = sum(metric(url, "ctr_scored_total", degraded=level) for level in ("none", "history"))

    answered = [answer.status for answer in answers if answer is not None]
    assert answered == [200] * int(survivors)
    assert later
    assert {answer and answer.status for answer in later} == {200}
    assert scored == len(answered) + len(later)


def test_processes_end_with_a_parent_that_was_killed(bundle, redis_url):
    """Nobody could ask them to end any more; they drain by themselves and let the port go."""
    with serving(bundle, redis_url, workers=2) as (process, _):
        serving_pids = children(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in serving_pids))

    assert len(serving_pids) == 2


@contextmanager
def full_disk() -> Iterator[int]:
    """A file that takes nothing."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def closed_pipe() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reads, writes = os.pipe()
    os.close(reads)
    yield writes
    os.close(writes)


@contextmanager
def unread_pipe() -> Iterator[int]:
    """A small pipe whose reader hangs."""
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    yield writes
    os.close(reads)
    os.close(writes)


@pytest.mark.parametrize(("log", "workers"), [(full_disk, 2), (closed_pipe, 1), (unread_pipe, 1)])
def test_a_log_that_cannot_be_written_costs_lines_and_nothing_else(bundle, redis_url, log, workers):
    """Full disk, closed pipe, or a reader that hangs: every request is answered, lost lines are counted."""
    with log() as stdout, serving(bundle, redis_url, stdout=stdout, workers=workers) as (process, url):
        answers = [score(url).status for _ in range(20)]
        wait_until(lambda: metric(url, "ctr_log_lines_lost_total") > 0)
        before = metric(url, "ctr_log_lines_lost_total")
        score(url)
        wait_until(lambda: metric(url, "ctr_log_lines_lost_total") > before)
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=WAIT_S)

    assert answers == [200] * 20
    assert code == 0
