"""Intervals by the bootstrap over users: what they cover, and that each replicate is the metric of the drawn rows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bootstrap import interval, replicates
from model.metrics import auc, ece, gauc, log_loss, normalized_entropy, pcoc


def drawn(users: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Rows of users of different size and taste, whose rows are alike; scores on a coarse grid, so that many tie."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users) * 7 + 3, rng.integers(1, 12, users))
    taste = rng.normal(0, 1, users)[user // 7]
    logit = taste + rng.normal(0, 1, len(user))
    label = (rng.random(len(user)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    pctr = np.round(1 / (1 + np.exp(-0.7 * logit)), 2).astype(np.float32)
    order = rng.permutation(len(user))
    return label[order], pctr[order], user[order]


def test_a_replicate_is_the_metric_of_the_rows_of_the_drawn_users() -> None:
    """A user drawn twice counts as two users with these rows each; all metrics agree with the plain ones.

    ECE is left out here: it keeps the bins of the whole sample.
    """
    label, pctr, user = drawn(40, seed=1)
    names = np.unique(user)
    picks = np.random.default_rng(9).integers(0, 40, 40)
    rows = [np.flatnonzero(user == names[u]) for u in picks]
    at, copies = np.concatenate(rows), np.repeat(np.arange(40), [len(r) for r in rows])

    found = {name: values[0] for name, values in replicates(label, pctr, user, samples=1, seed=9).items()}

    assert found["auc"] == pytest.approx(auc(label[at], pctr[at]), abs=1e-12)
    assert found["gauc"] == pytest.approx(gauc(label[at], pctr[at], copies), abs=1e-9)
    assert found["log_loss"] == pytest.approx(log_loss(label[at], pctr[at]), abs=1e-9)
    assert found["ne"] == pytest.approx(normalized_entropy(label[at], pctr[at]), rel=1e-6)
    assert found["pcoc"] == pytest.approx(pcoc(label[at], pctr[at]), rel=1e-6)


def test_the_mean_of_ece_is_near_the_metric_and_intervals_enclose_their_metrics() -> None:
    """On one sample of 500 users."""
    label, pctr, user = drawn(500, seed=2)
    found = replicates(label, pctr, user, samples=200)

    assert found["ece"].mean() == pytest.approx(ece(label, pctr), abs=0.02)
    for name, value in (("auc", auc(label, pctr)), ("log_loss", log_loss(label, pctr)), ("pcoc", pcoc(label, pctr))):
        low, high = interval(found[name])
        assert low < value < high


def test_95_percent_intervals_cover_the_truth_about_as_often() -> None:
    """AUC and log loss of 100 samples of 150 users against those of 20,000 users: 88 to 100 of 100 intervals hold."""
    label, pctr, _ = drawn(20_000, seed=0)
    truth = {"auc": auc(label, pctr), "log_loss": log_loss(label, pctr)}
    covered = dict.fromkeys(truth, 0)
    for seed in range(1, 101):
        found = replicates(*drawn(150, seed=seed), samples=100, seed=seed)
        for name, value in truth.items():
            low, high = interval(found[name])
            covered[name] += low <= value <= high

    assert all(88 <= count <= 100 for count in covered.values()), covered


def test_the_draws_depend_on_seed_and_users_alone() -> None:
    """Two nets on the same rows see the same replicates, so a net that is always better is so in each of them."""
    label, pctr, user = drawn(100, seed=3)
    worse = np.clip(pctr + np.random.default_rng(0).normal(0, 0.3, len(pctr)), 0.01, 0.99).astype(np.float32)

    ours, theirs = replicates(label, pctr, user)["auc"], replicates(label, worse, user)["auc"]

    np.testing.assert_array_equal(ours, replicates(label, pctr, user)["auc"])
    assert interval(ours - theirs)[0] > 0
    assert np.std(ours - theirs) < np.hypot(np.std(ours), np.std(theirs))


def test_one_class_has_no_interval_of_auc() -> None:
    """NaN replicates, a NaN interval; the log loss has one all the same."""
    found = replicates(np.ones(6, np.float32), np.linspace(0.1, 0.9, 6, dtype=np.float32), np.arange(6), samples=20)

    assert np.isnan(interval(found["auc"])).all()
    assert np.isnan(interval(found["gauc"])).all()
    assert np.isfinite(interval(found["log_loss"])).all()
