"""What metrics cost a request: the calls that record it, and the CPU time of the service with and without them.

    python -m benchmarks.metrics_cost [--rounds N] [--requests N] [--keep FOLDER]

Two services in one process, of DIN at the sizes of the public DIEN code over histories in memory, are asked in turn,
round by round, without a socket: one records as always, the other has a recorder of the same interface that does
nothing. CPU time is of the whole process, compute threads included.
`overhead_percent` is the time of the recording calls by themselves over that of a request without them, both from the
same round: steady, but the calls are warm. `served_percent` is the difference of the two services: everything is in
it, and the machine's noise too, so it comes with an interval. Sockets and HTTP would add to both services alike.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
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
from service.process import Place
from service.scoring.scored import Scored, Timings
from service.scoring.scorer import rank
from service.shared_metrics import share_values
from service.stores.memory import MemoryStore

COUNTS = (100, 500)
REPEATS = 20  # of the recording calls in a round
TARGETS = {f"overhead_percent_{count}": ["<=", 2.0] for count in COUNTS}
# Nothing is refused or given up here.
PATIENT = {"deadline_ms": 10_000, "queue_ms": 10_000, "store_timeout_ms": 2_000, "watch_s": 0, "log_level": "error"}


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
    parser.add_argument("--rounds", type=int, default=200, help="of each candidate count")
    parser.add_argument("--requests", type=int, default=5, help="to each service in a round")
    parser.add_argument("--keep", type=Path, help="folder for the bundle: made if it is not there, and kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.keep or Path(folder)
        path = root / "v1" if (root / "v1").is_dir() else sized_bundle(root, "din")[0]
        found = asyncio.run(served(path, rounds=options.rounds, requests=options.requests))
    metrics = {name: round(value, 3) for name, value in found.items()}
    print(json.dumps({"benchmark": "metrics_cost", "metrics": metrics, "targets": TARGETS}))


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
    """CPU seconds of this thread for one call."""
    began = time.thread_time()
    for _ in range(repeats):
        work()
    return (time.thread_time() - began) / repeats


async def served(bundle: Path, *, rounds: int, requests: int) -> dict[str, float]:
    """Medians over the rounds, by number of candidates."""
    found = {}
    metrics = Metrics(CollectorRegistry(), slo_s=0.03, routes=ROUTES)
    async with AsyncExitStack() as stack:
        recording = await started(stack, bundle)
        with patch("service.parts.Metrics", lambda *_, **__: Nothing()):
            silent = await started(stack, bundle)
        for count in COUNTS:
            bodies, scored = [body(i, count) for i in range(requests)], sample(count)
            times = np.empty((rounds + 5, 3))
            for number, row in enumerate(times):
                row[:2] = await one_round(recording, silent, bodies, first=number % 2)
                row[2] = cpu_s(partial(record, metrics, scored), REPEATS)
            found |= figures(count, times[5:])  # the first ones are warming up
    return found | in_files(bundle.parent)


def in_files(folder: Path) -> dict[str, float]:
    """The same calls in one of several processes, whose metrics are in files; and /metrics of one, and of two."""
    one = Metrics(CollectorRegistry(), slo_s=0.03, routes=ROUTES)
    with tempfile.TemporaryDirectory(dir=folder) as files:
        for number in range(2):
            place = Place(number=number, restarted=False, metrics=Path(files))
            share_values(place)  # cannot be undone
            several = Metrics(CollectorRegistry(), slo_s=0.03, routes=ROUTES, place=place)
        call = partial(record, several, sample(COUNTS[-1]))
        found = {
            "recording_files_us": median(call, REPEATS) * 1e6,
            "answering_ms": median(partial(generate_latest, one.shown), 5) * 1e3,
            "answering_files_ms": median(partial(generate_latest, several.shown), 5) * 1e3,
        }
    print(", ".join(f"{name} {value:.1f}" for name, value in found.items()))
    return found


def median(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of this thread for one call."""
    return float(np.median([cpu_s(work, repeats) for _ in range(15)]))


def figures(count: int, times: NDArray[np.float64]) -> dict[str, float]:
    """From CPU seconds [rounds, 3] of a request that is recorded, of one that is not, and of recording one."""
    difference, share = (times[:, 0] / times[:, 1] - 1) * 100, times[:, 2] / times[:, 1] * 100
    low, high = interval(difference)
    found = {
        f"recording_us_{count}": float(np.median(times[:, 2])) * 1e6,
        f"cpu_ms_{count}": float(np.median(times[:, 1])) * 1e3,
        f"overhead_percent_{count}": float(np.median(share)),
        f"served_percent_{count}": float(np.median(difference)),
        f"served_percent_low_{count}": low,
        f"served_percent_high_{count}": high,
    }
    alone, both = f"{np.median(share):.2f} %", f"{np.median(difference):.2f} % (95 %: {low:.2f} to {high:.2f})"
    us, ms = found[f"recording_us_{count}"], found[f"cpu_ms_{count}"]
    print(f"{count} candidates: {us:.1f} us of {ms:.2f} ms, {alone}; the two services differ by {both}", flush=True)
    return found


async def started(stack: AsyncExitStack, bundle: Path) -> FastAPI:
    """A service that is ready; it ends with the stack. Its bundle is loaded at once, not behind all other work."""
    store = MemoryStore(history_keep=200)
    rng = np.random.default_rng(0)
    histories = [(user, make_behaviors(rng.integers(1, ITEMS - 1, HISTORY))) for user in range(1, 101)]
    await store.append_many(histories, timeout_s=10)
    app = create_app(Settings(bundle=str(bundle), store="memory://", **PATIENT), store=store)
    with patch("service.watch.in_low_priority", asyncio.to_thread):
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
    status, bodies = 0, [raw]

    async def receive() -> dict[str, object]:
        if not bodies:
            await asyncio.Future()  # the caller does not leave
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

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
