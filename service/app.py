"""The composition root: settings in, a FastAPI app out. Everything is constructed here and passed on.

    Settings -> store, workers, metrics, log -> Serving -> Routes -> Observe

At start-up the bundle loads in the background, so that /livez answers at once and /readyz says how far we are.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from structlog.typing import FilteringBoundLogger

from service.api.answers import answer_errors
from service.api.observe import Observe
from service.api.routes import ROUTES, Routes, make_router
from service.config import Settings
from service.loader import RUNTIMES, Runtimes
from service.logs import json_log
from service.metrics import Metrics
from service.runtimes.cpu_limit import usable_cpus
from service.scoring.workers import Clock, Workers
from service.serving import Serving
from service.stores.base import BehaviorStore
from service.stores.memory import MemoryStore
from service.stores.redis import RedisStore


def create_app(
    settings: Settings,
    *,
    store: BehaviorStore | None = None,
    log: FilteringBoundLogger | None = None,
    runtimes: Runtimes = RUNTIMES,
    clock: Clock = time.monotonic,
) -> FastAPI:
    """The service. `store` replaces the one that the settings name; the app closes either when it ends.

    Raises ValueError if the store's URL cannot be read.
    """
    log = log or json_log(settings.log_level)
    metrics = Metrics(_registry(), slo_s=settings.slo_s, routes=ROUTES)
    threads = settings.threads or usable_cpus(len(os.sched_getaffinity(0)))
    workers = Workers(threads, budget_rows=settings.queue_rows, clock=clock)
    store = store or make_store(settings)
    serving = Serving(settings, store=store, workers=workers, clock=clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        workers.start()
        loading = asyncio.create_task(serving.load(runtimes, metrics=metrics, log=log))
        yield
        loading.cancel()
        await asyncio.to_thread(workers.close)
        await store.close()

    app = FastAPI(title="CTR Scorer", version=version("ctr-scorer"), lifespan=lifespan)
    app.include_router(make_router(Routes(serving, settings, metrics=metrics, clock=clock)))
    app.add_middleware(Observe, metrics=metrics, log=log, clock=clock)
    answer_errors(app, log)
    return app


def make_store(settings: Settings) -> BehaviorStore:
    """The store that `settings.store` names. Raises ValueError for a URL that cannot be read."""
    if settings.store.startswith("memory://"):
        return MemoryStore(history_keep=settings.history_keep)
    return RedisStore.from_url(
        settings.store,
        history_keep=settings.history_keep,
        ttl_s=settings.history_ttl_s,
        key_prefix=settings.key_prefix,
    )


def _registry() -> CollectorRegistry:
    """Our metrics beside those of the process: memory, CPU, open files, garbage collections."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
