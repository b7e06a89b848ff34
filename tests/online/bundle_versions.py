"""Versions of the tiny bundle that score differently, and waiting for them."""

import asyncio
from pathlib import Path

from model.bundle.dense import Scaling
from model.bundle.encode import Encoder
from model.bundle.folder import GOLDEN
from model.bundle.records import no_behaviors
from service.runtimes.onnx import OnnxRuntime
from tests.online.tiny_bundle import reference, tiny_encoder

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


def gated(gate, version: str):
    """Runtimes of which that of `version` computes while `gate` is open only."""

    class Gated(OnnxRuntime):
        def score(self, state, candidates):
            gate.wait()
            return super().score(state, candidates)

    return {"onnx": lambda bundle: (Gated if bundle.manifest.version == version else OnnxRuntime)(bundle)}


def spoil(folder: Path) -> None:
    """Flip one bit in the middle of a file."""
    raw = bytearray((folder / GOLDEN).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / GOLDEN).write_bytes(bytes(raw))
