"""Shadow scoring compares two bundles on real requests and costs the answer nothing."""

import asyncio
import dataclasses
import shutil
import threading

import numpy as np
import pytest

from model.bundle.dense import Scaling
from model.bundle.encode import Encoder
from model.bundle.folder import read_bundle, write_bundle
from model.bundle.pointers import write_pointer
from model.bundle.records import make_behaviors
from service.runtimes.base import RuntimeFailure
from service.runtimes.onnx import OnnxRuntime
from service.split import in_share
from service.stores.memory import MemoryStore
from tests.online.bundle_versions import gated
from tests.online.tiny_bundle import SCHEMA, reference, tiny_encoder, write_tiny_bundle

pytestmark = pytest.mark.anyio

ITEMS = [100, 105, 111, 119]
BODY = {"user_id": 1, "candidates": {"item_id": ITEMS}}
HISTORY = make_behaviors(np.array([101, 102]))
SHADOW = "ctr_shadow_total"
CANARY = 'ctr_bundle_info{name="tiny",role="canary",version="v2"} 1.0'


def other_encoder() -> Encoder:
    """v2 scales the price differently."""
    tiny = tiny_encoder()
    scalings = {**tiny.scalings, "price": Scaling(mean=100.0, std=6.0)}
    return Encoder(SCHEMA, tiny.vocabularies, scalings=scalings, catalogue=tiny.catalogue)


def pctr(encoder: Encoder) -> np.ndarray:
    """What numpy says of BODY with the stored history."""
    user = {**encoder.encode_request({"user_id": [1]}, {}, rows=1), **encoder.encode_history([HISTORY])}
    items = encoder.encode_items({"item_id": ITEMS})
    return reference({**user, **{name: tensor[None] for name, tensor in items.items()}})[0]


@pytest.fixture
def root(tmp_path):
    """`stable` is v1, `canary` is v2."""
    write_tiny_bundle(tmp_path, tiny_encoder(), version="v1")
    write_tiny_bundle(tmp_path, other_encoder(), version="v2")
    write_pointer(tmp_path, "stable", "v1")
    write_pointer(tmp_path, "canary", "v2")
    return tmp_path


@pytest.fixture
async def store():
    """A store that knows user 1."""
    store = MemoryStore(history_keep=50)
    await store.append(1, HISTORY, timeout_s=1)
    return store


async def until(client, line: str) -> str:
    """Wait until /metrics has this line; all of them."""
    async with asyncio.timeout(10):
        while line not in (text := (await client.get("/metrics")).text).splitlines():  # noqa: ASYNC110  # as a monitor
            await asyncio.sleep(0.005)
    return text


def value(metrics: str, name: str) -> float:
    """One series."""
    return next(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(name + " "))


@pytest.mark.parametrize("canary_percent", [0, 100])
async def test_the_other_bundle_scores_too(serve, root, store, canary_percent):
    """Whichever answers, the difference of each candidate's pCTR on the same history is counted."""
    settings = {"watch_s": 0, "shadow_percent": 100, "canary_percent": canary_percent}
    async with serve(bundle=str(root), store=store, **settings) as client:
        await until(client, CANARY)
        answer = (await client.post("/score", json=BODY)).json()
        metrics = await until(client, f'{SHADOW}{{outcome="scored"}} 1.0')

    difference = np.abs(pctr(tiny_encoder()) - pctr(other_encoder()))
    assert answer["bundle_version"] == ("v2" if canary_percent else "v1")
    assert value(metrics, "ctr_shadow_difference_count") == len(ITEMS)
    assert value(metrics, "ctr_shadow_difference_sum") == pytest.approx(difference.sum(), abs=1e-5)
    assert value(metrics, 'ctr_scored_by_role_total{role="shadow"}') == 1


async def test_the_sample_is_by_request_id(serve, root):
    """The share of requests is chosen by the hash of the request id: the same ones, whoever asks again."""
    ids = [f"r{number}" for number in range(40)]
    chosen = [name for name in ids if in_share(f"shadow:{name}", percent=30)]
    async with serve(bundle=str(root), watch_s=0, shadow_percent=30) as client:
        await until(client, CANARY)
        for number, name in enumerate(ids):
            await client.post("/score", json={**BODY, "request_id": name, "history": []})
            done = sum(name in chosen for name in ids[: number + 1])
            await until(client, f'{SHADOW}{{outcome="scored"}} {float(done)}')

    assert 0 < len(chosen) < len(ids)


async def test_a_shadow_never_holds_an_answer_up(serve, root):
    """While the other bundle hangs, answers come, and further shadows are dropped and counted."""
    gate = threading.Event()
    gate.set()

    settings = {"watch_s": 0, "shadow_percent": 100, "deadline_ms": 5000, "queue_ms": 5000}
    async with serve(bundle=str(root), runtimes=gated(gate, "v2"), **settings) as client:
        await until(client, CANARY)
        gate.clear()
        answers = [await client.post("/score", json=BODY) for _ in range(5)]
        gate.set()
        metrics = await until(client, f'{SHADOW}{{outcome="scored"}} 1.0')

    assert [answer.status_code for answer in answers] == [200] * 5
    assert value(metrics, f'{SHADOW}{{outcome="dropped"}}') == 4


async def test_a_shadow_that_fails_is_counted(serve, root):
    """The net of the other bundle fails on the request: the answer is as ever."""

    class Failing(OnnxRuntime):
        broken = False

        def score(self, state, candidates):
            if self.broken:
                raise RuntimeFailure("broken")
            return super().score(state, candidates)

    def make(bundle):
        return Failing(bundle) if bundle.manifest.version == "v2" else OnnxRuntime(bundle)

    async with serve(bundle=str(root), runtimes={"onnx": make}, watch_s=0, shadow_percent=100) as client:
        await until(client, CANARY)
        Failing.broken = True
        answer = await client.post("/score", json=BODY)
        metrics = await until(client, f'{SHADOW}{{outcome="failed"}} 1.0')

    assert answer.status_code == 200
    assert value(metrics, "ctr_shadow_difference_count") == 0


@pytest.mark.parametrize("rows", [True, False])
async def test_a_bundle_with_another_schema_reads_the_request_itself(serve, root, rows):
    """A canary with another schema parses the same body again, in rows and in columns."""
    bundle = read_bundle(root / "v2")
    schema = dataclasses.replace(SCHEMA, max_history=4)
    shutil.rmtree(root / "v2")
    write_bundle(root, dataclasses.replace(bundle.manifest, schema=schema.to_table()), bundle.files)
    candidates = [{"item_id": item} for item in ITEMS] if rows else {"item_id": ITEMS}
    async with serve(bundle=str(root), watch_s=0, shadow_percent=100) as client:
        await until(client, CANARY)
        await client.post("/score", json={"user_id": 1, "candidates": candidates})
        metrics = await until(client, f'{SHADOW}{{outcome="scored"}} 1.0')

    assert value(metrics, "ctr_shadow_difference_count") == len(ITEMS)


async def test_without_a_second_bundle_nothing_is_compared(serve, root):
    """No canary, no shadow: nothing is counted."""
    async with serve(bundle=str(root / "v1"), watch_s=0, shadow_percent=100) as client:
        await client.post("/score", json=BODY)
        metrics = (await client.get("/metrics")).text

    assert [value(metrics, f'{SHADOW}{{outcome="{o}"}}') for o in ("scored", "dropped", "failed")] == [0, 0, 0]
