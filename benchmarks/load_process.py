"""A server in processes of its own: start, wait, read its CPU time and memory from /proc, end."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
STOP_S = 15.0
IDLE_CORES = 0.1  # below this a server counts as idle
_SETTLE_STEP_S = 0.25


class ServerError(RuntimeError):
    """A server ended or did not answer in time; the message carries the end of its log."""


class Server:
    """A process and all its descendants, on a port of 127.0.0.1, for as long as the `with` block lasts."""

    def __init__(self, command: Sequence[str], *, port: int, environ: Mapping[str, str], log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The first process."""
        return self._process.pid

    def ask(self, body: bytes, *, timeout_s: float = 30.0) -> tuple[int, bytes]:
        """Status and body of one POST /score. Raises OSError if nobody answers."""
        request = urllib.request.Request(f"{self.url}/score", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def metric(self, name: str) -> float:
        """The value of one series of /metrics, named with its labels as Prometheus writes them; 0 if it is absent."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == name]
        return float(values[0]) if values else 0.0

    def wait(self, body: bytes, *, timeout_s: float) -> bytes:
        """Wait until POST /score answers 200, and return that answer. Raises ServerError."""
        deadline = time.monotonic() + timeout_s
        seen = "no answer"
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                status, answer = self.ask(body)
            except OSError as error:
                seen = str(error)
            else:
                if status == 200:
                    return answer
                seen = f"{status} {answer[:200]!r}"
            time.sleep(0.2)
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
        raise ServerError(f"not ready within {timeout_s:.0f} s or ended (last: {seen}); the end of its log:\n{tail}")

    def members(self) -> set[int]:
        """The process ids of the tree."""
        return set(self._tree())

    def cpu_s(self) -> float:
        """CPU seconds of all processes of the tree so far, children that have ended included."""
        return sum(sum(map(int, fields[11:15])) for fields in self._tree().values()) / TICKS

    def rss_mb(self) -> float:
        """Resident memory of the tree, MB; pages that processes share count once per process."""
        return sum(int(fields[21]) for fields in self._tree().values()) * PAGE / 1e6

    def settle(self, *, timeout_s: float = 120.0) -> None:
        """Wait until the tree is idle, so that work left over from one load does not weigh on the next."""
        deadline = time.monotonic() + timeout_s
        before = self.cpu_s()
        while time.monotonic() < deadline:
            time.sleep(_SETTLE_STEP_S)
            now = self.cpu_s()
            if now - before < IDLE_CORES * _SETTLE_STEP_S:
                return
            before = now

    def close(self) -> None:
        """SIGTERM, then SIGKILL for whatever of the tree is left."""
        tree = self.members()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        for pid in tree | self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _tree(self) -> dict[int, list[str]]:
        """pid -> the fields of /proc/PID/stat after the name, for descendants and everyone of the same session."""
        stats = {int(p.name): fields for p in Path("/proc").iterdir() if p.name.isdigit() and (fields := _stat(p))}
        wanted = {pid for pid, fields in stats.items() if int(fields[3]) == self.pid} | {self.pid}
        grown = True
        while grown:
            more = {pid for pid, fields in stats.items() if int(fields[1]) in wanted} - wanted
            wanted |= more
            grown = bool(more)
        return {pid: stats[pid] for pid in wanted if pid in stats}


def _stat(folder: Path) -> list[str]:
    """State, parent, group, session, ... of a process; empty if it has gone."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what would configure a server behind its back."""
    return {name: value for name, value in environ.items() if not name.startswith(("CTR_", "BENCH_"))}
