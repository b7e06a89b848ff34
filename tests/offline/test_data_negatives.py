"""Negative behaviors for DIEN's auxiliary loss."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle.catalogue import Catalogue
from model.bundle.encode import Encoder
from model.bundle.schema import FIRST_ID, PADDING, UNKNOWN, Feature, Keys, Schema, Sequence
from model.bundle.vocabulary import Vocabulary
from model.data.negatives import NegativeSampler

SCHEMA = Schema(
    item=(Feature(name="item_id"), Feature(name="cate_id")),
    behavior=(Sequence(shares="cate_id", column="cates"), Sequence(shares="item_id", column="items")),
    keys=Keys(category="cate_id"),
)


def encoder_of(items, schema=SCHEMA):
    """An encoder whose item i (raw) has category 100 + i % 3."""
    ids = np.arange(10, 10 + items)
    categories = 100 + ids % 3
    vocabularies = {"item_id": Vocabulary(ids), "cate_id": Vocabulary(np.unique(categories))}
    return Encoder(
        schema, vocabularies, scalings={}, catalogue=Catalogue(ids=ids, columns={"cate_id": categories})
    )  # fmt: skip


@settings(deadline=None)
@given(st.integers(2, 6), st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=1, max_size=6), st.integers(0, 99))
def test_a_negative_is_another_known_item_with_its_own_category(items, histories, seed):
    """At every real position, also where the item is unknown; padding stays padding."""
    encoder = encoder_of(items)
    lengths = np.array([len(h) for h in histories])
    history = np.zeros((len(histories), max(1, lengths.max()), 2), dtype=np.int64)
    for row, indices in enumerate(histories):
        # Indices beyond the vocabulary stand for unknown items here.
        history[row, : len(indices), 1] = [UNKNOWN if i >= items else i + FIRST_ID for i in indices]
        history[row, : len(indices), 0] = UNKNOWN
    negative = NegativeSampler(encoder).sample(history, lengths, np.random.default_rng(seed))
    real = np.arange(history.shape[1]) < lengths[:, None]
    assert (negative[~real] == PADDING).all()
    drawn = negative[real]
    assert ((drawn[:, 1] >= FIRST_ID) & (drawn[:, 1] < FIRST_ID + items)).all()
    assert (drawn[:, 1] != history[real][:, 1]).all()
    raw = drawn[:, 1] - FIRST_ID + 10
    assert (drawn[:, 0] == encoder.vocabularies["cate_id"].lookup(100 + raw % 3)).all()


@pytest.mark.parametrize(("there", "choices"), [(FIRST_ID + 1, [2, 4, 5]), (UNKNOWN, [2, 3, 4, 5])])
def test_negatives_are_uniform_over_the_other_items(there, choices):
    """Over 40,000 draws each choice comes within five standard errors of its share."""
    history = np.full((400, 100, 2), there, dtype=np.int64)
    drawn = NegativeSampler(encoder_of(4)).sample(history, np.full(400, 100), np.random.default_rng(0))
    values, counts = np.unique(drawn[..., 1], return_counts=True)
    share = 1 / len(choices)
    assert values.tolist() == choices
    assert np.abs(counts / 40_000 - share).max() < 5 * np.sqrt(share * (1 - share) / 40_000)


def test_the_same_seed_draws_the_same_negatives():
    """And leaves the history as it was."""
    history = np.full((3, 4, 2), FIRST_ID, dtype=np.int64)
    lengths, sampler = np.array([4, 0, 2]), NegativeSampler(encoder_of(50))
    first, second = (sampler.sample(history, lengths, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(first, second)
    assert (history == FIRST_ID).all()


def test_too_few_items_or_no_item_sequence_are_refused():
    """One item has no other; without item ids in the history there is nothing to differ from."""
    with pytest.raises(ValueError, match="two items or more in training, there are 1"):
        NegativeSampler(encoder_of(1))
    with pytest.raises(ValueError, match=r"a behavior sequence of item_id, there is \['cate_id'\]"):
        NegativeSampler(encoder_of(3, dataclasses.replace(SCHEMA, behavior=SCHEMA.behavior[:1])))
