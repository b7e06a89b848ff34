"""Which load each system gets, in which order."""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.load_answers import ClosedPoint, OpenPoint
from benchmarks.load_process import Server, ServerError
from benchmarks.load_workload import Workload
from benchmarks.load_wrk import LoadError, Wrk
from benchmarks.raw_client import RawClient
from benchmarks.serve_material import SAMPLE, TOLERANCE, difference, reference
from benchmarks.serve_peers import OURS, Material, PeerError, started
from service.bench.poisson import Arrivals, run_poisson

LOADS = (0.5, 0.8, 1.2)  # open loop, of the capacity just measured
WARM_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure. Times in seconds."""

    systems: Sequence[str]
    kinds: Sequence[str]
    counts: Sequence[int]
    connections: Sequence[int]
    rounds: int
    seconds: float
    open_seconds: float


@dataclass
class Results:
    """Everything measured. Closed loops are keyed by (system, net, candidates, connections), a point per round."""

    closed: dict[tuple[str, str, int, int], list[ClosedPoint]] = field(default_factory=dict)
    opened: dict[tuple[str, str, int], list[OpenPoint]] = field(default_factory=dict)
    timings: dict[tuple[str, int], list[dict[str, float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # system -> why it was not measured
    differences: dict[str, float] = field(default_factory=dict)  # system -> largest difference of scores


class Bench:
    """Runs a plan. Only one system is up at a time, so that none pays for another's background work."""

    def __init__(self, plan: Plan, *, material: Material, cache: Path) -> None:
        self.results = Results()
        self._plan = plan
        self._material = material
        self._cache = cache
        self._wrk = Wrk(material.folder)
        self._expected: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._workloads = {count: Workload(candidates=count) for count in plan.counts}

    def closed_loops(self) -> None:
        """Every system in turn, round after round, every second round backwards: noise hits all alike."""
        for number in range(self._plan.rounds):
            for kind in self._plan.kinds:
                for name in self._plan.systems[:: -1 if number % 2 else 1]:
                    if name not in self.results.failed:
                        self._closed(name, kind, number)

    def open_loops(self, systems: Sequence[tuple[str, str]]) -> None:
        """Each (system, net) at 50, 80 and 120 % of what it just did in a closed loop at its best connections."""
        for name, kind in systems:
            with self._up(name, kind) as server:
                for count in self._plan.counts:
                    self._open(name, kind, count, server)

    def phases(self, kinds: Sequence[str], requests: int) -> None:
        """Where our own time goes, at one connection: the answers' `timings_ms`."""
        for kind in kinds:
            with self._up(OURS, kind) as server, closing(RawClient(server.url)) as client:
                for count, workload in self._workloads.items():
                    answers = [client.send(workload.request(server.url, i)) for i in range(requests + 50)][50:]
                    timings = [orjson.loads(body)["timings_ms"] for status, body in answers if status == 200]
                    self.results.timings[kind, count] = timings

    def best(self, name: str, kind: str, count: int) -> tuple[float, int]:
        """(Candidates per second, connections) of a system's best setting; (0, 0) if it was not measured."""
        medians = [
            (median([p.per_s for p in points]), connections)
            for (system, net, candidates, connections), points in self.results.closed.items()
            if (system, net, candidates) == (name, kind, count)
        ]
        return max(medians, default=(0.0, 0))

    def _closed(self, name: str, kind: str, number: int) -> None:
        plan = self._plan
        try:
            with self._up(name, kind) as server:
                for count in plan.counts:
                    self._load(server, count, max(plan.connections[:2]), WARM_S)
                    for connections in plan.connections:
                        point = self._load(server, count, connections, plan.seconds)
                        self.results.closed.setdefault((name, kind, count, connections), []).append(point)
                        tell(f"round {number + 1}, {name}, {kind}, {told(point)}")
        except (PeerError, ServerError, LoadError) as error:
            if name == OURS:
                raise
            self.results.failed[name] = str(error)
            tell(f"{name} is NOT measured: {error}")

    def _open(self, name: str, kind: str, count: int, server: Server) -> None:
        workload = self._workloads[count]
        self._load(server, count, self.best(name, kind, count)[1], WARM_S)
        capacity = self._load(server, count, self.best(name, kind, count)[1], self._plan.seconds).per_s / count
        if not capacity:
            tell(f"{name}, {kind}, {count} candidates: nothing was answered in a closed loop, so there is no open one")
            return
        for seed, share in enumerate(LOADS):
            arrivals = Arrivals(rate=capacity * share, seconds=self._plan.open_seconds, seed=seed, first=seed * 100_000)
            before = server.cpu_s()
            answers = run_poisson(server.url, lambda i: workload.request(server.url, i), arrivals=arrivals)
            point = OpenPoint(
                candidates=count,
                rate=arrivals.rate,
                seconds=arrivals.seconds,
                answers=answers,
                cpu_s=server.cpu_s() - before,
                rss_mb=server.rss_mb(),
                share=share,
            )
            self.results.opened.setdefault((name, kind, count), []).append(point)
            accepted = point.percentile_ms("ok", 99)
            tell(f"open loop, {name}, {kind}, {count} candidates, {share:.0%}: p99 {accepted} ms, {point.counts}")
            server.settle()

    def _load(self, server: Server, count: int, connections: int, seconds: float) -> ClosedPoint:
        before = server.cpu_s()
        point = self._wrk.run(server.url, self._workloads[count], connections=connections, seconds=seconds)
        after, rss_mb = server.cpu_s(), server.rss_mb()
        server.settle()
        return replace(point, cpu_s=after - before, rss_mb=rss_mb)

    @contextmanager
    def _up(self, name: str, kind: str) -> Iterator[Server]:
        sample = self._workloads[self._plan.counts[0]].body(SAMPLE)
        with started(name, kind, material=self._material, cache=self._cache, sample=sample) as server:
            for count in self._plan.counts:
                self._verify(name, kind, count, server)
            yield server

    def _verify(self, name: str, kind: str, count: int, server: Server) -> None:
        """The system must return the naive graph's scores. Raises ServerError."""
        workload = self._workloads[count]
        if (kind, count) not in self._expected:
            self._expected[kind, count] = reference(self._material, kind, workload)
        status, answer = server.ask(workload.body(SAMPLE))
        off = difference(answer, self._expected[kind, count]) if status == 200 else math.inf
        self.results.differences[name] = max(off, self.results.differences.get(name, 0.0))
        if not off <= TOLERANCE:
            raise ServerError(f"its scores are not those of the naive graph: status {status}, off by {off}")


def told(point: ClosedPoint) -> str:
    """A point in one line."""
    others = {kind: n for kind, n in point.counts.items() if n and kind != "ok"}
    return (
        f"{point.candidates} candidates, {point.connections} connections: {point.per_s:,.0f} candidates/s,"
        f" p50 {point.p50_ms:.1f}, p99 {point.p99_ms:.1f} ms{f', not ok: {others}' if others else ''}"
    )


def tell(line: str) -> None:
    """Progress, on standard error: standard output is the report."""
    print(line, file=sys.stderr, flush=True)
