"""The training peers: how their packages get here, and a process of their own that trains one of their nets.

Their packages lie in a folder before our own environment, so that both sides run on the same torch and numpy.
FuxiCTR's package ships no nets; its figures are recorded ones (`benchmarks.quality_recorded`).
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.load_process import clean_environ

PEERS = ("torch-rechub", "deepctr-torch")
ROOT = Path(__file__).parents[1]
CACHE = Path.home() / ".cache" / "ctr-scorer" / "peers"
INSTALL_S = 600
# Without what else they ask for: torch, numpy, scikit-learn and the like are ours.
_WANTED = (
    "deepctr-torch==0.3.0",
    "torch-rechub==0.9.0",
    "pandas==2.3.3",
    "python-dateutil",
    "pytz",
    "requests",
    "six",
    "tqdm",
    "tzdata",
    "urllib3",
    "charset-normalizer",
)


class PeerError(RuntimeError):
    """A peer could not be installed or its process failed; the message carries the end of its output."""


def install(cache: Path = CACHE) -> Path:
    """The folder that holds the peers' packages, filled the first time. Raises PeerError."""
    digest = hashlib.sha256(repr((_WANTED, sys.version)).encode()).hexdigest()[:12]
    folder = cache / f"training-{digest}"
    if not (folder / "installed").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--upgrade"]
        _run([*pip, "--target", str(folder), *_WANTED], os.environ, timeout_s=INSTALL_S)
        (folder / "installed").write_text("\n".join(_WANTED) + "\n")
    return folder


def peer_process(module: str, settings: Mapping[str, object], *, threads: int, timeout_s: float) -> str:
    """Run `python -m MODULE SETTINGS` (one JSON argument) where the peers can be imported; its last line of output.

    Raises PeerError.
    """
    environ = clean_environ(os.environ) | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(install())]),
        "OMP_NUM_THREADS": str(threads),
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nobody: deepctr-torch asks the network for its newest version
    }
    command = [sys.executable, "-m", module, json.dumps(settings)]
    return _run(command, environ, timeout_s=timeout_s).strip().splitlines()[-1]


def _run(command: list[str], environ: Mapping[str, str], *, timeout_s: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=dict(environ), check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"{command[2]} took more than {timeout_s:.0f} s") from None
    if done.returncode:
        raise PeerError(f"{command[2]} failed: " + done.stderr[-600:])
    return done.stdout
