"""Several processes that train one net: they do what one does, and a lost one ends the run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import CHECKPOINT
from model.config import read_config
from model.evaluate import predict_logit
from model.pipeline import checkpoints_of, prepare, run_training
from model.prepare_command import read_with_progress
from tests.integration.rank_worker import CONFIG, NETS, ROWS, Material

ROOT = Path(__file__).parents[2]
TINY = """
name = "tiny"
data = { format = "synthetic", synthetic = { users = 40, items = 50, categories = 5, impressions_per_user = 40 } }
net = { kind = "base", head = [16], dropout = 0.2 }
train = { epochs = 3, batch_size = 64, patience = 9, checkpoint_batches = 5 }
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "hist_item_ids" }, { shares = "cate_id", column = "hist_cate_ids" }]
"""


@dataclass(frozen=True)
class Pair:
    """What two ranks left behind: a folder, and how each ended."""

    folder: Path
    codes: tuple[int, int]
    errors: tuple[str, str]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two processes as torchrun would start them, but for its agent, which would stop the one when the other dies."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    environ = {**os.environ, "TORCHELASTIC_RUN_ID": "test", **shared}
    command = [sys.executable, "-m", "tests.integration.rank_worker", str(folder)]
    started = [
        subprocess.Popen(command, cwd=ROOT, env={**environ, "RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    try:
        errors = tuple(process.communicate(timeout=240)[1] for process in started)
    finally:
        for process in started:
            process.kill()
    return Pair(folder, tuple(process.returncode for process in started), errors)


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    """The same runs in this process, and its scores of the training rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of two threads are rounded otherwise
    try:
        with torch.random.fork_rng(devices=[]):
            material = Material()
            return {name: material.trained(name) for name in NETS}
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NETS)
def test_two_ranks_train_as_one(pair: Pair, alone: dict[str, dict[str, Any]], name: str) -> None:
    """Loss of every batch, AUC of every evaluation and final weights: those of one process, to rounding, although
    dropout, negatives, Dice, both regularisations and a last batch of one row look at the whole batch.
    """
    one, told = alone[name], json.loads((pair.folder / "told-0.json").read_text())[name]
    weights = load_file(pair.folder / f"{name}-0.safetensors")

    assert len(told["loss"]) == CONFIG.epochs * 13
    assert told["loss"] == pytest.approx(one["loss"], abs=1e-5)
    assert told["auc"] == pytest.approx(one["auc"], abs=1e-3)
    for key, weight in one["weights"].items():
        torch.testing.assert_close(weights[key], weight, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", NETS)
def test_all_ranks_hold_the_same_weights(pair: Pair, name: str) -> None:
    """Bit for bit, and they say the same of losses and AUC: nobody has to be asked which net is the right one."""
    first, second = (load_file(pair.folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    told = [json.loads((pair.folder / f"told-{rank}.json").read_text()) for rank in (0, 1)]

    assert all(torch.equal(first[key], second[key]) for key in first)
    assert told[0] == told[1]


@pytest.mark.parametrize("name", NETS)
def test_scores_gathered_from_ranks_are_those_of_one_process(pair: Pair, name: str) -> None:
    """With the same weights every score is the same bit for bit, so AUC is exactly the same, on each rank."""
    material = Material()
    net = material.net(name)
    net.load_state_dict(load_file(pair.folder / f"{name}-0.safetensors"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    scores = predict_logit(net, material.samples.train, batch_size=100)

    torch.set_num_threads(threads)
    assert len(scores) == ROWS
    for rank in (0, 1):
        np.testing.assert_array_equal(np.load(pair.folder / f"{name}-{rank}.npy"), scores)


def test_resumed_ranks_end_as_if_never_stopped(pair: Pair) -> None:
    """Interrupted between two checkpoints and gone on with: the same weights, bit for bit."""
    whole = load_file(pair.folder / "dien-0.safetensors")
    for rank in (0, 1):
        again = load_file(pair.folder / f"resumed-{rank}.safetensors")
        assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_a_rank_that_loses_another_says_so(pair: Pair) -> None:
    """The one that is left neither waits nor shows a backend's stack trace: one sentence, and exit code 1."""
    assert pair.codes == (1, 3)
    assert pair.errors[0].strip().splitlines()[-1].startswith("lost: another process of this run is gone")


def test_a_killed_worker_ends_the_run_and_one_process_goes_on(tmp_path: Path) -> None:
    """torchrun reports the SIGKILL and exits with an error; what it left is gone on with, here by one process alone,
    and comes to the AUCs of a run without a break.
    """
    config, out, printed = tmp_path / "run.toml", tmp_path / "run", tmp_path / "printed"
    config.write_text(TINY)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "model.cli", "train", str(config), "--out", str(out)]
    with printed.open("wb") as file, subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file) as agent:
        try:
            wait_until(lambda: (out / CHECKPOINT).exists() or agent.poll() is not None)
            worker = children(agent.pid)[-1]
            os.kill(worker, signal.SIGKILL)
            code = agent.wait(timeout=60)
        finally:
            agent.terminate()

    assert code != 0
    assert "SIGKILL" in printed.read_text()
    assert not (out / "weights.safetensors").exists()
    whole, resumed = (train_here(config, folder, resume=True) for folder in (tmp_path / "whole", out))
    assert resumed == pytest.approx(whole, abs=1e-3)


def train_here(config: Path, out: Path, *, resume: bool) -> list[float]:
    """The AUCs of all evaluations of a run in this process."""
    settings = read_config(config)
    log, _ = read_with_progress(settings)
    prepared = prepare(log, settings)
    checkpoints = checkpoints_of(prepared, settings, folder=out, resume=resume)
    run, _ = run_training(log, prepared, settings, checkpoints=checkpoints)
    return [evaluation["auc"] for evaluation in run.metrics["evaluations"]]


def children(pid: int) -> list[int]:
    """The processes that a process has started, oldest first."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for task in tasks for child in task.read_text().split())


def wait_until(holds: Callable[[], bool]) -> None:
    """Look often; fail after two minutes."""
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
