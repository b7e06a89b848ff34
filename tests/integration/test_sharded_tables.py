"""Tables divided among two ranks by TorchRec: the net that one process trains, its checkpoint and its bundle."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from model.checkpoint import Checkpoints
from model.cli import app
from tests.integration.rank_worker import RUNS, Material
from tests.integration.sharded_worker import DIVIDED

pytestmark = pytest.mark.skipif(find_spec("torchrec") is None, reason="the extra `torchrec` is not installed")

ROOT = Path(__file__).parents[2]
PLAIN = """
name = "tiny"
data = { format = "synthetic", synthetic = { users = 40, items = 50, categories = 5, impressions_per_user = 40 } }
net = { kind = "base", head = [16], dropout = 0.2 }
train = { epochs = 2, batch_size = 64, patience = 9 }
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "hist_item_ids" }, { shares = "cate_id", column = "hist_cate_ids" }]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left behind."""
    found = tmp_path_factory.mktemp("sharded")
    Material().write_shards(found / "shards")
    (found / DIVIDED).write_text(PLAIN.replace("patience = 9", "patience = 9, sharded_rows = 10"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command = [*torchrun, "tests.integration.sharded_worker", str(found)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return found


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, dict[str, Any]]:
    """The same runs in this process, with whole tables."""
    with one_thread():
        material = Material()
        places = {"memory": material, "shards": material.in_shards(folder / "shards")}
        return {name: places[place].trained(net) for name, (place, net) in RUNS.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of two threads are rounded otherwise; torch's generators are afterwards where they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], *, atol: float) -> None:
    """Under the same names the same weights, to rounding."""
    assert set(found) == set(expected)
    for key, weight in expected.items():
        torch.testing.assert_close(found[key], weight, atol=atol, rtol=0)


@pytest.mark.parametrize("name", RUNS)
def test_divided_tables_train_as_whole_ones(folder: Path, alone: dict[str, dict[str, Any]], name: str) -> None:
    """Loss of every batch, AUC of every evaluation and final weights: those of one process, to rounding, with the
    auxiliary loss, factors, both regularisations, clipping and `max_norm`, the log in memory or in shards.
    """
    one, told = alone[name], json.loads((folder / "told-0.json").read_text())[name]

    assert told["loss"] == pytest.approx(one["loss"], abs=1e-5)
    assert told["auc"] == pytest.approx(one["auc"], abs=1e-3)
    assert_close(load_file(folder / f"{name}.safetensors"), one["weights"], atol=2e-4)


def test_each_rank_has_half_of_every_table(folder: Path) -> None:
    """Every row is on one rank, and no rank has more than half, rounded up, whatever the width."""
    first, second = (json.loads((folder / f"told-{rank}.json").read_text())["rows"] for rank in (0, 1))

    assert first == [[4, 2], [11, 6], [12, 6]]
    assert second == [[4, 2], [11, 5], [12, 6]]


def test_resumed_ranks_end_as_if_never_stopped(folder: Path) -> None:
    """Interrupted between two checkpoints and gone on with: the same weights, bit for bit."""
    whole, again = load_file(folder / "dien.safetensors"), load_file(folder / "resumed.safetensors")

    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_one_process_with_whole_tables_goes_on_where_ranks_stopped(
    folder: Path, alone: dict[str, dict[str, Any]]
) -> None:
    """A checkpoint holds whole tables with their moments, so it does not matter how they were divided."""
    checkpoints = Checkpoints(folder / "kept", identity={}, resume=True)
    assert checkpoints.start is not None

    with one_thread():
        again = Material().trained("dien", checkpoints)

    assert len(again["loss"]) == 13 - 5
    assert_close(again["weights"], alone["dien"]["weights"], atol=2e-4)


def test_the_run_exports_as_one_of_one_process(folder: Path) -> None:
    """It has the same files, under the same names the same weights to rounding, and its bundle passes the gate."""
    (folder / "plain.toml").write_text(PLAIN)
    plain = CliRunner().invoke(app, ["train", str(folder / "plain.toml"), "--out", str(folder / "plain")])
    assert plain.exit_code == 0, plain.output

    exported = CliRunner().invoke(app, ["export", str(folder / "divided"), "--out", str(folder / "bundles")])

    assert "parity gate passed" in exported.output, exported.output
    one, two = (load_file(folder / name / "weights.safetensors") for name in ("plain", "divided"))
    assert_close(two, one, atol=5e-3)
    runs = [sorted(str(p.relative_to(run)) for p in run.rglob("*")) for run in (folder / "plain", folder / "divided")]
    assert runs[0] == runs[1]
