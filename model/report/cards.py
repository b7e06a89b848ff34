"""The charts of the page: what each shows, how it is read, and its key."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from model.report.charts import Chart, HeatMap, padded

Table = dict[str, Any]  # JSON
_MOST_SCORE_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Card:
    """One chart under its title. `key` is (CSS class, what it stands for)."""

    title: str
    how: str
    svg: Markup
    key: tuple[tuple[str, str], ...] = ()


def cards(report: Table) -> dict[str, list[Card]]:
    """The charts by the page's section; those of scores show the test split if it was evaluated, else validation."""
    splits = report["splits"]
    shown = "test" if "test" in splits else "valid"
    return {
        "training": list(_learning(report["training"]["evaluations"])),
        "scores": [_roc(splits), _calibration(splits[shown], shown), _scores(splits[shown], shown)],
        "slices": [
            _buckets(splits, "by_history_length", "AUC by history length", "behaviors in the history"),
            _buckets(splits, "by_activity", "AUC by user activity", "impressions of the user in training"),
        ],
        "attention": [_attention(seen) for seen in report.get("attention", [])],
    }


def _learning(evaluations: list[Table]) -> Iterator[Card]:
    for name, said in (("auc", "AUC"), ("log_loss", "log loss")):
        known = [(row["epoch"], row[name]) for row in evaluations if row.get(name) is not None]
        if not known:
            continue
        xs, ys = [x for x, _ in known], [y for _, y in known]
        chart = _chart(f"{said} while training", f"{len(known)} evaluations", x=(0.0, max(xs)), y=padded(ys))
        chart.x_label, chart.y_label = "epoch", f"{said}, validation"
        chart.line((xs, ys), css="one")
        chart.dots((xs, ys), css="one", tips=[f"epoch {x:.2f}: {y:.4f}" for x, y in known])
        best = "highest" if name == "auc" else "lowest"
        yield _card(
            chart,
            f"Of the raw scores after each evaluation. The {'weights of the ' if name == 'auc' else ''}"
            f"{best} value {'are kept' if name == 'auc' else 'is best'}.",
        )


def _roc(splits: Table) -> Card:
    chart = _chart("ROC", "true against false positive rate", x=(0.0, 1.0), y=(0.0, 1.0))
    chart.x_label, chart.y_label = "false positive rate", "true positive rate"
    chart.line(([0, 1], [0, 1]), css="chance")
    names = [name for name in ("valid", "test", "train") if name in splits]
    for css, name in zip(("one", "two", "three"), names, strict=False):
        chart.line((splits[name]["roc"]["fpr"], splits[name]["roc"]["tpr"]), css=css, name=name)
    key = tuple(zip(("one", "two", "three"), names, strict=False))
    return _card(chart, "The further above the diagonal, the better clicks are ranked.", key)


def _calibration(split: Table, name: str) -> Card:
    curves = split["calibration_curve"]
    most = max((max(p["pctr"], p["click_rate"]) for c in curves.values() for p in c), default=1.0)
    end = min(most * 1.05, 1.0) or 1.0
    chart = _chart("Calibration", "click rate against mean pCTR in 15 bins", x=(0.0, end), y=(0.0, end))
    chart.x_label, chart.y_label = "mean pCTR", "click rate"
    chart.line(([0, end], [0, end]), css="chance")
    for css, when in (("two", "before"), ("one", "after")):
        xs, ys = ([point[side] for point in curves[when]] for side in ("pctr", "click_rate"))
        chart.line((xs, ys), css=css)
        tips = [
            f"{when}: pCTR {p['pctr']:.4f}, click rate {p['click_rate']:.4f}, {p['rows']:,} rows" for p in curves[when]
        ]
        chart.dots((xs, ys), css=css, tips=tips)
    key = (("two", "before calibration"), ("one", "after"))
    return _card(chart, f"On the diagonal a pCTR means what it says. Bins of equal number of rows, {name} split.", key)


def _scores(split: Table, name: str) -> Card:
    found = split["score_distribution"]
    shares = {kind: [count / max(sum(found[kind]), 1) for count in found[kind]] for kind in ("not_clicked", "clicked")}
    top = max(max(values) for values in shares.values()) * 1.08 or 1.0
    chart = _chart("Score distribution", "share of rows by pCTR", x=(0.0, 1.0), y=(0.0, top))
    chart.x_label, chart.y_label = "pCTR", "share of the class"
    for css, kind in (("two", "not_clicked"), ("one", "clicked")):
        chart.area(found["edges"], shares[kind], css=css, name=kind.replace("_", " "))
    key = (("one", "clicked"), ("two", "not clicked"))
    return _card(chart, f"The less the two overlap, the better. {name.capitalize()} split.", key)


def _buckets(splits: Table, slices: str, title: str, x_label: str) -> Card:
    names = [name for name in ("valid", "test") if name in splits]
    buckets = _in_order([row["bucket"] for name in names for row in splits[name][slices]])
    known = [row["auc"] for name in names for row in splits[name][slices] if row["auc"]["value"] is not None]
    ends = [value for auc in known for value in auc.values() if value is not None]
    low, high = padded([*ends, 0.5]) if ends else (0.0, 1.0)
    alt = "AUC with its 95 % interval per bucket"
    chart = _chart(title, alt, x=(-0.5, max(len(buckets), 1) - 0.5), y=(max(low, 0.0), min(high, 1.0)))
    chart.names, chart.x_label, chart.y_label = buckets, x_label, "AUC"
    chart.line(([-0.5, len(buckets) - 0.5], [0.5, 0.5]), css="chance", name="chance")
    for i, (css, name) in enumerate(zip(("one", "two"), names, strict=False)):
        for row in splits[name][slices]:
            _bucket(chart, row, at=buckets.index(row["bucket"]) + (i - (len(names) - 1) / 2) * 0.24, css=css)
    key = tuple(zip(("one", "two"), names, strict=False))
    return _card(chart, "Dots are AUC, bars its 95 % interval by a bootstrap over users. 0.5 is chance.", key)


def _bucket(chart: Chart, row: Table, *, at: float, css: str) -> None:
    auc = row["auc"]
    if auc["value"] is None:
        return
    if auc["low"] is not None:
        chart.whisker(at, auc["low"], auc["high"], css=css)
    tip = f"{row['bucket']}: AUC {auc['value']:.4f}, {row['rows']:,} rows, {row['users']:,} users"
    chart.dots(([at], [auc["value"]]), css=css, tips=[tip])


def _in_order(buckets: list[str]) -> list[str]:
    return sorted(set(buckets), key=lambda name: int(name.rstrip("+").partition("-")[0]))


def _attention(seen: Table) -> Card:
    title = f"A history of {seen['history_length']} behaviors"
    drawn = HeatMap(
        title=title,
        rows=seen["candidates"],
        columns=seen["behaviors"],
        values=seen["weights"],
        x_label="newest behaviors, oldest first",
        y_label="candidate",
    )
    low, most = drawn.ends
    how = f"Weights from {low:.4f} (lightest) to {most:.4f} (darkest). Item ids are those of the log."
    return Card(title=title, how=how, svg=Markup(drawn.svg()))


def _chart(title: str, alt: str, *, x: tuple[float, float], y: tuple[float, float]) -> Chart:
    return Chart(title=title, alt=alt, x_label="", y_label="", x=x, y=y)


def _card(chart: Chart, how: str, key: tuple[tuple[str, str], ...] = ()) -> Card:
    return Card(title=chart.title, how=how, svg=Markup(chart.svg()), key=key)
