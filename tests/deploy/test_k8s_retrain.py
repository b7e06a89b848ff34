"""The command of the CronJob: run as it stands, with a stand-in for `ctr-model`; the real one must take its arguments.

Two real trainings would take a minute of this set; what the command does is in tests/offline/test_guard.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from model.cli import app
from tests.deploy.manifests import ROOT, Table, named, shipped

STAND_IN = """#!/bin/sh -eu
printf '%s\\n' "$@" > "$HOME/call"
exit "$STATUS"
"""


def job() -> Table:
    """The job that the CronJob makes."""
    return named(shipped(), "CronJob", "ctr-retrain")["spec"]["jobTemplate"]["spec"]


def run_job(folder: Path, *, status: int) -> tuple[int, list[str]]:
    """Its exit code, and how it calls `ctr-model`. Its variables keep their names and get folders of this test."""
    (container,) = job()["template"]["spec"]["containers"]
    values = {
        "TRAINING_FILE": ROOT / "examples" / "synthetic.toml",
        "BUNDLES": folder / "some bundles",
        "RUN": folder / "run",
    }
    assert {*values, "HOME"} == {entry["name"] for entry in container["env"]}
    (folder / "ctr-model").write_text(STAND_IN, encoding="utf-8")
    (folder / "ctr-model").chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {name: str(value) for name, value in values.items()}
    environ |= {"HOME": str(folder), "PATH": path, "STATUS": str(status)}
    command = [*container["command"], *container["args"]]
    done = subprocess.run(command, env=environ, cwd=ROOT, timeout=60, check=False)
    return done.returncode, (folder / "call").read_text(encoding="utf-8").splitlines()


def test_the_real_command_takes_the_arguments(tmp_path: Path):
    """One day's turn, which moves the canary; folders with a space in their names stay one argument."""
    group = typer.main.get_command(app)
    status, (name, *arguments) = run_job(tmp_path, status=0)
    taken = group.get_command(None, name).make_context(name, arguments).params  # parses and checks, runs nothing

    assert (status, name) == (0, "retrain")
    assert taken["config"] == ROOT / "examples" / "synthetic.toml"
    assert (taken["bundles"], taken["run"]) == (tmp_path / "some bundles", tmp_path / "run")
    assert (taken["pointer"], taken["anew"]) == ("canary", False)


@pytest.mark.parametrize("status", [1, 2])
def test_what_would_end_the_same_way_is_not_tried_again(tmp_path: Path, status: int):
    """The guard's refusal and a wrong configuration reach the job as they are, and its policy names them."""
    (rule,) = job()["podFailurePolicy"]["rules"]
    assert run_job(tmp_path, status=status)[0] == status
    assert rule["action"] == "FailJob"
    assert status in rule["onExitCodes"]["values"]
