"""Several real processes write one feature log, and `ctr-model replay` scores it once more."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from model.cli import app
from model.data.feature_log import read_lines
from tests.integration.service_process import ask, metric, serving, wait_until
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

REQUESTS = 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


def replayed(*arguments: object) -> Result:
    """What `ctr-model replay` says."""
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


def test_what_several_processes_served_is_what_replay_scores(bundle, redis_url, tmp_path):
    """Counts are exact whoever is asked, no line is lost, skew is below 1e-6, and a shifted log ends with code 1."""
    log = tmp_path / "log"
    settings = {"feature_log": log, "feature_log_percent": 100, "store_timeout_ms": 5000, "deadline_ms": 10_000}
    with serving(bundle, redis_url, workers=2, **settings) as (_, url):
        event = {"user_id": 1, "item_id": 103, "time": 1_700_000_000_000, "event_id": "e"}
        assert ask(url, "/events", event).status == 202
        for number in range(REQUESTS):
            body = {"user_id": 1 + number % 12, "candidates": {"item_id": [100, 111, 7, 100 + number % 20]}}
            answer = ask(url, "/score", body).body
            shown = [{"item_id": row["item_id"], "pctr": row["pctr"], "clicked": True} for row in answer["scores"]]
            report = {key: answer[key] for key in ("request_id", "bundle_version")} | {"impressions": shown}
            assert [ask(url, "/feedback", report).body["accepted"] for _ in range(2)] == [1, 0]
        wait_until(lambda: metric(url, "ctr_feature_log_lines_total", outcome="written") == 2 * REQUESTS)
        clicks = {metric(url, "ctr_feedback_clicks_total", role="stable") for _ in range(8)}
    lines = list(read_lines(log))
    good = replayed(log, "--bundle", bundle, "--threshold", 1e-6, "--json")
    shifted = tmp_path / "shifted.jsonl"
    shifted.write_text("".join(json.dumps(moved(line)) + "\n" for line in lines))
    bad = replayed(shifted, "--bundle", bundle)

    assert clicks == {4 * REQUESTS}
    assert len(lines) == 2 * REQUESTS
    assert good.exit_code == 0, good.output
    skew = json.loads(good.stdout)
    assert (skew["requests"], skew["rows"], skew["skipped"]) == (REQUESTS, 4 * REQUESTS, {})
    assert skew["max"] < 1e-6
    assert bad.exit_code == 1
    assert "pCTR differs by up to" in bad.stderr
    assert replayed(tmp_path / "nowhere", "--bundle", bundle).exit_code == 2


def moved(line: dict[str, object]) -> dict[str, object]:
    """The line with all prices moved by one thousandth, as by another unit of rounding."""
    if "user_id" not in line:
        return line
    prices = [None if price is None else price * 1.001 for price in line["items"]["price"]]
    return {**line, "items": {**line["items"], "price": prices}}
