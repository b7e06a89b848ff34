"""From a log to a trained run: something is learned, nothing from the future."""

import numpy as np
import polars as pl
import pytest

from model.bundle.distribution import EDGES
from model.bundle.schema import UNKNOWN, Feature, Keys, Schema, Sequence
from model.config import RunConfig
from model.data.columns import item_columns
from model.data.log import DataConfig, Log, read_log
from model.data.synthetic import SyntheticConfig
from model.metrics import auc
from model.pipeline import Prepared, prepare, run_training
from model.run_folder import TrainedRun
from model.train_config import TrainConfig
from model.training import Training

SCHEMA = Schema(
    item=(Feature(name="item_id", dim=8), Feature(name="cate_id", dim=8)),
    behavior=(
        Sequence(shares="item_id", column="hist_item_ids"),
        Sequence(shares="cate_id", column="hist_cate_ids"),
    ),
    keys=Keys(category="cate_id"),
    max_history=10,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A narrow DIN on 12,000 impressions, a few seconds."""
    sizes = SyntheticConfig(users=300, items=60, categories=8, impressions_per_user=40)
    return RunConfig(
        name="small",
        data=DataConfig(format="synthetic", synthetic=sizes),
        schema=SCHEMA,
        net={"kind": "din", "attention": [16], "head": [32], "softmax": True},
        train=TrainConfig(epochs=4, batch_size=256, learning_rate=0.01),
        base=tmp_path_factory.mktemp("base"),
    )


@pytest.fixture(scope="module")
def log(config: RunConfig) -> Log:
    return read_log(config.data, config.schema, base=config.base)


@pytest.fixture(scope="module")
def prepared(log: Log, config: RunConfig) -> Prepared:
    return prepare(log, config)


@pytest.fixture(scope="module")
def trained(log: Log, prepared: Prepared, config: RunConfig) -> tuple[TrainedRun, Training]:
    return run_training(log, prepared, config)


def test_din_beats_popularity_and_not_the_truth(
    log: Log, prepared: Prepared, trained: tuple[TrainedRun, Training]
) -> None:
    """On validation: the item's prior click rate < DIN < the probability that drew the clicks."""
    run, training = trained
    assert log.bayes_auc is not None
    shown = run.encoder.vocabularies["item_id"].lookup(log.valid["item_id"].to_numpy())
    popularity = auc(prepared.valid.label, run.prior_ctr[shown])

    assert popularity + 0.03 < training.best_auc < log.bayes_auc["valid"]
    assert run.metrics["splits"]["valid"]["auc"] == training.best_auc


def test_the_run_tells_its_window_and_its_scores(
    log: Log, prepared: Prepared, trained: tuple[TrainedRun, Training]
) -> None:
    """First and last training time, and a histogram over [0, 1] that holds every validation row."""
    metrics = trained[0].metrics
    times = log.train["timestamp"]

    assert metrics["window"] == {"first": times.min(), "last": times.max(), "rows": len(log.train)}
    assert sum(metrics["score_distribution"]["counts"]) == len(prepared.valid)
    assert {0.0, *EDGES, 1.0} <= set(metrics["score_distribution"]["edges"])


def test_golden_rows_are_16_users_by_8_candidates(prepared: Prepared, trained: tuple[TrainedRun, Training]) -> None:
    """From an empty history to the longest; each user's second candidate is an item that nobody knows."""
    golden = trained[0].golden

    assert golden["item_sparse"].shape == (16, 8, 2)
    assert golden["history_len"].min() == 0
    assert golden["history_len"].max() == prepared.valid.lengths.max() == SCHEMA.max_history
    assert (golden["history"][0] == 0).all()
    assert (golden["item_sparse"][:, 1] == UNKNOWN).all()
    assert (golden["item_sparse"][:, 2:, 0] != UNKNOWN).mean() > 0.9


def test_nothing_is_learned_from_valid_and_test(log: Log, config: RunConfig, prepared: Prepared) -> None:
    """Renaming an item in the later splits makes it unknown there and changes nothing that was fitted."""
    new, old = 10**12, log.test["item_id"][0]
    renamed = {
        name: frame.with_columns(pl.col("item_id").replace(old, new))
        for name, frame in (("valid", log.valid), ("test", log.test))
    }
    row = log.items.filter(pl.col("item_id") == old).with_columns(pl.lit(new).alias("item_id"))
    assert set(item_columns(SCHEMA)) <= set(row.columns)
    later = Log(
        train=log.train, items=pl.concat([log.items, row]), behaviors=log.behaviors, **renamed, bayes_auc=log.bayes_auc
    )

    again = prepare(later, config)

    items = again.encoder.encode_items({"item_id": [new, old]})["item_sparse"]
    assert items[0, 0] == UNKNOWN != items[1, 0]
    assert items[0, 1] == items[1, 1] != UNKNOWN  # its category is known from the catalogue
    for name, vocabulary in prepared.encoder.vocabularies.items():
        np.testing.assert_array_equal(vocabulary.keys, again.encoder.vocabularies[name].keys)
    np.testing.assert_array_equal(prepared.train.items["item_sparse"], again.train.items["item_sparse"])
    was_old = log.valid["item_id"].to_numpy() == old
    assert (again.valid.items["item_sparse"][was_old, 0] == UNKNOWN).all()
