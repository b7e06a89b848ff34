"""Non-clicks that are drawn anew in every epoch."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from model.bundle.encode import Encoder
from model.bundle.schema import UNKNOWN
from model.data.batches import EncodedSplit, encode_split
from model.data.fresh_negatives import FreshNegatives
from model.data.log import Log
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder
from model.nets import build_net
from model.run_folder import vocabulary_sizes
from model.train import train
from model.train_config import TrainConfig
from model.training import Samples


@pytest.fixture(scope="module")
def encoder(small_log: Log) -> Encoder:
    return fit_encoder(small_log, synthetic_schema())


@pytest.fixture(scope="module")
def split(small_log: Log, encoder: Encoder) -> EncodedSplit:
    return encode_split(small_log.train, encoder)


def test_only_non_clicks_change_and_only_their_item(encoder: Encoder, split: EncodedSplit) -> None:
    """Clicks, users, histories and labels stay; nothing of the split itself is written to."""
    rows = np.arange(200)
    before = split.take(rows)

    after = FreshNegatives(encoder, split).redraw(before, rows, np.random.default_rng(0))

    clicked = before["label"] == 1
    for name, tensor in before.items():
        item = name.startswith("item_")
        assert np.array_equal(after[name][clicked], tensor[clicked])
        assert item or np.array_equal(after[name], tensor)
        assert np.array_equal(tensor, split.take(rows)[name])
    assert (after["item_sparse"][~clicked] != before["item_sparse"][~clicked]).any(axis=(1, 2)).mean() > 0.9


def test_a_drawn_item_is_known_has_its_own_features_and_was_not_clicked(encoder: Encoder, split: EncodedSplit) -> None:
    """Whatever the user clicked anywhere in the training split is no non-click of theirs."""
    fresh, rng = FreshNegatives(encoder, split), np.random.default_rng(1)
    rows = np.flatnonzero(split.label == 0)
    item = {name: tensor[split.label == 1] for name, tensor in split.items.items()}
    clicks = set(zip(split.user[split.label == 1].tolist(), encoder.item_index(item).tolist(), strict=True))
    catalogue = encoder.encode_items({"item_id": encoder.catalogue.ids})["item_sparse"]
    own = {
        int(index): row.tolist()
        for index, row in zip(encoder.item_index({"item_sparse": catalogue}), catalogue, strict=True)
    }

    for _ in range(5):
        drawn = fresh.redraw(split.take(rows), rows, rng)["item_sparse"][:, 0]
        index = encoder.item_index({"item_sparse": drawn})
        assert (index != UNKNOWN).all()
        assert [own[i] for i in index.tolist()] == drawn.tolist()
        assert not clicks & set(zip(split.user[rows].tolist(), index.tolist(), strict=True))


def test_items_are_drawn_uniformly(encoder: Encoder, split: EncodedSplit) -> None:
    """A user without clicks gets each known item with its share, within five standard errors."""
    rows = np.flatnonzero(split.label == 0)
    nobody = dataclasses.replace(split, label=np.zeros_like(split.label))
    fresh, rng = FreshNegatives(encoder, nobody), np.random.default_rng(2)
    drawn = [
        encoder.item_index({"item_sparse": fresh.redraw(split.take(rows), rows, rng)["item_sparse"][:, 0]})
        for _ in range(40)
    ]

    _, counts = np.unique(np.concatenate(drawn), return_counts=True)

    known = len(encoder.vocabularies["item_id"]) - 2  # padding and unknown
    share = 1 / known
    assert len(counts) == known
    assert np.abs(counts / counts.sum() - share).max() < 5 * np.sqrt(share * (1 - share) / counts.sum())


def test_who_clicked_everything_keeps_the_logged_non_click(small_log: Log) -> None:
    """There is nothing else to show; the batch is not lost."""
    first = small_log.train.with_columns(pl.lit(1, dtype=pl.Int8).alias("label"), pl.lit(7).alias("user_id"))
    log = dataclasses.replace(small_log, train=first)
    encoder = fit_encoder(log, synthetic_schema())
    split = encode_split(first, encoder)
    batch = {**split.take(np.arange(50)), "label": np.zeros(50, dtype=np.float32)}

    after = FreshNegatives(encoder, split).redraw(batch, np.arange(50), np.random.default_rng(3))

    assert np.array_equal(after["item_sparse"], batch["item_sparse"])


def test_training_draws_from_its_seed(encoder: Encoder, split: EncodedSplit) -> None:
    """The same seed gives the same weights, and others than the logged non-clicks give."""
    sizes = vocabulary_sizes(encoder)
    config = TrainConfig(epochs=1, batch_size=256)

    def weights(fresh: FreshNegatives | None) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = build_net({"kind": "base", "head": [16]}, synthetic_schema(), sizes, file="test")
        train(net, Samples(train=split, valid=split, fresh=fresh), config=config)
        return net.embedding.tables["item_id"].get_parameter("weight").detach().numpy().copy()

    fresh = FreshNegatives(encoder, split)
    assert np.array_equal(weights(fresh), weights(fresh))
    assert not np.array_equal(weights(fresh), weights(None))
