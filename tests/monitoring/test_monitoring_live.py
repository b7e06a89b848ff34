"""A real Prometheus scrapes the real thing under load: every name exists, and every query is answered with data."""

import re
import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.monitoring.prometheus_server import Prometheus, prometheus
from tests.monitoring.rule_files import cases, dashboard, queries, recorded_in, rules, series_in
from tests.monitoring.watched import Watched, watched
from tests.programs import program

PATIENCE_S = 60
RATE_INTERVAL = "10s"  # ten scrapes
PROMETHEUS_OWN = {"up", "ALERTS"}
# Labels that come from the outside or from the first time that something happens, so that not every value is exported.
OPEN_LABELS = {"job", "instance", "name", "version", "alertname", "alertstate"}

Samples = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[tuple[Watched, Prometheus]]:
    """Both, for all tests of this file."""
    program("prometheus")  # before the rest is started
    folder = tmp_path_factory.mktemp("live")
    with watched(folder) as it:
        targets = {"ctr-service": it.service, "ctr-consumer": it.consumer}
        with prometheus(folder, {job: url.removeprefix("http://") for job, url in targets.items()}) as server:
            yield it, server


@pytest.fixture(scope="module")
def exported(live) -> Samples:
    """What service and consumer export: sample name -> label -> values."""
    found: Samples = {}
    for family in text_string_to_metric_families(live[0].exported()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def unknown(expression: str, exported: Samples) -> list[str]:
    """Metrics, labels and label values in an expression that nobody exports."""
    wrong = []
    for name, matchers in series_in(expression):
        labels = exported.get(name)
        if name not in PROMETHEUS_OWN and labels is None:
            wrong.append(name)
        elif labels is not None:
            closed = {label: value for label, value in matchers.items() if label not in OPEN_LABELS}
            wrong += [f"{name}: {label}={v}" for label, v in closed.items() if v not in labels.get(label, set())]
    return wrong


def test_rules_and_dashboard_name_what_is_exported(exported):
    """Every metric, label and value in a rule or a panel is one of a running service or consumer."""
    expressions = [*(rule["expr"] for rule in rules()), *queries().values()]
    assert [e for e in expressions if not series_in(e) and not recorded_in(e) and not e.startswith("vector(")] == []
    assert {wrong for expression in expressions for wrong in unknown(expression, exported)} == set()


def test_the_tests_of_rules_feed_what_is_exported(exported):
    """A rule that is tested with series that nobody exports is not tested."""
    series = {entry["series"] for case, _ in cases() for entry in case["input_series"]}
    assert {wrong for one in series for wrong in unknown(one, exported)} == set()


def test_every_exported_metric_is_on_the_dashboard(exported):
    """Under its own name or one of its samples'."""
    shown = {name for expression in queries().values() for name, _ in series_in(expression)}
    recorded_from = {name for rule in rules() for name, _ in series_in(rule["expr"])}
    own = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported if name.startswith("ctr_")}
    families = {name for name in own if not name.endswith("_created")}
    assert {
        name for name in families if not any(re.fullmatch(rf"{name}(_bucket|_sum|_count)?", s) for s in shown)
    } == set()
    assert recorded_from <= {*exported, *PROMETHEUS_OWN}


def test_prometheus_answers_every_query_of_the_dashboard(live):
    """With a number each, and every rule can be evaluated. The choices of the variables have values too."""
    server = live[1]
    variables = [v["query"] for v in dashboard()["templating"]["list"] if v["type"] == "query"]
    waiting = {title: filled(expression) for title, expression in queries().items()}
    waiting |= {query: filled(query[len("label_values(") :].rpartition(",")[0]) for query in variables}
    until = time.monotonic() + PATIENCE_S
    while waiting and time.monotonic() < until:
        time.sleep(1)
        waiting = {title: query for title, query in waiting.items() if not server.answers(query)}
    states = {
        rule["name"]: rule["lastError"]
        for g in server.get("rules")["groups"]
        for rule in g["rules"]
        if "lastError" in rule
    }

    assert waiting == {}
    assert states == {}


def filled(expression: str) -> str:
    """A query as Grafana would send it, with everything chosen."""
    return expression.replace("$__rate_interval", RATE_INTERVAL).replace("$job", ".*").replace("$instance", ".*")
