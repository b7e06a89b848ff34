"""One process of N threads, or N processes of one thread? And how much of a request is the event loop's?

    python -m benchmarks.processes [--rounds N] [--seconds S] [--net din|dien] [--out FILE]

Both services run all the time and are loaded in turn, round by round, by wrk in a closed loop; a speed is the median
over the rounds of what one load gave. The event loop's CPU time is that of each serving process's main thread; what is
left of the process is compute threads. All of it on one machine, load generator and Redis included.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.load_answers import ClosedPoint
from benchmarks.load_process import Server
from benchmarks.load_workload import Workload
from benchmarks.load_wrk import Wrk
from benchmarks.metrics_cost import record, sample
from benchmarks.serve_material import prepared
from benchmarks.serve_peers import our_service
from service.api.routes import ROUTES
from service.metrics import Metrics
from service.process import Place
from service.runtimes.cpu_limit import usable_cpus
from service.shared_metrics import share_values

COUNTS = (100, 500)
CONNECTIONS = (1, 4, 16)
# Nothing is refused or given up here: only speed is compared.
PATIENT = {"deadline_ms": 10_000, "queue_ms": 10_000, "store_timeout_ms": 2_000}


@dataclass
class Arm:
    """One way to use the cores, and what was measured of it: (candidates, connections) -> one point per round."""

    name: str
    server: Server
    points: dict[tuple[int, int], list[ClosedPoint]] = field(default_factory=dict)
    loop_s: dict[tuple[int, int], float] = field(default_factory=dict)  # CPU seconds of the event loops, all rounds


def main() -> None:
    """Measure, print a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="loads of each arm at each point, in turn")
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--net", choices=("din", "dien"), default="din")
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    cores = usable_cpus(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        material = stack.enter_context(prepared(folder, [options.net]))
        arms = []
        for label, shape in ((f"1 x {cores}", (1, cores)), (f"{cores} x 1", (cores, 1))):
            settings = {**PATIENT, "workers": shape[0], "threads": shape[1]}
            log, sample = folder / f"{shape[0]}.log", Workload(candidates=COUNTS[0]).body(0)
            service = our_service(material.bundles[options.net], material.redis, sample=sample, log=log, **settings)
            arms.append(Arm(label, stack.enter_context(service)))
        time.sleep(2)  # the second process may still be loading its bundle
        measure(arms, Wrk(folder), rounds=options.rounds, seconds=options.seconds)
        cost = metrics_cost(folder)
    lines = table(arms)
    lines += [f"Recording one request's metrics: {cost['one']:.0f} us in memory, {cost['shared']:.0f} us in files."]
    lines += [
        f"Answering /metrics: {cost['one_text']:.1f} ms for one process, {cost['shared_text']:.1f} ms for {cores}."
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")
    print(json.dumps({"benchmark": "processes", "metrics": figures(arms) | cost}))


def measure(arms: Sequence[Arm], wrk: Wrk, *, rounds: int, seconds: float) -> None:
    """Load every arm at every point, one after the other, so often."""
    for _ in range(rounds):
        for count in COUNTS:
            for connections in CONNECTIONS:
                for arm in arms:
                    arm.server.settle()
                    cpu, loop = arm.server.cpu_s(), loop_cpu_s(arm.server)
                    point = wrk.run(
                        arm.server.url, Workload(candidates=count), connections=connections, seconds=seconds
                    )
                    point = replace(point, cpu_s=arm.server.cpu_s() - cpu, rss_mb=arm.server.rss_mb())
                    key = (count, connections)
                    arm.points.setdefault(key, []).append(point)
                    arm.loop_s[key] = arm.loop_s.get(key, 0.0) + loop_cpu_s(arm.server) - loop


def loop_cpu_s(server: Server) -> float:
    """CPU seconds so far of the main threads of the tree; the parent's own and its helper's are next to nothing."""
    schedules = (Path(f"/proc/{pid}/task/{pid}/schedstat").read_text() for pid in server.members())
    return sum(int(schedule.split()[0]) for schedule in schedules) / 1e9


def table(arms: Sequence[Arm]) -> list[str]:
    """Medians over the rounds; the spread is of candidates per second."""
    lines = [
        "| candidates | connections | processes x threads | candidates/s | spread | p50 ms | p99 ms | RSS MB |"
        " CPU ms per request | of it event loop |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in arms[0].points:
        for arm in arms:
            points, (count, connections) = arm.points[key], key
            per_s = sorted(point.per_s for point in points)
            p50, p99 = (statistics.median(getattr(point, name) for point in points) for name in ("p50_ms", "p99_ms"))
            cpu_ms, loop_ms = costs(arm, key)
            lines.append(
                f"| {count} | {connections} | {arm.name} | {statistics.median(per_s):,.0f} |"
                f" {per_s[0]:,.0f} to {per_s[-1]:,.0f} | {p50:.1f} | {p99:.1f} | {points[-1].rss_mb:.0f} |"
                f" {cpu_ms:.2f} | {loop_ms:.2f} |"
            )
    return lines


def costs(arm: Arm, key: tuple[int, int]) -> tuple[float, float]:
    """CPU milliseconds per request: of everything, and of the event loop."""
    requests = max(sum(sum(point.counts.values()) for point in arm.points[key]), 1)
    return sum(point.cpu_s for point in arm.points[key]) / requests * 1e3, arm.loop_s[key] / requests * 1e3


def figures(arms: Sequence[Arm]) -> dict[str, float]:
    """Ratios of the second arm to the first, and from how many cores on one event loop is the limit."""
    found = {}
    for key in arms[0].points:
        ratios = [b.per_s / a.per_s for a, b in zip(*(arm.points[key] for arm in arms), strict=True)]
        found[f"processes_over_threads_{key[0]}_c{key[1]}"] = round(statistics.median(ratios), 3)
    for count in COUNTS:
        cpu_ms, loop_ms = costs(arms[0], (count, CONNECTIONS[-1]))
        found[f"event_loop_ms_{count}"] = round(loop_ms, 3)
        found[f"cores_of_one_event_loop_{count}"] = round(cpu_ms / loop_ms, 1)
    return found


def metrics_cost(folder: Path, *, places: int = 2, repeats: int = 2000) -> dict[str, float]:
    """CPU microseconds to record one request, and milliseconds to answer /metrics, with and without files."""
    one = Metrics(CollectorRegistry(), slo_s=0.03, routes=ROUTES)
    files = folder / "metrics"
    files.mkdir()
    for number in range(places):
        place = Place(number=number, restarted=False, metrics=files)
        share_values(place)
        shared = Metrics(CollectorRegistry(), slo_s=0.03, routes=ROUTES, place=place)
    scored = sample(COUNTS[-1])
    cost: dict[str, list[float]] = {"one": [], "shared": [], "one_text": [], "shared_text": []}
    for _ in range(9):
        for name, metrics in (("one", one), ("shared", shared)):
            cost[name].append(_cpu_s(lambda m=metrics: record(m, scored), repeats) * 1e6)
            cost[f"{name}_text"].append(_cpu_s(lambda m=metrics: generate_latest(m.shown), 10) * 1e3)
    return {name: round(statistics.median(values), 2) for name, values in cost.items()}


def _cpu_s(work: Callable[[], object], repeats: int) -> float:
    began = time.thread_time()
    for _ in range(repeats):
        work()
    return (time.thread_time() - began) / repeats


if __name__ == "__main__":
    main()
