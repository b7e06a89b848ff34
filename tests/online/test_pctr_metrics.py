"""Scores against those of training: the histogram in the manifest, the index, and what is remembered of requests."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from prometheus_client import CollectorRegistry

from model.bundle.distribution import EDGES, counts_up_to, distribution
from service.bundle_metrics import BundleFacts
from service.drift import ENOUGH, GROUPS, WINDOW, Expected, Memory
from service.metrics import Metrics
from service.pctr_metrics import PctrMetrics
from service.process import Place
from service.recent_scores import RecentScores

RNG = np.random.default_rng(0)


def scores(count: int, *, mean: float = -4.0, deviation: float = 1.0) -> np.ndarray:
    """pCTR whose logits are normal."""
    return (1 / (1 + np.exp(-RNG.normal(mean, deviation, count)))).astype(np.float32)


def psi(table: dict[str, object], pctr: np.ndarray) -> float:
    """The index of `pctr` against a manifest's table."""
    expected = Expected.read(table)
    return expected.psi(counts_up_to(pctr, expected.ends).astype(np.float64))


@settings(deadline=None)
@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32)))
def test_every_row_is_in_one_bin(pctr: np.ndarray):
    """Whatever the scores, the bins of the manifest hold each of them once, and its edges rise from 0 to 1."""
    table = distribution(pctr, split="valid")
    inner = np.array(table["edges"][1:-1], dtype=np.float32)
    expected = [int(np.sum(np.searchsorted(inner, pctr) == b)) for b in range(len(inner) + 1)]
    assert table["counts"] == expected
    assert sum(table["counts"]) == len(pctr)
    assert table["edges"] == sorted(set(table["edges"]))
    assert {0.0, 1.0, *EDGES} <= set(table["edges"])


@pytest.mark.parametrize("deviation", [1.0, 0.002])
def test_groups_are_tenths_however_close_scores_are(deviation: float):
    """Scores that all lie between two of the fixed edges are told apart as well as others."""
    pctr = scores(5000, deviation=deviation)
    table = distribution(pctr, split="valid")
    expected = Expected.read(table)
    ends = [0, *counts_up_to(pctr, expected.ends[:9]).tolist(), 5000]
    assert np.abs(np.diff(ends) / 5000 - 0.1).max() < 0.02
    assert psi(table, pctr) == pytest.approx(0, abs=1e-3)
    assert psi(table, scores(5000, deviation=deviation)) < 0.02
    assert psi(table, scores(5000, mean=-4 + 0.7 * deviation, deviation=deviation)) > 0.3


def test_a_score_that_is_rounded_otherwise_stays_in_its_group():
    """No edge lies on a score: one that came up to the last bit otherwise would move all that equal it."""
    pctr = np.repeat(scores(12), 100)
    table = distribution(pctr, split="valid")
    moved = np.nextafter(np.nextafter(pctr, np.float32(1)), np.float32(1))
    assert psi(table, moved) == psi(table, pctr)


def test_the_index_is_that_of_the_formula():
    """Two groups, by hand."""
    table = {"edges": [0.0, 0.5, 1.0], "counts": [30, 10]}
    pctr = np.array([0.1, 0.2, 0.6, 0.7], dtype=np.float32)
    assert psi(table, pctr) == pytest.approx((0.5 - 0.75) * math.log(0.5 / 0.75) + (0.5 - 0.25) * math.log(0.5 / 0.25))


@pytest.mark.parametrize("table", [{}, {"edges": [0.0, 1.0], "counts": [7]}, {"edges": [0, 0.5, 1], "counts": [0, 0]}])
def test_a_manifest_that_tells_nothing_gives_no_index(table: dict[str, object]):
    """Bundles without rows, or with all of them in one bin, are served without."""
    assert Expected.read(table) is None


def test_an_older_manifest_with_twenty_even_bins_is_read():
    """Its edges are others; groups end at those that it has."""
    pctr = scores(5000, mean=-1)
    edges = np.round(np.linspace(0, 1, 21), 6)
    table = {"split": "valid", "edges": edges.tolist(), "counts": np.histogram(pctr, bins=edges)[0].tolist()}
    assert psi(table, pctr) < 1e-3
    assert psi(table, scores(5000, mean=0)) > 0.2


def test_what_is_remembered_fades_by_requests():
    """After WINDOW more requests, those before count 1/e, and no more than WINDOW requests' worth is ever there."""
    memory = Memory()
    old, new = np.full(GROUPS, 3), np.zeros(GROUPS, dtype=np.int64)
    for counts in [old] * 10 * WINDOW + [new] * WINDOW:
        memory.add(counts)
    state, requests = memory.take()
    assert requests == 11 * WINDOW
    assert state[0] == pytest.approx(3 * WINDOW / math.e, rel=0.01)
    assert state[GROUPS] == pytest.approx(WINDOW, rel=0.01)


def place(number: int, folder: Path) -> Place:
    """One among several."""
    return Place(number=number, restarted=False, metrics=folder)


def test_processes_remember_together(tmp_path: Path):
    """Two that share requests remember what one would; one that gets none forgets as fast as the other learns."""
    alone, both = RecentScores(None), [RecentScores(place(number, tmp_path)) for number in (0, 1)]
    kinds = np.array([[2] * GROUPS, [0] * (GROUPS - 1) + [2]])
    for number in range(3 * WINDOW):
        counts = kinds[int(number >= 2 * WINDOW)]
        alone.add("stable", counts)
        both[number % 2 if number < 2 * WINDOW else 0].add("stable", counts)
        if number % 50 == 49:
            for process in both:
                process.refresh()
    alone.refresh()
    for process in both:
        process.refresh()

    assert both[0].summed("stable")[1] == pytest.approx(alone.summed("stable")[1], rel=0.06)
    found = [memory.summed("stable")[0] for memory in (alone, *both)]
    shares = [state[0] / state[-1] for state in found]
    assert shares == pytest.approx([(math.exp(-1) - math.exp(-3)) / (1 - math.exp(-3))] * 3, rel=0.06)


def test_the_sum_is_the_same_before_and_after_a_process_has_faded(tmp_path: Path):
    """Whoever looks, and whenever the others refresh last: the same requests give the same sum."""
    both = [RecentScores(place(number, tmp_path)) for number in (0, 1)]
    for process in both:
        process.add("stable", np.full(GROUPS, 4), requests=100)
        process.refresh()
    before = [process.summed("stable") for process in both]
    both[0].refresh()
    after = [process.summed("stable") for process in both]

    worth = 100 + 100 * (1 - 1 / WINDOW) ** 100
    assert [requests for _, requests in before + after] == pytest.approx([worth] * 4)
    assert np.ptp([counts for counts, _ in before + after], axis=0).max() < 1e-9


def test_a_replacement_begins_anew_and_the_rest_stays(tmp_path: Path):
    """What the dead remembered goes with it; counts of the others are there still."""
    both = [RecentScores(place(number, tmp_path)) for number in (0, 1)]
    for process in both:
        process.add("canary", np.full(GROUPS, 4))
        process.refresh()
    replacement = RecentScores(place(1, tmp_path))
    replacement.refresh()

    assert replacement.summed("canary")[1] == 1
    assert (tmp_path / "scores_1.f64").stat().st_size == (tmp_path / "scores_0.f64").stat().st_size


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample."""
    return metrics.registry.get_sample_value(name, labels)


def metrics_of(table: dict[str, object]) -> Metrics:
    """With a stable bundle whose validation scores are these."""
    metrics = Metrics(CollectorRegistry(), slo_s=0.03, routes=())
    metrics.bundles.serve([BundleFacts(name="a", version="1", role="stable", score_distribution=table)])
    return metrics


def record(pctr: PctrMetrics, arrays_: list[np.ndarray]) -> None:
    """Each as a request of the stable bundle."""
    for one in arrays_:
        pctr.record("stable", one)
    pctr.show()


def test_the_histogram_counts_each_candidate_once():
    """Buckets, count and sum are those of the scores, by role, after each `show`."""
    given = [scores(50) for _ in range(4)]
    metrics = metrics_of(distribution(scores(1000), split="valid"))
    record(metrics.bundles.pctr, given[:2])
    record(metrics.bundles.pctr, given[2:])

    everything = np.concatenate(given)
    for edge in (0.002, 0.02, 0.5):
        found = value(metrics, "ctr_pctr_bucket", role="stable", le=str(edge))
        assert found == (everything <= np.float32(edge)).sum()
    assert value(metrics, "ctr_pctr_count", role="stable") == 200
    assert value(metrics, "ctr_pctr_sum", role="stable") == pytest.approx(everything.sum(), rel=1e-5)
    assert value(metrics, "ctr_pctr_count", role="canary") == 0


def test_the_index_waits_for_enough_and_begins_anew_with_another_bundle():
    """NaN until ENOUGH requests' worth is there; another bundle in the role is compared with its own scores only."""
    table = distribution(scores(5000), split="valid")
    metrics = metrics_of(table)
    record(metrics.bundles.pctr, [scores(20) for _ in range(ENOUGH // 2)])
    early = value(metrics, "ctr_pctr_psi", role="stable")
    record(metrics.bundles.pctr, [scores(20) for _ in range(ENOUGH)])
    later = value(metrics, "ctr_pctr_psi", role="stable")
    metrics.bundles.serve([BundleFacts(name="a", version="1", role="stable", score_distribution=table)])
    unchanged = value(metrics, "ctr_pctr_psi", role="stable")
    metrics.bundles.serve([BundleFacts(name="a", version="2", role="stable", score_distribution=table)])
    swapped = value(metrics, "ctr_pctr_psi", role="stable")

    assert math.isnan(early)
    assert later < 0.05
    assert unchanged == later
    assert math.isnan(swapped)


def test_a_bundle_without_a_distribution_has_a_histogram_and_no_index():
    """It is served and counted like any other."""
    metrics = metrics_of({})
    record(metrics.bundles.pctr, [scores(20) for _ in range(2 * ENOUGH)])
    assert value(metrics, "ctr_pctr_count", role="stable") == 40 * ENOUGH
    assert math.isnan(value(metrics, "ctr_pctr_psi", role="stable"))
