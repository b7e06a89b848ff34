"""What is fitted: only from training rows, in int64, as the docstrings' formulas say."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from model.bundle.dense import Scaling
from model.bundle.schema import UNKNOWN, Feature, Keys, Schema, Sequence
from model.data.task import Log
from model.data.vocab import fit_encoder, prior_ctr

BIG = 2**62

SCHEMA = Schema(
    item=(
        Feature(name="item_id"),
        Feature(name="cate_id"),
        Feature(name="brand", dtype="str"),
        Feature(name="price", kind="dense"),
    ),
    user=(Feature(name="segment", dtype="str", min_count=2),),
    behavior=(
        Sequence(shares="item_id", column="hist_item_ids"),
        Sequence(shares="cate_id", column="hist_cate_ids"),
        Sequence(shares="brand", column="hist_brands"),
    ),
    keys=Keys(category="cate_id"),
)
TYPES = {
    "user_id": pl.Int64,
    "segment": pl.String,
    "item_id": pl.Int64,
    "cate_id": pl.Int64,
    "brand": pl.String,
    "price": pl.Float64,
    "label": pl.Int8,
    "timestamp": pl.Int64,
    "hist_item_ids": pl.List(pl.Int64),
    "hist_cate_ids": pl.List(pl.Int64),
}
TRAIN = [
    (1, "a", 2**24 + 1, 9, "x", 1.0, 1, 10, [], []),
    (1, "a", BIG, 8, "y", 3.0, 0, 20, [2**24], [7]),
    (2, "b", BIG, 8, "y", 3.0, 1, 30, [2**24], [7]),
]
LATER = [(3, "c", 5, 6, "z", 50.0, 1, 40, [4], [3])]
ITEMS = [(4, 3, "q", 2.0), (5, 6, "z", 50.0), (2**24, 7, "w", 4.0), (2**24 + 1, 9, "x", 1.0), (BIG, 8, "y", 3.0)]


@pytest.fixture
def log():
    later = pl.DataFrame(LATER, schema=TYPES, orient="row")
    item_types = {name: TYPES[name] for name in ("item_id", "cate_id", "brand", "price")}
    return Log(
        train=pl.DataFrame(TRAIN, schema=TYPES, orient="row"),
        valid=later,
        test=later,
        items=pl.DataFrame(ITEMS, schema=item_types, orient="row"),
        behaviors=pl.DataFrame(),
    )


def test_vocabularies_hold_training_candidates_and_histories_in_ascending_order(log):
    """Nothing of valid or test; an item known only from a history counts, and so does its brand, by catalogue."""
    found = {name: v.keys.tolist() for name, v in fit_encoder(log, SCHEMA).vocabularies.items()}
    assert found == {
        "item_id": [2**24, 2**24 + 1, BIG],
        "cate_id": [7, 8, 9],
        "brand": ["w", "x", "y"],
        "segment": ["a"],  # "b" comes once, min_count is 2
    }


def test_min_count_counts_places_in_histories_too(log):
    """Item 2^24 is in two histories, 2^62 in two rows, 2^24 + 1 in one row only."""
    item = (dataclasses.replace(SCHEMA.item[0], min_count=2), *SCHEMA.item[1:])
    encoder = fit_encoder(log, dataclasses.replace(SCHEMA, item=item))
    assert encoder.vocabularies["item_id"].keys.tolist() == [2**24, BIG]


def test_neighbours_above_float32_precision_have_their_own_index(log):
    """2^24 and 2^24 + 1 are one number in float32."""
    encoder = fit_encoder(log, SCHEMA)
    ids = np.array([2**24, 2**24 + 1, BIG, BIG + 1, 5])
    assert encoder.vocabularies["item_id"].lookup(ids).tolist() == [2, 3, 4, UNKNOWN, UNKNOWN]


def test_scalings_are_mean_and_deviation_of_training_rows(log):
    """Prices 1, 3, 3; the price of 50 in the later splits does not count."""
    mean, std = 7 / 3, np.std([1, 3, 3])
    scaling = fit_encoder(log, SCHEMA).scalings["price"]
    assert (scaling.mean, scaling.std) == pytest.approx((mean, std))


def test_a_constant_dense_feature_keeps_its_unit(log):
    """Standard deviation 0 becomes 1, also for 0.1, whose computed deviation is not exactly 0."""
    train = pl.concat([log.train.with_columns(price=pl.lit(0.1))] * 3)
    encoder = fit_encoder(dataclasses.replace(log, train=train), SCHEMA)
    assert encoder.scalings["price"] == Scaling(mean=pytest.approx(0.1), std=1.0)


def test_the_catalogue_knows_items_that_training_never_saw(log):
    """Item 5 is unknown by id, but its category and price come from the catalogue."""
    encoder = fit_encoder(log, SCHEMA)
    encoded = encoder.encode_items({"item_id": [5, 2**24]})
    assert encoded["item_sparse"].tolist() == [[UNKNOWN, UNKNOWN, UNKNOWN], [2, 2, 2]]
    scaling = encoder.scalings["price"]
    expected = [min((50 - scaling.mean) / scaling.std, 10.0), (4 - scaling.mean) / scaling.std]
    assert encoded["item_dense"][:, 0] == pytest.approx(expected, rel=1e-6)


def test_prior_ctr_is_the_smoothed_click_rate(log):
    """(clicks + 20 r) / (shown + 20) with r = 2/3; padding, unknown and the history-only item have r."""
    rate = 2 / 3
    prior = prior_ctr(log, fit_encoder(log, SCHEMA))
    assert prior.dtype == np.float32
    expected = [rate, rate, rate, (1 + 20 * rate) / 21, (1 + 20 * rate) / 22]
    assert prior == pytest.approx(expected, rel=1e-6)
