"""Calibration: fitted as scikit-learn would, monotone to the last bit, the same curve in numpy and in the graph."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from model.bundle.calibration import UNCALIBRATED, Calibration, Method, sigmoid
from model.bundle.errors import BundleError
from model.bundle.manifest import Half, Manifest
from model.calibration import METHODS, cross_fitted, fit_calibration, isotonic, platt
from model.data.downsample import downsampled
from model.metrics import auc, ece, log_loss
from model.nets.calibrated import CalibratedSigmoid

ROWS = 20_000


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of an overconfident net, and clicks whose true log odds bend away from them."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1.5, ROWS).astype(np.float32)
    chance = 1 / (1 + np.exp(-(0.4 * logit + 0.5 * np.tanh(logit) - 0.4)))
    return logit, (rng.random(ROWS) < chance).astype(np.float32)


@st.composite
def curves(draw: st.DrawFn) -> Calibration:
    """Any calibration that is fitted: slopes from 0.02 to 8, knots a hair apart included."""
    slopes, steps = st.floats(0.02, 8), st.floats(1e-3, 1)
    pieces = draw(st.lists(st.tuples(steps, slopes), min_size=1, max_size=24))
    width, slope = np.array(pieces).T
    x, y = np.cumsum(width) - draw(st.floats(-5, 15)), np.cumsum(width * slope) - draw(st.floats(-5, 15))
    below, above, rate = draw(slopes), draw(slopes), draw(st.floats(1e-3, 1))
    return Calibration(kind="isotonic", x=tuple(x), y=tuple(y), below=below, above=above, negative_sampling_rate=rate)


def test_platt_is_the_logistic_regression_of_scikit_learn() -> None:
    """On 20,000 rows Platt's smoothed targets hardly count: slope and bias agree to 1e-3."""
    logit, label = drawn()
    expected = LogisticRegression(C=np.inf).fit(logit[:, None], label)

    slope, bias = platt(logit.astype(np.float64), label)

    assert slope == pytest.approx(expected.coef_[0, 0], abs=1e-3)
    assert bias == pytest.approx(expected.intercept_[0], abs=1e-3)


def test_platt_has_an_answer_for_separable_rows_and_for_a_net_that_ranks_backwards() -> None:
    """The slope stays finite, and above 0, so that the order of scores stays."""
    logit = np.linspace(-3, 3, 50)
    label = (logit > 0).astype(np.float32)

    assert 1 < platt(logit, label)[0] < 100
    assert 0 < platt(logit, 1 - label)[0] < 0.1


def test_isotonic_is_the_pooling_of_scikit_learn() -> None:
    """The blocks' click rates are those of the isotonic regression of the same bins, and both arrays increase."""
    logit, label = drawn()
    raw = logit.astype(np.float64)
    at = np.searchsorted(np.quantile(raw, np.linspace(0, 1, 25)[1:-1]), raw, side="right")
    rows, clicks = np.bincount(at), np.bincount(at, weights=label)
    rates = (clicks + 0.5) / (rows + 1)
    expected = np.unique(IsotonicRegression().fit_transform(np.arange(24), rates, sample_weight=rows).round(9))

    x, y = isotonic(raw, label)

    np.testing.assert_allclose(1 / (1 + np.exp(-y)), expected, atol=1e-8)
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 400), st.sampled_from(METHODS))
def test_no_method_turns_the_order_around(seed: int, rows: int, method: Method) -> None:
    """For any labels, few rows and many ties included: a higher logit never gets a lower calibrated one."""
    rng = np.random.default_rng(seed)
    logit = np.round(rng.normal(0, 3, rows), 1).astype(np.float32)
    curve = fit_calibration(method, logit, label=(rng.random(rows) < 0.3).astype(np.float32))
    at = np.unique(logit).astype(np.float64)

    assert (np.diff(curve.logit(at)) > 0).all()


@settings(deadline=None)
@given(curves(), st.integers(0, 2**32))
def test_the_graph_has_the_curve_of_numpy(curve: Calibration, seed: int) -> None:
    """To 1e-5 of pCTR, inside the knots and far beyond, and increasing in float32 as well."""
    logit = np.sort(np.random.default_rng(seed).normal(0, 6, 300)).astype(np.float32)

    found = CalibratedSigmoid(curve)(torch.from_numpy(logit)).numpy()

    np.testing.assert_allclose(found, curve.pctr(logit), atol=1e-5)
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibration_makes_pctr_mean_what_it_says_and_leaves_auc_alone(method: Method) -> None:
    """On rows that it was not fitted on: ECE at most a third, log loss lower, AUC the same to 1e-5."""
    (logit, label), (fresh, clicked) = drawn(0), drawn(1)
    before = UNCALIBRATED.pctr(fresh)

    after = fit_calibration(method, logit, label=label).pctr(fresh)

    assert ece(clicked, after) < ece(clicked, before) / 3
    assert log_loss(clicked, after) < log_loss(clicked, before)
    assert auc(clicked, after) == pytest.approx(auc(clicked, before), abs=1e-5)


def test_isotonic_follows_a_bend_that_platt_cannot() -> None:
    """Where the true odds are no straight line of the logit, its log loss on fresh rows is lower."""
    rng = np.random.default_rng(5)
    logit = rng.uniform(-4, 4, 2 * ROWS).astype(np.float32)
    label = (rng.random(2 * ROWS) < np.where(logit > 0, 0.6, 0.1) + 0.02 * logit).astype(np.float32)
    losses = {
        method: log_loss(label[ROWS:], fit_calibration(method, logit[:ROWS], label=label[:ROWS]).pctr(logit[ROWS:]))
        for method in METHODS
    }

    assert losses["isotonic"] < losses["platt"] < losses["none"]


@settings(deadline=None)
@given(st.floats(0.001, 0.999), st.floats(0.001, 1))
def test_the_downsampling_correction_is_the_papers_formula(pctr: float, rate: float) -> None:
    """q = p / (p + (1 - p) / w), He et al., section 6.3; in the graph as well."""
    logit = np.array([math.log(pctr / (1 - pctr))])
    curve = Calibration(negative_sampling_rate=rate)
    expected = pctr / (pctr + (1 - pctr) / rate)

    assert curve.pctr(logit)[0] == pytest.approx(expected, abs=1e-6)
    assert CalibratedSigmoid(curve)(torch.from_numpy(logit).float())[0].item() == pytest.approx(expected, abs=1e-6)


def test_downsampling_keeps_every_click_and_the_share_of_the_rest() -> None:
    """The same draw for the same seed, the rows in their order, and nothing changed at rate 1."""
    frame = pl.DataFrame({"label": [1, 0, 0, 0] * 5_000, "place": range(20_000)})

    kept = downsampled(frame, label="label", rate=0.2, rng=np.random.default_rng(3))

    assert (kept["label"] == 1).sum() == 5_000
    assert (kept["label"] == 0).sum() == pytest.approx(3_000, abs=200)
    assert kept["place"].is_sorted()
    assert kept.equals(downsampled(frame, label="label", rate=0.2, rng=np.random.default_rng(3)))
    assert downsampled(frame, label="label", rate=1.0, rng=np.random.default_rng(3)) is frame


@pytest.mark.parametrize("method", METHODS)
def test_nothing_can_be_fitted_on_one_class_or_on_nan(method: Method) -> None:
    """Then only the correction for downsampling is left, and export does the refusing."""
    logit = np.float32([0.1, 0.2, 0.3])
    left = Calibration(negative_sampling_rate=0.5)

    assert fit_calibration(method, logit, label=np.ones(3), negative_sampling_rate=0.5) == left
    assert fit_calibration(method, logit * np.nan, label=np.float32([0, 1, 0]), negative_sampling_rate=0.5) == left


def test_cross_fitting_scores_each_half_by_the_curve_of_the_other() -> None:
    """Changing the labels of one half of the users changes no score of that half."""
    logit, label = drawn()
    user = np.arange(ROWS) // 4
    half = user % 2 == 0
    flipped = np.where(half, 1 - label, label)

    first, second = (cross_fitted("isotonic", logit, label=labels, user=user, rate=1.0) for labels in (label, flipped))

    np.testing.assert_array_equal(first[half], second[half])
    assert np.abs(first[~half] - second[~half]).max() > 0.05


def test_no_calibration_is_the_plain_sigmoid() -> None:
    """Bit for bit in the graph, so that bundles without calibration stay as they were."""
    logit = torch.linspace(-20, 20, 101)

    assert UNCALIBRATED.identity
    assert torch.equal(CalibratedSigmoid(UNCALIBRATED)(logit), torch.sigmoid(logit))
    np.testing.assert_allclose(sigmoid(logit.double().numpy()), torch.sigmoid(logit.double()).numpy(), atol=1e-15)


@pytest.mark.parametrize(
    "wrong",
    [
        {"x": (0.0, 0.0), "y": (0.0, 1.0)},
        {"x": (0.0, 1.0), "y": (1.0, 0.5)},
        {"x": (0.0, 1.0), "y": (1.0,)},
        {"x": (), "y": ()},
        {"x": (0.0,), "y": (math.inf,)},
        {"below": 0.0},
        {"negative_sampling_rate": 0.0},
        {"slope": 1.0},
    ],
)
def test_a_curve_that_is_none_is_refused(wrong: dict[str, object], bundle_manifest: Manifest) -> None:
    """Knots that do not increase, slopes of 0 and unknown keys: the bundle is refused and the reason names it."""
    broken = replace(bundle_manifest, calibration={"kind": "isotonic", **wrong})

    with pytest.raises(BundleError, match="calibration"):
        broken.parsed_calibration()


@pytest.fixture
def bundle_manifest() -> Manifest:
    """A manifest of nothing."""
    half = Half(file="x.onnx", inputs=(), outputs=())
    return Manifest(
        format_version=1,
        name="n",
        version="v",
        net={},
        schema={},
        user_half=half,
        candidate_half=half,
        candidate_tile=0,
    )
