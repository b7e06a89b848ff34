"""The figures against scikit-learn, or against five plain lines."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from model.metrics import all_metrics, auc, ece, gauc, log_loss, normalized_entropy, pcoc, rela_impr

Rows = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    """Labels, scores with many ties, users with few impressions each."""
    row = st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 6), st.integers(0, 5))
    label, score, user = zip(*draw(st.lists(row, min_size=1, max_size=60)), strict=True)
    return np.float32(label), np.float32(score) / 7, np.array(user) * (2**63 // 6)


@settings(deadline=None)
@given(rows())
def test_auc_is_that_of_scikit_learn(drawn: Rows) -> None:
    """With any number of ties; NaN where there is one class only."""
    label, pctr, _ = drawn
    if len(set(label)) == 1:
        assert math.isnan(auc(label, pctr))
    else:
        assert auc(label, pctr) == pytest.approx(sk.roc_auc_score(label, pctr), abs=1e-12)


@settings(deadline=None)
@given(rows())
def test_gauc_is_the_impression_weighted_mean_of_the_users_auc(drawn: Rows) -> None:
    """Users with one class are skipped; the rows' order does not matter."""
    label, pctr, user = drawn
    mixed = [user == u for u in set(user.tolist()) if len(set(label[user == u])) == 2]
    weights = [mask.sum() for mask in mixed]
    expected = sum(w * sk.roc_auc_score(label[m], pctr[m]) for w, m in zip(weights, mixed, strict=True))
    expected = expected / sum(weights) if weights else math.nan

    found = gauc(label, pctr, user)

    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert gauc(label[::-1], pctr[::-1], user[::-1]) == pytest.approx(found, abs=1e-12, nan_ok=True)


@settings(deadline=None)
@given(rows())
def test_log_loss_is_that_of_scikit_learn(drawn: Rows) -> None:
    """Scores of exactly 0 included: both clip to float32's epsilon."""
    label, pctr, _ = drawn

    assert log_loss(label, pctr) == pytest.approx(sk.log_loss(label, pctr, labels=[0, 1]), rel=1e-6)


@settings(deadline=None)
@given(rows())
def test_normalized_entropy_and_pcoc_are_their_formulas(drawn: Rows) -> None:
    """NE = log loss / entropy of the click rate; PCOC = mean pCTR / click rate; NaN where the divisor is 0."""
    label, pctr, _ = drawn
    rate = float(label.mean())
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate) if 0 < rate < 1 else math.nan

    assert normalized_entropy(label, pctr) == pytest.approx(log_loss(label, pctr) / entropy, rel=1e-5, nan_ok=True)
    assert pcoc(label, pctr) == pytest.approx(float(pctr.mean()) / rate if rate else math.nan, rel=1e-5, nan_ok=True)


@settings(deadline=None)
@given(rows(), st.integers(1, 8))
def test_ece_is_the_mean_gap_of_bins_of_equal_number(drawn: Rows, bins: int) -> None:
    """Against a loop: each score's bin is that of the quantiles at or above it, so that equal scores share one."""
    label, pctr, _ = drawn
    ranked = sorted(pctr.tolist())
    edges = {ranked[math.ceil(len(ranked) * (b / bins)) - 1] for b in range(1, bins)}
    at = np.array([sum(edge < score for edge in edges) for score in pctr.tolist()])
    gaps = [(at == b).sum() * abs(label[at == b].mean() - pctr[at == b].mean()) for b in set(at.tolist())]

    assert ece(label, pctr, bins=bins) == pytest.approx(sum(gaps) / len(label), abs=1e-6)


def test_ece_of_one_bin_is_the_gap_of_the_means() -> None:
    """Half of the rows are clicked, all are given 0.7: 0.2; right on average in each bin: 0."""
    label = np.float32([1, 0, 1, 0])

    assert ece(label, np.full(4, 0.7, dtype=np.float32)) == pytest.approx(0.2)
    assert ece(label, np.float32([0.2, 0.2, 0.8, 0.8])) == pytest.approx(0.3)
    assert ece(np.float32([1, 0, 1, 0]), np.full(4, 0.5, dtype=np.float32)) == 0.0


def test_rela_impr_is_the_papers_formula() -> None:
    """DIN paper, table 3: 0.6031 against 0.5986 is 4.56 %. A base at chance gives no number."""
    assert rela_impr(0.6031, 0.5986) == pytest.approx(0.0456, abs=5e-5)
    assert rela_impr(0.7, 0.7) == 0.0
    assert math.isnan(rela_impr(0.7, 0.5))


def test_known_values() -> None:
    """A constant score ranks nothing, the right order ranks all, the click rate itself is calibrated with NE 1."""
    label, user = np.float32([1, 0, 0, 1]), np.array([1, 1, 2, 2])
    constant = np.full(4, 0.5, dtype=np.float32)

    assert (auc(label, constant), gauc(label, constant, user)) == (0.5, 0.5)
    assert (auc(label, label), auc(label, 1 - label), gauc(label, label, user)) == (1.0, 0.0, 1.0)
    assert log_loss(label, constant) == pytest.approx(math.log(2))
    assert (normalized_entropy(label, constant), pcoc(label, constant)) == (pytest.approx(1.0), pytest.approx(1.0))


def test_gauc_leaves_the_level_between_users_out() -> None:
    """Right inside each user and wrong between them: AUC 0.5, GAUC 1."""
    label, pctr = np.float32([0, 1, 0, 1]), np.float32([0.1, 0.2, 0.8, 0.9])

    assert auc(label, pctr) == 0.75
    assert gauc(label, pctr, np.array([1, 1, 2, 2])) == 1.0


def test_scores_that_are_no_numbers_rank_nothing() -> None:
    """One NaN among the scores and the AUC is NaN: a net that diverged must not look like a ranking."""
    label, user = np.float32([0, 1, 0, 1]), np.array([1, 1, 2, 2])

    assert math.isnan(auc(label, np.float32([0.1, np.nan, 0.3, 0.4])))
    assert math.isnan(auc(label, np.full(4, np.nan, dtype=np.float32)))
    assert math.isnan(gauc(label, np.float32([0.1, np.nan, 0.3, 0.4]), user))


def test_all_metrics_names_every_figure() -> None:
    """The table that evaluation stores: each figure under its name, rows and click rate beside them."""
    label, pctr, user = np.float32([1, 0, 0, 1]), np.float32([0.7, 0.2, 0.6, 0.5]), np.array([1, 1, 2, 2])

    assert all_metrics(label, pctr, user) == {
        "auc": auc(label, pctr),
        "gauc": gauc(label, pctr, user),
        "log_loss": log_loss(label, pctr),
        "ne": normalized_entropy(label, pctr),
        "pcoc": pcoc(label, pctr),
        "ece": ece(label, pctr),
        "rows": 4.0,
        "click_rate": 0.5,
    }
