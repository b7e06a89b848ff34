"""The tiny bundle, and the service around it, for the tests of the online half."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest
from fastapi import FastAPI

from model.bundle.encode import Columns, Encoder
from model.bundle.pointers import write_pointer
from model.bundle.records import Behaviors, no_behaviors
from service.app import create_app
from service.config import Settings
from service.loader import RUNTIMES, Runtimes
from service.logs import Sink, json_log
from service.stores.base import BehaviorStore
from service.stores.memory import MemoryStore
from tests.online.bundle_versions import WATCH_S, encoder_of
from tests.online.tiny_bundle import reference, tiny_encoder, write_tiny_bundle

NONE: Columns = MappingProxyType({})
Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The tiny bundle's encoder."""
    return tiny_encoder()


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """The bundle on disk. Shared: a test that changes files copies it first."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), encoder)


@pytest.fixture
def store() -> MemoryStore:
    """An empty store."""
    return MemoryStore(history_keep=50)


@pytest.fixture
def expected_pctr(encoder: Encoder) -> Callable[..., list[float]]:
    """What numpy says the tiny net gives for one user: (item columns, history, user columns, context columns)."""

    def pctr(
        items: Columns, *, history: Behaviors | None = None, user: Columns = NONE, context: Columns = NONE
    ) -> list[float]:
        behaviors = no_behaviors() if history is None else history
        request = {**encoder.encode_request(user, context, rows=1), **encoder.encode_history([behaviors])}
        encoded = {name: tensor[None] for name, tensor in encoder.encode_items(items).items()}
        return reference({**request, **encoded})[0].tolist()

    return pctr


@pytest.fixture(scope="session")
def serve(bundle_path: Path) -> Serve:
    """`async with serve(deadline_ms=...) as client`: the app, after its bundle was loaded or refused."""

    @asynccontextmanager
    async def serve_(
        *,
        store: BehaviorStore | None = None,
        log: Sink | None = None,
        runtimes: Runtimes = RUNTIMES,
        **settings: object,
    ) -> AsyncIterator[httpx.AsyncClient]:
        own = {"bundle": str(bundle_path), "store": "memory://", "threads": 2, "admin_port": 0}
        chosen = Settings(**{**own, **settings})
        app = create_app(
            chosen, store=store, log=json_log(chosen.log_level, sink=log or io.BytesIO()), runtimes=runtimes
        )
        async with running(app) as client:
            yield client

    return serve_


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """Versions v1, v2 and v3; `stable` points to v1."""
    for version in ("v1", "v2", "v3"):
        write_tiny_bundle(tmp_path, encoder_of(version), version=version)
    write_pointer(tmp_path, "stable", "v1")
    return tmp_path


@pytest.fixture
def live(serve: Serve, versions: Path) -> Serve:
    """`async with live(**settings) as client`: the service, watching `versions`."""

    @asynccontextmanager
    async def live_(**settings: object) -> AsyncIterator[httpx.AsyncClient]:
        async with serve(bundle=str(versions), **{"watch_s": WATCH_S, "deadline_ms": 5000, **settings}) as client:
            yield client

    return live_


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app whose lifespan runs and whose bundle was loaded or refused."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://ctr") as client,
    ):
        while "still loading" in (await client.get("/readyz")).text:  # noqa: ASYNC110  # asked as a probe asks
            await asyncio.sleep(0.01)
        yield client
