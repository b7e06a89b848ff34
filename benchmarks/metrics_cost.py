"""What metrics cost a request: the calls that record it, and the CPU time of the service with and without them.

    python -m benchmarks.metrics_cost [--rounds N] [--requests N]

Two services in one process, of DIN at the sizes of the public DIEN code over histories in memory, are asked in turn,
round by round, without a socket: one records as always, the other has a recorder of the same interface that does
nothing. CPU time is of the whole process, compute threads included. Reading HTTP from a socket would add to both, so a
share of the whole is less in truth.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self
from unittest.mock import patch

import numpy as np
import orjson
from fastapi import FastAPI
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.sized import HISTORY, ITEMS, USERS, sized_bundle
from model.bundle.records import make_behaviors
from service.api.routes import ROUTES
from service.app import create_app
from service.config import Settings
from service.metrics import PHASES, Metrics
from service.scoring.scorer import Scored, Timings, rank
from service.stores.memory import MemoryStore

COUNTS = (100, 500)
TARGETS = {f"overhead_percent_{count}": ["<=", 2.0] for count in COUNTS}
# Nothing is refused or given up here.
PATIENT = {"deadline_ms": 10_000, "queue_ms": 10_000, "store_timeout_ms": 2_000, "watch_s": 0, "log_level": "warning"}


class Nothing:
    """Takes every call, of itself or of whatever it has, and does nothing."""

    def __getattr__(self, name: str) -> Self:
        """It has everything."""
        return self

    def __call__(self, *_: object, **__: object) -> None:
        """Nothing."""


def main() -> None:
    """Measure, print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="of each candidate count")
    parser.add_argument("--requests", type=int, default=20, help="to each service in a round")
    options = parser.parse_args()
    found = calls()
    with tempfile.TemporaryDirectory() as folder:
        path, _ = sized_bundle(Path(folder), "din")
        found |= asyncio.run(served(path, rounds=options.rounds, requests=options.requests))
    for count in COUNTS:
        found[f"recording_percent_{count}"] = found[f"recording_us_{count}"] / found[f"cpu_ms_{count}"] / 10
    metrics = {name: round(value, 3) for name, value in found.items()}
    print(json.dumps({"benchmark": "metrics_cost", "metrics": metrics, "targets": TARGETS}))


def calls(*, repeats: int = 2000) -> dict[str, float]:
    """CPU microseconds to record one request, and milliseconds to answer /metrics."""
    metrics = Metrics(CollectorRegistry(), slo_s=0.03, routes=ROUTES)
    found = {}
    for count in COUNTS:
        scored = sample(count)
        found[f"recording_us_{count}"] = cpu_s(lambda s=scored: record(metrics, s), repeats) * 1e6
    found["answering_ms"] = cpu_s(lambda: generate_latest(metrics.shown), 20) * 1e3
    print(", ".join(f"{name} {value:.1f}" for name, value in found.items()))
    return found


def record(metrics: Metrics, scored: Scored) -> None:
    """What one POST /score costs in metrics."""
    metrics.process.in_flight.inc()
    metrics.store.done("read", "ok")
    metrics.process.batch_rows.observe(len(scored.pctr))
    metrics.scores.record(scored)
    metrics.bundles.scored("stable")
    metrics.bundles.pctr.record("stable", scored.pctr)
    metrics.process.in_flight.dec()
    metrics.request("/score", 200)
    metrics.phases(dict.fromkeys(PHASES, 0.003))


def sample(count: int) -> Scored:
    """An answer with so many candidates."""
    pctr = np.random.default_rng(0).beta(2, 40, count).astype(np.float32)
    return Scored(
        pctr=pctr,
        rank=rank(pctr),
        status=["ok"] * count,
        unknown_items=1,
        unknown_features=0,
        user_status="known",
        history_len=HISTORY,
        degraded="none",
        timings=Timings(store_s=0.001, encode_s=0.001, queue_s=0.001, compute_s=0.003),
    )


def cpu_s(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of this thread for one call: the median of nine times so many."""
    times = []
    for _ in range(9):
        began = time.thread_time()
        for _ in range(repeats):
            work()
        times.append((time.thread_time() - began) / repeats)
    return float(np.median(times))


async def served(bundle: Path, *, rounds: int, requests: int) -> dict[str, float]:
    """CPU milliseconds of a request with metrics, and by how many percent more that is than without, by round."""
    found = {}
    async with AsyncExitStack() as stack:
        recording = await started(stack, bundle)
        with patch("service.parts.Metrics", lambda *_, **__: Nothing()):
            silent = await started(stack, bundle)
        for count in COUNTS:
            bodies = [body(i, count) for i in range(requests)]
            times = np.array([await one_round(recording, silent, bodies, first=i % 2) for i in range(rounds + 2)])[2:]
            overhead = (times[:, 0] / times[:, 1] - 1) * 100
            found[f"cpu_ms_{count}"] = float(np.median(times[:, 0])) * 1e3
            found[f"overhead_percent_{count}"] = float(np.median(overhead))
            low, high = interval(overhead)
            found[f"overhead_low_{count}"], found[f"overhead_high_{count}"] = low, high
            print(
                f"{count} candidates: {found[f'cpu_ms_{count}']:.2f} ms of CPU a request,"
                f" {np.median(overhead):.2f} % for metrics (95 %: {low:.2f} to {high:.2f})"
            )
    return found


async def started(stack: AsyncExitStack, bundle: Path) -> FastAPI:
    """A service that is ready; it ends with the stack."""
    store = MemoryStore(history_keep=200)
    rng = np.random.default_rng(0)
    histories = [(user, make_behaviors(rng.integers(1, ITEMS - 1, HISTORY))) for user in range(1, 101)]
    await store.append_many(histories, timeout_s=10)
    app = create_app(Settings(bundle=str(bundle), store="memory://", **PATIENT), store=store)
    await stack.enter_async_context(app.router.lifespan_context(app))
    while await answer(app, "GET", "/readyz", b"") != 200:  # noqa: ASYNC110  # asked as a probe asks
        await asyncio.sleep(0.05)
    return app


async def one_round(recording: FastAPI, silent: FastAPI, bodies: list[bytes], *, first: int) -> tuple[float, float]:
    """CPU seconds of a request of each, both asked the same; `first` 1: the silent one goes first."""
    times = [0.0, 0.0]
    for arm in (first, 1 - first):
        app = (recording, silent)[arm]
        began = time.process_time()
        for raw in bodies:
            assert await answer(app, "POST", "/score", raw) == 200
        times[arm] = (time.process_time() - began) / len(bodies)
    return times[0], times[1]


async def answer(app: FastAPI, method: str, path: str, raw: bytes) -> int:
    """The status of one request, sent to the app as a server would."""
    status = 0

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: dict[str, object]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = int(str(message["status"]))

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "http_version": "1.1"}
    await app(scope, receive, send)
    return status


def body(number: int, count: int) -> bytes:
    """A request of one of the users, for candidates of the vocabulary."""
    rng = np.random.default_rng(number)
    items = rng.integers(1, ITEMS - 1, count).tolist()
    user = number % 100 + 1
    assert user < USERS
    return orjson.dumps({"user_id": user, "candidates": [{"item_id": item} for item in items]})


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Of the median, at 95 %, by the bootstrap."""
    drawn = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
