"""Two halves beside the naive expanded graph, at the sizes of the public DIEN code, and the service around them.

    python -m benchmarks.score_latency [--repeats N] [--requests N]

Compute: one thread, CPU time of that thread, both graphs from the same random weights, in turn. Naive is given its rows
already repeated, so that only its graph is counted. Outside compute: POST /score over loopback with Redis holding the
history; what the answer's `timings_ms` does not call compute, and what the client sees beyond that.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.naive import export_naive
from benchmarks.raw_client import RawClient
from benchmarks.sized import CATEGORIES, HISTORY, ITEMS, USER, sized_bundle
from benchmarks.subprocess_service import serving
from model.bundle.encode import Tensors
from model.bundle.folder import Bundle, read_bundle
from model.bundle.records import make_behaviors
from service.embedded import EmbeddedRedis
from service.runtimes.onnx import OnnxRuntime
from service.stores.redis import RedisStore

COUNTS = (100, 500)
TARGETS = {
    "din_speedup_500": [">=", 2.5],
    "dien_speedup_500": [">=", 2.8],
    "outside_compute_ms_p50_500": ["<=", 2.0],
}


def main() -> None:
    """Measure and print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=25, help="runs of each graph")
    parser.add_argument("--requests", type=int, default=400, help="requests per candidate count")
    parser.add_argument("--service-only", action="store_true", help="leave out the comparison of graphs")
    options = parser.parse_args()
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("din", "dien"):
            if options.service_only and kind != "din":
                continue
            path, net = sized_bundle(Path(folder) / kind, kind)
            if options.service_only:
                continue
            naive = _session(export_naive(net, history=HISTORY, fields=2))
            metrics |= compare(kind, read_bundle(path), naive, repeats=options.repeats)
        metrics |= outside_compute(Path(folder) / "din" / "v1", requests=options.requests)
    print(json.dumps({"benchmark": "score_latency", "metrics": metrics, "targets": TARGETS}))


def compare(kind: str, bundle: Bundle, naive: onnxruntime.InferenceSession, *, repeats: int) -> dict[str, float]:
    """CPU milliseconds of both graphs, A B A B, and the median of the ratios pair by pair."""
    runtime, metrics = OnnxRuntime(bundle), {}
    for count in COUNTS:
        request, items = _inputs(bundle, count)
        rows = {name: np.repeat(tensor, count, axis=0) for name, tensor in request.items()}
        rows["item_sparse"] = items["item_sparse"][0]

        def ours(request: Tensors = request, items: Tensors = items) -> np.ndarray:
            return runtime.score(runtime.encode_user(request), items)["pctr"][0]

        def theirs(rows: Tensors = rows) -> np.ndarray:
            return naive.run(["pctr"], rows)[0]

        difference = float(np.abs(ours() - theirs()).max())
        assert difference < 1e-5, f"{kind}: the two graphs are not the same net ({difference})"
        pairs = np.array([(_cpu_ms(theirs), _cpu_ms(ours)) for _ in range(repeats)])
        ratios = pairs[:, 0] / pairs[:, 1]
        quarters = np.percentile(ratios, [25, 75])
        print(
            f"{kind} {count} candidates, L={HISTORY}: naive {np.median(pairs[:, 0]):.2f} ms, two halves"
            f" {np.median(pairs[:, 1]):.2f} ms, ratio {np.median(ratios):.2f} (quartiles {quarters[0]:.2f} to"
            f" {quarters[1]:.2f}), scores differ by {difference:.1e}"
        )
        metrics[f"{kind}_speedup_{count}"] = round(float(np.median(ratios)), 3)
        metrics[f"{kind}_compute_ms_{count}"] = round(float(np.median(pairs[:, 1])), 3)
    return metrics


def outside_compute(bundle: Path, *, requests: int) -> dict[str, float]:
    """Milliseconds of a request that are not compute, seen by the service and by a client on the same machine."""
    metrics = {}
    with EmbeddedRedis() as redis:
        asyncio.run(_load(redis.url))
        with serving(bundle, redis.url) as url, closing(RawClient(url)) as client:
            for count in COUNTS:
                request = client.request("/score", _body(count))
                answers = [_timed(client, request) for _ in range(requests + 50)][50:]
                inside = sorted(a["total"] - a["compute"] for a in answers)
                seen = sorted(a["client"] - a["compute"] for a in answers)
                phases = {p: statistics.median(a[p] for a in answers) for p in answers[0]}
                told = ", ".join(f"{phase} {ms:.2f}" for phase, ms in phases.items())
                print(
                    f"service, {count} candidates: outside compute p50 {statistics.median(inside):.2f} ms, p99"
                    f" {inside[int(len(inside) * 0.99)]:.2f} ms; with the client p50 {statistics.median(seen):.2f} ms"
                    f" (medians: {told})"
                )
                metrics[f"outside_compute_ms_p50_{count}"] = round(statistics.median(inside), 3)
                metrics[f"outside_compute_client_ms_p50_{count}"] = round(statistics.median(seen), 3)
    return metrics


def _inputs(bundle: Bundle, count: int) -> tuple[Tensors, Tensors]:
    rng = np.random.default_rng(count)
    encoder = bundle.encoder
    history = make_behaviors(rng.integers(1, ITEMS, HISTORY), category=rng.integers(1, CATEGORIES, HISTORY))
    request = {**encoder.encode_request({"user_id": [USER]}, {}, rows=1), **encoder.encode_history([history])}
    columns = {"item_id": rng.integers(1, ITEMS, count), "cate_id": rng.integers(1, CATEGORIES, count)}
    return request, {name: tensor[None] for name, tensor in encoder.encode_items(columns).items()}


def _cpu_ms(run: Callable[[], object]) -> float:
    began = time.thread_time()
    run()
    return (time.thread_time() - began) * 1e3


def _session(raw: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(raw, options)


async def _load(url: str) -> None:
    rng = np.random.default_rng(0)
    history = make_behaviors(rng.integers(1, ITEMS, HISTORY), category=rng.integers(1, CATEGORIES, HISTORY))
    store = RedisStore.from_url(url, history_keep=200, ttl_s=3600)
    await store.append(USER, history, timeout_s=5)
    await store.close()


def _body(count: int) -> bytes:
    rng = np.random.default_rng(count)
    items, categories = rng.integers(1, ITEMS, count).tolist(), rng.integers(1, CATEGORIES, count).tolist()
    candidates = [{"item_id": i, "cate_id": c} for i, c in zip(items, categories, strict=True)]
    return json.dumps({"user_id": USER, "candidates": candidates}).encode()


def _timed(client: RawClient, request: bytes) -> dict[str, float]:
    began = time.perf_counter()
    status, answer = client.send(request)
    seen = (time.perf_counter() - began) * 1e3
    read: dict[str, Any] = json.loads(answer)
    assert status == 200, answer
    assert read["degraded"] == "none", "the service did not reach the store in time"
    assert read["history_len"] == HISTORY, "the service read another history"
    return {**read["timings_ms"], "client": seen}


if __name__ == "__main__":
    main()
