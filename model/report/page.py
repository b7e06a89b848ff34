"""A run's report as two files: `report.json`, every figure, and `report.html`, one page that asks nobody for anything.

The page is a pure function of the figures: no time stamps, no paths, no random names, so equal runs give equal bytes.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from model.report.cards import cards

REPORT_JSON, REPORT_HTML = "report.json", "report.html"
_TEMPLATE = "page.html.j2"

Table = dict[str, Any]  # JSON


def report_files(report: Table) -> dict[str, bytes]:
    """Both files by name; none for an empty report."""
    if not report:
        return {}
    plain = _plain(report)
    text = json.dumps(plain, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return {REPORT_JSON: text.encode(), REPORT_HTML: render(plain).encode()}


def render(report: Table) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"day": _day, "figure": figure}
    settings = {
        section: _flat(report["config"][section])
        for section in ("net", "train", "calibration", "data")
        if section in report["config"]
    }
    return environment.get_template(_TEMPLATE).render(report=report, cards=cards(report), settings=settings)


def figure(value: float | None) -> str:
    """Four decimals, thousands separated; a dash for what is not known."""
    if value is None:
        return "–"  # noqa: RUF001  # a dash that stands for no number
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys of nested tables, so that each is a row."""
    rows: dict[str, Any] = {}
    for key, value in table.items():
        rows |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return rows


def _plain(value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """The same with sorted keys, and None for what is no number: JSON has no NaN.

    Sorted, so that a report read back from its file gives the same page.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
