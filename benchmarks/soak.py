"""Our service for minutes at 70 % of its capacity, open loop: does memory or latency grow?

    python -m benchmarks.soak [--minutes 10] [--net din] [--candidates 500]

The last line is one JSON object: slopes by linear fit over windows, after the warm-up, beside their targets.
"""

import argparse
import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.load_process import Server
from benchmarks.load_workload import Workload
from benchmarks.load_wrk import Wrk
from benchmarks.serve_loops import tell
from benchmarks.serve_material import SAMPLE, prepared
from benchmarks.serve_peers import our_service
from service.bench.answers import KINDS, Answer, percentile_ms
from service.bench.poisson import Arrivals, run_poisson

SHARE = 0.7
WINDOW_S = 5.0
WARM_SHARE = 0.2  # of the run: caches and the allocator fill; the fit leaves it out
WARM_S, CAPACITY_S = 3.0, 5.0
CONNECTIONS = (1, 2, 4)
TARGETS = {
    "rss_mb_per_hour": ["<=", 30],
    "p50_drift_percent": ["<=", 10],
    "p99_drift_percent": ["<=", 25],
    "failed": ["<=", 0],
}


def main() -> None:
    """Load, print the windows, then the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--net", choices=("din", "dien"), default="din")
    parser.add_argument("--candidates", type=int, default=500)
    options = parser.parse_args()
    workload, seconds = Workload(candidates=options.candidates), options.minutes * 60
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder), [options.net]) as material:
        bundle, log = material.bundles[options.net], Path(folder) / "ours.log"
        with our_service(bundle, material.redis, sample=workload.body(SAMPLE), log=log) as server:
            wrk = Wrk(Path(folder))
            rate = SHARE * capacity(wrk, server, workload)
            tell(f"{rate:.1f} requests/s for {seconds:.0f} s")
            with Memory(server, every_s=WINDOW_S) as memory:
                arrivals = Arrivals(rate=rate, seconds=seconds)
                answers = run_poisson(server.url, lambda i: workload.request(server.url, i), arrivals=arrivals)
    metrics = report(answers, memory.samples, seconds)
    print(
        json.dumps({"benchmark": "soak", "metrics": {"requests_per_s": round(rate, 1), **metrics}, "targets": TARGETS})
    )


def capacity(wrk: Wrk, server: Server, workload: Workload) -> float:
    """Requests per second that got full scores, of the best of three closed loops, after a warm-up.

    More connections may give less: those who are refused ask again at once.
    """
    wrk.run(server.url, workload, connections=2, seconds=WARM_S)
    rates = []
    for connections in CONNECTIONS:
        server.settle()
        point = wrk.run(server.url, workload, connections=connections, seconds=CAPACITY_S)
        rates.append(point.counts["ok"] / point.seconds)
    server.settle()
    return max(rates)


class Memory:
    """Samples a server's resident memory in a thread of its own: (seconds, MB) in `samples`."""

    def __init__(self, server: Server, *, every_s: float) -> None:
        self.samples: list[tuple[float, float]] = []
        self._server = server
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ended.is_set():
            self.samples.append((number * self._every_s, self._server.rss_mb()))
            number += 1
            self._ended.wait(self._every_s)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A line through windows."""

    slope: float  # per second
    error: float  # its standard error
    middle: float


def report(answers: list[Answer], memory: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    """Slopes after the warm-up, and the counts of the whole run."""
    warm = seconds * WARM_SHARE
    rss = fit(np.array([sample for sample in memory if sample[0] >= warm]))
    out = {
        "rss_mb": round(rss.middle, 1),
        "rss_mb_per_hour": round(rss.slope * 3600, 2),
        "rss_mb_per_hour_error": round(rss.error * 3600, 2),
    }
    for percent in (50, 99):
        windows = np.array(_windows(answers, percent, warm))
        line = fit(windows)
        out[f"p{percent}_ms"] = round(line.middle, 3)
        out[f"p{percent}_drift_percent"] = round(100 * line.slope * (seconds - warm) / line.middle, 2)
        tell(f"p{percent} per window, ms: " + " ".join(f"{ms:.1f}" for _, ms in windows))
    tell("RSS, MB: " + " ".join(f"{mb:.0f}" for _, mb in memory))
    counts = {kind: sum(a.kind == kind for a in answers) for kind in KINDS}
    return out | counts | {"failed": counts["late"] + counts["other"] + counts["lost"]}


def fit(points: NDArray[np.float64]) -> Fit:
    """The least-squares line through rows of (seconds, value); at least three."""
    (slope, _), covariance = np.polyfit(points[:, 0], points[:, 1], 1, cov=True)
    return Fit(slope=float(slope), error=float(np.sqrt(covariance[0, 0])), middle=float(np.median(points[:, 1])))


def _windows(answers: list[Answer], percent: float, warm: float) -> list[tuple[float, float]]:
    grouped: dict[int, list[float]] = {}
    for answer in answers:
        if answer.kind == "ok" and answer.intended_s >= warm:
            grouped.setdefault(int(answer.intended_s / WINDOW_S), []).append(answer.latency_s)
    return [(n * WINDOW_S, ms) for n in sorted(grouped) if (ms := percentile_ms(grouped[n], percent)) is not None]


if __name__ == "__main__":
    main()
