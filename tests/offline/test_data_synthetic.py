"""The synthetic log: reproducible, leak-free, and with signal that only the history tells."""

import math
from pathlib import Path

import numpy as np
import pytest
from polars.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from model.bundle.errors import ConfigError
from model.bundle.typed_table import from_table
from model.data.log import DataConfig, read_log
from model.data.synthetic import SyntheticConfig, synthesize, synthetic_schema
from model.data.vocab import fit_encoder, prior_ctr


def read(config):
    return read_log(DataConfig(format="synthetic", synthetic=config), synthetic_schema(), base=Path())


def test_the_same_seed_gives_the_same_log_and_another_seed_another():
    """Bit for bit, every frame."""
    sizes = {"users": 20, "items": 30, "categories": 5, "impressions_per_user": 10}
    first, second = (synthesize(SyntheticConfig(**sizes, seed=5), synthetic_schema()) for _ in range(2))
    other = synthesize(SyntheticConfig(**sizes, seed=6), synthetic_schema())
    for name in ("ratings", "items", "users"):
        assert_frame_equal(getattr(first, name), getattr(second, name), check_exact=True)
    assert not first.ratings.equals(other.ratings)


def test_sizes_are_as_configured(small_log):
    """60 users with 30 impressions each, 80 items in 8 categories that all own one; hours of the day; four segments."""
    rows = sum(len(part) for part in small_log.splits().values())
    assert rows == 60 * 30
    assert small_log.items["item_id"].to_list() == list(range(1, 81))
    assert sorted(small_log.items["cate_id"].unique()) == list(range(1, 9))
    assert set(small_log.train["hour"].unique()) == set(range(24))
    assert set(small_log.train["segment"].unique()) == {"new", "casual", "regular", "loyal"}
    assert len(small_log.behaviors) == sum(part["label"].sum() for part in small_log.splits().values())


def test_the_bayes_auc_is_that_of_the_true_probability(small_log):
    """Per split, the same number as scikit-learn's."""
    for name, part in small_log.splits().items():
        expected = roc_auc_score(part["label"], part["bayes_pctr"])
        assert small_log.bayes_auc[name] == pytest.approx(expected, abs=1e-12)


def test_clicks_follow_the_true_probability():
    """In ten equal parts by true probability, the click rate is the mean probability within four standard errors."""
    log = synthesize(SyntheticConfig(users=1000), synthetic_schema())
    pctr, clicked = log.ratings["bayes_pctr"].to_numpy(), log.ratings["rating"].to_numpy()
    for part in np.array_split(np.argsort(pctr), 10):
        error = math.sqrt((pctr[part] * (1 - pctr[part])).sum()) / len(part)
        assert abs(clicked[part].mean() - pctr[part].mean()) < 4 * error


def test_only_the_history_tells_most_of_the_signal():
    """At the default size the Bayes-optimal AUC is 0.80 to 0.85 while item popularity stays below 0.62; how often the
    candidate's category is among the five newest behaviors, a poor man's net, is already far better.
    """
    log = read(SyntheticConfig())
    assert 0.80 < log.bayes_auc["test"] < 0.85
    encoder = fit_encoder(log, synthetic_schema())
    index = encoder.vocabularies["item_id"].lookup(log.test["item_id"].to_numpy())
    popularity = roc_auc_score(log.test["label"], prior_ctr(log, encoder)[index])
    newest = zip(log.test["cate_id"], log.test["hist_cate_ids"].list.tail(5), strict=True)
    recent = roc_auc_score(log.test["label"], [sum(past == category for past in pasts) for category, pasts in newest])
    assert 0.55 < popularity < 0.62
    assert recent > popularity + 0.05


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"interests": 9, "categories": 8}, "synthetic.interests: found 9, allowed: at most `categories`, which is 8"),
        ({"items": 5, "categories": 8}, "synthetic.items: found 5, allowed: at least `categories`, which is 8"),
    ],
)
def test_impossible_sizes_are_refused(config, said):
    """More interests than categories, or a category without items."""
    with pytest.raises(ConfigError, match=said):
        read(SyntheticConfig(**config))


@pytest.mark.parametrize("table", [{"users": 0}, {"switch_rate": 1.5}, {"seed": -1}, {"drift": float("nan")}])
def test_settings_out_of_bounds_are_refused(table):
    """The key is named with its bounds when the table comes from a file."""
    data = {"format": "synthetic", "synthetic": table}
    with pytest.raises(ConfigError, match=rf"run\.toml: data\.synthetic\.{next(iter(table))}: found .*allowed: >="):
        from_table(DataConfig, data, file="run.toml", key="data")


def test_one_user_and_one_interest_are_enough():
    """The smallest world still makes a log with every split filled."""
    tiny = SyntheticConfig(users=1, items=2, categories=2, interests=1, impressions_per_user=30)
    assert [len(part) for part in read(tiny).splits().values()] == [24, 3, 3]


def test_launched_items_appear_while_the_log_goes_on():
    """Half of the items are not shown on the first day; on the last one they are most of what is shown."""
    config = SyntheticConfig(users=300, items=80, categories=4, days=6, launched=0.5)
    ratings = synthesize(config, synthetic_schema()).ratings
    day = (ratings["timestamp"] - 1_700_000_000) // 86_400
    shown = [set(ratings.filter(day == d)["item_id"]) for d in (0, 5)]
    last = ratings.filter(day == 5)

    assert set(day) == set(range(6))
    assert len(shown[0]) <= 48
    assert len(shown[1]) > 75
    assert (~last["item_id"].is_in(list(shown[0]))).mean() > 0.5
