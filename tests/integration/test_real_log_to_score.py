"""A real log through every command to POST /score: the service's scores are those of the offline evaluation.

ml100k_rating --ctr-model train, evaluate, export--> bundle --ctr-service serve, histories in Redis--> the test split
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from model.bundle.records import make_behaviors
from model.config import read_config
from model.data.batches import encode_split
from model.data.log import read_log
from model.evaluate import predict_logit
from model.metrics import auc
from model.run_folder import load_run
from service.embedded import EmbeddedRedis
from service.stores.redis import RedisStore

CONCURRENT = 8
HISTORIES_PER_WRITE = 50
WAIT_S = 30
CONFIG = """
name = "ml100k"

[data]
format = "task"
path = {path}

[schema]
max_history = 50
keys = {{ category = "cate_id" }}
item = [{{ name = "item_id", dim = 16 }}, {{ name = "cate_id", dim = 16 }}]
behavior = [
  {{ shares = "item_id", column = "hist_item_ids" }},
  {{ shares = "cate_id", column = "hist_cate_ids" }},
]

[net]
kind = "din"
softmax = true

[train]
epochs = 1
batch_size = 1024
"""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """The rows of the test split that share one history: one request."""

    user_id: int  # the number of the history; the net does not see it
    rows: list[int]
    items: list[int]
    categories: list[int]
    history: list[int]
    history_categories: list[int]

    def body(self) -> dict[str, Any]:
        """The request: columns for every second one, else rows of the item alone, whose category the bundle knows."""
        columns = {"item_id": self.items, "cate_id": self.categories}
        rows = [{"item_id": item} for item in self.items]
        return {"user_id": self.user_id, "candidates": columns if self.user_id % 2 else rows}

    def body_with_history(self) -> dict[str, Any]:
        """The same request, bringing its history."""
        return {**self.body(), "history": {"item_id": self.history, "cate_id": self.history_categories}}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A net trained from the command line: its bundles, its offline figures, and what to replay."""

    bundle: Path
    auc: float  # as `ctr-model evaluate` wrote it
    pctr: NDArray[np.float32]  # of every row of the test split, by the eager net
    label: NDArray[np.float32]
    visits: list[Visit]


@pytest.fixture(scope="module")
def task() -> Path:
    """The folder of the real log."""
    data = Path(os.environ.get("CTR_DATA") or Path(__file__).parents[3] / "shared" / "data")
    folder = data / "tasks" / "ml100k_rating"
    if not folder.is_dir():
        pytest.skip(f"no real log at {folder}; CTR_DATA names another data folder")
    return folder


@pytest.fixture(scope="module", params=["din", "dien"])
def published(request, task, tmp_path_factory) -> Published:
    """Train, evaluate and export by the commands that a user types."""
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    config, run, bundles = folder / "config.toml", folder / "run", folder / "bundles" / kind
    config.write_text(CONFIG.format(path=json.dumps(str(task.resolve()))))
    ctr_model("train", config, "--net", kind, "--out", run)
    ctr_model("evaluate", run, "--config", config, "--split", "test")
    ctr_model("export", run, "--out", bundles)

    trained, settings = load_run(run), read_config(config)
    assert trained.config["net"]["kind"] == kind
    test = read_log(settings.data, settings.schema, base=settings.base).test
    split = encode_split(test, trained.encoder)
    return Published(
        bundle=bundles,
        auc=json.loads((run / "metrics.json").read_text())["splits"]["test"]["auc"],
        pctr=trained.calibration.pctr(predict_logit(trained.net, split)),
        label=split.label,
        visits=to_visits(test),
    )


@pytest.fixture(scope="module")
def stored(published) -> list[dict[str, Any]]:
    """The service's answer to every visit, with the histories from a Redis that holds nothing else."""
    with EmbeddedRedis() as redis:
        asyncio.run(remember(redis.url, published.visits))
        with service(published.bundle, redis.url) as url:
            return asyncio.run(replay(url, [visit.body() for visit in published.visits]))


def ctr_model(*arguments: object) -> None:
    """Run the console script; it must succeed."""
    command = [str(Path(sys.executable).with_name("ctr-model")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def to_visits(test: pl.DataFrame) -> list[Visit]:
    """One visit per distinct history."""
    by_history = test.with_row_index("row").group_by(
        pl.col("hist_item_ids").alias("history"),
        pl.col("hist_cate_ids").alias("history_categories"),
        maintain_order=True,
    )
    groups = by_history.agg(rows="row", items="item_id", categories="cate_id")
    return [Visit(user_id=number, **group) for number, group in enumerate(groups.iter_rows(named=True))]


@contextmanager
def service(bundle: Path, redis_url: str) -> Iterator[str]:
    """`ctr-service serve`, ready, without an access log; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chosen = {"bundle": bundle, "store": redis_url, "port": port, "log_level": "warning"}
    patient = {"store_timeout_ms": 2000, "deadline_ms": 10_000}  # a slow machine must not look like a store failure
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CTR_")}
    environ = {**clean, **{f"CTR_{name.upper()}": str(value) for name, value in {**chosen, **patient}.items()}}
    process = subprocess.Popen([str(Path(sys.executable).with_name("ctr-service")), "serve"], env=environ)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=WAIT_S)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Return once the service answers that it is ready."""
    until = time.monotonic() + WAIT_S
    with httpx.Client(base_url=url) as client:
        while time.monotonic() < until and process.poll() is None:
            try:
                if client.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            time.sleep(0.05)
    raise AssertionError("the service did not become ready")


async def remember(redis_url: str, visits: Sequence[Visit]) -> None:
    """Load every visit's history into the store, as its user's."""
    store = RedisStore.from_url(redis_url, history_keep=200, ttl_s=3600)
    try:
        for at in range(0, len(visits), HISTORIES_PER_WRITE):
            few = visits[at : at + HISTORIES_PER_WRITE]
            histories = [(v.user_id, make_behaviors(v.history, category=v.history_categories)) for v in few]
            await store.append_many(histories, timeout_s=WAIT_S)
    finally:
        await store.close()


async def replay(url: str, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answer to every body, in their order; a few requests are in flight at once."""
    turns = asyncio.Semaphore(CONCURRENT)
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_S) as client:

        async def ask(body: dict[str, Any]) -> dict[str, Any]:
            async with turns:
                answer = await client.post("/score", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        return await asyncio.gather(*map(ask, bodies))


def scores(answer: dict[str, Any]) -> list[float]:
    """The scores of one answer, in the request's order."""
    return [row["pctr"] for row in answer["scores"]]


def check_history(answers: Sequence[dict[str, Any]], visits: Sequence[Visit]) -> None:
    """No answer is degraded, and each was scored with its whole history and for its candidates."""
    assert {answer["degraded"] for answer in answers} == {"none"}
    assert [answer["history_len"] for answer in answers] == [len(visit.history) for visit in visits]
    assert [[row["item_id"] for row in answer["scores"]] for answer in answers] == [visit.items for visit in visits]


def test_the_service_scores_the_test_split_as_the_offline_evaluation_did(published, stored):
    """The whole test split over HTTP, with histories from Redis: the AUC of `ctr-model evaluate`, and every row's score
    that of the eager net.
    """
    check_history(stored, published.visits)
    online = np.full(len(published.label), np.nan)
    for visit, answer in zip(published.visits, stored, strict=True):
        online[visit.rows] = scores(answer)
    online_auc, farthest = auc(published.label, online), np.abs(online - published.pctr).max()
    print(f"\n{published.bundle.name}: AUC offline {published.auc:.6f}, over HTTP {online_auc:.6f}, {len(online)} rows")
    print(f"largest difference of a score {farthest:.1e}")
    assert farthest < 1e-5
    assert online_auc == pytest.approx(published.auc, rel=0, abs=1e-6)
    assert online_auc > 0.6


def test_a_history_in_the_request_scores_as_one_from_redis(published, stored, redis_url):
    """Half of the histories, sent along while Redis has none: the same scores as with Redis.

    To 1e-6: small requests share a call of the net, by chance with others each time, and sums in another order round
    otherwise.
    """
    half = published.visits[: len(published.visits) // 2]
    with service(published.bundle, redis_url) as url:
        sent = asyncio.run(replay(url, [visit.body_with_history() for visit in half]))
    check_history(sent, half)
    for answer, expected in zip(sent, stored[: len(half)], strict=True):
        assert scores(answer) == pytest.approx(scores(expected), abs=1e-6)
