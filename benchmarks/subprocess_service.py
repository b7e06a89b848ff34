"""The real `ctr-service serve` in a process of its own, for as long as a block lasts."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY_S = 90.0


@contextmanager
def serving(bundle: Path, store: str, **settings: object) -> Iterator[str]:
    """Start the service on a free port, wait until it is ready, yield its URL, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {
        "bundle": bundle,
        "store": store,
        "port": port,
        "log_level": "warning",
        "store_timeout_ms": 200,
        **settings,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CTR_")}
    environ = {**inherited, **{f"CTR_{name.upper()}": str(value) for name, value in given.items()}}
    process = subprocess.Popen([Path(sys.executable).with_name("ctr-service"), "serve"], env=environ)
    try:
        _wait(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the service at {url} did not become ready")
