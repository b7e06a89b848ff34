"""The trainer's script of the compose stack, with a stand-in for `ctr-model`, whose arguments the real one must take.

Two real trainings would take a minute of this set; the stand-in writes what pointers ask for, and notes its calls.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from model.bundle.manifest import MANIFEST
from model.bundle.pointers import CANARY, POINTERS, STABLE, read_pointer, write_pointer
from model.cli import app
from tests.deploy.manifests import ROOT

STAND_IN = f"""#!/bin/sh -eu
echo "$@" >> "$HOME/calls"
if [ "$1" = export ]; then mkdir -p "$4/$6"; touch "$4/$6/{MANIFEST}"; fi
"""


def run_job(folder: Path) -> list[list[str]]:
    """How it calls `ctr-model`. Its variables keep their names and get folders of this test."""
    values = {
        "TRAINING_FILE": ROOT / "examples" / "synthetic.toml",
        "BUNDLES": folder / "bundles",
        "RUN": folder / "run",
    }
    programs = folder / "programs"
    programs.mkdir()
    (programs / "ctr-model").write_text(STAND_IN, encoding="utf-8")
    (programs / "ctr-model").chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {name: str(value) for name, value in values.items()} | {"HOME": str(folder), "PATH": path}
    subprocess.run(["sh", ROOT / "deploy" / "train.sh"], env=environ, cwd=ROOT, timeout=60, check=True)
    return [line.split() for line in (folder / "calls").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a version, to which nothing points."""
    (tmp_path / "bundles" / "v1").mkdir(parents=True)
    (tmp_path / "bundles" / "v1" / MANIFEST).touch()
    return tmp_path


def test_the_real_command_takes_the_arguments(folder: Path):
    """`train`, then `export` of the same run without moving `stable`."""
    group = typer.main.get_command(app)
    taken = {}
    for name, *arguments in run_job(folder):
        context = group.get_command(None, name).make_context(name, arguments)  # parses and checks, runs nothing
        taken[name] = context.params

    assert list(taken) == ["train", "export"]
    assert taken["train"]["out"] == taken["export"]["run"]
    assert taken["export"]["stable"] is False


def test_the_first_bundle_becomes_stable(folder: Path):
    """It is what the service waits for."""
    version = run_job(folder)[-1][5]
    assert [read_pointer(folder / "bundles", name) for name in POINTERS] == [version, None]


def test_a_later_bundle_becomes_canary(folder: Path):
    """What serves goes on to serve."""
    write_pointer(folder / "bundles", STABLE, "v1")
    version = run_job(folder)[-1][5]
    assert read_pointer(folder / "bundles", STABLE) == "v1"
    assert read_pointer(folder / "bundles", CANARY) == version
