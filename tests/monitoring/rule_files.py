"""The rules, their tests and the dashboard as data, for the tests that compare them with each other."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "monitoring"
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"

Table = dict[str, Any]


@cache
def read(path: Path) -> Any:
    """A YAML file; nobody changes what it gives."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[Table]:
    """All recording and alerting rules."""
    return [
        rule for path in sorted(FOLDER.glob("rules/*.yml")) for group in read(path)["groups"] for rule in group["rules"]
    ]


def alerts() -> list[Table]:
    """The alerting rules."""
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> dict[str, str]:
    """The recording rules, name -> expression."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def cases() -> Iterator[tuple[Table, Table]]:
    """Every case of promtool's tests, with each of its expectations."""
    for path in sorted(FOLDER.glob("tests/*.yml")):
        for case in read(path)["tests"]:
            for expectation in case["alert_rule_test"]:
                yield case, expectation


def dashboard() -> Table:
    """The committed dashboard."""
    return json.loads((FOLDER / "grafana" / "dashboards" / "ctr-scorer.json").read_text(encoding="utf-8"))


def panels() -> list[Table]:
    """Its panels, without the headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Its queries, by title and number."""
    return {f"{p['title']} {target['refId']}": target["expr"] for p in panels() for target in p["targets"]}


def series_in(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Metrics that an expression names, with the matchers `=` and `!=` of each."""
    bare = re.sub(r"\[[^\]]*\]", "", expression)
    found = re.findall(r"(?<![\w:\"])((?:ctr|process|python)_\w+|up|ALERTS)(?![\w:(])(?:\{([^}]*)\})?", bare)
    return [(name, dict(re.findall(r'(\w+)!?="([^"]*)"', matchers))) for name, matchers in found]


def recorded_in(expression: str) -> set[str]:
    """Recorded series that an expression names."""
    return set(re.findall(r"\b\w+:\w+:\w+\b", expression))
