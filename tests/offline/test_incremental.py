"""Going on from a run or a bundle: what is kept, what is added, what is refused."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
import torch

from model.bundle.errors import BundleError, ConfigError
from model.bundle.folder import read_bundle, write_bundle
from model.bundle.raw import Lists
from model.bundle.schema import Feature, Keys, Schema, Sequence
from model.bundle_weights import WEIGHTS
from model.config import RunConfig
from model.data.log import DataConfig, Log, read_log
from model.data.synthetic import SyntheticConfig
from model.data.vocab import prior_ctr
from model.incremental import Parent, check_parent, newer, read_parent
from model.nets import build_net
from model.pipeline import checkpoints_of, prepare, run_training
from model.publish import publish
from model.run_folder import TrainedRun, save_run, vocabulary_sizes
from model.train_config import TrainConfig

SCHEMA = Schema(
    user=(Feature(name="segment", dtype="str", dim=2),),
    item=(
        Feature(name="item_id", dim=4),
        Feature(name="cate_id", dim=4),
        Feature(name="tags", kind="multi", dim=2),
        Feature(name="price", kind="dense"),
    ),
    context=(Feature(name="device", dtype="str", dim=2, hash_buckets=20),),
    behavior=(Sequence(shares="item_id", column="hist_item_ids"),),
    keys=Keys(category="cate_id"),
    max_history=10,
)
SIZES = SyntheticConfig(users=120, items=80, categories=6, impressions_per_user=40, days=4, launched=0.5)
CONFIG = RunConfig(
    name="shop",
    data=DataConfig(format="synthetic", synthetic=SIZES),
    schema=SCHEMA,
    net={"kind": "wide_deep", "head": [8], "factors": 2},
    train=TrainConfig(epochs=1, batch_size=256, learning_rate=0.01),
    base=Path(),
)


class Days(NamedTuple):
    """The whole log, the run of its first half, and the same as a parent read from that run and from its bundle."""

    log: Log
    run: TrainedRun
    run_folder: Path
    bundle: Path


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    folder = tmp_path_factory.mktemp("days")
    log = read_log(CONFIG.data, SCHEMA, base=Path())
    half = log.train["timestamp"].median()
    first = dataclasses.replace(log, train=log.train.filter(pl.col("timestamp") <= half))
    first = dataclasses.replace(
        first, items=log.items.filter(pl.col("item_id").is_in(first.train["item_id"].implode()))
    )
    run, _ = run_training(first, prepare(first, CONFIG), CONFIG)
    save_run(folder / "run", run)
    bundle = publish(run, folder / "bundles", version="v1", code_version="test")
    return Days(log, run, folder / "run", bundle)


def child_of(parent: Parent, days: Days) -> TrainedRun:
    later = newer(days.log, parent, timestamp="timestamp")
    return run_training(later, prepare(later, CONFIG, parent=parent), CONFIG)[0]


def test_a_bundle_gives_back_the_weights_of_its_run(days: Days):
    """Every weight bit for bit, tables that lie in files of their own included; so does the run's folder."""
    expected = days.run.net.state_dict()
    for path in (days.bundle, days.run_folder):
        found = read_parent(path).weights
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    tables = sum(path.stat().st_size for path in (days.bundle / "tables").iterdir())
    assert (days.bundle / WEIGHTS).stat().st_size < tables


def test_old_ids_keep_their_index_and_new_ones_come_behind(days: Days):
    """In every vocabulary, texts too; hash buckets and what was fitted to numbers stay; the catalogue has all items."""
    parent = read_parent(days.bundle)
    later = newer(days.log, parent, timestamp="timestamp")
    encoder = prepare(later, CONFIG, parent=parent).encoder

    for name in ("item_id", "cate_id", "segment", "tags"):
        before, now = parent.encoder.vocabularies[name].keys, encoder.vocabularies[name].keys
        np.testing.assert_array_equal(now[: len(before)], before)
        assert len(np.unique(now)) == len(now)
    new = set(later.train["item_id"]) - set(parent.encoder.vocabularies["item_id"].keys.tolist())
    assert len(new) > 10
    assert set(encoder.vocabularies["item_id"].keys[-len(new) :].tolist()) == new
    assert encoder.scalings == parent.encoder.scalings
    assert sorted(encoder.catalogue.ids) == sorted(days.log.items["item_id"])


def test_an_item_that_the_new_days_do_not_tell_of_stays_in_the_catalogue(days: Days):
    """With its values, lists included; what the new days say of another counts."""
    parent = read_parent(days.bundle)
    gone, changed = parent.encoder.catalogue.ids[:2].tolist()
    items = days.log.items.filter(pl.col("item_id") != gone)
    items = items.with_columns(pl.when(pl.col("item_id") == changed).then(99.0).otherwise("price").alias("price"))
    later = newer(dataclasses.replace(days.log, items=items), parent, timestamp="timestamp")
    catalogue = prepare(later, CONFIG, parent=parent).encoder.catalogue

    at = catalogue.ids.tolist().index(gone)
    tags, before = catalogue.columns["tags"], parent.encoder.catalogue.columns["tags"]
    assert isinstance(tags, Lists)
    assert isinstance(before, Lists)
    assert tags.rows(np.array([at])) == before.rows(np.array([0]))
    assert catalogue.columns["price"][at] == parent.encoder.catalogue.columns["price"][0]
    assert catalogue.columns["price"][catalogue.ids.tolist().index(changed)] == 99.0


def test_training_begins_with_the_parents_weights(days: Days):
    """With a learning rate of nothing every old weight is as it was, and a new id has the row of a fresh net."""
    parent = read_parent(days.bundle)
    still = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, learning_rate=0.0))
    later = newer(days.log, parent, timestamp="timestamp")
    prepared = prepare(later, still, parent=parent)
    run, _ = run_training(later, prepared, still)
    with torch.random.fork_rng():
        torch.manual_seed(still.train.seed)
        fresh = build_net(still.net, SCHEMA, vocabulary_sizes(prepared.encoder), file="config").state_dict()

    state = run.net.state_dict()
    for name, weight in parent.weights.items():
        if not name.endswith(("mean", "variance")):  # Dice's averages follow what is seen
            assert torch.equal(state[name][: len(weight)], weight), name
            assert torch.equal(state[name][len(weight) :], fresh[name][len(weight) :]), name
    assert len(state["embedding.tables.item_id.weight"]) > len(parent.weights["embedding.tables.item_id.weight"])


def test_the_child_learns_and_names_its_parent(days: Days, tmp_path: Path):
    """Name, version and digest are in its figures, and a run can be a parent again."""
    parent = read_parent(days.bundle)
    child = child_of(parent, days)
    save_run(tmp_path, child)

    assert child.metrics["parent"] == parent.to_table()
    assert (parent.name, parent.version, len(parent.digest)) == ("shop", "v1", 64)
    assert child.metrics["window"]["first"] > parent.last
    assert read_parent(tmp_path).last == days.log.train["timestamp"].max()
    assert not torch.equal(child.net.state_dict()["head.bias"], parent.weights["head.bias"])
    assert "parent" not in read_bundle(days.bundle).manifest.training


def test_an_old_items_click_rate_is_smoothed_towards_what_it_was(days: Days):
    """An item that is not shown any more keeps its prior click rate; one that is shown moves from there."""
    parent = read_parent(days.bundle)
    gone, shown = parent.encoder.vocabularies["item_id"].keys[-2:].tolist()
    later = newer(days.log, parent, timestamp="timestamp")
    later = dataclasses.replace(later, train=later.train.filter(pl.col("item_id") != gone))
    encoder = prepare(later, CONFIG, parent=parent).encoder
    index = encoder.vocabularies["item_id"].lookup(np.array([gone, shown]))
    labels = later.train.filter(pl.col("item_id") == shown)["label"]
    expected = (labels.sum() + 20 * parent.prior_ctr[index[1]]) / (len(labels) + 20)

    found = prior_ctr(later, encoder, before=parent.prior_ctr)
    assert len(labels) > 0
    np.testing.assert_allclose(found[index], [parent.prior_ctr[index[0]], expected], rtol=1e-6)


def test_a_log_without_newer_rows_is_refused(days: Days):
    """The message has both times."""
    parent = dataclasses.replace(read_parent(days.bundle), last=2_000_000_000)
    with pytest.raises(ConfigError, match=r"newest 2023-.*allowed: training rows after 2033-05-18 03:33:20 UTC"):
        newer(days.log, parent, timestamp="timestamp")


@pytest.mark.parametrize(
    ("schema", "net", "said"),
    [
        ({"max_history": 11}, {}, r"schema\.max_history: found 11, allowed: 10, as in the parent"),
        ({}, {"head": [9]}, r"net\.head: found \[9\], allowed: \[8\]"),
        ({}, {"dropout": 0.5}, r"net\.dropout: found 0\.5, allowed: 0\.0"),
        (
            {"item": (Feature(name="item_id", dim=5), *SCHEMA.item[1:])},
            {},
            r"schema\.item\[0\]\.dim: found 5, allowed: 4",
        ),
        ({"user": ()}, {}, r"schema\.user.* found \[?\w*\]?, allowed: .*, as in the parent"),
    ],
)
def test_another_schema_or_net_is_refused(days: Days, schema: dict, net: dict, said: str):
    """The first key that differs is named, with both values."""
    other = dataclasses.replace(CONFIG, schema=dataclasses.replace(SCHEMA, **schema), net={**CONFIG.net, **net})
    with pytest.raises(ConfigError, match=said):
        check_parent(read_parent(days.bundle), other)


def test_a_bundle_without_weights_is_refused(days: Days, tmp_path: Path):
    """One of an older release says what can be done instead."""
    old = read_bundle(days.bundle)
    files = {name: raw for name, raw in old.files.items() if name != WEIGHTS}
    path = write_bundle(tmp_path, old.manifest, files)
    with pytest.raises(BundleError, match=r"weights\.safetensors: not in the bundle.*from the run"):
        read_parent(path)


def test_a_checkpoint_of_another_parent_is_not_gone_on_with(days: Days):
    """Which parent it was is part of what a run is."""
    parent = read_parent(days.bundle)
    later = newer(days.log, parent, timestamp="timestamp")
    found = [
        checkpoints_of(prepare(later, CONFIG, parent=one), CONFIG, folder=Path(), resume=False)._identity["parent"]
        for one in (parent, dataclasses.replace(parent, digest="other"))
    ]
    assert found == [parent.digest, "other"]
