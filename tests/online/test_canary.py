"""A canary serves its share of users, and stable serves everybody where it cannot."""

import dataclasses
import time

import pytest

from model.bundle.pointers import remove_pointer, write_pointer
from service.config import Settings
from service.loader import load
from service.runtimes.onnx import OnnxRuntime
from service.scoring.batching import BatchQueue
from service.scoring.engine import Engine
from service.serving import Serving
from service.source import LocalSource
from service.split import in_share
from service.stores.memory import MemoryStore
from tests.online.bundle_versions import (
    BODY,
    expected,
    looks,
    metric,
    spoil,
    until,
    until_metric,
    until_version,
    version_of,
)

pytestmark = pytest.mark.anyio


async def test_the_canary_serves_its_users(live, versions):
    """The share of users is split by id; each answer names and has its own bundle, and readiness names the stable."""
    write_pointer(versions, "canary", "v2")
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


def test_seven_and_seven_are_one_user(versions):
    """The split takes an id for the same user whether it came as a number or as text."""
    settings = Settings(canary_percent=50, store="memory://")
    queue = BatchQueue(threads=1, budget_rows=1)
    engine = Engine(queue, threads=1, clock=time.monotonic)
    serving = Serving(settings, store=MemoryStore(history_keep=1), engine=engine, clock=time.monotonic)
    wanted = LocalSource(versions).look()["stable"]
    for role, version in (("stable", "v1"), ("canary", "v2")):
        loaded = load(versions / version, max_candidates=1, runtimes={"onnx": OnnxRuntime})
        serving.put(role, loaded, dataclasses.replace(wanted, version=version))

    routed = [serving.route(user) for user in range(20)]
    assert {served.role for served in routed} == {"stable", "canary"}
    assert all(served is serving.route(str(user)) for user, served in enumerate(routed))


async def test_a_canary_that_is_refused_or_gone_leaves_everybody_to_stable(live, versions):
    """Its users get the stable bundle; a canary that is taken away ends at the next look."""
    write_pointer(versions, "canary", "v2")
    spoil(versions / "v3")
    canary = 'ctr_bundle_info{name="tiny",role="canary",version="v2"}'
    async with live(canary_percent=100) as client:
        await until_metric(client, canary, 1)
        first = (await client.post("/score", json=BODY)).json()["bundle_version"]
        write_pointer(versions, "canary", "v3")
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        kept = (await client.post("/score", json=BODY)).json()["bundle_version"]
        remove_pointer(versions, "canary")

        async def ended() -> bool:
            return canary not in (await client.get("/metrics")).text

        await until(ended)
        last = (await client.post("/score", json=BODY)).json()["bundle_version"]

    assert (first, kept, last) == ("v2", "v2", "v1")


async def test_a_canary_that_never_loaded_leaves_everybody_to_stable(live, versions):
    """A bad canary at start-up costs nothing but its refusal."""
    spoil(versions / "v2")
    write_pointer(versions, "canary", "v2")
    async with live(canary_percent=100) as client:
        await until_metric(client, 'ctr_bundle_loads_total{outcome="refused"}', 1)
        version = (await client.post("/score", json=BODY)).json()["bundle_version"]

    assert version == "v1"


async def test_promoting_the_canary_does_not_load_it_again(live, versions):
    """What serves already only changes its role; pointing both at one version ends the canary."""
    loaded = []

    def make(bundle):
        loaded.append(bundle.manifest.version)
        return OnnxRuntime(bundle)

    write_pointer(versions, "canary", "v2")
    async with live(runtimes={"onnx": make}, canary_percent=50) as client:
        await until_metric(client, 'ctr_bundle_info{name="tiny",role="canary",version="v2"}', 1)
        write_pointer(versions, "stable", "v2")
        await until_version(client, "v2")
        await looks(client, 3)
        metrics = (await client.get("/metrics")).text

    assert loaded == ["v1", "v2"]
    assert 'ctr_bundle_info{name="tiny",role="stable",version="v2"} 1.0' in metrics
    assert 'role="canary",version="v2"' not in metrics
