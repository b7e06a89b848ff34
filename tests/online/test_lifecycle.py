"""Bundles come and go under load: nobody notices but the version in the answer, and a bad one never serves."""

import asyncio
import dataclasses
import gc
import io
import shutil
import threading
import time
import weakref
from contextlib import asynccontextmanager

import orjson
import pytest

from model.bundle.encode import Encoder, Scaling
from model.bundle.folder import GOLDEN
from model.bundle.manifest import MANIFEST
from model.bundle.pointers import remove_pointer, write_pointer
from model.bundle.records import no_behaviors
from service.config import Settings
from service.loader import load
from service.runtimes.onnx import OnnxRuntime
from service.scoring.batching import BatchQueue
from service.scoring.engine import Engine
from service.serving import Serving
from service.source import LocalSource
from service.split import in_share
from service.stores.memory import MemoryStore
from tests.online.tiny_bundle import reference, tiny_encoder, write_tiny_bundle

pytestmark = pytest.mark.anyio

ITEMS = [100, 105, 111, 119]
BODY = {"user_id": 1, "candidates": {"item_id": ITEMS}, "history": []}
WATCH_S = 0.005


def encoder_of(version: str) -> Encoder:
    """Each version scales the price differently, so that each has scores of its own."""
    tiny = tiny_encoder()
    price = Scaling(mean=100.0 + 3 * int(version[1:]), std=6.0)
    scalings = {**tiny.scalings, "price": price}
    return Encoder(tiny.schema, tiny.vocabularies, scalings=scalings, catalogue=tiny.catalogue)


def expected(version: str, *, user_id: int = 1) -> list[float]:
    """What numpy says of BODY in that version."""
    encoder = encoder_of(version)
    user = {**encoder.encode_request({"user_id": [user_id]}, {}, rows=1), **encoder.encode_history([no_behaviors()])}
    items = encoder.encode_items({"item_id": ITEMS})
    return reference({**user, **{name: tensor[None] for name, tensor in items.items()}})[0].tolist()


@pytest.fixture
def root(tmp_path):
    """Versions v1, v2 and v3; `stable` points to v1."""
    for version in ("v1", "v2", "v3"):
        write_tiny_bundle(tmp_path, encoder_of(version), version=version)
    write_pointer(tmp_path, "stable", "v1")
    return tmp_path


@pytest.fixture
def live(serve, root):
    """`async with live(**settings) as client`: the service, watching `root`."""

    @asynccontextmanager
    async def live_(**settings):
        async with serve(bundle=str(root), **{"watch_s": WATCH_S, "deadline_ms": 5000, **settings}) as client:
            yield client

    return live_


async def version_of(client) -> str:
    """The stable version, by /readyz."""
    return (await client.get("/readyz")).json().get("bundle_version")


async def metric(client, name: str) -> float:
    """The value of one series, 0 if there is none."""
    lines = (await client.get("/metrics")).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), 0.0)


async def until(condition) -> None:
    """Wait until `await condition()` holds."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110  # asked as a monitor asks
            await asyncio.sleep(0.005)


async def until_version(client, version: str) -> None:
    """Wait until it serves."""

    async def serves() -> bool:
        return await version_of(client) == version

    await until(serves)


async def until_metric(client, name: str, value: float) -> None:
    """Wait until a series has this value."""

    async def reached() -> bool:
        return await metric(client, name) == value

    await until(reached)


async def looks(client, count: int) -> None:
    """Let the watch look a few times more."""
    for _ in range(count):
        await asyncio.sleep(2 * WATCH_S)
        await client.get("/livez")


def spoil(folder) -> None:
    """Flip one bit in the middle of a file."""
    raw = bytearray((folder / GOLDEN).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / GOLDEN).write_bytes(bytes(raw))


async def test_a_hundred_swaps_under_load(live, root):
    """No request fails, each answer has the scores of the version that it names, and a corrupt one never serves."""
    shutil.copytree(root / "v3", root / "bad")
    spoil(root / "bad")
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
            write_pointer(root, "stable", version)
            await until_version(client, version)
            if swap == 50:
                write_pointer(root, "stable", "bad")
                await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        stop.set()
        await asyncio.gather(*asking)
        swapped = await metric(client, 'ctr_bundle_loads_total{outcome="swapped"}')
        refused = await metric(client, 'ctr_bundle_loads_total{outcome="refused"}')

    assert wrong == []
    assert seen == {"v1", "v2"}
    assert (swapped, refused) == (101, 1)


async def test_a_request_ends_on_the_bundle_it_began_with(serve, root):
    """One that is being computed while the pointer moves gets the scores of the old version, and its name."""
    gate = threading.Event()
    gate.set()

    class Gated(OnnxRuntime):
        def score(self, state, candidates):
            gate.wait()
            return super().score(state, candidates)

    def make(bundle):
        return Gated(bundle) if bundle.manifest.version == "v1" else OnnxRuntime(bundle)

    async with serve(
        bundle=str(root), watch_s=WATCH_S, deadline_ms=5000, runtimes={"onnx": make}, queue_ms=5000
    ) as client:
        gate.clear()
        asked = asyncio.create_task(client.post("/score", json=BODY))
        await until_metric(client, "ctr_rows", 4)
        write_pointer(root, "stable", "v2")
        await until_version(client, "v2")
        new = await client.post("/score", json=BODY)
        gate.set()
        old = await asked

    assert [answer.json()["bundle_version"] for answer in (old, new)] == ["v1", "v2"]
    for answer in (old, new):
        found = [row["pctr"] for row in answer.json()["scores"]]
        assert found == pytest.approx(expected(answer.json()["bundle_version"]), abs=1e-6)


async def test_a_bundle_that_left_is_let_go(live, root):
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
        write_pointer(root, "stable", "v2")
        await until_version(client, "v2")
        await until(gone)

    assert there


async def test_a_bad_bundle_is_refused_once(live, root):
    """It is logged and counted once however often the watch looks; the old one serves on and stays ready."""
    log = io.BytesIO()
    spoil(root / "v2")
    async with live(log=log) as client:
        write_pointer(root, "stable", "v2")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        await looks(client, 10)
        refused = await metric(client, 'ctr_bundle_loads_total{outcome="refused"}')
        ready, score = await client.get("/readyz"), await client.post("/score", json=BODY)

    lines = [orjson.loads(line) for line in log.getvalue().splitlines()]
    (refusal,) = [line for line in lines if line["event"] == "bundle refused"]
    assert refused == 1
    assert (refusal["bundle_version"], refusal["file"]) == ("v2", GOLDEN)
    assert (ready.status_code, ready.json()["bundle_version"], score.json()["bundle_version"]) == (200, "v1", "v1")


async def test_a_repaired_bundle_serves(live, root):
    """A folder whose content changed is tried again at the next look."""
    shutil.copytree(root / "v2", root / "good")
    spoil(root / "v2")
    async with live() as client:
        write_pointer(root, "stable", "v2")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        shutil.copy(root / "good" / GOLDEN, root / "v2" / GOLDEN)
        await until_version(client, "v2")


async def test_what_failed_by_accident_is_tried_again(live, root):
    """A load that fails with something else than the bundle's fault succeeds later, with the same content."""
    failures = [MemoryError("just now"), OSError("just now")]

    def make(bundle):
        if bundle.manifest.version == "v2" and failures:
            raise failures.pop()
        return OnnxRuntime(bundle)

    async with live(runtimes={"onnx": make}) as client:
        write_pointer(root, "stable", "v2")
        await until_version(client, "v2")
        refused = await metric(client, 'ctr_bundle_loads_total{outcome="refused"}')

    assert failures == []
    assert refused == 1


async def test_the_pointer_may_move_on_from_a_bad_bundle(live, root):
    """A refusal does not keep later versions out, nor a pointer that is unreadable for a while."""
    spoil(root / "v2")
    async with live() as client:
        write_pointer(root, "stable", "v2")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        (root / "stable").write_text("../elsewhere")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 2)
        still = await version_of(client)
        write_pointer(root, "stable", "v3")
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


async def test_a_watch_that_is_off_looks_once(live, root):
    """With CTR_WATCH_S=0 a moved pointer changes nothing."""
    async with live(watch_s=0) as client:
        write_pointer(root, "stable", "v2")
        await looks(client, 5)
        version = await version_of(client)

    assert version == "v1"


async def test_a_single_folder_is_watched_too(serve, root):
    """Where CTR_BUNDLE names a version's folder, another bundle in its place is found."""
    folder = root / "current"
    shutil.copytree(root / "v1", folder)
    async with serve(bundle=str(folder), watch_s=WATCH_S) as client:
        folder.rename(root / "old")
        (root / "v2").rename(folder)
        await until_version(client, "v2")


async def test_a_folder_that_is_not_its_version_is_refused(live, root):
    """A pointer to v9 must not let answers say v2."""
    shutil.copytree(root / "v2", root / "v9")
    async with live() as client:
        write_pointer(root, "stable", "v9")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        version = await version_of(client)

    assert version == "v1"


async def test_the_canary_serves_its_users(live, root):
    """The share of users is split by id; each answer names and has its own bundle, and readiness names the stable."""
    write_pointer(root, "canary", "v2")
    async with live(canary_percent=30) as client:
        await until_metric(client, 'ctr_bundle_info{name="tiny",role="canary",version="v2"}', 1)
        users = range(60)
        answers = [(await client.post("/score", json={**BODY, "user_id": 1000 + u})).json() for u in users]
        counted = await metric(client, 'ctr_scored_by_role_total{role="canary"}')
        ready = await version_of(client)

    versions = [answer["bundle_version"] for answer in answers]
    scores = {version: expected(version, user_id=1000) for version in set(versions)}  # none of them was in training
    assert versions == ["v2" if in_share(f"v2:{1000 + user}", percent=30) else "v1" for user in users]
    assert set(versions) == {"v1", "v2"}
    for answer in answers:
        found = [row["pctr"] for row in answer["scores"]]
        assert found == pytest.approx(scores[answer["bundle_version"]], abs=1e-6)
    assert counted == versions.count("v2")
    assert ready == "v1"


def test_seven_and_seven_are_one_user(root):
    """The split takes an id for the same user whether it came as a number or as text."""
    settings = Settings(canary_percent=50, store="memory://")
    queue = BatchQueue(threads=1, budget_rows=1)
    engine = Engine(queue, threads=1, clock=time.monotonic)
    serving = Serving(settings, store=MemoryStore(history_keep=1), engine=engine, clock=time.monotonic)
    wanted = LocalSource(root).look()["stable"]
    for role, version in (("stable", "v1"), ("canary", "v2")):
        loaded = load(root / version, max_candidates=1, runtimes={"onnx": OnnxRuntime})
        serving.put(role, loaded, dataclasses.replace(wanted, version=version))

    routed = [serving.route(user) for user in range(20)]
    assert {served.role for served in routed} == {"stable", "canary"}
    assert all(served is serving.route(str(user)) for user, served in enumerate(routed))


async def test_a_canary_that_is_refused_or_gone_leaves_everybody_to_stable(live, root):
    """Its users get the stable bundle; a canary that is taken away ends at the next look."""
    write_pointer(root, "canary", "v2")
    spoil(root / "v3")
    canary = 'ctr_bundle_info{name="tiny",role="canary",version="v2"}'
    async with live(canary_percent=100) as client:
        await until_metric(client, canary, 1)
        first = (await client.post("/score", json=BODY)).json()["bundle_version"]
        write_pointer(root, "canary", "v3")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        kept = (await client.post("/score", json=BODY)).json()["bundle_version"]
        remove_pointer(root, "canary")

        async def ended() -> bool:
            return canary not in (await client.get("/metrics")).text

        await until(ended)
        last = (await client.post("/score", json=BODY)).json()["bundle_version"]

    assert (first, kept, last) == ("v2", "v2", "v1")


async def test_a_canary_that_never_loaded_leaves_everybody_to_stable(live, root):
    """A bad canary at start-up costs nothing but its refusal."""
    spoil(root / "v2")
    write_pointer(root, "canary", "v2")
    async with live(canary_percent=100) as client:
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        version = (await client.post("/score", json=BODY)).json()["bundle_version"]

    assert version == "v1"


async def test_promoting_the_canary_does_not_load_it_again(live, root):
    """What serves already only changes its role; pointing both at one version ends the canary."""
    loaded = []

    def make(bundle):
        loaded.append(bundle.manifest.version)
        return OnnxRuntime(bundle)

    write_pointer(root, "canary", "v2")
    async with live(runtimes={"onnx": make}, canary_percent=50) as client:
        await until_metric(client, 'ctr_bundle_info{name="tiny",role="canary",version="v2"}', 1)
        write_pointer(root, "stable", "v2")
        await until_version(client, "v2")
        await looks(client, 3)
        metrics = (await client.get("/metrics")).text

    assert loaded == ["v1", "v2"]
    assert 'ctr_bundle_info{name="tiny",role="stable",version="v2"} 1.0' in metrics
    assert 'role="canary",version="v2"' not in metrics


async def test_the_manifest_alone_tells_a_new_content(live, root):
    """A folder that was rewritten under the same name is loaded again: its content counts, not its name."""
    async with live() as client:
        shutil.rmtree(root / "v1")
        shutil.copytree(root / "v3", root / "v1")
        (root / "stable").write_text("v3\n")
        await until_version(client, "v3")
        manifest = (await client.get("/bundle")).json()

    assert manifest["version"] == "v3"
    assert orjson.loads((root / "v3" / MANIFEST).read_bytes())["files"] == manifest["files"]
