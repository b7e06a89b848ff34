"""The guard refuses a net that is worse on the newest day; the daily turn goes on from the last bundle and obeys it."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from model.bundle.calibration import Calibration
from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.bundle.pointers import CANARY, STABLE, read_pointer
from model.cli import app
from model.compare import ComparedRun
from model.data.log import Log
from model.guard import Tolerance, judge, open_contender
from model.newest_day import by_newest_hours, newest
from model.predictions import Predictions

CONFIG = """
name = "shop"
net = { kind = "base", head = [8] }
train = { epochs = 1, batch_size = 256, learning_rate = 0.01 }
[data]
format = "synthetic"
synthetic = { users = 150, items = 50, categories = 5, impressions_per_user = 40, days = 4, launched = 0.3 }
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "hist_item_ids" }, { shares = "cate_id", column = "hist_cate_ids" }]
"""


def call(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def scored(logit: np.ndarray, label: np.ndarray) -> ComparedRun:
    """Scores of ten rows per user."""
    rows = np.arange(len(label))
    columns = {"user": rows // 10, "timestamp": rows, "length": rows % 3, "activity": rows * 0}
    predictions = Predictions(label=label.astype(np.float32), logit=logit.astype(np.float32), **columns)
    return ComparedRun(name="one", config={"net": {"kind": "din"}}, calibration=Calibration(), rows=predictions)


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, np.ndarray]:
    """Logits of 4,000 rows, and clicks drawn by them."""
    rng = np.random.default_rng(0)
    logit = rng.normal(size=4000) - 1
    return logit, (rng.random(4000) < 1 / (1 + np.exp(-logit))).astype(float)


def test_an_equal_net_passes_and_a_worse_one_does_not(truth: tuple[np.ndarray, np.ndarray]):
    """Noise on the scores costs AUC and log loss; scores that are too high by a constant cost log loss alone."""
    logit, label = truth
    old, noise = scored(logit, label), np.random.default_rng(1).normal(size=len(label))

    assert judge(scored(logit, label), old, Tolerance()).reasons == []
    worse = judge(scored(logit + noise, label), old, Tolerance()).reasons
    assert [reason.split(" is worse by ")[0] for reason in worse] == ["AUC", "log loss"]
    (shifted,) = judge(scored(logit + 1, label), old, Tolerance()).reasons
    assert shifted.startswith("log loss is worse by 0.09")
    assert judge(old, scored(logit + noise, label), Tolerance()).reasons == []


def test_the_tolerance_decides(truth: tuple[np.ndarray, np.ndarray]):
    """The same loss is refused or not, by what is allowed; a small day is called small."""
    logit, label = truth
    slightly = scored(logit + 0.3 * np.random.default_rng(1).normal(size=len(label)), label)
    old = scored(logit, label)
    difference = judge(slightly, old, Tolerance()).comparison["runs"][1]["difference"]
    lost = -difference["auc"]["value"]

    assert lost > 0.003
    assert judge(slightly, old, Tolerance(auc=lost - 0.001, log_loss=1)).reasons != []
    allowed = judge(slightly, old, Tolerance(auc=lost + 0.0005, log_loss=1))
    assert allowed.reasons == []
    assert ["4,000 rows are few" in doubt for doubt in allowed.unsure] == [True]


def test_scores_that_are_no_numbers_are_refused(truth: tuple[np.ndarray, np.ndarray]):
    """NaN never passes."""
    logit, label = truth
    broken = logit.copy()
    broken[7] = np.nan
    assert "AUC is no number" in judge(scored(broken, label), scored(logit, label), Tolerance()).reasons


@pytest.mark.parametrize("click", [0.0, 1.0])
def test_a_day_of_one_class_is_an_error(truth: tuple[np.ndarray, np.ndarray], click: float):
    """It cannot tell anything."""
    one = scored(truth[0], np.full(4000, click))
    with pytest.raises(ConfigError, match=r"the newest day: label: found '\d+ clicks in 4000 rows'"):
        judge(one, one, Tolerance())


def test_the_newest_hours_test_and_rows_spread_before_them_validate(small_log: Log):
    """Every row is in one split; those that validate are of all hours; rows that the parent has learned are in none."""
    day = {"timestamp": "timestamp", "hours": 24, "valid_fraction": 0.2}
    whole = sum(map(len, small_log.splits().values()))
    split = by_newest_hours(small_log, **day)
    train, valid, test = (split.splits()[name]["timestamp"] for name in ("train", "valid", "test"))

    assert len(train) + len(valid) + len(test) == whole
    assert max(train.max(), valid.max()) <= test.max() - 86_400 < test.min()
    assert len(valid) == pytest.approx(0.2 * (len(train) + len(valid)), abs=1)
    assert set(valid // 3600 % 24) == set(range(24))
    assert newest(small_log.test, timestamp="timestamp", hours=24).equals(split.test.select(small_log.test.columns))
    later = by_newest_hours(small_log, **day, after=train[len(train) // 2])
    assert later.train["timestamp"].min() > train[len(train) // 2]
    with pytest.raises(ConfigError, match=r"no rows for train .*later than 2000000000, up to where the parent"):
        by_newest_hours(small_log, **day, after=2_000_000_000)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration, and a bundle that the first turn made from three of the four days."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.toml").write_text(CONFIG)
    result = call(
        "retrain", folder / "shop.toml", "--bundles", folder / "bundles", "--run", folder / "run1", "--hours", 36
    )
    assert result.exit_code == 0, result.output
    assert "stable is " in result.stdout
    return folder


@pytest.fixture
def place(shop: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(shop, tmp_path / "shop"))


def test_the_second_turn_goes_on_from_the_first(place: Path):
    """It learns the rows in between, is judged on the newest ones, names its parent, and becomes the canary."""
    first = read_bundle(place / "bundles").manifest
    turn = ("retrain", place / "shop.toml", "--bundles", place / "bundles", "--run", place / "run2", "--hours", 12)
    result = call(*turn, "--auc-tolerance", 0.5, "--log-loss-tolerance", 1)
    assert result.exit_code == 0, result.output
    second = read_bundle(place / "bundles" / CANARY).manifest

    assert f"going on from shop {first.version}" in result.stdout
    assert read_pointer(place / "bundles", STABLE) == first.version
    assert second.training["parent"]["version"] == first.version
    assert second.training["window"]["first"] > first.training["window"]["last"]
    assert {"valid", "test"} == set(second.metrics)
    again = call(*turn[:-2], "--hours", 36)
    assert again.exit_code == 2
    assert "no rows for train" in again.stderr


def test_train_from_a_bundle(shop: Path, tmp_path: Path):
    """`--from` goes on from it on the rows after its newest one; another net is refused before anything is trained."""
    config = tmp_path / "shop.toml"
    config.write_text(CONFIG)
    done = call("train", config, "--from", shop / "bundles", "--out", tmp_path / "run")
    other = call("train", config, "--from", shop / "bundles", "--out", tmp_path / "no", "--net", "din")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())

    assert done.exit_code == 0, done.output
    assert metrics["parent"]["name"] == "shop"
    assert metrics["window"]["first"] > read_bundle(shop / "bundles").manifest.training["window"]["last"]
    assert (other.exit_code, (tmp_path / "no").exists()) == (2, False)
    assert "found 'din', allowed: 'base', as in the parent" in other.stderr


def test_a_worse_net_is_refused_and_nothing_written(place: Path):
    """The very next turn, with a tolerance that nothing meets: exit code 1, the reason, no bundle, no pointer."""
    before = sorted(path.name for path in (place / "bundles").iterdir())
    turn = ("retrain", place / "shop.toml", "--bundles", place / "bundles", "--run", place / "run2", "--hours", 12)
    result = call(*turn, "--auc-tolerance", -0.5)

    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines()[-1].startswith("refused: AUC is worse by ")
    assert sorted(path.name for path in (place / "bundles").iterdir()) == before


def test_guard_compares_a_run_with_the_bundle_made_from_it(place: Path):
    """Eager net and graphs score the same rows alike, so it passes; a spoiled run does not, and JSON says so too."""
    ask = ("guard", place / "run1", place / "bundles", "--config", place / "shop.toml", "--hours", 6, "--json")
    found = json.loads(call(*ask).stdout)
    auc = found["comparison"]["runs"][1]["difference"]["auc"]
    weights = load_file(place / "run1" / "weights.safetensors")
    weights["embedding.tables.cate_id.weight"] *= -3
    save_file(weights, place / "run1" / "weights.safetensors")
    spoiled = call(*ask)

    assert found["passed"]
    assert abs(auc["value"]) < 1e-5
    assert spoiled.exit_code == 1
    assert not json.loads(spoiled.stdout)["passed"]


def test_guard_promotes_a_bundle_that_passes(place: Path):
    """`canary` names it; a run has no version that a pointer could name."""
    version = read_pointer(place / "bundles", STABLE)
    ask = ("--config", place / "shop.toml", "--hours", 6, "--promote", "canary")
    done = call("guard", place / "bundles" / str(version), *ask)
    run = call("guard", place / "run1", place / "bundles", *ask)

    assert (done.exit_code, read_pointer(place / "bundles", CANARY)) == (0, version)
    assert done.stdout.splitlines()[-1] == f"canary is {version}"
    assert (run.exit_code, "manifest.json: not found" in run.stderr) == (2, True)


def test_a_contender_is_not_judged_on_what_it_learned(shop: Path, small_log: Log):
    """Rows of its training window, or without a column that it reads, are refused."""
    contender = open_contender(shop / "bundles")
    with pytest.raises(ConfigError, match=r"allowed: rows after \d+, up to which shop .* was trained"):
        dataclasses.replace(contender, last=2_000_000_000).scored(small_log.test)
    with pytest.raises(ConfigError, match=r"column hist_cate_ids: found 'no such column'"):
        contender.scored(small_log.test.drop("hist_cate_ids"))
    assert len(contender.scored(small_log.test.with_columns(pl.col("timestamp") + 10**8)).rows) == len(small_log.test)
