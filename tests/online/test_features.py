"""Every kind of feature over HTTP: lists, hashed ids, transformed numbers, gaps and cut histories score as offline."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from model.bundle.records import make_behaviors
from model.config import read_config
from model.data.batches import encode_split
from model.data.log import read_log
from model.evaluate import predict_logit
from model.pipeline import prepare, run_training
from model.publish import publish
from model.run_folder import load_run, save_run
from service.stores.redis import RedisStore

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "features.toml"
ROWS = 60


@dataclass(frozen=True, kw_only=True)
class Published:
    """A bundle with every kind of feature, some test rows, and what the eager net gives for them."""

    bundle: Path
    rows: list[dict[str, Any]]
    pctr: NDArray[np.floating]
    lengths: list[int]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Published:
    """Trained for an epoch on a small log, saved, read back and exported."""
    folder = tmp_path_factory.mktemp("features")
    config = read_config(EXAMPLE).with_net("dien")
    few = replace(config.data.synthetic, users=60, items=60)
    config = replace(config, data=replace(config.data, synthetic=few))
    log = read_log(config.data, config.schema, base=config.base)
    run, _ = run_training(log, prepare(log, config), config)
    save_run(folder / "run", run)
    run = load_run(folder / "run")
    test = log.test.sort(pl.col("hist_item_ids").list.len(), descending=True)[:ROWS]
    split = encode_split(test, run.encoder)
    return Published(
        bundle=publish(run, folder / "bundles", version="v1", code_version="test"),
        rows=test.to_dicts(),
        pctr=run.calibration.pctr(predict_logit(run.net, split)),
        lengths=split.lengths.tolist(),
    )


def body(row: dict[str, Any], user_id: int, *, whole: bool) -> dict[str, Any]:
    """One row as a request at its own time: the candidate with all its features as columns, or its id alone."""
    context = {"timestamp": row["timestamp"], **{name: row[name] for name in ("hour", "device", "session_s")}}
    names = ["item_id", "cate_id", "tags", "price", *(["stock"] if row["stock"] is not None else [])]
    return {
        "user_id": user_id,
        "user": {name: row[name] for name in ("segment", "languages")},
        "context": {name: value for name, value in context.items() if value is not None},
        "candidates": {name: [row[name]] for name in names} if whole else [{"item_id": row["item_id"]}],
    }


def sent_history(row: dict[str, Any]) -> dict[str, list[int]]:
    """The row's history as a request brings it."""
    times = [1000 * time for time in row["hist_times"]]
    return {"item_id": row["hist_item_ids"], "cate_id": row["hist_cate_ids"], "time": times}


async def test_the_service_scores_every_kind_of_feature_as_offline(serve, published, redis_url):
    """Histories from Redis, candidates by id or with all their features: the offline scores, to 1e-6."""
    store = RedisStore.from_url(redis_url, history_keep=200, ttl_s=3600)
    told = [sent_history(row) for row in published.rows]
    histories = [
        (user, make_behaviors(h["item_id"], category=h["cate_id"], time=h["time"])) for user, h in enumerate(told)
    ]
    await store.append_many(histories, timeout_s=5)
    async with serve(bundle=str(published.bundle), store=store, deadline_ms=5000, store_timeout_ms=2000) as client:
        bodies = [body(row, user, whole=bool(user % 2)) for user, row in enumerate(published.rows)]
        answers = [(await client.post("/score", json=one)).json() for one in bodies]
        sent = {**bodies[0], "history": told[0]}
        again = [(await client.post("/score", json=one)).json() for one in (sent, bodies[0])]

    assert [answer["degraded"] for answer in answers] == ["none"] * ROWS
    assert [answer["history_len"] for answer in answers] == published.lengths
    found = np.array([answer["scores"][0]["pctr"] for answer in answers])
    assert np.abs(found - published.pctr).max() < 1e-6
    assert [one["scores"][0]["pctr"] for one in again] == pytest.approx([published.pctr[0]] * 2, abs=1e-6)
    assert published.lengths != [min(len(row["hist_item_ids"]), 20) for row in published.rows]  # some were cut


async def test_a_request_at_another_time_has_other_gaps(serve, published):
    """A state that is kept for one time of request does not answer for another; without a time it is now."""
    row = published.rows[0]
    one = {**body(row, 1, whole=False), "history": sent_history(row)}
    later = {**one, "context": {**one["context"], "timestamp": row["timestamp"] + 86_400 * 365}}
    now = {**one, "context": {name: value for name, value in one["context"].items() if name != "timestamp"}}
    async with serve(bundle=str(published.bundle)) as client:
        pctr = [
            (await client.post("/score", json=b)).json()["scores"][0]["pctr"] for b in (one, later, one, later, now)
        ]

    assert pctr[:2] == pctr[2:4]
    assert len({pctr[0], pctr[1], pctr[4]}) >= 2


WRONG: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "no list": (lambda b: {**b, "user": {"languages": "no"}}, "user.languages: found 'no', allowed: a list of strings"),
    "a number in a list": (lambda b: {**b, "user": {"languages": ["no", 1]}}, "user.languages: found 1 in a list"),
    "a row of no list": (
        lambda b: {**b, "candidates": {"item_id": [1, 2], "tags": [[1], 2]}},
        "candidates.tags, row 1: found 2, allowed: a list of integers",
    ),
    "a list of lists": (
        lambda b: {**b, "candidates": {"item_id": [1, 2], "tags": [[1], [[2]]]}},
        "candidates.tags, row 1: found a list in a list",
    ),
    "an id below 0": (
        lambda b: {**b, "candidates": [{"item_id": 1, "tags": [3]}, {"item_id": 2, "tags": [4, -1]}]},
        "candidates.tags, row 1: found -1 in a list",
    ),
    "null": (lambda b: {**b, "context": {"session_s": None}}, "context.session_s: found None, allowed: a finite"),
    "a history without times": (lambda b: {**b, "history": [{"item_id": 3}]}, "history: has no time"),
    "a time before all": (lambda b: {**b, "context": {"timestamp": -1}}, "context.timestamp: found -1.0, allowed"),
}


@pytest.mark.parametrize("change", WRONG)
async def test_what_a_feature_cannot_take_is_a_422(serve, published, change):
    """The message names the field, the row where there are several, what was found and what is allowed."""
    good = body(published.rows[0], 1, whole=False)
    edit, said = WRONG[change]
    async with serve(bundle=str(published.bundle)) as client:
        refused = await client.post("/score", json=edit(good))
    assert refused.status_code == 422
    assert said in refused.json()["error"]


async def test_nothing_given_is_scored(serve, published):
    """A user of whom nothing is known, an item that nobody knows, empty lists: finite scores and a status."""
    async with serve(bundle=str(published.bundle)) as client:
        bare = (await client.post("/score", json={"user_id": 9, "candidates": [{"item_id": 10**12}]})).json()
        empty = {"user_id": 9, "user": {"languages": []}, "candidates": [{"item_id": 1, "tags": []}]}
        known = (await client.post("/score", json=empty)).json()

    assert bare["scores"][0]["status"] == "unknown_item"
    assert known["scores"][0]["status"] == "ok"
    assert all(0 < answer["scores"][0]["pctr"] < 1 for answer in (bare, known))
