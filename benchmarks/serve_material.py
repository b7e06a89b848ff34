"""Bundles, naive graphs and Redis for one benchmark run, and the scores that every system must return."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.baseline.ranker import Ranker
from benchmarks.load_workload import FIRST_USER, Workload, fill_redis, histories
from benchmarks.naive import export_naive
from benchmarks.serve_peers import Material
from benchmarks.sized import HISTORY, sized_bundle
from model.bundle.records import to_members
from service.embedded import EmbeddedRedis

TOLERANCE = 1e-4
SAMPLE = 3  # number of the request whose scores are compared


@contextmanager
def prepared(folder: Path, kinds: Sequence[str]) -> Iterator[Material]:
    """Write the bundle and the naive graph of each net, start Redis and fill it."""
    bundles, naive = {}, {}
    for kind in kinds:
        bundles[kind], net = sized_bundle(folder / kind, kind)
        naive[kind] = folder / f"naive_{kind}.onnx"
        naive[kind].write_bytes(export_naive(net, history=HISTORY, fields=2))
    with EmbeddedRedis() as redis:
        fill_redis(redis.url)
        yield Material(folder=folder, bundles=bundles, naive=naive, redis=redis.url)


def reference(material: Material, kind: str, workload: Workload) -> NDArray[np.float64]:
    """pCTR of the sample request by the naive graph, computed here."""
    request = orjson.loads(workload.body(SAMPLE))
    user, behaviors = histories()[request["user_id"] - FIRST_USER]
    assert user == request["user_id"]
    columns = {name: [c[name] for c in request["candidates"]] for name in ("item_id", "cate_id")}
    ranker = Ranker(str(material.naive[kind]), threads=1)
    return np.array(ranker.scores(user, to_members(behaviors)[::-1], columns))


def difference(answer: bytes, expected: NDArray[np.float64]) -> float:
    """Largest difference between an answer's scores, plain numbers or objects with `pctr`, and the expected ones."""
    scores = orjson.loads(answer)["scores"]
    found = np.array([s["pctr"] if isinstance(s, dict) else s for s in scores])
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
