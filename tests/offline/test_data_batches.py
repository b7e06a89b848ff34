"""Encoded splits equal what serving would encode; batches lose nothing and double nothing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle.records import make_behaviors
from model.data.batch_order import batches
from model.data.batches import EncodedSplit, encode_split
from model.data.synthetic import synthetic_schema
from model.data.vocab import fit_encoder


@pytest.fixture(scope="module")
def encoder(small_log):
    return fit_encoder(small_log, dataclasses.replace(synthetic_schema(), max_history=8))


def split_of(lengths):
    """A split of which only the history lengths matter."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.zeros(len(lengths), dtype=np.int64)
    history = np.zeros((offsets[-1], 1), dtype=np.int64)
    return EncodedSplit(
        label=rows.astype(np.float32), user=rows, timestamp=rows, request={}, items={}, history=history, offsets=offsets
    )


def test_a_split_is_encoded_as_its_rows_would_be_one_at_a_time(small_log, encoder):
    """Every test row through the methods that serve a request: the tensors are the same, bit for bit. The encoder keeps
    8 behaviors, so most histories are cut.
    """
    split = encode_split(small_log.test, encoder)
    assert split.lengths.max() == 8
    for i, row in enumerate(small_log.test.iter_rows(named=True)):
        past = make_behaviors(row["hist_item_ids"], category=row["hist_cate_ids"])
        served = {
            **encoder.encode_request({"segment": [row["segment"]]}, {"hour": [row["hour"]]}, rows=1),
            **encoder.encode_history([past]),
        }
        items = encoder.encode_items({name: [row[name]] for name in ("item_id", "cate_id", "price")})
        served |= {name: tensor[None] for name, tensor in items.items()}
        served["label"] = np.array([row["label"]], dtype=np.float32)
        batch = split.take(np.array([i]))
        assert batch.keys() == served.keys()
        for name, tensor in batch.items():
            assert tensor.dtype == served[name].dtype
            assert np.array_equal(tensor, served[name]), name


def test_a_batch_has_the_agreed_shapes(small_log, encoder):
    """Item tensors get a candidate axis of one; histories are as wide as the longest of the batch."""
    split = encode_split(small_log.test, encoder)
    rows = np.flatnonzero(split.lengths == 5)[:3]
    shapes = {name: tensor.shape for name, tensor in split.take(rows).items()}
    assert shapes == {
        "user_sparse": (3, 1),
        "context_sparse": (3, 1),
        "item_sparse": (3, 1, 2),
        "item_dense": (3, 1, 1),
        "history": (3, 5, 2),
        "history_len": (3,),
        "label": (3,),
    }


def test_groups_and_times_come_with_the_rows(small_log, encoder):
    """Integer users are their own group; text users get one number each."""
    split = encode_split(small_log.test, encoder)
    assert split.user.tolist() == small_log.test["user_id"].to_list()
    assert split.timestamp.tolist() == small_log.test["timestamp"].to_list()
    text = small_log.test.with_columns(small_log.test["user_id"].cast(str))
    groups = encode_split(text, encoder).user
    pairs = set(zip(groups.tolist(), text["user_id"], strict=True))
    assert len(pairs) == text["user_id"].n_unique() == len(set(groups.tolist()))


def test_a_schema_without_behaviors_has_no_history_tensors(small_log):
    """Neither history nor its lengths."""
    schema = dataclasses.replace(synthetic_schema(), behavior=())
    split = encode_split(small_log.test, fit_encoder(small_log, schema))
    assert not {"history", "history_len"} & set(split.take(np.arange(2)))


def test_a_batch_of_empty_histories_is_one_wide(small_log, encoder):
    """A graph with an empty axis is a graph nobody tests."""
    split = encode_split(small_log.train, encoder)
    batch = split.take(np.flatnonzero(split.lengths == 0)[:4])
    assert batch["history"].shape == (4, 1, 2)
    assert not batch["history"].any()


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=300), st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_every_row_comes_exactly_once(lengths, batch_size, bucket, seed):
    """No batch is larger than asked, at most one is smaller, and the same seed gives the same batches."""
    split = split_of(lengths)
    first, second = (
        list(batches(split.lengths, batch_size=batch_size, rng=np.random.default_rng(seed), bucket=bucket))
        for _ in range(2)
    )
    assert sorted(row for rows in first for row in rows) == list(range(len(lengths)))
    sizes = [len(rows) for rows in first]
    assert max(sizes, default=0) <= batch_size
    assert sum(size < batch_size for size in sizes) <= 1
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in second]


def test_without_a_generator_rows_come_in_order():
    """For evaluation, where predictions are put beside the log."""
    rows = np.concatenate(list(batches(split_of([3, 1, 2, 9, 0]).lengths, batch_size=2)))
    assert rows.tolist() == [0, 1, 2, 3, 4]


def test_bucketing_saves_padding_and_stays_random():
    """Rows of similar length go together: far fewer padded places than without, but neither the first batches nor the
    next pass are sorted or the same.
    """
    lengths = np.random.default_rng(1).integers(0, 51, size=5000)
    split, rng = split_of(lengths), np.random.default_rng(2)
    passes = [list(batches(split.lengths, batch_size=50, rng=rng, bucket=bucket)) for bucket in (False, True, True)]
    padded = [sum(lengths[rows].max() * len(rows) for rows in one) - lengths.sum() for one in passes]
    assert padded[1] < padded[0] / 10
    means = [lengths[rows].mean() for rows in passes[1]]
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3
    assert {frozenset(rows.tolist()) for rows in passes[1]}.isdisjoint({frozenset(rows.tolist()) for rows in passes[2]})
