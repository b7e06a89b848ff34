"""Hot swap under load: the `stable` pointer moves again and again while requests come at 80 % of capacity.

    python -m benchmarks.swap [--swaps 100] [--net din] [--candidates 500]

Every answer is checked: its scores must be those of the version it names. A corrupt bundle comes now and then, and must
be refused and counted. The same load without swaps, before and after, is what the p99 is compared with.
The last line is one JSON object.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from benchmarks.load_process import Server
from benchmarks.load_workload import Workload, fill_redis
from benchmarks.load_wrk import Wrk
from benchmarks.serve_loops import tell
from benchmarks.serve_peers import our_service
from benchmarks.soak import capacity
from benchmarks.swap_versions import TOLERANCE, VERSIONS, Scores, broken_name, expected_scores, write_versions
from model.bundle.pointers import STABLE, write_pointer
from service.bench.answers import KINDS, Answer, percentile_ms
from service.bench.poisson import Arrivals, run_poisson
from service.embedded import EmbeddedRedis

SHARE = 0.8
USERS = 100  # few, so that states of one bundle are in the cache when the other takes over
EVERY_BROKEN = 10  # a corrupt bundle before every tenth swap
WATCH_S = 0.2
SEGMENT_S = 10.0
SWAP_TIMEOUT_S = 60.0
TARGETS = {
    "failed": ["<=", 0],
    "mixed": ["<=", 0],
    "p99_swapping_over_quiet": ["<=", 1.5],
    "swaps_missing": ["<=", 0],
    "broken_not_refused": ["<=", 0],
}


def main() -> None:
    """Swap, check, print the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--net", choices=("din", "dien"), default="din")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--quiet-s", type=float, default=20.0, help="of the load without swaps, before and after")
    options = parser.parse_args()
    workload = Workload(candidates=options.candidates, users=USERS)
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis() as redis:
        root = Path(folder) / options.net
        naive = write_versions(root, options.net, broken=options.swaps // EVERY_BROKEN)
        check = Check(expected_scores(naive, workload))
        fill_redis(redis.url)
        log = Path(folder) / "ours.log"
        with our_service(root, redis.url, sample=workload.body(0), log=log, watch_s=WATCH_S) as server:
            rate = SHARE * capacity(Wrk(Path(folder)), server, workload)
            load = Load(server, workload, rate=rate, check=check)
            tell(f"{rate:.1f} requests/s")
            quiet = load.run(options.quiet_s)
            mover = Mover(root, server, swaps=options.swaps)
            swapping = load.run_until(mover)
            quiet += load.run(options.quiet_s)
    metrics = {"requests_per_s": round(rate, 1), **report(quiet, swapping, check), **mover.report()}
    print(json.dumps({"benchmark": "swap", "metrics": metrics, "targets": TARGETS}))


class Check:
    """Compares each answer with the scores of the version that it names."""

    def __init__(self, expected: Scores) -> None:
        self.checked = dict.fromkeys(VERSIONS, 0)
        self.mixed = 0
        self._expected = expected

    def __call__(self, index: int, status: int, body: bytes) -> None:
        """An observer of the load."""
        if status != 200:
            return
        answer = orjson.loads(body)
        if answer["degraded"] != "none":
            return  # counted as degraded; its scores are those of an empty history
        version = answer["bundle_version"]
        found = np.array([score["pctr"] for score in answer["scores"]])
        right = self._expected.get(version)
        if right is None or float(np.abs(found - right[index % USERS]).max()) > TOLERANCE:
            self.mixed += 1
            tell(f"answer {index} names {version} but has other scores")
        else:
            self.checked[version] += 1


class Load:
    """The same open loop, in segments; every request of a run has a number of its own."""

    def __init__(self, server: Server, workload: Workload, *, rate: float, check: Check) -> None:
        self._server = server
        self._request: Callable[[int], bytes] = lambda i: workload.request(server.url, i % USERS)
        self._rate = rate
        self._check = check
        self._sent = 0

    def run(self, seconds: float) -> list[Answer]:
        """One segment."""
        arrivals = Arrivals(rate=self._rate, seconds=seconds, seed=self._sent, first=self._sent)
        answers = run_poisson(self._server.url, self._request, arrivals=arrivals, observe=self._check)
        self._sent += len(answers)
        return answers

    def run_until(self, mover: "Mover") -> list[Answer]:
        """Segments for as long as the mover moves."""
        answers: list[Answer] = []
        mover.start()
        while mover.is_alive():
            answers += self.run(SEGMENT_S)
        mover.join()
        return answers


class Mover(threading.Thread):
    """Moves the pointer as soon as the last move has taken effect, as /metrics tells."""

    def __init__(self, root: Path, server: Server, *, swaps: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._server = server
        self._swaps = swaps
        self._seconds: list[float] = []
        self._swapped = self._refused = 0

    def run(self) -> None:
        """All moves; ends early if one takes no effect."""
        for number in range(self._swaps):
            if number % EVERY_BROKEN == EVERY_BROKEN - 1:
                self._refused += self._move(broken_name(number // EVERY_BROKEN), "refused")
            began = time.monotonic()
            if not self._move(VERSIONS[(number + 1) % 2], "swapped"):
                return
            self._swapped += 1
            self._seconds.append(time.monotonic() - began)
            tell(f"swap {number + 1} took effect after {self._seconds[-1]:.2f} s")

    def report(self) -> dict[str, float]:
        """What took effect."""
        return {
            "swaps": self._swapped,
            "swaps_missing": self._swaps - self._swapped,
            "refused_bundles": self._refused,
            "broken_not_refused": self._swaps // EVERY_BROKEN - self._refused,
            "swap_s_median": round(float(np.median(self._seconds)), 2) if self._seconds else 0.0,
        }

    def _move(self, version: str, outcome: str) -> bool:
        series = f'ctr_bundle_loads_total{{outcome="{outcome}"}}'
        before, deadline = self._server.metric(series), time.monotonic() + SWAP_TIMEOUT_S
        write_pointer(self._root, STABLE, version)
        while time.monotonic() < deadline:
            if self._server.metric(series) > before:
                return True
            time.sleep(0.1)
        tell(f"{version} was not {outcome} within {SWAP_TIMEOUT_S:.0f} s")
        return False


def report(quiet: list[Answer], swapping: list[Answer], check: Check) -> dict[str, float | None]:
    """Both loads side by side; refusals (429) are by design and counted apart from what failed."""
    out: dict[str, float | None] = {"mixed": check.mixed, **{f"checked_{v}": n for v, n in check.checked.items()}}
    p99: dict[str, float | None] = {}
    for name, answers in (("quiet", quiet), ("swapping", swapping)):
        accepted = [a.latency_s for a in answers if a.kind == "ok"]
        p99[name] = percentile_ms(accepted, 99)
        for percent in (50, 99):
            ms = percentile_ms(accepted, percent)
            out[f"p{percent}_ms_{name}"] = None if ms is None else round(ms, 3)
        out |= {f"{kind}_{name}": sum(a.kind == kind for a in answers) for kind in KINDS}
        out[f"refused_percent_{name}"] = round(100 * sum(a.kind == "refused" for a in answers) / len(answers), 2)
    out["failed"] = sum(a.kind in ("late", "other", "lost") for a in [*quiet, *swapping])
    before, during = p99["quiet"], p99["swapping"]
    out["p99_swapping_over_quiet"] = round(during / before, 3) if before and during else None
    return out


if __name__ == "__main__":
    main()
