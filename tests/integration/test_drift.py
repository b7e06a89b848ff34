"""Drift is seen: the real service, two processes, a net trained on a synthetic log, and traffic of another generator.

Its items are the same; its users have one interest each, which everything that they are shown is of.
"""

import http.client
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from model.config import RunConfig, read_config
from model.data.log import Log, read_log
from model.pipeline import prepare, run_training
from model.publish import publish
from service.drift import WINDOW
from tests.conftest import EXAMPLE
from tests.integration.service_process import address, ask, metric, serving, wait_until

ALERT = 0.2  # as docs/operations.md has it
CONNECTIONS = 8  # both processes get some of them, but for one run in a hundred
LOOKS = 8
PATIENT = {"deadline_ms": 10_000, "queue_ms": 10_000, "store_timeout_ms": 5_000}


def config(**shift: object) -> RunConfig:
    """The example, smaller, with a generator that is changed like this."""
    chosen = read_config(EXAMPLE)
    synthetic = replace(chosen.data.synthetic, users=300, **shift)
    train = replace(chosen.train, epochs=2, batch_size=128, learning_rate=0.005)
    return replace(chosen, data=replace(chosen.data, synthetic=synthetic), train=train)


def log(of: RunConfig) -> Log:
    """What its generator gives."""
    return read_log(of.data, of.schema, base=of.base)


@pytest.fixture(scope="module")
def usual() -> Log:
    """What the net was trained on, and a test split that it has not seen."""
    return log(config())


@pytest.fixture(scope="module")
def bundle(usual: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that has learned something of it."""
    torch.set_num_threads(1)
    chosen = config()
    run = run_training(usual, prepare(usual, chosen), chosen.with_net("base"))[0]
    return publish(run, tmp_path_factory.mktemp("drift"), version="v1", code_version="test", created=1_700_000_000)


def requests(frame: pl.DataFrame, count: int) -> list[bytes]:
    """One request for each of so many impressions, drawn at random."""
    rows = frame.sample(count, seed=1, with_replacement=count > len(frame))
    return [json.dumps(request(row)).encode() for row in rows.iter_rows(named=True)]


def request(row: dict[str, Any]) -> dict[str, Any]:
    """What a caller would have asked before this impression."""
    return {
        "user_id": row["user_id"],
        "user": {"segment": row["segment"]},
        "context": {"hour": row["hour"]},
        "history": {"item_id": row["hist_item_ids"], "cate_id": row["hist_cate_ids"]},
        "candidates": [{"item_id": row["item_id"]}],
    }


def send(url: str, bodies: list[bytes]) -> None:
    """Each once, over several connections that stay open; all of them must be answered in full."""
    shares = [bodies[start::CONNECTIONS] for start in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        assert {status for found in pool.map(lambda share: list(answers(url, share)), shares) for status in found} == {
            (200, "none")
        }


def answers(url: str, bodies: list[bytes]) -> Iterator[tuple[int, str | None]]:
    """Status and degradation of each, over one connection."""
    with closing(http.client.HTTPConnection(*address(url), timeout=20)) as connection:
        for body in bodies:
            connection.request("POST", "/score", body)
            answer = connection.getresponse()
            yield answer.status, json.loads(answer.read()).get("degraded")


def index(url: str, *, requests: int) -> list[float]:
    """The index as several looks show it, once all processes have told of so many requests."""
    wait_until(lambda: metric(url, "ctr_pctr_count", role="stable") == requests)
    return [metric(url, "ctr_pctr_psi", role="stable") for _ in range(LOOKS)]


def test_traffic_of_another_kind_passes_the_threshold_and_traffic_of_the_same_kind_does_not(
    bundle: Path, usual: Log, redis_url: str
):
    """1,000 requests like the log stay far below 0.2, 1,000 of another kind pass it, whichever process is asked."""
    shifted = log(config(interests=1, exploration=0.0))
    everything = pl.concat([shifted.train, shifted.valid, shifted.test])
    with serving(bundle, redis_url, workers=2, **PATIENT) as (_, url):
        before = metric(url, "ctr_pctr_psi", role="stable")
        send(url, requests(usual.test, WINDOW))
        same = index(url, requests=WINDOW)
        send(url, requests(everything, WINDOW))
        other = index(url, requests=2 * WINDOW)
        text = ask(url, "/metrics").text

    assert math.isnan(before)
    assert max(same) < ALERT / 2
    assert min(other) > ALERT
    assert max(other) - min(other) < 1e-9
    assert 'ctr_pctr_psi{role="canary"} NaN' in text
    assert 'ctr_bundle_created_timestamp_seconds{name="synthetic",role="stable",version="v1"} 1.7e+09' in text
