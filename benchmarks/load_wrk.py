"""Closed loops with wrk, the Debian package of that name."""

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.load_answers import ClosedPoint
from benchmarks.load_workload import FIRST_USER, STRIDE, Workload
from service.bench.answers import KINDS

SCRIPT = Path(__file__).with_name("load_wrk.lua")
ABSENT = "wrk is not installed, so there is no closed loop to measure: apt-get install wrk"
ANSWER_TIMEOUT_S = 30


class LoadError(RuntimeError):
    """The load generator is absent or failed; the message says which."""


class Wrk:
    """Runs wrk against one URL after another, each run with users and candidates that follow the last run's."""

    def __init__(self, folder: Path) -> None:
        """`folder` keeps the candidate lists. Raises LoadError if wrk is absent."""
        found = shutil.which("wrk")
        if found is None:
            raise LoadError(ABSENT)
        self._binary = found
        self._folder = folder
        self._next = 0

    def run(self, url: str, workload: Workload, *, connections: int, seconds: float) -> ClosedPoint:
        """Load `url`/score for that long. wrk counts whole seconds, so at least one."""
        tails = self._folder / f"candidates_{workload.candidates}.txt"
        if not tails.exists():
            workload.write_tails(tails)
        whole = max(round(seconds), 1)
        command = [self._binary, "-t1", f"-c{connections}", f"-d{whole}s", f"--timeout={ANSWER_TIMEOUT_S}s"]
        command += ["-s", str(SCRIPT), f"{url}/score", "--", str(tails)]
        command += [str(number) for number in (FIRST_USER, workload.users, STRIDE, self._next)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=whole + 60, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            raise LoadError(f"wrk failed: {done.stderr[-300:]}{done.stdout[-300:]}")
        told = json.loads(lines[-1])
        self._next += sum(told[kind] for kind in KINDS)
        return ClosedPoint(
            candidates=workload.candidates,
            connections=connections,
            seconds=told["seconds"],
            answered={kind: int(told[kind]) for kind in KINDS},
            p50_ms=told["p50_ms"],
            p99_ms=told["p99_ms"],
        )
