"""A log in shards against the log in memory, row by row."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from model.bundle.encode import Encoder
from model.bundle.folder import encoder_files
from model.bundle.schema import Schema
from model.data.batches import EncodedSplit, encode_split
from model.data.log import Log
from model.data.sharded_log import ShardedLog
from model.data.vocab import fit_encoder, prior_ctr
from model.evaluate import user_activity
from model.report.assessment import summary


def rows_of(split: EncodedSplit, activity: np.ndarray, *, users: bool = True) -> list[bytes]:
    """Every encoded row as bytes, in an order of its own; without `users` the numbers of those are left out."""
    found = []
    for i in range(len(split)):
        row = split.take(np.array([i]))
        told = b"".join(name.encode() + np.ascontiguousarray(row[name]).tobytes() for name in sorted(row))
        keys = [split.user[i] if users else 0, split.timestamp[i], activity[i]]
        found.append(told + np.array(keys, dtype=np.int64).tobytes())
    return sorted(found)


def digest(encoder: Encoder) -> dict[str, str]:
    """The encoder's files, by name."""
    return {name: hashlib.sha256(raw).hexdigest() for name, raw in encoder_files(encoder).items()}


def assert_same_log(log: Log, sharded: ShardedLog, schema: Schema) -> None:
    """Encoder, priors, activity, summary, catalogue, behaviors and every encoded row are equal byte by byte.

    Users who are texts have other numbers, and as many rows each.
    """
    encoder = fit_encoder(log, schema)
    assert digest(sharded.encoder) == digest(encoder)
    np.testing.assert_array_equal(prior_ctr(log, encoder), sharded.prior_ctr)
    assert sharded.splits == summary(log, schema)
    assert_frame_equal(log.items, pl.read_parquet(sharded.folder / "items.parquet"))
    by_user = {"by": [schema.keys.user, schema.keys.timestamp], "maintain_order": True}
    assert_frame_equal(log.behaviors.sort(**by_user), read_behaviors(sharded.folder).sort(**by_user))
    for name, frame in log.splits().items():
        expected, found = encode_split(frame, encoder), next(sharded.split(name).parts())
        numbers = frame[schema.keys.user].dtype != pl.String
        activity = user_activity(frame, log.train, schema.keys)
        assert rows_of(expected, activity, users=numbers) == rows_of(found, sharded.activity(name), users=numbers)
        assert rows_by_user(expected) == rows_by_user(found)


def read_behaviors(folder: Path) -> pl.DataFrame:
    """What was written for a store."""
    return pl.read_parquet(folder / "behaviors.parquet")


def rows_by_user(split: EncodedSplit) -> list[int]:
    """How many rows the users have."""
    return sorted(np.unique(split.user, return_counts=True)[1].tolist())
