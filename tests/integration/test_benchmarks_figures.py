"""The figures of the benchmarks follow from what was counted."""

import numpy as np

from benchmarks.load_answers import ClosedPoint, OpenPoint
from benchmarks.serve_loops import Results
from benchmarks.serve_peers import OURS, PEERS
from benchmarks.serve_report import best_peer, markdown, metrics
from benchmarks.soak import fit
from service.bench.answers import KINDS, Answer


def closed(rate: float, *, p50_ms: float = 10.0, connections: int = 1) -> ClosedPoint:
    counts = {**dict.fromkeys(KINDS, 0), "ok": int(rate)}
    return ClosedPoint(
        candidates=500, connections=connections, seconds=500, answered=counts, p50_ms=p50_ms, p99_ms=2 * p50_ms, cpu_s=1
    )


def test_each_system_is_compared_at_its_own_best_setting():
    """Throughput: the highest over the connections. p50: the lowest peer at one connection."""
    results = Results(failed={"ray": "no such package"})
    results.closed = {
        (OURS, "din", 500, 1): [closed(40_000, p50_ms=8)],
        (OURS, "din", 500, 4): [closed(60_000, connections=4)],
        ("mosec", "din", 500, 1): [closed(12_000, p50_ms=40)],
        ("mosec", "din", 500, 4): [closed(20_000, connections=4), closed(10_000), closed(20_000)],
        ("baseline-1", "din", 500, 1): [closed(15_000, p50_ms=24)],
    }
    figures = metrics(results)

    assert "mosec" == best_peer(results, "din", 500)
    assert (3.0, 0.333) == (figures["din_500_throughput_over_best_peer"], figures["din_500_p50_over_best_peer"])
    page = markdown(results, figures, header="# x")
    assert f"{PEERS['ray'].title}: **not measured**: no such package" in page


def test_a_peer_that_answered_nothing_is_no_measure():
    """Nothing is divided by the zeros of a load without an answer, and the page can still be written."""
    results = Results()
    results.closed = {(OURS, "din", 500, 1): [closed(40_000)], ("mosec", "din", 500, 1): [closed(0, p50_ms=0)]}
    figures = metrics(results)

    assert figures["din_500_throughput_over_best_peer"] is None
    assert figures["din_500_p50_over_best_peer"] is None
    assert "| mosec, 2 workers | 1 | 0 |" in markdown(results, figures, header="# x")


def test_overload_figures_come_from_the_right_answers():
    """p99 of accepted requests at 120 % over 80 %; refusals by their own latency; everything else is an error."""

    def point(share: float, kinds: dict[str, float]) -> OpenPoint:
        answers = [Answer(index=i, intended_s=0, latency_s=s, kind=k) for i, (k, s) in enumerate(kinds.items())]
        return OpenPoint(candidates=500, rate=1, seconds=1, answers=answers, share=share)

    results = Results()
    results.opened[OURS, "din", 500] = [
        point(0.8, {"ok": 0.02}),
        point(1.2, {"ok": 0.03, "refused": 0.004, "late": 0.2, "lost": 10}),
    ]
    figures = metrics(results)

    assert (1.5, 4.0, 2) == tuple(figures[n] for n in ("din_500_p99_120_over_80", "refused_p99_ms", "other_errors"))


def test_a_slope_is_found_with_its_error():
    """A line with noise of known size: the slope within four of its standard errors."""
    rng, seconds = np.random.default_rng(0), np.arange(0, 600, 5.0)
    line = fit(np.stack([seconds, 300 + 0.02 * seconds + rng.normal(0, 1, len(seconds))], axis=1))

    assert abs(line.slope - 0.02) < 4 * line.error
    assert 0 < line.error < 0.002
