"""What the service has logged, scored again offline and trained on: the same rows, the same scores."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.data.feature_log import read_feature_log, read_lines
from model.data.log import DataConfig, read_log
from model.replay import replay
from service.stores.memory import MemoryStore
from tests.online.bundle_versions import encoder_of, until_metric
from tests.online.tiny_bundle import SCHEMA, write_tiny_bundle

pytestmark = pytest.mark.anyio

REQUESTS = 40


def request_of(number: int, rng: np.random.Generator) -> dict[str, object]:
    """A request; some features are left out, some items and ids are unknown, some histories come along."""
    count = int(rng.integers(1, 30))
    items = {"item_id": rng.integers(95, 125, count).tolist()}
    if number % 3 == 0:
        items["price"] = rng.normal(110, 6, count).tolist()
    if number % 4 == 0:
        items["cate_id"] = rng.integers(9, 13, count).tolist()
    out: dict[str, object] = {"request_id": f"r{number}", "user_id": int(rng.integers(1, 15)), "candidates": items}
    if number % 2:
        out["user"] = {"city": str(rng.choice(["oslo", "rome", "bern"])), "age": float(rng.normal(40, 10))}
        out["context"] = {"hour": int(rng.integers(0, 24))}
    if number % 5 == 0:
        past = int(rng.integers(0, 12))
        out["history"] = {"item_id": rng.integers(95, 125, past).tolist()}
    return out


@pytest.fixture
async def log(serve, tmp_path) -> Path:
    """The log of REQUESTS real requests, half of them with clicks."""
    folder, rng, store = tmp_path / "log", np.random.default_rng(5), MemoryStore(history_keep=50)
    settings = {"feature_log": str(folder), "feature_log_percent": 100, "deadline_ms": 5000}
    async with serve(store=store, **settings) as client:
        for user in range(1, 15):
            event = {"user_id": user, "item_id": 100 + user, "time": 1_700_000_000_000 + user, "event_id": user}
            await client.post("/events", json=event)
        for number in range(REQUESTS):
            answer = (await client.post("/score", json=request_of(number, rng))).json()
            shown = [
                {"item_id": row["item_id"], "pctr": row["pctr"], "clicked": row["rank"] == 1}
                for row in answer["scores"]
            ]
            if number % 2:
                body = {"request_id": answer["request_id"], "bundle_version": "v1", "impressions": shown}
                assert (await client.post("/feedback", json=body)).json()["accepted"] == 1
        await until_metric(client, 'ctr_feature_log_lines_total{outcome="written"}', REQUESTS * 3 // 2)
    return folder


def changed(log: Path, change) -> Path:
    """A copy of the log with one request changed: the first of which `change(line)` is true, in place."""
    lines = list(read_lines(log))
    assert any(change(line) for line in lines if "pctr" in line and "items" in line and "user_id" in line)
    path = log.parent / "changed.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


async def test_offline_scores_are_those_that_were_served(log, bundle_path):
    """Nothing about a request is lost on its way into the log."""
    skew = replay(log, read_bundle(bundle_path))

    assert skew.requests == REQUESTS
    assert skew.rows == sum(len(line["pctr"]) for line in read_lines(log) if "user_id" in line)
    assert skew.max < 1e-6
    assert skew.mean <= skew.max
    assert skew.skipped == {}


async def test_a_feature_that_differs_is_caught_and_named(log, bundle_path):
    """One shifted price in one request shows as the worst row; so does a lost behavior."""

    def shift(line) -> bool:
        if "price" not in line["items"] or None in line["items"]["price"][:1]:
            return False
        line["items"]["price"][0] += 3
        return True

    skew = replay(changed(log, shift), read_bundle(bundle_path))
    shifted = next(line for line in read_lines(log) if "user_id" in line and line["items"]["price"][0] is not None)

    assert skew.max > 1e-3
    assert (skew.worst[0].request_id, skew.worst[0].item_id) == (shifted["request_id"], shifted["items"]["item_id"][0])
    assert skew.worst[1].difference < 1e-6


async def test_a_lost_behavior_is_caught(log, bundle_path):
    """A history that was another one at serving time shows too."""

    def shorten(line) -> bool:
        known = [100 <= item < 120 for item in line["history"]["item"]]
        if not any(known) or len(line["pctr"]) < 5:
            return False
        line["history"] = {name: column[:0] for name, column in line["history"].items()}
        return True

    assert replay(changed(log, shorten), read_bundle(bundle_path)).max > 1e-4


async def test_another_bundle_is_asked_for_by_name(log, tmp_path):
    """By default only what the bundle itself has scored is compared; else the difference is that of two bundles."""
    other = read_bundle(write_tiny_bundle(tmp_path / "other", encoder_of("v9"), version="v9"))
    with pytest.raises(ConfigError, match="another bundle"):
        replay(log, other)

    assert replay(log, other, every_bundle=True).max > 1e-3


async def test_torn_and_erased_lines_are_passed_over(log, bundle_path):
    """They are no reason to stop."""
    newest = sorted(log.glob("*.jsonl"))[-1]
    newest.write_bytes(b"   \n" + newest.read_bytes() + b'{"user_id": 1, "request')

    assert replay(log, read_bundle(bundle_path)).requests == REQUESTS


async def test_impressions_are_what_was_reported(log):
    """A row per reported candidate that lacks no id: label, features, history and the served score."""
    frame = read_feature_log(log, SCHEMA)
    scored = {line["request_id"]: line for line in read_lines(log) if "user_id" in line}

    assert len(frame)
    assert frame["timestamp"].is_sorted()
    for row in frame.iter_rows(named=True):
        line = scored[row["request_id"]]
        at = line["items"]["item_id"].index(row["item_id"])
        assert (row["cate_id"], row["price"]) == (line["items"]["cate_id"][at], line["items"]["price"][at])
        assert (row["city"], row["hour"]) == (line["user"]["city"], line["context"]["hour"])
        assert row["served_pctr"] == line["pctr"][at]
        told = [i for i, category in enumerate(line["history"]["category"]) if category >= 0]
        assert row["hist_item"] == [line["history"]["item"][i] for i in told]
    assert frame["hist_item"].list.len().mean() > 0.5  # behaviors whose category only the catalogue knows are there
    assert frame["label"].sum() == frame.group_by("request_id").agg(pl.col("label").max())["label"].sum() > 5


async def test_the_trainer_reads_it(log):
    """`format = "feature_log"` is a log like any other, split by time."""
    lines = [{**line, "time_ms": 1_700_000_000_000 + 1000 * at} for at, line in enumerate(read_lines(log))]
    path = log.parent / "spread" / "features-1.jsonl"  # the requests of this test came within a second
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_log(DataConfig(format="feature_log", path=path.parent), SCHEMA, base=Path())

    assert min(len(read.train), len(read.valid), len(read.test)) > 0
    assert len(read.train) + len(read.valid) + len(read.test) == len(read_feature_log(path, SCHEMA))
    assert set(read.train["item_id"]) <= set(read.items["item_id"])


async def test_a_log_without_clicks_is_refused(log):
    """There is nothing to learn from, and the message says what is missing."""
    path = log.parent / "unreported.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in read_lines(log) if "user_id" in line))

    with pytest.raises(ConfigError, match="POST /feedback"):
        read_feature_log(path, SCHEMA)


async def test_a_feature_that_no_request_gives_is_named(log):
    """An id cannot be "not given" in training, so such a schema is refused by the name of the column."""
    path = log.parent / "hourless.jsonl"
    lines = [{**line, "context": {}} if "user_id" in line else line for line in read_lines(log)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    with pytest.raises(ConfigError, match="column hour"):
        read_feature_log(path, SCHEMA)
