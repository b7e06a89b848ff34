"""Metrics of several processes: any of them answers for all, to the request, and counters never fall."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.metrics import Metrics
from tests.integration.service_process import ask, children, metric, score, serving, wait_until
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

REQUESTS = 60
LOOKS = 12  # with two processes, the chance that all are answered by one is 1 in 2048


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where the service puts temporary files: it inherits the environment."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_two_processes_count_as_one(bundle, redis_url, temporary):
    """Requests spread over both are counted exactly, whoever is asked; one that is killed takes no count with it."""
    with serving(bundle, redis_url, workers=2, store_timeout_ms=5000, deadline_ms=10_000) as (process, url):
        with ThreadPoolExecutor(8) as pool:
            statuses = {answer.status for answer in pool.map(lambda _: score(url), range(REQUESTS))}
        counts = {metric(url, "ctr_scored_total", degraded="none") for _ in range(LOOKS)}
        wait_until(lambda: metric(url, "ctr_pctr_count", role="stable") == 2 * REQUESTS)  # told twice a second
        each = [
            metric(url, "ctr_history_length_count"),
            metric(url, "ctr_store_operations_total", operation="read", outcome="ok"),
            metric(url, "ctr_batch_rows_sum") / 2,
            metric(url, "ctr_deadline_misses_total") + REQUESTS,
        ]
        shares = shares_of(process.pid)
        cpu = metric(url, "process_cpu_seconds_total")

        os.kill(children(process.pid)[0], signal.SIGKILL)
        wait_until(lambda: metric(url, "ctr_processes") == 1)
        alone = metric(url, "ctr_scored_total", degraded="none")
        wait_until(lambda: metric(url, "ctr_processes") == 2 and metric(url, "ctr_ready") == 1)
        score(url)
        after = {metric(url, "ctr_scored_total", degraded="none") for _ in range(LOOKS)}
        restarts, in_flight = metric(url, "ctr_process_restarts_total"), metric(url, "ctr_in_flight")
        bundles = ask(url, "/metrics").text.count("\nctr_bundle_info{")
        folders = len(list(temporary.glob("ctr-*")))
        later_cpu, memory = metric(url, "process_cpu_seconds_total"), metric(url, "process_resident_memory_bytes")

    assert statuses == {200}
    assert counts == {REQUESTS}
    assert each == [REQUESTS] * 4
    assert len(shares) == 2
    assert alone == REQUESTS
    assert after == {REQUESTS + 1}
    assert (restarts, in_flight, bundles) == (1, 1, 1)
    assert 0 < cpu <= later_cpu
    assert memory > 2 * 30 * 1024**2
    assert (folders, list(temporary.glob("ctr-*"))) == (1, [])


def shares_of(parent: int) -> list[int]:
    """CPU ticks of each serving process that did anything at all."""
    ticks = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11] for pid in children(parent)]
    return [int(tick) for tick in ticks if int(tick)]


def test_a_process_on_its_own_keeps_no_files(bundle, redis_url, temporary):
    """With one process metrics stay in memory, and what the library tells of the process is there."""
    with serving(bundle, redis_url) as (_, url):
        names = {line.split("{")[0].split()[0] for line in ask(url, "/metrics").text.splitlines() if line[0] != "#"}
        folders = list(temporary.glob("ctr-*"))

    assert names >= {"process_resident_memory_bytes", "python_info", "ctr_processes", "ctr_process_restarts_total"}
    assert folders == []


def test_lost_lines_are_counted_once():
    """The sink tells a total; the counter follows it."""
    metrics = Metrics(CollectorRegistry(), slo_s=0.03, routes=())
    for total in (0, 2, 2, 5):
        metrics.process.log_lines_lost(total)

    assert metrics.registry.get_sample_value("ctr_log_lines_lost_total") == 5
