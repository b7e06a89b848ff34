"""Logged negatives: from a list column of the log to the auxiliary loss."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from model.batch_loss import BatchLoss
from model.bundle.errors import ConfigError
from model.bundle.schema import Schema, schema_from_table
from model.data.batches import encode_split
from model.data.log import DataConfig, Log, read_log, write_task
from model.data.negatives import NegativeSampler
from model.data.synthetic import SyntheticConfig, synthetic_schema
from model.data.vocab import fit_encoder
from model.nets import build_net
from model.run_folder import vocabulary_sizes
from model.train_config import TrainConfig

COLUMN = "not_clicked"


@pytest.fixture(scope="module")
def schema() -> Schema:
    """The synthetic log's, with logged negatives and a history shorter than the log's longest."""
    plain = synthetic_schema()
    item = plain.keys.item
    behavior = tuple(dataclasses.replace(s, negatives=COLUMN if s.shares == item else None) for s in plain.behavior)
    return dataclasses.replace(plain, behavior=behavior, max_history=5)


@pytest.fixture
def folder(schema: Schema, small_log: Log, tmp_path: Path) -> Path:
    """The small log as a task whose training split has, in each item's place, the item of the next higher id."""
    column = next(s.column for s in schema.behavior if s.negatives)
    top = int(small_log.items[schema.keys.item].max())
    other = pl.col(column).list.eval(pl.when(pl.element() < top).then(pl.element() + 1).otherwise(1)).alias(COLUMN)
    write_task(dataclasses.replace(small_log, train=small_log.train.with_columns(other)), tmp_path)
    return tmp_path


def test_they_stand_where_the_behavior_stands(schema: Schema, folder: Path) -> None:
    """Cut and padded as the history is; the category is the one that the catalogue gives the item."""
    log = read_log(DataConfig(format="task", path=folder), schema, base=Path())
    encoder = fit_encoder(log, schema)
    split = encode_split(log.train, encoder)
    rows = np.argsort(split.lengths)[[0, len(split) // 2, -1]]

    batch = split.take(rows)

    column = next(s.column for s in schema.behavior if s.negatives)
    assert batch["negatives"].shape == batch["history"].shape
    assert split.lengths.max() == schema.max_history
    for i, row in enumerate(rows.tolist()):
        ids = log.train[COLUMN][row].to_numpy()[-schema.max_history :]
        expected = encoder.encode_items({schema.keys.item: ids})["item_sparse"]
        columns = [encoder.schema.columns("item")[s.shares].start for s in schema.behavior]
        assert len(ids) == len(log.train[column][row].tail(schema.max_history))
        np.testing.assert_array_equal(batch["negatives"][i, : len(ids)], expected[:, columns])
        assert (batch["negatives"][i, len(ids) :] == 0).all()
    assert encode_split(log.valid, encoder).negatives is None


def test_the_auxiliary_loss_takes_them(schema: Schema, folder: Path) -> None:
    """With logged negatives the loss draws none: it is the same whatever the generator, and no other batch's."""
    log = read_log(DataConfig(format="task", path=folder), schema, base=Path())
    encoder = fit_encoder(log, schema)
    batch = encode_split(log.train, encoder).take(np.arange(200, 400))
    net = build_net({"kind": "dien", "auxiliary_alpha": 1.0}, schema, vocabulary_sizes(encoder), file="test").eval()
    loss = BatchLoss(net, TrainConfig(), sampler=NegativeSampler(encoder))
    drawn = {name: tensor for name, tensor in batch.items() if name != "negatives"}

    logged = [float(loss(batch, np.random.default_rng(seed)).detach()) for seed in (0, 1)]
    sampled = [float(loss(drawn, np.random.default_rng(seed)).detach()) for seed in (0, 1)]

    assert logged[0] == logged[1]
    assert len({*logged, *sampled}) == 3


def test_a_log_without_them_is_refused(schema: Schema, small_log: Log, tmp_path: Path) -> None:
    """The message names the file and the column; a format that cannot hold any is refused as such."""
    write_task(small_log, tmp_path)

    with pytest.raises(ConfigError, match=rf"train\.parquet.*column {COLUMN}.*no such column"):
        read_log(DataConfig(format="task", path=tmp_path), schema, base=Path())
    with pytest.raises(ConfigError, match=r"negatives.*only a log in format"):
        read_log(DataConfig(format="synthetic", synthetic=SyntheticConfig()), schema, base=Path())


def test_only_items_and_categories_have_negatives() -> None:
    """A category's negatives without the item's are refused by name."""
    table = {
        "keys": {"category": "cate_id"},
        "item": [{"name": "item_id"}, {"name": "cate_id"}],
        "behavior": [{"shares": "item_id", "column": "i"}, {"shares": "cate_id", "column": "c", "negatives": "n"}],
    }
    with pytest.raises(ConfigError, match=r"schema\.behavior\.negatives.*cate_id"):
        schema_from_table(table, file="test")
