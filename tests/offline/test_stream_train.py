"""A log in shards is trained, stopped, gone on with, measured and exported like one in memory."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.cli import app
from model.config import RunConfig, config_from_table
from model.data.sharded_log import ShardedLog
from model.pipeline import prepare
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


@pytest.mark.parametrize(("key", "value"), [("fresh_negatives", True), ("negative_sampling_rate", 0.5)])
def test_what_needs_the_rows_in_memory_is_refused(log: ShardedLog, config: RunConfig, key: str, value: object) -> None:
    """The setting is named, before anything is trained."""
    asked = dataclasses.replace(config, train=dataclasses.replace(config.train, **{key: value}))

    with pytest.raises(ConfigError, match=f"train.{key}"):
        prepare(log, asked)
