"""The load generators count what really happened, and servers are started, counted and ended whole."""

import asyncio
import itertools
import json
import math
import shutil
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.baseline.ranker import RECORD
from benchmarks.load_answers import OpenPoint
from benchmarks.load_process import Server, ServerError, clean_environ, free_port
from benchmarks.load_workload import FIRST_USER, USERS, Workload
from benchmarks.load_wrk import LoadError, Wrk
from benchmarks.serve_peers import our_service
from benchmarks.streaming import figures, page
from benchmarks.streaming_steps import STEPS
from model.bundle.records import BEHAVIOR
from service.bench.answers import Answer, kind_of
from service.bench.poisson import Arrivals, run_poisson

WORKLOAD = Workload(candidates=3)


@contextmanager
def http_server(statuses: Iterator[int], *, wait_s: float = 0.0, bodies: list[bytes] | None = None) -> Iterator[str]:
    """A server that answers with the given statuses in turn; status 0 hangs up instead. Yields its URL."""
    seen = [] if bodies is None else bodies
    ready, port = threading.Event(), free_port()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                seen.append(await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])))
                await asyncio.sleep(wait_s)
                status = next(statuses)
                if not status:
                    break
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 20\r\n\r\n" % status + b'{"degraded": "none"}')
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", port):
            ready.set()
            await ended.wait()

    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(10)
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def load(url: str, *, rate: float = 200, seconds: float = 0.5) -> list[Answer]:
    arrivals = Arrivals(rate=rate, seconds=seconds, seed=1)
    return run_poisson(url, lambda i: WORKLOAD.request(url, i), arrivals=arrivals)


def test_the_open_loop_sends_every_request_once_and_counts_each_answer():
    """Statuses become kinds, no request is doubled, and the server saw exactly the bodies that were meant."""
    bodies: list[bytes] = []
    with http_server(itertools.cycle((200, 429, 504, 500)), bodies=bodies) as url:
        answers = load(url)

    assert len(bodies) == len(answers)
    assert {WORKLOAD.body(a.index) for a in answers} == set(bodies)
    counts = OpenPoint(candidates=3, rate=200, seconds=0.5, answers=answers).counts
    quarter = len(answers) / 4
    expected = {"ok": quarter, "refused": quarter, "late": quarter, "other": quarter, "degraded": 0, "lost": 0}
    assert counts == pytest.approx(expected, abs=1)


def test_a_request_without_an_answer_is_lost():
    """A server that hangs up on every third request loses exactly those, and the others still count."""
    with http_server(itertools.cycle((200, 200, 0))) as url:
        answers = load(url)

    lost = sum(a.kind == "lost" for a in answers)
    assert lost == len(answers) // 3
    assert {a.kind for a in answers} == {"ok", "lost"}


def test_a_server_that_is_not_there_loses_everything():
    """Connections that are refused are counted, not raised."""
    answers = load(f"http://127.0.0.1:{free_port()}", rate=50, seconds=0.2)

    assert answers
    assert {"lost"} == {a.kind for a in answers}


def test_latency_counts_from_the_intended_time_and_does_not_slow_the_load():
    """Each answer takes at least the server's time, and requests do not wait for earlier answers."""
    with http_server(itertools.repeat(200), wait_s=0.2) as url:
        answers = load(url, rate=100, seconds=0.5)

    assert min(a.latency_s for a in answers) >= 0.2
    assert len(answers) == len(Arrivals(rate=100, seconds=0.5, seed=1).times())


def test_arrivals_are_seeded_and_have_the_rate_that_was_asked_for():
    """The same seed gives the same times; gaps are exponential with mean 1/rate."""
    arrivals = Arrivals(rate=1000, seconds=20, seed=3)
    times = np.array(arrivals.times())

    assert arrivals.times() == times.tolist()
    assert len(times) == pytest.approx(20_000, abs=5 * math.sqrt(20_000))
    assert np.diff(times).std() == pytest.approx(1e-3, rel=0.05)


def test_every_request_is_another_users():
    """All 10,000 users come before one comes again, and the body names the user and its candidates."""
    users = [WORKLOAD.user(i) for i in range(USERS)]
    body = json.loads(WORKLOAD.body(5))

    assert set(range(FIRST_USER, FIRST_USER + USERS)) == set(users)
    assert (WORKLOAD.user(5), 3) == (body["user_id"], len(body["candidates"]))


def test_an_answer_that_says_degraded_is_not_ok():
    """Only a 200 with full scores counts; peers do not name the level."""
    levels = [b'{"degraded":"none"}', b'{"degraded":"history"}', b'{"scores":[1]}']

    assert ["ok", "degraded", "ok"] == [kind_of(200, body) for body in levels]


def test_the_baseline_reads_our_records():
    """Peers decode the records themselves, so the layout is written down twice and must be one."""
    assert BEHAVIOR == RECORD


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is a Debian package, not a Python one")
def test_the_closed_loop_counts_what_the_server_answered(tmp_path):
    """wrk's script tells kinds apart, and what it counts is what the server saw, but for requests in flight."""
    bodies: list[bytes] = []
    with http_server(itertools.cycle((200, 200, 429, 504)), bodies=bodies) as url:
        point = Wrk(tmp_path).run(url, WORKLOAD, connections=2, seconds=1)

    total = sum(point.counts.values())
    assert len(bodies) - 2 <= total <= len(bodies)
    assert point.counts["ok"] == pytest.approx(total / 2, abs=2)
    assert point.counts["refused"] == pytest.approx(total / 4, abs=2)
    expected = {WORKLOAD.body(i) for i in range(len(bodies) + 2)}  # wrk asks for one more, to look at it
    assert set(bodies) <= expected
    assert len(set(bodies)) == min(len(bodies), USERS)


def test_without_wrk_the_benchmark_says_so(tmp_path, monkeypatch):
    """The message names the package. The PATH is the only way to take wrk away."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LoadError, match="apt-get install wrk"):
        Wrk(tmp_path)


def test_a_server_that_ends_at_once_is_reported_with_its_log(tmp_path):
    """The end of the log is in the message, so that nobody has to look for it."""
    command = [sys.executable, "-c", "raise SystemExit('no net')"]
    with (
        Server(command, port=free_port(), environ=clean_environ({}), log=tmp_path / "log") as server,
        pytest.raises(ServerError, match="no net"),
    ):
        server.wait(b"{}", timeout_s=20)


def test_a_tree_of_processes_is_counted_and_ended_whole(tmp_path):
    """CPU time and memory of a child in a session of its own belong to the server, and it ends with it."""
    busy = "import time; end = time.thread_time() + 0.3\nwhile time.thread_time() < end: pass\n"
    child = f"{busy}print('x', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], start_new_session=True)"
    log = tmp_path / "log"
    with Server([sys.executable, "-c", parent], port=free_port(), environ=clean_environ({}), log=log) as server:
        ticking = threading.Event()
        for _ in range(200):
            if log.read_bytes():
                break
            ticking.wait(0.05)
        cpu, members = server.cpu_s(), server.members()

    assert cpu >= 0.3
    assert len(members) == 2
    assert server.members() == set()


def test_our_service_is_started_and_loaded_as_the_benchmark_does(bundles, redis_url, tmp_path):
    """The command line is right, every request of a light open loop gets full scores, and /metrics counts the same."""
    sample = WORKLOAD.body(0)
    patient = {"deadline_ms": 5000, "store_timeout_ms": 2000, "queue_ms": 5000}  # this is no test of speed
    with our_service(bundles["din"], redis_url, sample=sample, log=tmp_path / "log", **patient) as server:
        before = server.metric('ctr_scored_total{degraded="none"}')
        answers = load(server.url, rate=20, seconds=1)
        scored = server.metric('ctr_scored_total{degraded="none"}') - before

        assert server.rss_mb() > 10
    assert {"ok"} == {a.kind for a in answers}
    assert len(answers) == scored


def test_the_streaming_benchmark_takes_its_steps(tmp_path):
    """A small log is generated, prepared and trained, in shards and in memory: the rows agree, also those of two who
    read their lanes, and it has figures.
    """
    sizes = {}
    for name, rows in (("small", 1_000), ("large", 2_000)):
        settings = {"folder": str(tmp_path / name), "rows": rows, "evaluated": 0.1, "memory_mb": 1.0, "trained": 0}
        settings |= {"log": "table"}
        sizes[name] = {
            step: {**STEPS[step](settings), "peak_mb": 1.0, "wall_s": 1.0, "cpu_s": 1.0}
            for step in ("generate", "prepare", "train", "in_memory")
        }

    lanes = [STEPS["read"]({**settings, "lanes": 2, "mine": [i, i + 1]}) for i in range(2)]
    found = figures({"peak_mb": 1.0}, sizes, sizes["small"], None)

    assert [800, 800] == [said["taken"] for said in lanes]
    assert (1_000, 2_000) == (found["small_rows"], found["large_rows"])
    assert sizes["large"]["train"]["rows"] == sizes["large"]["in_memory"]["rows"] == 1_600
    assert found["train_peak_ratio"] == 1.0
    options = Namespace(
        log="table", rows=2_000, small=1_000, whole=1_000, pandas=0, trained=0, memory_mb=1.0, threads=1
    )
    assert "| train_peak_ratio | 1.000 | <= 1.1 |" in page(found, options)


@pytest.mark.parametrize(("log", "rows"), [("behaviors", 2 * (1_100 - 11)), ("ads", 100)])
def test_the_streaming_benchmark_knows_public_forms(log, rows, tmp_path):
    """Of behaviors each but the first of a user makes two rows; of ads a row in eleven is an impression."""
    settings = {"folder": str(tmp_path), "rows": 1_100, "evaluated": 0.1, "memory_mb": 1.0, "log": log}
    STEPS["generate"](settings)

    assert STEPS["prepare"](settings)["rows"] == pytest.approx(rows, abs=40)
