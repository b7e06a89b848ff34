"""Several processes that train one net: they do what one does, and a lost one ends the run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint import CHECKPOINT, Checkpoints
from model.config import RunConfig, read_config
from model.evaluate import predict_logit
from model.prepare_command import prepare
from model.train_command import train_configured
from tests.integration.rank_worker import BATCH, CONFIG, ROWS, RUNS, Material

ROOT = Path(__file__).parents[2]
LOG = """
name = "tiny"
data = { format = "synthetic", synthetic = { users = 40, items = 50, categories = 5, impressions_per_user = 40 } }
"""
SHARDS = """
name = "tiny"
data = { format = "shards", path = "shards" }
"""
TINY = """
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
    Material().write_shards(folder / "shards")
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
def alone(pair: Pair) -> dict[str, dict[str, Any]]:
    """The same runs in this process; of rows in shards it takes the lanes of both."""
    with one_thread(), torch.random.fork_rng(devices=[]):
        return {name: material_of(place, pair).trained(net) for name, (place, net) in RUNS.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of two threads are rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def material_of(place: str, pair: Pair) -> Material:
    return Material().in_shards(pair.folder / "shards") if place == "shards" else Material()


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_train_as_one(pair: Pair, alone: dict[str, dict[str, Any]], name: str) -> None:
    """Loss of every batch and final weights: those of one process, to rounding, although dropout, negatives, Dice, both
    regularisations and a last batch of one row look at the whole batch. AUC of every evaluation: the very same.
    """
    one, told = alone[name], json.loads((pair.folder / "told-0.json").read_text())[name]
    weights = load_file(pair.folder / f"{name}-0.safetensors")

    assert len(told["loss"]) == CONFIG.epochs * (14 if name == "sharded" else 13)
    assert told["loss"] == pytest.approx(one["loss"], abs=1e-6)
    assert told["auc"] == one["auc"]
    for key, weight in one["weights"].items():
        torch.testing.assert_close(weights[key], weight, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", RUNS)
def test_all_ranks_hold_the_same_weights(pair: Pair, name: str) -> None:
    """Bit for bit, and they say the same of losses and AUC: nobody has to be asked which net is the right one."""
    first, second = (load_file(pair.folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
    told = [json.loads((pair.folder / f"told-{rank}.json").read_text()) for rank in (0, 1)]

    assert all(torch.equal(first[key], second[key]) for key in first)
    assert told[0] == told[1]


@pytest.mark.parametrize("name", RUNS)
def test_scores_gathered_from_ranks_are_those_of_one_process(pair: Pair, name: str) -> None:
    """With the same weights every score is the same bit for bit, so AUC is exactly the same, on each rank."""
    place, kind = RUNS[name]
    material = material_of(place, pair)
    net = material.net(kind)
    net.load_state_dict(load_file(pair.folder / f"{name}-0.safetensors"))

    with one_thread():
        scores = predict_logit(net, material.samples.train, batch_size=BATCH)

    assert len(scores) == ROWS
    for rank in (0, 1):
        np.testing.assert_array_equal(np.load(pair.folder / f"{name}-{rank}.npy"), scores)


@pytest.mark.parametrize(("place", "name"), [("memory", "dien"), ("shards", "sharded")])
def test_resumed_ranks_end_as_if_never_stopped(pair: Pair, place: str, name: str) -> None:
    """Interrupted between two checkpoints and gone on with: the same weights, bit for bit."""
    whole = load_file(pair.folder / f"{name}-0.safetensors")
    for rank in (0, 1):
        again = load_file(pair.folder / f"resumed-{place}-{rank}.safetensors")
        assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_one_process_goes_on_with_what_two_read(pair: Pair, tmp_path: Path) -> None:
    """In the middle of an epoch of rows in shards, with the lanes of both: to rounding the same weights."""
    whole = load_file(pair.folder / "sharded-0.safetensors")
    (tmp_path / CHECKPOINT).write_bytes((pair.folder / "shards" / "kept").read_bytes())

    with one_thread(), torch.random.fork_rng(devices=[]):
        checkpoints = Checkpoints(tmp_path, identity={}, resume=True)
        run = material_of("shards", pair).trained("dien", checkpoints)

    assert len(run["loss"]) == 9
    for key, weight in whole.items():
        torch.testing.assert_close(run["weights"][key], weight, atol=2e-4, rtol=0)


def test_a_rank_that_loses_another_says_so(pair: Pair) -> None:
    """The one that is left neither waits nor shows a backend's stack trace: one sentence, and exit code 1."""
    assert pair.codes == (1, 3)
    assert pair.errors[0].strip().splitlines()[-1].startswith("lost: another process of this run is gone")


def test_a_killed_worker_ends_the_run_and_one_process_goes_on(tmp_path: Path) -> None:
    """torchrun reports the SIGKILL and exits with an error; what it left is gone on with, here by one process alone,
    which takes both lanes of the shards unasked, and comes to the AUCs of a run without a break.
    """
    log, config, out, printed = (tmp_path / name for name in ("log.toml", "run.toml", "run", "printed"))
    log.write_text(LOG + TINY)
    config.write_text(SHARDS + TINY)
    prepare(log, tmp_path / "shards", shards=True)
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
    settings = read_config(config)
    lanes = replace(settings, data=replace(settings.data, lanes=2))
    assert train_here(settings, out) == pytest.approx(train_here(lanes, tmp_path / "whole"), abs=1e-3)


def train_here(settings: RunConfig, out: Path) -> list[float]:
    """The AUCs of all evaluations of a run that this process begins, or goes on with."""
    train_configured(settings, out=out, resume=True)
    return [evaluation["auc"] for evaluation in json.loads((out / "metrics.json").read_text())["evaluations"]]


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
