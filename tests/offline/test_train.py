"""The training loop: whatever ends it, the net holds the best weights that were seen."""

import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.batches import EncodedSplit, encode_split
from model.data.log import Log
from model.data.negatives import NegativeSampler
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder
from model.evaluate import predict
from model.metrics import auc
from model.nets import Net, build_net
from model.run_folder import load_run, vocabulary_sizes
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples, Step

HEAD = {"head": [16], "activation": "prelu"}
TOO_FAST = TrainConfig(epochs=6, batch_size=64, learning_rate=0.3, patience=6)  # the first epoch is the best


@pytest.fixture(scope="module")
def samples(small_log: Log) -> Samples:
    """1440 impressions to learn from, 180 to choose by."""
    encoder = fit_encoder(small_log, synthetic_schema())
    splits = {name: encode_split(getattr(small_log, name), encoder) for name in ("train", "valid")}
    return Samples(**splits, sampler=NegativeSampler(encoder))


@pytest.fixture(scope="module")
def new_net(small_log: Log) -> Callable[..., Net]:
    """A net with the same initial weights every time."""
    sizes = vocabulary_sizes(fit_encoder(small_log, synthetic_schema()))

    def build(kind: str = "base", **settings: object) -> Net:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build_net({"kind": kind, **HEAD, **settings}, synthetic_schema(), sizes, file="test")

    return build


def score(net: Net, split: EncodedSplit) -> float:
    return auc(split.label, predict(net, split))


def test_the_best_weights_are_restored_not_the_last(samples: Samples, new_net: Callable[..., Net]) -> None:
    """At a learning rate that ruins the net, the net that comes back is the one of the best evaluation."""
    net = new_net()

    result = train(net, samples, config=TOO_FAST)

    seen = [evaluation["auc"] for evaluation in result.evaluations]
    assert len(seen) == TOO_FAST.epochs
    assert seen[-1] < max(seen) - 0.01
    assert result.best_auc == max(seen) == score(net, samples.valid)
    assert result.best_epoch == result.evaluations[seen.index(max(seen))]["epoch"]
    assert not net.training


def test_patience_ends_the_run(samples: Samples, new_net: Callable[..., Net]) -> None:
    """After that many evaluations in a row without a better AUC there is no further one."""
    config = dataclasses.replace(TOO_FAST, epochs=30, patience=3)

    seen = [evaluation["auc"] for evaluation in train(new_net(), samples, config=config).evaluations]

    assert len(seen) == seen.index(max(seen)) + 1 + 3 < 30


def test_evaluations_are_spread_over_the_epoch(samples: Samples, new_net: Callable[..., Net]) -> None:
    """Four per epoch, at the first batch past each quarter; the last one at its very end."""
    config = TrainConfig(epochs=1, batch_size=100, evaluations_per_epoch=4, patience=9)

    epochs = [evaluation["epoch"] for evaluation in train(new_net(), samples, config=config).evaluations]

    assert epochs == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=100 / len(samples.train))
    assert epochs[-1] == 1.0


def test_every_batch_is_reported(samples: Samples, new_net: Callable[..., Net]) -> None:
    """Samples grow to the whole split in each epoch; the AUC is NaN until there is one."""
    steps: list[Step] = []

    train(new_net(), samples, config=TrainConfig(epochs=2, batch_size=500), report=steps.append)

    rows = len(samples.train)
    assert sorted((step.epoch, step.done) for step in steps) == [(step.epoch, step.done) for step in steps]
    assert [step.done for step in steps if step.epoch == 2][-1] == rows
    assert len({(step.epoch, step.done) for step in steps}) == 2 * math.ceil(rows / 500)
    assert {step.total for step in steps} == {rows}
    assert all(0 < step.loss < 5 for step in steps)
    first_epoch = [math.isnan(step.auc) for step in steps if step.epoch == 1]
    assert first_epoch == [True] * (len(first_epoch) - 1) + [False]


@pytest.mark.parametrize("after", [1, 30, 100])
def test_ctrl_c_keeps_the_best_so_far(samples: Samples, new_net: Callable[..., Net], after: int) -> None:
    """Before the first evaluation that is the net as it is; later the best evaluation's weights."""
    net, steps = new_net(), 0

    def interrupt(_: Step) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            raise KeyboardInterrupt

    result = train(net, samples, config=TOO_FAST, report=interrupt)

    assert result.interrupted
    assert steps == after
    assert len(result.evaluations) == after * 64 // len(samples.train)
    if result.evaluations:
        assert result.best_auc == max(evaluation["auc"] for evaluation in result.evaluations)
        assert score(net, samples.valid) == result.best_auc
    else:
        assert math.isnan(result.best_auc)
    assert np.isfinite(predict(net, samples.valid)).all()


def test_a_validation_split_of_one_class_stops_nothing(samples: Samples, new_net: Callable[..., Net]) -> None:
    """Its AUC is NaN every time; training goes on to the last epoch and keeps what it learned."""
    valid = dataclasses.replace(samples.valid, label=np.zeros_like(samples.valid.label))
    net = new_net()

    result = train(net, dataclasses.replace(samples, valid=valid), config=TrainConfig(epochs=4, patience=1))

    assert len(result.evaluations) == 4
    assert math.isnan(result.best_auc)
    assert score(net, samples.train) > score(new_net(), samples.train)


def test_a_net_that_diverges_gives_back_the_weights_before(samples: Samples, new_net: Callable[..., Net]) -> None:
    """Scores that are no numbers never count as the best."""
    net = new_net()

    def damage(step: Step) -> None:
        if step.epoch == 2:
            with torch.no_grad():
                net.head.bias.fill_(float("nan"))

    result = train(net, samples, config=TrainConfig(epochs=9, batch_size=64, patience=2), report=damage)

    assert len(result.evaluations) == 3
    assert result.best_epoch == 1.0
    assert score(net, samples.valid) == result.best_auc


def test_the_auxiliary_loss_needs_negatives_and_weight(samples: Samples, new_net: Callable[..., Net]) -> None:
    """Without a sampler, and with weight 0, DIEN's discriminator learns nothing and both runs end the same."""
    without = dataclasses.replace(samples, sampler=None)
    runs = {"with": (samples, 0.5), "no sampler": (without, 0.5), "no weight": (samples, 0.0)}
    learned, losses = {}, {}
    for name, (given, alpha) in runs.items():
        net = new_net("dien", attention=[8], auxiliary="mlp", auxiliary_alpha=alpha)
        before = net.discriminator.layers[0].weight.detach().clone()
        steps: list[Step] = []
        train(net, given, config=TrainConfig(epochs=1, batch_size=256), report=steps.append)
        learned[name] = not torch.equal(before, net.discriminator.layers[0].weight)
        losses[name] = [step.loss for step in steps]

    assert learned == {"with": True, "no sampler": False, "no weight": False}
    assert losses["no sampler"] == losses["no weight"]
    assert min(losses["with"]) > max(losses["no weight"])  # cross entropy of two guesses, halved, comes on top


def test_predict_keeps_the_rows_order(samples: Samples, new_net: Callable[..., Net]) -> None:
    """However the rows are cut into batches, each score belongs to its row; every row is reported once."""
    net, told = new_net("din", attention=[8]), []

    small = predict(net, samples.valid, batch_size=7, report=told.append)

    np.testing.assert_allclose(small, predict(net, samples.valid), atol=1e-6)
    rows = samples.valid.take(np.array([11]))
    tensors = {name: torch.from_numpy(tensor) for name, tensor in rows.items()}
    assert small[11] == pytest.approx(float(torch.sigmoid(net(tensors, tensors)).detach()), abs=1e-6)
    assert told == [*range(7, len(small), 7), len(small)]


CONFIG = """
name = "endless"
data = { format = "synthetic", synthetic = { users = 40, items = 30, categories = 5, impressions_per_user = 30 } }
net = { kind = "base", head = [8] }
train = { epochs = 1000000, patience = 1000000, batch_size = 200 }
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "items" }]
"""


def test_ctrl_c_at_the_terminal_writes_the_run(tmp_path: Path) -> None:
    """A real SIGINT to `ctr-model train` once an epoch is over: exit code 0, and a run that loads."""
    config, out, printed = tmp_path / "run.toml", tmp_path / "run", tmp_path / "printed"
    config.write_text(CONFIG)
    # A terminal, so that the bar is drawn while it trains, as the user sees it.
    environ = {**os.environ, "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "COLUMNS": "160"}
    command = [sys.executable, "-m", "model.cli", "train", str(config), "--out", str(out)]
    with printed.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environ) as process:
        try:
            wait_until(lambda: b"AUC 0." in printed.read_bytes() or process.poll() is not None, seconds=90)
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=30)
        finally:
            process.kill()

    assert code == 0, printed.read_text()
    assert "interrupted: keeping the best weights so far" in printed.read_text()
    run = load_run(out)
    assert run.metrics["interrupted"]
    best = max(evaluation["auc"] for evaluation in run.metrics["evaluations"])
    assert run.metrics["splits"]["valid"]["auc"] == best


def wait_until(holds: Callable[[], bool], *, seconds: float) -> None:
    """Look ten times a second; fail if it does not hold in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_every_evaluation_is_told_the_last_one_too(samples: Samples, new_net: Callable[..., Net]) -> None:
    """Also the one that ends training for lack of patience; the learning rate is that of the batch's step."""
    steps: list[Step] = []
    config = dataclasses.replace(TOO_FAST, patience=2, schedule="exponential", epoch_decay=0.5)
    training = train(new_net(), samples, config=config, report=steps.append)
    first_of_epochs = [step.learning_rate for step in steps if step.done == 64]

    assert [step.evaluation for step in steps if step.evaluation] == training.evaluations
    assert steps[-1].evaluation == training.evaluations[-1]
    assert first_of_epochs == pytest.approx([0.3 * 0.5**i for i in range(len(first_of_epochs))])
