"""The readers on real logs, where there are some: prepared tasks, MovieLens and atomic files."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from model.bundle.schema import Feature
from model.data.atomic import read_atomic
from model.data.batches import encode_split
from model.data.history import impressions
from model.data.log import DataConfig, read_log, write_task
from model.data.reading import Reading
from model.data.vocab import fit_encoder


def whole(log):
    """All rows of a log."""
    return pl.concat(log.splits().values())


def test_atomic_ml_100k_is_the_prepared_task(shared_data, movie_schema):
    """Same rows, labels, categories and histories as `ml100k_rating`, apart from what that task does differently: it
    leaves out rows with an empty history, numbers the genre "unknown" 19 and orders ratings of one second by item id.
    """
    task = read_log(DataConfig(format="task", path=Path("tasks/ml100k_rating")), movie_schema, base=shared_data)
    source = read_atomic(shared_data / "ml-100k", movie_schema, Reading())
    items = source.items.select("item_id", pl.col("cate_id").replace(0, 19))
    ratings = source.ratings.join(items, on="item_id", maintain_order="left").sort("item_id", maintain_order=True)
    ours = impressions(ratings, movie_schema, positive_rating=4.0).filter(pl.col("hist_item_ids").list.len() > 0)
    theirs = whole(task)
    order = ["timestamp", "user_id", "item_id"]
    assert_frame_equal(ours.select(theirs.columns).sort(order), theirs.sort(order), check_exact=True)


def test_ml_100k_with_user_features(shared_data, movie_schema):
    """100,000 ratings by 943 users, of whom age, gender, occupation and zip code are read."""
    user = (
        Feature(name="age", kind="dense"),
        Feature(name="gender", dtype="str"),
        Feature(name="occupation", dtype="str"),
        Feature(name="zip_code", dtype="str"),
    )
    schema = dataclasses.replace(movie_schema, user=user)
    log = read_log(DataConfig(format="atomic", path=Path("ml-100k")), schema, base=shared_data)
    rows = whole(log)
    assert (len(rows), rows["user_id"].n_unique(), len(log.items)) == (100_000, 943, 1682)
    assert set(rows["gender"].unique()) == {"M", "F"}
    first = rows.filter(pl.col("user_id") == 1).row(0, named=True)
    assert (first["age"], first["occupation"], first["zip_code"]) == (24.0, "technician", "85711")


def test_half_of_ml_1m(shared_data, movie_schema):
    """`ratings.dat.gz` as published: 487,650 ratings by 2,999 users, and every movie of movies.dat in the catalogue."""
    log = read_log(DataConfig(format="movielens", path=Path("ml-1m-half")), movie_schema, base=shared_data)
    rows = whole(log)
    assert (len(rows), rows["user_id"].n_unique(), rows["item_id"].n_unique()) == (487_650, 2999, 3615)
    assert len(log.items) == 3883
    assert log.behaviors.height == rows["label"].sum()
    assert rows["hist_item_ids"].list.len().max() == 50


@pytest.mark.parametrize(
    ("name", "rows", "behaviors"),
    [("beauty_next", (262_826, 44_726, 44_726), 198_502), ("sports_next", (379_086, 71_196, 71_196), 296_337)],
)
def test_next_item_tasks_give_back_every_behavior(name, rows, behaviors, shared_data, movie_schema):
    """From clicks and first histories exactly the interactions of the raw Amazon file are gathered."""
    log = read_log(DataConfig(format="task", path=Path("tasks") / name), movie_schema, base=shared_data)
    assert tuple(len(part) for part in log.splits().values()) == rows
    assert len(log.behaviors) == behaviors


def test_a_real_task_is_encoded_and_written_back(shared_data, movie_schema, tmp_path):
    """ml100k_rating: most test users are new, almost no test item is; every index is in its vocabulary; written and
    read again it is the same log.
    """
    log = read_log(DataConfig(format="task", path=Path("tasks/ml100k_rating")), movie_schema, base=shared_data)
    encoder = fit_encoder(log, movie_schema)
    split = encode_split(log.test, encoder)
    batch = split.take(np.arange(len(split)))
    assert batch["history"].shape == (9690, 50, 2)
    for at, name in enumerate(("item_id", "cate_id")):
        assert batch["history"][..., at].max() < len(encoder.vocabularies[name])
    assert encoder.unknown_items({"item_sparse": split.items["item_sparse"]}).mean() < 0.02
    write_task(log, tmp_path)
    back = read_log(DataConfig(format="task", path=tmp_path), movie_schema, base=shared_data)
    for part in ("train", "valid", "test", "items", "behaviors"):
        assert_frame_equal(getattr(back, part), getattr(log, part), check_exact=True)
