"""The systems under test: how each is installed and started. A peer that cannot be is reported, never left out."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.load_process import Server, clean_environ, free_port

OURS = "ours"
INSTALL_S = 600
START_S = 120.0
ROOT = Path(__file__).parents[1]
# What each app needs besides its server; the same ONNX Runtime as ours.
_COMMON = (f"onnxruntime=={onnxruntime.__version__}", f"numpy=={np.__version__}", "redis[hiredis]>=5.2")


class PeerError(RuntimeError):
    """A peer could not be installed; the message carries the end of the installer's output."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One system. `command` is given its folder of executables and its port."""

    name: str
    title: str
    command: Callable[[Path, int], list[str]]
    requirement: str | None = None  # None: it runs in our own environment
    threads: int = 1  # intra-op threads of each worker


def _module(name: str) -> Callable[[Path, int], list[str]]:
    return lambda bin_, port: [str(bin_ / "python"), "-m", f"benchmarks.peers.{name}", str(port)]


def _uvicorn(workers: int) -> Callable[[Path, int], list[str]]:
    app = ["--factory", "benchmarks.baseline.app:create_app", "--workers", str(workers)]
    return lambda bin_, port: [str(bin_ / "uvicorn"), *app, "--host", "127.0.0.1", "--port", str(port)]


def _mosec(bin_: Path, port: int) -> list[str]:
    app = [str(bin_ / "python"), "-m", "benchmarks.peers.mosec_app"]
    return [*app, "--address", "127.0.0.1", "--port", str(port), "--timeout", "60000"]


def _bentoml(bin_: Path, port: int) -> list[str]:
    app = [str(bin_ / "bentoml"), "serve", "benchmarks.peers.bento_app:Ranking"]
    return [*app, "--host", "127.0.0.1", "--port", str(port)]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(name="baseline-1", title="FastAPI + ONNX Runtime, 1 worker, 2 threads", command=_uvicorn(1), threads=2),
        Peer(name="baseline-2", title="FastAPI + ONNX Runtime, 2 workers", command=_uvicorn(2)),
        Peer(name="mosec", title="mosec, 2 workers", command=_mosec, requirement="mosec==0.9.8"),
        Peer(
            name="litserve",
            title="LitServe, 2 workers",
            command=_module("litserve_app"),
            requirement="litserve==0.2.19",
        ),
        Peer(name="bentoml", title="BentoML, 2 workers", command=_bentoml, requirement="bentoml==1.4.39"),
        Peer(name="ray", title="Ray Serve, 2 replicas", command=_module("ray_app"), requirement="ray[serve]==2.60.0"),
    )
}


def install(peer: Peer, cache: Path) -> Path:
    """The folder of executables of the peer's own environment, made the first time. Raises PeerError."""
    if peer.requirement is None:
        return Path(sys.executable).parent
    wanted = (peer.requirement, *_COMMON)
    digest = hashlib.sha256(repr((wanted, sys.version)).encode()).hexdigest()[:12]
    folder = cache / f"{peer.name}-{digest}"
    if not (folder / "installed").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        _run([*pip, *wanted])
        (folder / "installed").write_text("\n".join(wanted) + "\n")
    return folder / "bin"


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise PeerError(f"installing took more than {INSTALL_S} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise PeerError("not installed: " + lines[-1][:300] if lines else "not installed")


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every system is given: our bundles, the same nets as naive graphs, and Redis."""

    folder: Path
    bundles: Mapping[str, Path]
    naive: Mapping[str, Path]
    redis: str


@contextmanager
def started(name: str, kind: str, *, material: Material, cache: Path, sample: bytes) -> Iterator[Server]:
    """A system serving the net `kind`, ready to answer the body `sample`. Raises PeerError, ServerError."""
    if name == OURS:
        with our_service(material.bundles[kind], material.redis, sample=sample, log=material.folder / "ours.log") as up:
            yield up
        return
    port, peer = free_port(), PEERS[name]
    environ = clean_environ(os.environ) | {
        "BENCH_NET": str(material.naive[kind]),
        "BENCH_REDIS": material.redis,
        "BENCH_THREADS": str(peer.threads),
        "PYTHONPATH": str(ROOT),
    }
    command, log = peer.command(install(peer, cache), port), material.folder / f"{name}.log"
    with Server(command, port=port, environ=environ, log=log) as server:
        server.wait(sample, timeout_s=START_S)
        yield server


@contextmanager
def our_service(bundle: Path, redis: str, *, sample: bytes, log: Path, **settings: object) -> Iterator[Server]:
    """`ctr-service serve`, ready, with nothing set but what has no default and `settings`. Raises ServerError."""
    port, serve = free_port(), str(Path(sys.executable).with_name("ctr-service"))
    command = [serve, "serve", "--bundle", str(bundle), "--store", redis, "--port", str(port)]
    environ = clean_environ(os.environ) | {f"CTR_{name.upper()}": str(value) for name, value in settings.items()}
    with Server(command, port=port, environ=environ, log=log) as server:
        server.wait(sample, timeout_s=START_S)
        yield server
