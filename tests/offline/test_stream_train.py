"""A log in shards is trained, stopped, gone on with, measured and exported like one in memory."""

import dataclasses
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.calibration import CalibrationConfig
from model.checkpoint import Snapshot, lanes_begun
from model.cli import app
from model.config import RunConfig, config_from_table
from model.data.sharded_log import ShardedLog
from model.pipeline import checkpoints_of, prepare, run_training, train_only
from model.prepare_command import read_any

LOG = """
name = "small"
[data]
format = "synthetic"
[data.synthetic]
users = 100
items = 60
categories = 6
impressions_per_user = 20
"""
REST = """
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "i" }, { shares = "cate_id", column = "c" }]
[net]
kind = "din"
attention = [4]
head = [8]
[train]
epochs = 2
batch_size = 64
evaluations_per_epoch = 2
learning_rate = 0.01
"""
SHARDS = '\nname = "small"\n[data]\nformat = "shards"\npath = "shards"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log prepared by the command, and the configuration that reads it."""
    base = tmp_path_factory.mktemp("stream")
    (base / "log.toml").write_text(LOG + REST)
    (base / "shards.toml").write_text(SHARDS + REST)
    run(["prepare", base / "log.toml", "--shards", "--out", base / "shards"])
    return base


@pytest.fixture(scope="module")
def config(folder: Path) -> RunConfig:
    return config_from_table(tomllib.loads(SHARDS + REST), file="shards.toml", base=folder)


@pytest.fixture(scope="module")
def log(config: RunConfig) -> ShardedLog:
    log, _ = read_any(config)
    assert isinstance(log, ShardedLog)
    return log


def run(arguments: list[object]) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_bundle_comes_of_a_log_in_shards(folder: Path) -> None:
    """prepare, train, evaluate and export by their commands: the bundle passes the gate and tells all its rows."""
    run(["train", folder / "shards.toml", "--out", folder / "run"])
    run(["evaluate", folder / "run", "--config", folder / "shards.toml"])
    run(["export", folder / "run", "--out", folder / "bundle"])

    metrics = read_bundle(folder / "bundle").manifest.metrics

    assert (200.0, 200.0) == (metrics["valid"]["rows"], metrics["test"]["rows"])
    assert metrics["valid"]["auc"] > 0.6


def test_fewer_non_clicks_are_corrected_for(log: ShardedLog, config: RunConfig) -> None:
    """Trained on every click and a fifth of the rest, even odds are one in six, whatever the calibration adds."""
    train = dataclasses.replace(config.train, negative_sampling_rate=0.2)
    asked = dataclasses.replace(config, train=train, calibration=CalibrationConfig(method="none"))
    prepared = prepare(log, asked)
    run, _ = run_training(log, prepared, asked)

    clicks = int(log.split("train").label.sum())
    rows = log.splits["train"]["rows"]
    assert abs(len(prepared.train) - clicks - 0.2 * (rows - clicks)) < 5 * (rows * 0.2 * 0.8) ** 0.5
    assert run.metrics["window"]["rows"] == len(prepared.train)
    np.testing.assert_allclose(run.calibration.pctr(np.zeros(1, dtype=np.float32)), 1 / 6, rtol=1e-5)


def test_fresh_and_fewer_non_clicks_come_from_the_seed(log: ShardedLog, config: RunConfig) -> None:
    """Equal runs have equal weights."""
    train = dataclasses.replace(config.train, negative_sampling_rate=0.5, fresh_negatives=True)
    weights = [
        train_only(prepare(log, asked), asked, report=lambda step: None).net.state_dict()
        for asked in (dataclasses.replace(config, train=train),) * 2
    ]

    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_shards_prepared_before_clicks_were_kept_are_told_apart(
    log: ShardedLog, config: RunConfig, tmp_path: Path
) -> None:
    """Only `train.fresh_negatives` needs them."""
    old = dataclasses.replace(log, folder=shutil.copytree(log.folder, tmp_path / "old"))
    (old.folder / "train" / "clicked.npy").unlink()

    train_only(prepare(old, config), config, report=lambda step: None)
    fresh = dataclasses.replace(config, train=dataclasses.replace(config.train, fresh_negatives=True))
    with pytest.raises(ConfigError, match="prepared anew"):
        train_only(prepare(old, fresh), fresh, report=lambda step: None)


@pytest.mark.parametrize(("key", "value"), [("lanes", 3), ("memory_mb", 64.0)])
def test_other_batches_are_no_resumption(
    log: ShardedLog, config: RunConfig, tmp_path: Path, key: str, value: float
) -> None:
    """A run goes on with the lanes and the memory that its batches were drawn with; the checkpoint tells the lanes."""
    two = dataclasses.replace(config, data=dataclasses.replace(config.data, lanes=2))
    other = dataclasses.replace(two, data=dataclasses.replace(two.data, **{key: value}))
    begun = checkpoints_of(prepare(log, two), two, folder=tmp_path, resume=False)
    assert lanes_begun(tmp_path) == 0
    begun.write(Snapshot(tensors={"weight": torch.zeros(1)}, place={}))

    assert lanes_begun(tmp_path) == 2
    assert checkpoints_of(prepare(log, two), two, folder=tmp_path, resume=True).start is not None
    with pytest.raises(ConfigError, match=f"data.{key}"):
        checkpoints_of(prepare(log, other), other, folder=tmp_path, resume=True)
