"""Preparation out of core gives the rows of the log in memory, whatever the pieces it is cut into."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from model.bundle.encode import Encoder
from model.bundle.folder import encoder_files
from model.bundle.schema import Schema
from model.config import read_config
from model.data.assemble import from_interactions
from model.data.batches import EncodedSplit, encode_split
from model.data.data_config import DataConfig
from model.data.interactions import Interactions
from model.data.out_of_core import Plan, prepare_shards
from model.data.rating_stream import in_pieces
from model.data.reading import Reading
from model.data.sharded_log import ShardedLog, read_sharded_log
from model.data.synthetic import SyntheticConfig, synthesize, synthetic_schema
from model.data.vocab import fit_encoder, prior_ctr
from model.evaluate import user_activity
from model.report.assessment import summary

SIZES = SyntheticConfig(users=40, items=60, categories=8, impressions_per_user=20, seed=3)
CONFIG = DataConfig(format="synthetic", positive_rating=1.0)
PLAN = Plan(valid_fraction=0.1, test_fraction=0.1, memory_mb=1)
SCHEMAS = ("plain", "features")


@pytest.fixture(scope="module", params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> Schema:
    """The synthetic schema, and one with every kind of feature: lists, hashed and bucketised ones, gaps."""
    if request.param == "plain":
        return synthetic_schema()
    return read_config(Path(__file__).parents[2] / "examples" / "features.toml").schema


@pytest.fixture(scope="module")
def interactions(schema: Schema) -> Interactions:
    """A log in which one user has a third of the rows and seconds are shared."""
    log = synthesize(SIZES, schema)
    user, time = schema.keys.user, schema.keys.timestamp
    busy = pl.when(pl.int_range(pl.len()) % 3 == 0).then(7).otherwise(pl.col(user)).alias(user)
    return dataclasses.replace(log, ratings=log.ratings.with_columns(busy, pl.col(time) // 5000 * 5000))


def rows_of(split: EncodedSplit, activity: np.ndarray) -> list[bytes]:
    """Every encoded row as bytes, in an order of its own."""
    found = []
    for i in range(len(split)):
        row = split.take(np.array([i]))
        told = b"".join(name.encode() + np.ascontiguousarray(row[name]).tobytes() for name in sorted(row))
        keys = [split.user[i], split.timestamp[i], activity[i]]
        found.append(told + np.array(keys, dtype=np.int64).tobytes())
    return sorted(found)


def digest(encoder: Encoder) -> dict[str, str]:
    return {name: hashlib.sha256(raw).hexdigest() for name, raw in encoder_files(encoder).items()}


def prepared(log: Interactions, schema: Schema, out: Path, *, memory_mb: float, piece: int = 173) -> ShardedLog:
    plan = dataclasses.replace(PLAN, memory_mb=memory_mb)
    prepare_shards(in_pieces(log, positive_rating=1.0, rows=piece), schema, plan=plan, out=out)
    return read_sharded_log(out, schema, memory_mb=1)


@pytest.mark.parametrize("memory_mb", [0.2, 64.0])
def test_shards_hold_the_rows_of_the_log_in_memory(
    interactions: Interactions, schema: Schema, memory_mb: float, tmp_path: Path
) -> None:
    """Encoder, priors, activity, summary and every encoded row are equal byte by byte; only the order is another.

    With little memory the busy user comes in many pieces, and clicks are carried from each to the next.
    """
    log = from_interactions(interactions, CONFIG, schema, file="log", reading=Reading())
    encoder = fit_encoder(log, schema)

    sharded = prepared(interactions, schema, tmp_path, memory_mb=memory_mb)

    assert digest(sharded.encoder) == digest(encoder)
    np.testing.assert_array_equal(prior_ctr(log, encoder), sharded.prior_ctr)
    assert sharded.splits == summary(log, schema)
    for name, frame in log.splits().items():
        activity = user_activity(frame, log.train, schema.keys)
        expected = rows_of(encode_split(frame, encoder), activity)
        split = next(sharded.split(name).parts())
        assert expected == rows_of(split, sharded.activity(name))
