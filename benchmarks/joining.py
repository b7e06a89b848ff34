"""Is it worth joining small requests of several users in one call, and what does cutting a large one cost?

    python -m benchmarks.joining [--repeats N] [--kinds din dien]

All on the CPU, by service.scoring.compute as the engine calls it, at the sizes of the public DIEN code, each runtime
that can be had here. CPU time of the thread, the variants in turn, medians. The last part is throughput: two threads
with one shared InferenceSession beside two threads with one each.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path

import numpy as np

from benchmarks.sized import CATEGORIES, HISTORY, ITEMS, sized_bundle
from model.bundle.errors import BundleError
from model.bundle.folder import Bundle, read_bundle
from model.bundle.records import make_behaviors
from service.runtimes.base import Runtime
from service.runtimes.native.library import NativeUnavailable
from service.runtimes.native.runtime import NativeRuntime
from service.runtimes.onnx import OnnxRuntime
from service.scoring.compute import Work, encode, score

# Candidates and behaviors of the requests in turn. Where there are two, joining pays for padding.
SHAPES = (
    *(((count,), (length,)) for length in (20, 100) for count in (1, 5, 10, 20, 50)),
    *(((count,), (20, 100)) for count in (5, 20, 50)),
    *(((5, 50), lengths) for lengths in ((100,), (20, 100))),
)
JOINED = (2, 4, 8)
REQUESTS = 8  # per measurement, whichever way they are joined
WHOLE = 500
PIECES = (250, 128, 64)
PIECE = 128
SECONDS = 0.5  # of each throughput run
Run = Callable[[], object]


def main() -> None:
    """Measure, print three tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="measurements of each variant")
    parser.add_argument("--kinds", nargs="+", default=["din", "dien"], choices=["din", "dien"])
    options = parser.parse_args()
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            bundle = read_bundle(sized_bundle(Path(folder) / kind, kind)[0])
            for name, runtime in runtimes(bundle).items():
                metrics |= join(runtime, bundle, name=f"{kind}_{name}", repeats=options.repeats)
                metrics |= cut(runtime, bundle, name=f"{kind}_{name}", repeats=options.repeats)
            if kind == "din":
                metrics |= share(bundle, repeats=options.repeats)
    print(json.dumps({"benchmark": "joining", "metrics": metrics, "targets": {}}))


def runtimes(bundle: Bundle) -> dict[str, Runtime]:
    """ONNX Runtime, and the native kernel where it is built."""
    found: dict[str, Runtime] = {"onnx": OnnxRuntime(bundle)}
    try:
        found["native"] = NativeRuntime(bundle)
    except (NativeUnavailable, BundleError) as error:
        print(f"without the native runtime: {error}")
    return found


def join(runtime: Runtime, bundle: Bundle, *, name: str, repeats: int) -> dict[str, float]:
    """CPU milliseconds of a request alone, and as one of 2, 4 and 8 in a call."""
    print(f"\n{name}: CPU ms per request alone; joined: ratio to alone, below 1 wins")
    print("| L | candidates | alone ms | " + " | ".join(f"{users} joined" for users in JOINED) + " |")
    metrics = {}
    for counts, lengths in SHAPES:
        shapes = zip(range(REQUESTS), cycle(counts), cycle(lengths))  # the first one ends
        works = [work(runtime, bundle, count=count, length=length, seed=seed) for seed, count, length in shapes]
        ms = medians({users: _in_groups(works, users) for users in (1, *JOINED)}, repeats=repeats)
        ratios = {users: ms[users] / ms[1] for users in JOINED}
        shown = " | ".join(f"{ratio:.2f}" for ratio in ratios.values())
        length, count = ("/".join(map(str, several)) for several in (lengths, counts))
        print(f"| {length} | {count} | {ms[1] / REQUESTS:.3f} | {shown} |", flush=True)
        metrics |= {f"{name}_l{length}_c{count}_joined{u}": round(ratio, 3) for u, ratio in ratios.items()}
    return metrics


def cut(runtime: Runtime, bundle: Bundle, *, name: str, repeats: int) -> dict[str, float]:
    """CPU milliseconds of the candidate half for 500 candidates in one call, and in pieces."""
    one = work(runtime, bundle, count=WHOLE, length=HISTORY, seed=0)
    encode([one])
    ms = medians({size: _in_pieces(one, size) for size in (WHOLE, *PIECES)}, repeats=repeats)
    told = ", ".join(f"{size} at a time {ms[size]:.2f} ms (x{ms[size] / ms[WHOLE]:.2f})" for size in PIECES)
    print(f"\n{name}: {WHOLE} candidates, L={HISTORY}, candidate half: whole {ms[WHOLE]:.2f} ms, {told}", flush=True)
    return {f"{name}_pieces{size}_over_whole": round(ms[size] / ms[WHOLE], 3) for size in PIECES}


def share(bundle: Bundle, *, repeats: int) -> dict[str, float]:
    """Pieces per second of two threads, and CPU milliseconds per piece: one session for both, and one each."""
    both = OnnxRuntime(bundle)
    own = [OnnxRuntime(bundle), OnnxRuntime(bundle)]
    found: dict[str, list[tuple[float, float]]] = {"shared": [], "own": []}
    for _ in range(repeats):
        found["shared"].append(_throughput([both, both], bundle))
        found["own"].append(_throughput(own, bundle))
    rate, ms = ({n: statistics.median(v[i] for v in values) for n, values in found.items()} for i in (0, 1))
    rates = statistics.median(s[0] / o[0] for s, o in zip(found["shared"], found["own"], strict=True))
    costs = statistics.median(s[1] / o[1] for s, o in zip(found["shared"], found["own"], strict=True))
    print(
        f"\nDIN, two threads, pieces of {PIECE}: one shared session {rate['shared']:.0f} pieces/s,"
        f" {ms['shared']:.3f} CPU ms each; a session per thread {rate['own']:.0f} pieces/s, {ms['own']:.3f} CPU ms;"
        f" shared over own, pair by pair: {rates:.3f} of the throughput, {costs:.3f} of the CPU time",
        flush=True,
    )
    return {"shared_over_own_throughput": round(rates, 3), "shared_over_own_cpu": round(costs, 3)}


def work(runtime: Runtime, bundle: Bundle, *, count: int, length: int, seed: int) -> Work:
    """One request with random items."""
    rng, encoder = np.random.default_rng(seed), bundle.encoder
    history = make_behaviors(rng.integers(1, ITEMS, length), category=rng.integers(1, CATEGORIES, length))
    user = {**encoder.encode_request({"user_id": [seed + 1]}, {}, rows=1), **encoder.encode_history([history])}
    columns = {"item_id": rng.integers(1, ITEMS, count), "cate_id": rng.integers(1, CATEGORIES, count)}
    items = {name: tensor[None] for name, tensor in encoder.encode_items(columns).items()}
    return Work(runtime=runtime, user=user, candidates=items)


def medians(variants: Mapping[int, Run], *, repeats: int) -> dict[int, float]:
    """CPU milliseconds of each, run in turn; the first round warms up."""
    rounds = [{name: _cpu_ms(run) for name, run in variants.items()} for _ in range(repeats + 1)][1:]
    return {name: statistics.median(r[name] for r in rounds) for name in variants}


def _in_groups(works: list[Work], users: int) -> Run:
    def run() -> None:
        for start in range(0, len(works), users):
            group = works[start : start + users]
            encode(group)
            score(group, [slice(0, one.rows) for one in group])

    return run


def _in_pieces(one: Work, size: int) -> Run:
    def run() -> None:
        for start in range(0, one.rows, size):
            score([one], [slice(start, min(start + size, one.rows))])

    return run


def _throughput(pair: list[OnnxRuntime], bundle: Bundle) -> tuple[float, float]:
    done: list[tuple[int, float]] = []
    ready = threading.Barrier(len(pair))

    def score_on(runtime: OnnxRuntime) -> None:
        one = work(runtime, bundle, count=PIECE, length=HISTORY, seed=0)
        encode([one])
        ready.wait()
        calls, end, began = 0, time.perf_counter() + SECONDS, time.thread_time()
        while time.perf_counter() < end:
            score([one], [slice(0, PIECE)])
            calls += 1
        done.append((calls, time.thread_time() - began))

    threads = [threading.Thread(target=score_on, args=[runtime]) for runtime in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls = sum(count for count, _ in done)
    return calls / SECONDS, sum(cpu for _, cpu in done) / calls * 1e3


def _cpu_ms(run: Run) -> float:
    began = time.thread_time()
    run()
    return (time.thread_time() - began) * 1e3


if __name__ == "__main__":
    main()
