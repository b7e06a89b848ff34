"""One store, several services."""

import httpx
import pytest

from model.bundle.records import make_behaviors
from service.stores.redis import RedisStore
from tests.online.bundle_versions import encoder_of
from tests.online.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.anyio
REQUEST = {"user_id": 1, "candidates": [{"item_id": 100}, {"item_id": 117}]}


async def scored(client: httpx.AsyncClient) -> dict[str, object]:
    return (await client.post("/score", json=REQUEST)).json()


async def test_bundles_of_different_versions_read_the_same_histories(serve, redis_url, tmp_path):
    """Records hold raw ids, so what was written before a bundle was trained is read by it, and by the older one."""
    bundles = [str(write_tiny_bundle(tmp_path, encoder_of(name), version=name)) for name in ("v1", "v2")]
    stores = [RedisStore.from_url(redis_url, history_keep=50, ttl_s=60) for _ in bundles]
    patient = {"deadline_ms": 5000, "store_timeout_ms": 2000}
    async with (
        serve(bundle=bundles[0], store=stores[0], **patient) as old,
        serve(bundle=bundles[1], store=stores[1], **patient) as new,
    ):
        await stores[0].append(1, make_behaviors([101, 102, 103]), timeout_s=5)
        answers = [await scored(client) for client in (old, new)]

    assert [answer["bundle_version"] for answer in answers] == ["v1", "v2"]
    assert [(answer["history_len"], answer["degraded"]) for answer in answers] == [(3, "none")] * 2
