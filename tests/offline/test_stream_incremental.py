"""Going on from a bundle on a log in shards: what is prepared, trained, judged and refused, as with a log in memory."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.bundle.schema import Schema
from model.cli import app
from model.config import read_config
from model.data.assemble import from_interactions
from model.data.batches import encode_split
from model.data.data_config import DataConfig
from model.data.division import LEFT_OUT, SPLITS, divide
from model.data.interactions import Interactions
from model.data.known import Known, extended
from model.data.log import Log
from model.data.out_of_core import Plan, prepare_shards
from model.data.rating_stream import in_pieces
from model.data.reading import Reading
from model.data.sharded_log import ShardedLog, read_sharded_log
from model.data.synthetic import SyntheticConfig, synthesize
from model.data.vocab import fit_encoder, prior_ctr
from model.evaluate import user_activity
from model.run_folder import load_run
from tests.sharded_rows import digest, rows_of

SIZES = SyntheticConfig(users=40, items=60, categories=8, impressions_per_user=20, days=4, launched=0.5)
PLAN = Plan(valid_fraction=0.1, test_fraction=0.1, memory_mb=0.2)
SHOP = """
name = "shop"
net = { kind = "base", head = [8] }
train = { epochs = 1, batch_size = 256, learning_rate = 0.01 }
[data]
DATA
[schema]
max_history = 10
keys = { category = "cate_id" }
item = [{ name = "item_id", dim = 4 }, { name = "cate_id", dim = 4 }]
behavior = [{ shares = "item_id", column = "hist_item_ids" }, { shares = "cate_id", column = "hist_cate_ids" }]
"""
GENERATED = """format = "synthetic"
memory_mb = 1
synthetic = { users = 150, items = 50, categories = 5, impressions_per_user = 40, days = 4, launched = 0.3 }"""


@pytest.fixture(scope="module")
def schema() -> Schema:
    """Every kind of feature."""
    return read_config(Path(__file__).parents[2] / "examples" / "features.toml").schema


@pytest.fixture(scope="module")
def interactions(schema: Schema) -> Interactions:
    return synthesize(SIZES, schema)


@pytest.fixture(scope="module")
def log(interactions: Interactions, schema: Schema) -> Log:
    data = DataConfig(format="synthetic", positive_rating=1.0)
    return from_interactions(interactions, data, schema, file="log", reading=Reading())


@pytest.fixture(scope="module")
def known(log: Log, schema: Schema) -> Known:
    """What the first half of the training rows teaches."""
    half = int(log.train["timestamp"].median())  # type: ignore[arg-type]  # polars types a median by the column
    first = dataclasses.replace(log, train=log.train.filter(pl.col("timestamp") <= half))
    encoder = fit_encoder(first, schema)
    prior = prior_ctr(first, encoder)
    return Known(name="shop", version="v1", digest="d" * 64, encoder=encoder, prior_ctr=prior, last=half)


def prepared(log: Interactions, schema: Schema, out: Path, plan: Plan) -> ShardedLog:
    prepare_shards(in_pieces(log, positive_rating=1.0, rows=173), schema, plan=plan, out=out)
    return read_sharded_log(out, schema, memory_mb=1)


def test_the_rows_are_those_that_a_log_in_memory_goes_on_with(
    interactions: Interactions, log: Log, schema: Schema, known: Known, tmp_path: Path
) -> None:
    """Byte by byte, with the parent's encoder and the new ids behind; old items' click rates move from what they were.

    Rows that the parent has learned are in no split, and in the histories of others.
    """
    later = dataclasses.replace(log, train=log.train.filter(pl.col("timestamp") > known.last))
    encoder = extended(known.encoder, fit_encoder(later, schema))

    sharded = prepared(interactions, schema, tmp_path, dataclasses.replace(PLAN, known=known))

    assert digest(encoder) == digest(sharded.encoder)
    before = known.encoder.vocabularies["item_id"].keys
    now = sharded.encoder.vocabularies["item_id"].keys
    np.testing.assert_array_equal(before, now[: len(before)])
    assert len(now) > len(before)
    np.testing.assert_array_equal(prior_ctr(later, encoder, before=known.prior_ctr), sharded.prior_ctr)
    for name, frame in later.splits().items():
        activity = user_activity(frame, later.train, schema.keys)
        found = next(sharded.split(name).parts())
        assert rows_of(encode_split(frame, encoder), activity) == rows_of(found, sharded.activity(name))


def test_a_log_without_newer_rows_is_refused(interactions: Interactions, schema: Schema, known: Known, tmp_path: Path):
    """With the parent's newest time, and no log is left."""
    late = dataclasses.replace(known, last=2_000_000_000)
    with pytest.raises(ConfigError, match=r"no rows for train.* allowed: training rows after 2033-05-18 03:33:20 UTC"):
        prepared(interactions, schema, tmp_path, dataclasses.replace(PLAN, known=late))
    assert not (tmp_path / "log.json").exists()


def test_the_newest_hours_test_and_drawn_rows_before_them_validate() -> None:
    """Rows that were learned are in neither; who validates does not depend on the piece a row comes in."""
    times, users = np.arange(50_000) * 60, np.random.default_rng(0).integers(1000, size=50_000)
    division = divide(lambda: iter([times[:100], times[100:]]), valid_fraction=0.2, test_fraction=0.5, hours=24)
    split = division(times, users)
    learned = divide(lambda: iter([times]), valid_fraction=0.2, test_fraction=0.5, hours=24, after=600_000)

    assert (split == SPLITS.index("test")).sum() == 24 * 60
    np.testing.assert_array_equal(split == SPLITS.index("test"), times > times[-1] - 86_400)
    earlier = split[times <= times[-1] - 86_400]
    assert abs((earlier == SPLITS.index("valid")).mean() - 0.2) < 0.01
    np.testing.assert_array_equal(split[40_000:], division(times[40_000:], users[40_000:]))
    np.testing.assert_array_equal(np.where(times <= 600_000, LEFT_OUT, split), learned(times, users))


def call(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configurations, and a bundle that the first turn made from three of the four days."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.toml").write_text(SHOP.replace("DATA", GENERATED))
    (folder / "shards.toml").write_text(SHOP.replace("DATA", 'format = "shards"\npath = "day2"'))
    turn = ("--bundles", folder / "bundles", "--run", folder / "run1", "--shards", folder / "day1", "--hours", 36)
    result = call("retrain", folder / "shop.toml", *turn)
    assert result.exit_code == 0, result.output
    assert "stable is " in result.stdout
    prepare = ("prepare", folder / "shop.toml", "--shards", "--from", folder / "bundles", "--out", folder / "day2")
    result = call(*prepare)
    assert result.exit_code == 0
    assert re.search(r"left out: [\d,]+ x training row that the parent has learned", result.stdout)
    return folder


def test_train_goes_on_from_the_bundle_that_the_shards_were_prepared_from(shop: Path) -> None:
    """On the newer rows, with old ids in their places; without it, or from another, the parent is named."""
    train = ("train", shop / "shards.toml", "--out", shop / "run2")
    done = call(*train, "--from", shop / "bundles")
    assert done.exit_code == 0, done.output
    parent, child = read_bundle(shop / "bundles"), load_run(shop / "run2")

    assert child.metrics["parent"]["version"] == parent.manifest.version
    assert child.metrics["window"]["first"] > parent.manifest.training["window"]["last"]
    before = parent.encoder.vocabularies["item_id"].keys
    np.testing.assert_array_equal(before, child.encoder.vocabularies["item_id"].keys[: len(before)])
    refused = {"run1": call(*train, "--from", shop / "run1"), "none": call(*train)}
    for said in refused.values():
        assert said.exit_code == 2
        assert f"parent: found 'shop {parent.manifest.version}" in said.stderr
    assert "allowed: shop (a run), " in refused["run1"].stderr
    assert "trained with --from it" in refused["none"].stderr


def test_shards_of_no_parent_are_not_gone_on_with(shop: Path, tmp_path: Path) -> None:
    """They lack the parent's ids."""
    (tmp_path / "shards.toml").write_text((shop / "shards.toml").read_text().replace("day2", str(shop / "day1")))
    result = call("train", tmp_path / "shards.toml", "--from", shop / "bundles", "--out", tmp_path / "run")

    assert result.exit_code == 2
    assert 'found "none, so the parent\'s ids are not known"' in result.stderr
    assert "prepare --shards --from" in result.stderr


def test_another_schema_is_refused_before_anything_is_read(shop: Path, tmp_path: Path) -> None:
    """As when a log in memory is trained on."""
    (tmp_path / "shop.toml").write_text((shop / "shop.toml").read_text().replace("max_history = 10", "max_history = 9"))
    result = call("prepare", tmp_path / "shop.toml", "--shards", "--from", shop / "bundles", "--out", tmp_path / "out")
    in_memory = call("prepare", shop / "shop.toml", "--from", shop / "bundles", "--out", tmp_path / "out")

    assert (result.exit_code, in_memory.exit_code) == (2, 2)
    assert "schema.max_history: found 9, allowed: 10, as in the parent" in result.stderr
    assert "with --shards" in in_memory.stderr
    assert not (tmp_path / "out").exists()


def test_guard_judges_a_log_in_pieces_as_in_memory(shop: Path, tmp_path: Path) -> None:
    """The same rows and figures of both nets, each with its own encoder; nothing is left in the folder."""
    ask = ("guard", shop / "run1", shop / "bundles", "--config", shop / "shop.toml", "--hours", 6, "--json")
    tolerance = ("--auc-tolerance", 1, "--log-loss-tolerance", 1)
    in_memory, in_pieces = (json.loads(call(*ask, *tolerance, *how).stdout) for how in ((), ("--shards", tmp_path)))

    for one, other in zip(in_memory["comparison"]["runs"], in_pieces["comparison"]["runs"], strict=True):
        assert one["rows"] == other["rows"] > 100
        for name, figure in one["metrics"].items():
            assert figure["value"] == pytest.approx(other["metrics"][name]["value"], abs=1e-5), name
    assert not list(tmp_path.iterdir())
    shards = call("guard", shop / "run1", shop / "bundles", "--config", shop / "shards.toml")
    assert shards.exit_code == 2
    assert "read it out of core with --shards" in shards.stderr


def test_the_second_turn_goes_on_from_the_first(shop: Path, tmp_path: Path) -> None:
    """It learns the rows in between and is judged on all of the newest ones; refused, it leaves a run and no bundle."""
    turn = ("--bundles", shop / "bundles", "--run", tmp_path / "run", "--shards", tmp_path / "shards", "--hours", 30)
    before = sorted(path.name for path in (shop / "bundles").iterdir())
    result = call("retrain", shop / "shop.toml", *turn, "--auc-tolerance", -0.5)
    first, second = read_bundle(shop / "bundles").manifest, load_run(tmp_path / "run").metrics

    assert result.exit_code == 1, result.output
    assert f"going on from shop {first.version}" in result.stdout
    assert f"newest day, {int(second['splits']['test']['rows']):,} rows" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("refused: AUC is worse by ")
    assert sorted(path.name for path in (shop / "bundles").iterdir()) == before
    assert second["parent"]["version"] == first.version
    assert second["window"]["first"] > first.training["window"]["last"]
    assert {"valid", "test"} == set(second["splits"])
    assert not list((tmp_path / "shards").glob(".*"))
