"""Rules, their tests, runbooks and dashboard agree with each other; promtool accepts and tests them."""

import re
import subprocess

import pytest

from monitoring.dashboard import FILE, drawn
from service.config import PREFIX, Settings
from tests.monitoring.rule_files import FOLDER, RUNBOOKS, alerts, cases, panels, queries, recorded, recorded_in, rules
from tests.programs import program

FILES = sorted(FOLDER.glob("tests/*.yml"))


def promtool(*arguments: object) -> str:
    """What it says; it must succeed."""
    command = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_configuration_and_rules():
    """Every rule that the files hold is found by way of the configuration."""
    found = re.findall(r"(\d+) rules found", promtool("check", "config", FOLDER / "prometheus.yml"))
    assert sum(map(int, found)) == len(rules())


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_rules_do_what_their_tests_say(path):
    """`promtool test rules`: labels, annotations and moments of every alert that fires or stays silent."""
    promtool("test", "rules", path)


def variants() -> dict[tuple[str, ...], dict[str, str]]:
    """Every alerting rule by its name and its labels."""
    return {(rule["alert"], *sorted(rule["labels"].values())): rule for rule in alerts()}


@pytest.mark.parametrize("fires", [True, False])
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(fires):
    """Of each rule by its own labels, where one name has several severities or windows."""
    tested = set()
    for _, expectation in cases():
        labels = [alert["exp_labels"] for alert in expectation["exp_alerts"]]
        for key, rule in variants().items():
            fired = any(rule["labels"].items() <= found.items() for found in labels)
            if rule["alert"] == expectation["alertname"] and fired == fires:
                tested.add(key)

    assert set(variants()) - tested == set()


def test_every_alert_says_what_it_is():
    """A severity out of two, a summary, a description, and a link to its section of the runbooks."""
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"


def test_every_alert_has_its_runbook_and_no_runbook_is_left_over():
    """A section per alert, with what it means, whom it hurts, where to look, why it happens and what to do."""
    sections = dict(re.findall(r"^## (Ctr\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS.read_text(encoding="utf-8"), re.M | re.S))
    lacking = {
        (name, part)
        for name, text in sections.items()
        for part in ("Meaning", "Impact", "First look", "Causes", "What to do")
        if f"**{part}.**" not in text
    }

    assert set(sections) == {rule["alert"] for rule in alerts()}
    assert lacking == set()


def test_operations_lists_every_alert_with_its_severities():
    """The table of alerts in docs/operations.md."""
    text = (RUNBOOKS.parent / "operations.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| \[`(Ctr\w+)`\]\(runbooks\.md#\w+\) \| ([\w, ]+) \|", text, re.M))
    expected: dict[str, set[str]] = {}
    for rule in alerts():
        expected.setdefault(rule["alert"], set()).add(rule["labels"]["severity"])

    assert {name: set(severities.split(", ")) for name, severities in listed.items()} == expected


def test_recorded_names_say_level_metric_and_operation():
    """And a ratio over a window is computed over that window."""
    for name, expression in recorded().items():
        assert re.fullmatch(r"(ctr|job|job_role):\w+:\w+", name)
        window = re.search(r"_(?:rate|increase|left)(\d+[mhd])$|:(?:rate|increase)(\d+[mhd])$", name)
        if window and "[" in expression:
            assert set(re.findall(r"\[(\w+)\]", expression)) == {window[1] or window[2]}


def test_what_is_recorded_is_used():
    """By an alert, by the dashboard or by another rule; and nothing that nobody records is asked for."""
    expressions = [*queries().values(), *(rule["expr"] for rule in rules())]
    assert {name for expression in expressions for name in recorded_in(expression)} == set(recorded())


def test_the_dashboard_is_what_the_script_draws():
    """Byte for byte: `python -m monitoring.dashboard` after a change."""
    assert drawn() == FILE.read_text(encoding="utf-8")


def test_the_dashboard_leads_to_every_runbook():
    """Each alert has a panel that shows its cause or its effect, and links to alerts that exist."""
    linked = {link["url"] for panel in panels() for link in panel["links"]}
    assert linked == {f"${{docs}}/runbooks.md#{rule['alert'].lower()}" for rule in alerts()}


def test_every_panel_says_what_it_shows():
    """A description, a unit, and a legend for each query where there are several."""
    for panel in panels():
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len(panel["targets"]) == 1 or all(target["legendFormat"] for target in panel["targets"])


def test_every_setting_that_is_named_exists():
    """In rules, configuration and panels alike."""
    texts = [path.read_text(encoding="utf-8") for path in [*FOLDER.rglob("*.yml"), *FOLDER.glob("*.py")]]
    named = {name for text in texts for name in re.findall(r"\bCTR_[A-Z_]*[A-Z]\b", text)}
    assert named
    assert {name.removeprefix(PREFIX).lower() for name in named} <= set(Settings.model_fields)
