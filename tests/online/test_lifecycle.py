"""Bundles come and go under load: nobody notices but the version in the answer, and a bad one never serves."""

import asyncio
import gc
import io
import shutil
import threading
import weakref

import orjson
import pytest

from model.bundle.folder import GOLDEN
from model.bundle.pointers import write_pointer
from service.runtimes.onnx import OnnxRuntime
from tests.online.bundle_versions import (
    BODY,
    WATCH_S,
    encoder_of,
    expected,
    gated,
    looks,
    metric,
    spoil,
    until,
    until_metric,
    until_version,
    version_of,
)
from tests.online.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio


async def test_a_hundred_swaps_under_load(live, versions):
    """No request fails, each answer has the scores of the version that it names, and a corrupt one never serves."""
    shutil.copytree(versions / "v3", versions / "bad")
    spoil(versions / "bad")
    scores = {version: expected(version) for version in ("v1", "v2")}
    wrong, seen, stop = [], set(), asyncio.Event()

    async def ask(client) -> None:
        while not stop.is_set():
            answer = await client.post("/score", json=BODY)
            found = answer.json()
            seen.add(found.get("bundle_version"))
            if answer.status_code != 200 or [row["pctr"] for row in found["scores"]] != pytest.approx(
                scores[found["bundle_version"]], abs=1e-6
            ):
                wrong.append(found)
            await asyncio.sleep(0.01)  # client and service share this thread: without a pause loading has no time

    async with live() as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(4)]
        for swap in range(100):
            version = "v1" if swap % 2 else "v2"
            write_pointer(versions, "stable", version)
            await until_version(client, version)
            if swap == 50:
                write_pointer(versions, "stable", "bad")
                await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        stop.set()
        await asyncio.gather(*asking)
        swapped = await metric(client, 'ctr_bundle_loads_total{outcome="swapped"}')
        refused = await metric(client, 'ctr_bundle_loads_total{outcome="refused"}')

    assert wrong == []
    assert seen == {"v1", "v2"}
    assert (swapped, refused) == (101, 1)


async def test_a_request_ends_on_the_bundle_it_began_with(serve, versions):
    """One that is being computed while the pointer moves gets the scores of the old version, and its name."""
    gate = threading.Event()
    gate.set()

    async with serve(
        bundle=str(versions), watch_s=WATCH_S, deadline_ms=5000, runtimes=gated(gate, "v1"), queue_ms=5000
    ) as client:
        gate.clear()
        asked = asyncio.create_task(client.post("/score", json=BODY))
        await until_metric(client, "ctr_rows", 4)
        write_pointer(versions, "stable", "v2")
        await until_version(client, "v2")
        new = await client.post("/score", json=BODY)
        gate.set()
        old = await asked

    assert [answer.json()["bundle_version"] for answer in (old, new)] == ["v1", "v2"]
    for answer in (old, new):
        found = [row["pctr"] for row in answer.json()["scores"]]
        assert found == pytest.approx(expected(answer.json()["bundle_version"]), abs=1e-6)


async def test_a_bundle_that_left_is_let_go(live, versions):
    """After the swap, and once its threads have turned to others, nothing keeps the old bundle in memory."""
    runtimes = {}

    def make(bundle):
        runtime = OnnxRuntime(bundle)
        runtimes[bundle.manifest.version] = weakref.ref(runtime)
        return runtime

    async def gone() -> bool:
        await client.post("/score", json=BODY)
        gc.collect()
        return runtimes["v1"]() is None

    async with live(runtimes={"onnx": make}) as client:
        await client.post("/score", json=BODY)
        there = runtimes["v1"]() is not None
        write_pointer(versions, "stable", "v2")
        await until_version(client, "v2")
        await until(gone)

    assert there


async def test_a_bad_bundle_is_refused_once(live, versions):
    """It is logged and counted once however often the watch looks; the old one serves on and stays ready."""
    log = io.BytesIO()
    spoil(versions / "v2")
    async with live(log=log) as client:
        write_pointer(versions, "stable", "v2")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        await looks(client, 10)
        refused = await metric(client, 'ctr_bundle_loads_total{outcome="refused"}')
        ready, score = await client.get("/readyz"), await client.post("/score", json=BODY)

    lines = [orjson.loads(line) for line in log.getvalue().splitlines()]
    (refusal,) = [line for line in lines if line["event"] == "bundle refused"]
    assert refused == 1
    assert (refusal["bundle_version"], refusal["file"]) == ("v2", GOLDEN)
    assert (ready.status_code, ready.json()["bundle_version"], score.json()["bundle_version"]) == (200, "v1", "v1")


async def test_a_repaired_bundle_serves(live, versions):
    """A folder whose content changed is tried again at the next look."""
    shutil.copytree(versions / "v2", versions / "good")
    spoil(versions / "v2")
    async with live() as client:
        write_pointer(versions, "stable", "v2")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        shutil.copy(versions / "good" / GOLDEN, versions / "v2" / GOLDEN)
        await until_version(client, "v2")


async def test_what_failed_by_accident_is_tried_again(live, versions):
    """A load that fails with something else than the bundle's fault succeeds later, with the same content."""
    failures = [MemoryError("just now"), OSError("just now")]

    def make(bundle):
        if bundle.manifest.version == "v2" and failures:
            raise failures.pop()
        return OnnxRuntime(bundle)

    async with live(runtimes={"onnx": make}) as client:
        write_pointer(versions, "stable", "v2")
        await until_version(client, "v2")
        refused = await metric(client, 'ctr_bundle_loads_total{outcome="refused"}')

    assert failures == []
    assert refused == 1


async def test_the_pointer_may_move_on_from_a_bad_bundle(live, versions):
    """A refusal does not keep later versions out, nor a pointer that is unreadable for a while."""
    spoil(versions / "v2")
    async with live() as client:
        write_pointer(versions, "stable", "v2")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        (versions / "stable").write_text("../elsewhere")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 2)
        still = await version_of(client)
        write_pointer(versions, "stable", "v3")
        await until_version(client, "v3")

    assert still == "v1"


async def test_a_service_without_a_bundle_waits_for_one(serve, tmp_path):
    """It says what it misses and becomes ready as soon as there is a bundle."""
    async with serve(bundle=str(tmp_path / "later"), watch_s=WATCH_S) as client:
        before = await client.get("/readyz")
        write_tiny_bundle(tmp_path / "later", encoder_of("v1"), version="v1")
        await looks(client, 3)
        unpointed = await client.get("/readyz")
        write_pointer(tmp_path / "later", "stable", "v1")
        await until_version(client, "v1")

    assert before.status_code == 503
    assert "manifest.json: not found" in before.json()["error"]
    assert "no `stable` pointer" in unpointed.json()["error"]


async def test_a_watch_that_is_off_looks_once(live, versions):
    """With CTR_WATCH_S=0 a moved pointer changes nothing."""
    async with live(watch_s=0) as client:
        write_pointer(versions, "stable", "v2")
        await looks(client, 5)
        version = await version_of(client)

    assert version == "v1"


async def test_a_single_folder_is_watched_too(serve, versions):
    """Where CTR_BUNDLE names a version's folder, another bundle in its place is found."""
    folder = versions / "current"
    shutil.copytree(versions / "v1", folder)
    async with serve(bundle=str(folder), watch_s=WATCH_S) as client:
        folder.rename(versions / "old")
        (versions / "v2").rename(folder)
        await until_version(client, "v2")


async def test_a_folder_that_is_not_its_version_is_refused(live, versions):
    """A pointer to v9 must not let answers say v2."""
    shutil.copytree(versions / "v2", versions / "v9")
    async with live() as client:
        write_pointer(versions, "stable", "v9")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        version = await version_of(client)

    assert version == "v1"
