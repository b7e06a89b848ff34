"""Schemathesis against the running service, with every route, a real bundle and a real Redis.

It reads the service's own OpenAPI document, sends requests that fit it and such that do not, and follows what links
one to another (schemathesis_links.py). What it asks of the answers is in schemathesis.toml.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from model.bundle.folder import read_bundle, write_bundle
from model.bundle.pointers import write_pointer
from tests.fuzz.budget import long_run, seconds
from tests.integration.service_process import metric, ready, serving
from tests.programs import program

HERE = Path(__file__).parent
KEY = "a key of no account".replace(" ", "-")
GROWTH_MIB = 200  # of the service's memory; most of it is the allocator's, and grows in the first seconds


@pytest.fixture
def versions(bundles: Mapping[str, Path], tmp_path: Path) -> Path:
    """A real bundle in two versions, so that there is something to promote and to take back."""
    found = read_bundle(bundles["din"])
    for version in ("v1", "v2"):
        write_bundle(tmp_path, replace(found.manifest, version=version), found.files)
    write_pointer(tmp_path, "stable", "v1")
    return tmp_path


def memory_mib(process: subprocess.Popen[bytes]) -> float:
    """Resident memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def test_no_request_breaks_the_service(versions: Path, redis_url: str):
    """Nothing but documented answers, no 500, and afterwards the same process is ready and no larger."""
    program_path, budget = program("st"), int(seconds(60))
    seed = [] if long_run() else ["--seed", "1"]
    settings = {"admin_key": KEY, "admin_port": 0, "threads": 1, "watch_s": 0.5, "log_level": "warning"}
    with serving(versions, redis_url, **settings) as (process, url):
        before = memory_mib(process)
        command = [program_path, "--config-file", str(HERE / "schemathesis.toml"), "run", f"{url}/openapi.json"]
        options = ["--header", f"Authorization: Bearer {KEY}", "--max-time", str(budget), "--continue-on-failure"]
        environ = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_links", "PYTHONPATH": str(HERE)}
        done = subprocess.run(
            [*command, *options, *seed],
            env=environ,
            cwd=versions,
            capture_output=True,
            text=True,
            timeout=budget + 300,
            check=False,
        )
        print(done.stdout[-3000:])

        assert done.returncode == 0, done.stdout + done.stderr
        assert metric(url, "ctr_requests_total", code="500") == 0
        assert process.poll() is None
        assert ready(url)
        assert memory_mib(process) - before < GROWTH_MIB
