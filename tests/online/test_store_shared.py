"""One store, several services."""

from dataclasses import replace

import httpx
import pytest

from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.bundle.records import action_code, make_behaviors
from model.bundle.schema import schema_from_table
from service.stores.redis import RedisStore
from tests.online.bundle_versions import encoder_of
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

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


async def test_a_history_is_made_of_the_actions_of_the_schema(serve, redis_url, tmp_path):
    """Two bundles over one store: one reads everything, the other only what was bought."""
    tiny = tiny_encoder()
    schema = replace(tiny.schema, actions=("buy",))
    encoder = Encoder(schema, tiny.vocabularies, scalings=tiny.scalings, catalogue=tiny.catalogue)
    bundles = [
        str(write_tiny_bundle(tmp_path, chosen, version=name)) for name, chosen in (("all", tiny), ("buys", encoder))
    ]
    behaviors = make_behaviors([101, 102, 103])
    behaviors["action"] = [action_code("buy"), action_code("click"), action_code("cart")]
    stores = [RedisStore.from_url(redis_url, history_keep=50, ttl_s=60) for _ in bundles]
    patient = {"deadline_ms": 5000, "store_timeout_ms": 2000}
    async with (
        serve(bundle=bundles[0], store=stores[0], **patient) as every,
        serve(bundle=bundles[1], store=stores[1], **patient) as bought,
    ):
        await stores[0].append(1, behaviors, timeout_s=5)
        answers = [await scored(client) for client in (every, bought)]

    assert [answer["history_len"] for answer in answers] == [3, 1]


async def test_an_action_that_is_none_is_refused():
    """A typo would make every history empty."""
    table = {**tiny_encoder().schema.to_table(), "actions": ["buys"]}

    with pytest.raises(ConfigError, match="actions"):
        schema_from_table(table, file="schema.json")
