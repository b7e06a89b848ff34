"""Results as figures beside their targets, and as a Markdown page."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.load_answers import ClosedPoint, OpenPoint
from benchmarks.serve_loops import Results
from benchmarks.serve_peers import OURS, PEERS
from service.bench.answers import Kind

TARGETS: dict[str, list[str | float]] = {
    "din_500_throughput_over_best_peer": [">=", 3.5],
    "din_500_p50_over_best_peer": ["<=", 0.334],
    "dien_500_throughput_over_best_peer": [">=", 2.8],
    "outside_compute_ms_p50_500": ["<=", 1.2],
    "din_500_p99_120_over_80": ["<=", 2.0],
    "refused_p99_ms": ["<=", 5],
    "other_errors": ["<=", 0],
}
Metrics = dict[str, float | None]
_COUNTED: tuple[Kind, ...] = ("refused", "degraded", "late", "other", "lost")


def metrics(results: Results) -> Metrics:
    """The figures of the last line. None: not measured in this run, or there was nothing to measure."""
    out: Metrics = dict.fromkeys(TARGETS)
    for kind, count in sorted({key[1:3] for key in results.closed}):
        out |= _against_peers(results, kind, count)
    for (kind, count), timings in results.timings.items():
        if timings and kind == "din":
            out[f"outside_compute_ms_p50_{count}"] = round(median(t["total"] - t["compute"] for t in timings), 3)
    mine = {key[1:]: points for key, points in results.opened.items() if key[0] == OURS}
    if mine:
        out |= _open_metrics(mine)
    closed = [p for key, points in results.closed.items() if key[0] == OURS for p in points]
    out["systems_not_measured"] = len(results.failed)
    return out | {f"closed_{name}": sum(p.counts[name] for p in closed) for name in _COUNTED}


def summary(points: Sequence[ClosedPoint]) -> dict[str, float]:
    """Medians over the rounds; `spread` is (highest - lowest) / median of the throughput."""
    per_s = [p.per_s for p in points]
    middle = median(per_s)
    return {
        "per_s": middle,
        "spread": (max(per_s) - min(per_s)) / middle if middle else 0.0,
        "p50_ms": median(p.p50_ms for p in points),
        "p99_ms": median(p.p99_ms for p in points),
        "cpu_per_1000": median(p.cpu_per_1000 for p in points),
        "rss_mb": median(p.rss_mb for p in points),
    }


def best_peer(results: Results, kind: str, count: int) -> str | None:
    """The peer with the most candidates per second at its own best number of connections."""
    rates = {name: rate for name, rate in _best_rates(results, kind, count).items() if name != OURS}
    return max(rates, key=lambda name: rates[name]) if rates else None


def _best_rates(results: Results, kind: str, count: int) -> dict[str, float]:
    rates: dict[str, float] = {}
    for (name, net, candidates, _), points in results.closed.items():
        if (net, candidates) == (kind, count):
            rates[name] = max(rates.get(name, 0.0), summary(points)["per_s"])
    return rates


def _against_peers(results: Results, kind: str, count: int) -> Metrics:
    out: Metrics = {}
    rates, peer = _best_rates(results, kind, count), best_peer(results, kind, count)
    if OURS in rates:
        out[f"{kind}_{count}_candidates_per_s"] = round(rates[OURS])
    if OURS in rates and peer and rates[peer]:
        out[f"{kind}_{count}_throughput_over_best_peer"] = round(rates[OURS] / rates[peer], 3)
    at_one = {key[0]: summary(points) for key, points in results.closed.items() if key[1:] == (kind, count, 1)}
    alone = {name: s["p50_ms"] for name, s in at_one.items() if s["per_s"]}  # without an answer there is no latency
    peers = [p50 for name, p50 in alone.items() if name != OURS]
    if OURS in alone:
        out[f"{kind}_{count}_p50_ms"] = round(alone[OURS], 3)
    if OURS in alone and peers:
        out[f"{kind}_{count}_p50_over_best_peer"] = round(alone[OURS] / min(peers), 3)
    return out


def _open_metrics(mine: dict[tuple[str, int], list[OpenPoint]]) -> Metrics:
    out: Metrics = {}
    for (kind, count), points in mine.items():
        by_share = {p.share: p.percentile_ms("ok", 99) for p in points}
        low, high = by_share.get(0.8), by_share.get(1.2)
        out[f"{kind}_{count}_p99_120_over_80"] = round(high / low, 3) if low and high else None
    over = [p for points in mine.values() for p in points]
    refused = [ms for p in over if (ms := p.percentile_ms("refused", 99)) is not None]
    out["refused_p99_ms"] = round(max(refused), 3) if refused else None
    out["other_errors"] = sum(p.counts[kind] for p in over for kind in ("late", "other", "lost"))
    out["open_degraded"] = sum(p.counts["degraded"] for p in over)
    out["open_refused"] = sum(p.counts["refused"] for p in over)
    return out


def markdown(results: Results, figures: Metrics, *, header: str) -> str:
    """The whole page."""
    parts = [header, "## Targets", _targets(figures)]
    for kind, count in sorted({key[1:3] for key in results.closed}):
        parts += [f"## Closed loop, {kind.upper()}, {count} candidates", _closed_table(results, kind, count)]
    if results.opened:
        parts += ["## Open loop (Poisson)", _open_table(results)]
    if results.timings:
        parts += ["## Where our time goes at one connection, medians in ms", _phases_table(results)]
    failed = [f"- {_title(name)}: **not measured**: {' '.join(why.split())}" for name, why in results.failed.items()]
    parts += ["## Systems that did not run", "\n".join(failed) or "None: every system that was asked for ran."]
    different = [f"- {_title(name)}: {off:.1e}" for name, off in results.differences.items()]
    parts += ["## Largest difference from the naive graph's scores", "\n".join(different)]
    return "\n\n".join(parts) + "\n"


def _targets(figures: Metrics) -> str:
    rows = ["| figure | measured | target | |", "|---|---|---|---|"]
    for name, (sign, bound) in TARGETS.items():
        found = figures.get(name)
        if found is None:
            rows.append(f"| `{name}` | not measured | {sign} {bound} | |")
            continue
        held = found >= float(bound) if sign == ">=" else found <= float(bound)
        rows.append(f"| `{name}` | {found} | {sign} {bound} | {'held' if held else '**missed**'} |")
    return "\n".join(rows)


def _closed_table(results: Results, kind: str, count: int) -> str:
    rows = [
        "| system | connections | candidates/s | spread | p50 ms | p99 ms | CPU s per 1000 | RSS MB | not ok |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, net, candidates, connections), points in sorted(
        results.closed.items(), key=lambda item: (item[0][0] != OURS, item[0][0])
    ):
        if (net, candidates) == (kind, count):
            s = summary(points)
            totals = {kind_: sum(p.counts[kind_] for p in points) for kind_ in points[0].counts}
            rows.append(
                f"| {_title(name)} | {connections} | {s['per_s']:,.0f} | {s['spread']:.0%} | {s['p50_ms']:.1f}"
                f" | {s['p99_ms']:.1f} | {s['cpu_per_1000']:.3f} | {s['rss_mb']:,.0f} | {_not_ok(totals)} |"
            )
    return "\n".join(rows)


def _open_table(results: Results) -> str:
    rows = [
        "| system | net | candidates | load | requests/s | accepted/s | p50 ms | p99 ms | refused p50 / p99 ms "
        "| CPU s per 1000 | RSS MB | not ok |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, kind, count), points in results.opened.items():
        for p in points:
            refused = f"{_ms(p.percentile_ms('refused', 50))} / {_ms(p.percentile_ms('refused', 99))}"
            rows.append(
                f"| {_title(name)} | {kind.upper()} | {count} | {p.share:.0%} | {p.rate:.1f}"
                f" | {p.counts['ok'] / p.seconds:.1f} | {_ms(p.percentile_ms('ok', 50))}"
                f" | {_ms(p.percentile_ms('ok', 99))} | {refused} | {p.cpu_per_1000:.3f} | {p.rss_mb:,.0f}"
                f" | {_not_ok(p.counts)} |"
            )
    return "\n".join(rows)


def _phases_table(results: Results) -> str:
    rows: list[str] = []
    for (kind, count), timings in results.timings.items():
        phases = {phase: median(t[phase] for t in timings) for phase in timings[0]}
        if not rows:
            rows = [
                "| net | candidates | " + " | ".join(phases) + " | total - compute |",
                "|---|---|" + "---|" * (len(phases) + 1),
            ]
        outside = median(t["total"] - t["compute"] for t in timings)
        told = " | ".join(f"{ms:.2f}" for ms in phases.values())
        rows.append(f"| {kind.upper()} | {count} | {told} | {outside:.2f} |")
    return "\n".join(rows)


def _title(name: str) -> str:
    return "**CTR Scorer**" if name == OURS else PEERS[name].title


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _not_ok(counts: Mapping[Kind, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in counts.items() if n and kind != "ok") or "-"
