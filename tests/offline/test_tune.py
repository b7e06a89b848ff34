"""A search over settings: what may vary, what is tried, and that a break changes nothing."""

import dataclasses
import json
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from model.bundle.errors import ConfigError
from model.cli import app
from model.config import RunConfig, config_from_table, read_config
from model.data.log import DataConfig, Log
from model.data.synthetic import synthetic_schema
from model.pipeline import Prepared, prepare, run_training
from model.search_space import USUAL, Choices, Range, read_space
from model.train_config import TrainConfig
from model.training import Step
from model.tune import STUDY, Outcome, Search
from model.tune_config import TuneConfig

SPACE = {
    "train.learning_rate": {"low": 1e-3, "high": 0.05, "log": True},
    "train.batch_size": {"low": 64, "high": 128},
    "net.head": {"choices": [[8], [4, 4]]},
}
TRAIN = TrainConfig(epochs=1, batch_size=128, evaluations_per_epoch=2, patience=9)


def config_with(space: dict[str, Any], *, trials: int = 4, **tune: Any) -> RunConfig:
    return RunConfig(
        name="small",
        data=DataConfig(format="synthetic"),
        schema=synthetic_schema(),
        net={"kind": "base", "head": [8]},
        train=TRAIN,
        base=Path(),
        tune=TuneConfig(trials=trials, space=space, **tune),
    )


@pytest.fixture(scope="module")
def prepared(small_log: Log) -> Prepared:
    return prepare(small_log, config_with(SPACE))


@contextmanager
def opened(folder: Path, config: RunConfig, prepared: Prepared) -> Iterator[Search]:
    search = Search(folder, config, read_space(config, file="shop.toml"), prepared)
    try:
        yield search
    finally:
        search.close()


def searched(
    folder: Path, config: RunConfig, prepared: Prepared, report: Callable[[Step], None] = lambda step: None
) -> tuple[bool, list[Outcome]]:
    """Whether it came to its end, and all trials that are over."""
    with opened(folder, config, prepared) as search:
        return search.run(lambda: nullcontext(report), lambda outcome: None), search.outcomes()


@pytest.mark.parametrize(
    ("key", "entry", "said"),
    [
        (
            "train.lr",
            {"low": 0, "high": 1},
            r'tune\.space\."train\.lr": found .*allowed: one of net\.activation, .*train',
        ),
        ("train.seed", {"choices": [1, 2]}, r'"train\.seed": found .*allowed: one of'),
        ("train.negative_sampling_rate", {"low": 0.1, "high": 1}, r'"train\.negative_sampling_rate": found .*one of'),
        ("net.attention", {"choices": [[8], [9]]}, r'"net\.attention": found .*allowed: one of'),
        ("net.dropout", {"low": 0.1}, r"allowed: \{ low = \.\.\., high = \.\.\. \}"),
        ("net.dropout", 0.1, r"found 0\.1, allowed: \{ low"),
        ("net.dropout", {"low": 0.1, "high": 0.95}, r"tune\.space\.net\.dropout: found 0\.95, allowed: .*<= 0\.9"),
        ("net.dropout", {"low": 0.3, "high": 0.2}, r'"net\.dropout"\.high: found 0\.2, allowed: more than low, 0\.3'),
        ("net.dropout", {"low": 0, "high": 0.2, "log": True}, r"\.low: found 0\.0, allowed: above 0, because log"),
        ("net.dropout", {"low": 0, "high": 0.2, "step": 1}, r"step: found 'step', allowed: one of low, high, log"),
        ("net.head", {"low": 1, "high": 2}, r"allowed: \{ choices = \[\.\.\.\] \}: it is no number"),
        ("net.head", {"choices": [[8], []]}, r"tune\.space\.net\.head: found \[\], allowed: layer sizes"),
        ("net.activation", {"choices": ["dice", "relu"]}, r"net\.activation: found 'relu', allowed: one of 'dice'"),
        ("train.epochs", {"low": 1.5, "high": 3}, r"allowed: integers"),
        ("train.epochs", {"low": 0, "high": 3}, r"tune\.space\.train\.epochs: found 0, allowed: >= 1"),
        ("train.batch_size", {"choices": [64]}, r"choices: found \[64\], allowed: two or more"),
    ],
)
def test_a_wrong_space_is_refused(key: str, entry: object, said: str):
    """Before anything is trained, with the key and what is allowed."""
    with pytest.raises(ConfigError, match=rf"^shop\.toml: .*{said}"):
        read_space(config_with({key: entry}), file="shop.toml")


def test_without_a_space_the_usual_settings_vary():
    """Each of them is one that every net has."""
    space = read_space(config_with({}), file="shop.toml")
    assert list(space) == list(USUAL)
    assert space["train.learning_rate"] == Range(low=3e-4, high=1e-2, log=True)
    assert isinstance(space["net.head"], Choices)


def test_the_toml_file_may_have_the_table():
    """And its own keys are checked like any other's."""
    table = tomllib.loads("""
        name = "small"
        data = { format = "synthetic" }
        net = { kind = "base" }
        [schema]
        item = [{ name = "item_id" }]
        behavior = [{ shares = "item_id", column = "hist" }]
        [tune]
        trials = 3
        pruner = "hyperband"
        space."net.dropout" = { low = 0.0, high = 0.5 }
    """)
    found = config_from_table(table, file="shop.toml", base=Path()).tune
    assert found == TuneConfig(trials=3, pruner="hyperband", space={"net.dropout": {"low": 0.0, "high": 0.5}})
    table["tune"]["pruner"] = "sha"
    with pytest.raises(ConfigError, match=r"tune\.pruner: found 'sha', allowed: one of 'median', 'hyperband', 'none'"):
        config_from_table(table, file="shop.toml", base=Path())


def test_a_search_that_is_interrupted_tries_the_same_as_one_that_is_not(prepared: Prepared, tmp_path: Path):
    """Ctrl-C in the third trial, and a process that dies in the fourth: all is as in a whole search."""
    config = config_with(SPACE, trials=5)
    steps: list[Step] = []

    def stop_in(trial: int, error: type[BaseException]) -> Callable[[Step], None]:
        begun = 0

        def report(step: Step) -> None:
            nonlocal begun
            begun += step.done <= 128
            if begun == trial:
                raise error

        return report

    whole, expected = searched(tmp_path / "whole", config, prepared, steps.append)
    first, some = searched(tmp_path / "cut", config, prepared, stop_in(3, KeyboardInterrupt))
    with pytest.raises(SystemExit):
        searched(tmp_path / "cut", config, prepared, stop_in(2, SystemExit))
    last, found = searched(tmp_path / "cut", config, prepared)

    assert (whole, first, last) == (True, False, True)
    assert len(some) == 2
    assert [(o.chosen, o.auc, o.state) for o in found] == [(o.chosen, o.auc, o.state) for o in expected]
    assert len({o.auc for o in expected}) > 1
    assert all(64 <= o.chosen["train.batch_size"] <= 128 for o in expected)
    assert all(o.chosen["net.head"] in ([8], [4, 4]) for o in expected)
    assert all(step.auc != step.auc or 0 < step.auc < 1 for step in steps)


def test_a_hopeless_trial_is_pruned(prepared: Prepared, tmp_path: Path):
    """One that learns nothing ends before its last evaluation, and is never the best."""
    config = config_with({"train.learning_rate": {"choices": [0.05, 0.04, 0.03, 1e-7]}}, trials=10)
    config = dataclasses.replace(config, train=dataclasses.replace(TRAIN, epochs=3, evaluations_per_epoch=1))
    _, outcomes = searched(tmp_path, config, prepared)
    pruned = [outcome for outcome in outcomes if outcome.state == "pruned"]

    assert {outcome.chosen["train.learning_rate"] for outcome in pruned} >= {1e-7}
    with opened(tmp_path, config, prepared) as search:
        best = search.best()
    assert best is not None
    assert best.auc == max(outcome.auc for outcome in outcomes if outcome.state == "complete")


def test_a_study_of_something_else_is_not_gone_on_with(prepared: Prepared, small_log: Log, tmp_path: Path):
    """Another space, another setting or another log is named; more trials are no other study."""
    config = config_with(SPACE, trials=1)
    searched(tmp_path, config, prepared)
    other_space = config_with({**SPACE, "net.head": {"choices": [[8], [9]]}})
    other_train = dataclasses.replace(config, train=dataclasses.replace(TRAIN, epochs=2))
    shorter = prepare(dataclasses.replace(small_log, train=small_log.train[:-1]), config)

    for changed, rows, said in (
        (other_space, prepared, r"tune\.space\.net\.head: .*allowed: .*\[4, 4\]"),
        (other_train, prepared, r"train\.epochs: found 2, allowed: 1, as in the trials that are there"),
        (config, shorter, r"data\.train"),
    ):
        with pytest.raises(ConfigError, match=said), opened(tmp_path, changed, rows):
            pass
    assert len(searched(tmp_path, config_with(SPACE, trials=2), prepared)[1]) == 2


def test_a_file_that_is_no_study_is_named(prepared: Prepared, tmp_path: Path):
    """Garbage in its place."""
    (tmp_path / STUDY).write_bytes(b"no database" * 100)
    with (
        pytest.raises(ConfigError, match=r"study\.db: \(file\): .*allowed: a study of"),
        opened(tmp_path, config_with(SPACE), prepared),
    ):
        pass


def call(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def test_the_best_settings_are_a_training_file(tmp_path: Path):
    """`train` takes it and reaches the AUC of the best trial; the log's path still leads to the log."""
    text = """
        name = "tiny"
        data = { format = "synthetic", synthetic = { users = 60, items = 50, categories = 5 } }
        net = { kind = "din", head = [8], din = { attention = [4] } }
        train = { epochs = 1, batch_size = 256 }
        [schema]
        max_history = 10
        item = [{ name = "item_id", dim = 4 }]
        behavior = [{ shares = "item_id", column = "hist_item_ids" }]
        [tune]
        trials = 3
        space."train.learning_rate" = { low = 1e-3, high = 0.05, log = true }
        space."net.attention" = { choices = [[4], [8]] }
    """
    config = tmp_path / "tiny.toml"
    config.write_text(text)
    assert call("prepare", config, "--out", tmp_path / "log").exit_code == 0
    task = tmp_path / "task.toml"
    head, _, tail = text.partition("data = ")
    task.write_text(head + 'data = { format = "task", path = "log" }\n' + tail.partition("\n")[2])
    done = call("tune", task, "--out", tmp_path / "study" / "one")
    assert done.exit_code == 0, done.output
    again = call("tune", task, "--out", tmp_path / "study" / "one")
    best = read_config(tmp_path / "study" / "one" / "best.toml")
    assert call("train", tmp_path / "study" / "one" / "best.toml", "--out", tmp_path / "run").exit_code == 0
    auc = json.loads((tmp_path / "run" / "metrics.json").read_text())["splits"]["valid"]["auc"]

    assert "a new study of 3; seed 0, pruner median" in done.stdout.replace("\n", " ")
    assert "3 trials: " in done.stdout
    assert "going on after 3 trials of 3" in again.stdout
    assert f"{auc:.4f}" in done.stdout
    assert best.train.batch_size == 256
    assert best.net["attention"] in ([4], [8])
    assert best.tune == TuneConfig()
    assert call("tune", task, "--out", tmp_path / "other", "--net", "base").exit_code == 2  # it has no attention


def test_a_search_changes_nothing_outside(prepared: Prepared, small_log: Log, tmp_path: Path):
    """Training after a search gives the run that it gives without one."""
    config = config_with(SPACE, trials=1)
    before = run_training(small_log, prepared, config)[1].best_auc
    searched(tmp_path, config, prepared)
    assert run_training(small_log, prepared, config)[1].best_auc == before
