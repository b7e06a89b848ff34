"""The real `ctr-service serve` as a process on a free port, for tests that stop, kill or starve it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

WAIT_S = 120  # a process that shares its core with others starts slowly
REQUEST = {"user_id": 1, "candidates": [{"item_id": 100}, {"item_id": 117}]}


@dataclass(frozen=True)
class Answer:
    """What the service said."""

    status: int
    connection: str | None  # the header
    text: str

    @property
    def body(self) -> dict[str, object]:
        """It, as JSON."""
        return json.loads(self.text)


NONE: Mapping[str, str] = {}


def ask(url: str, path: str, body: object = None, *, headers: Mapping[str, str] = NONE) -> Answer:
    """GET, or POST with a body, over a connection of its own. Not httpx: it starts more slowly than that."""
    method, sent = ("GET", None) if body is None else ("POST", json.dumps(body))
    with closing(http.client.HTTPConnection(*address(url), timeout=WAIT_S)) as connection:
        connection.request(method, path, sent, dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheader("connection"), answer.read().decode())


def address(url: str) -> tuple[str, int]:
    """Host and port."""
    parts = urlsplit(url)
    return parts.hostname, parts.port


def score(url: str) -> Answer:
    """One request."""
    return ask(url, "/score", REQUEST)


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(bundle: Path, store: str, *, stdout: object = subprocess.DEVNULL, **settings: object):
    """Start it; returns the process and its URL. It may not listen yet."""
    chosen = {"bundle": bundle, "store": store, "port": free_port(), **settings}
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CTR_")}
    environ = {**clean, **{f"CTR_{name.upper()}": str(value) for name, value in chosen.items()}}
    command = [str(Path(sys.executable).with_name("ctr-service")), "serve"]
    return subprocess.Popen(command, env=environ, stdout=stdout), f"http://127.0.0.1:{chosen['port']}"


@contextmanager
def serving(bundle: Path, store: str, **settings: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`start`, ready with as many processes as asked for; ended by SIGTERM."""
    process, url = start(bundle, store, **settings)
    try:
        wait_until(lambda: ready(url) or process.poll() is not None)
        wait_until(lambda: metric(url, "ctr_processes") == settings.get("workers", 1) and metric(url, "ctr_ready") == 1)
        yield process, url
    finally:
        process.terminate()
        process.wait(timeout=WAIT_S)


def ready(url: str) -> bool:
    """Whether a new connection gets a 200 from /readyz."""
    try:
        return ask(url, "/readyz").status == 200
    except OSError:
        return False


def metric(url: str, name: str, **labels: str) -> float:
    """One sample of /metrics, asked over a new connection; 0 if it is not there."""
    text = ask(url, "/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return next((s.value for s in samples if s.name == name and labels.items() <= s.labels.items()), 0.0)


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds. A connection that breaks, as when a process was just killed, says nothing."""
    until = time.monotonic() + WAIT_S
    while True:
        with suppress(OSError):
            if condition():
                return
        assert time.monotonic() < until
        time.sleep(0.02)


def children(parent: int) -> list[int]:
    """Process ids of the serving processes of a parent."""
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    return sorted(pid for pid, command in commands.items() if b"spawn_main" in command)
