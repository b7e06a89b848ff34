"""The composition root: settings in, a FastAPI app out. Everything is constructed here and passed on.

    Settings -> store, engine, metrics, log -> Serving -> Routes -> Observe
                                     source -> Watch ^

At start-up the bundle loads in the background, so that /livez answers at once and /readyz says how far we are.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from structlog.typing import FilteringBoundLogger

from service.api.admin import ADMIN_ROUTES, Admin, make_admin_router
from service.api.answers import answer_errors
from service.api.events import EVENTS_PATH, Events, make_events_router
from service.api.feedback import FEEDBACK_PATH, FeedbackRoute, make_feedback_router
from service.api.history import HISTORY_PATH, Histories, make_history_router
from service.api.observe import Observe
from service.api.routes import ROUTES, Routes, make_router
from service.api.rows import open_compiled_rows
from service.config import PREFIX, Settings, SettingsError, read_admin_key
from service.feature_log import FeatureLog
from service.feedback import Seen
from service.loader import RUNTIMES, Runtimes, load
from service.logs import json_log
from service.low_priority import lower_priority
from service.metrics import Metrics
from service.process import Place, Process
from service.runtimes.choice import choose_on_gpu, choose_runtime
from service.runtimes.cpu_limit import usable_cpus
from service.runtimes.device import Device
from service.scoring.batching import BatchQueue
from service.scoring.engine import Clock, Engine
from service.serving import Serving
from service.shadow import Shadow
from service.shared_metrics import merged
from service.source import open_source
from service.stores.base import BehaviorStore
from service.stores.choice import choose_store
from service.stores.items import CachedItems, RedisItems
from service.stores.marks import RedisMarks
from service.stores.redis import RedisStore
from service.stores.servers import Servers
from service.vitals import Vitals
from service.watch import Watch

_ROUTES = (*ROUTES, *ADMIN_ROUTES, EVENTS_PATH, HISTORY_PATH, FEEDBACK_PATH)


def create_app(  # noqa: PLR0913  # the composition root: whatever a test or a server replaces is a parameter
    settings: Settings,
    *,
    store: BehaviorStore | None = None,
    log: FilteringBoundLogger | None = None,
    runtimes: Runtimes | None = None,
    clock: Clock = time.monotonic,
    process: Process | None = None,
) -> FastAPI:
    """The service. `store` replaces the one that the settings name; the app closes either when it ends.

    Raises ValueError if the store's URL cannot be read, SettingsError if the bundle's or the admin key's file
    cannot.
    """
    key = read_admin_key(settings)
    log = log or json_log(settings.log_level)
    process = process or Process()
    metrics = _metrics(settings, process.place)
    threads = settings.threads or max(1, usable_cpus(len(os.sched_getaffinity(0))) // settings.workers)
    queue = BatchQueue(threads=threads, budget_rows=settings.queue_rows, max_wait_s=settings.queue_ms / 1e3)
    step_back = partial(lower_priority, settings.compute_nice)
    engine = Engine(
        queue, threads=threads, clock=clock, on_start=step_back, on_crash=metrics.process.thread_crashes.inc
    )
    store = store or make_store(settings)
    redis = store.servers if isinstance(store, RedisStore) else None
    items = _make_items(settings, redis, metrics=metrics, clock=clock)
    serving = Serving(settings, store=store, engine=engine, clock=clock, items=items)
    feature_log = _make_feature_log(settings, metrics=metrics, log=log)
    load_bundle = partial(load, max_candidates=settings.max_candidates, runtimes=runtimes or make_runtimes(settings))
    source = open_source(settings.bundle, cache=settings.bundle_cache)
    watch = Watch(source, serving, load=load_bundle, metrics=metrics.bundles, log=log)
    shadow = Shadow(serving, settings, metrics=metrics.bundles, log=log, clock=clock)
    vitals = Vitals(serving, process, metrics=metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        feature_log.start()
        async with _running(watch.run(settings.watch_s)), _running(vitals.keep_fresh()):
            await vitals.may_listen()
            yield
        await shadow.close()
        await asyncio.to_thread(engine.close)
        await asyncio.to_thread(feature_log.close)
        await store.close()

    app = FastAPI(title="CTR Scorer", version=version("ctr-scorer"), lifespan=lifespan)
    compiled = open_compiled_rows()
    routes = Routes(
        serving,
        settings,
        metrics=metrics,
        clock=clock,
        vitals=vitals,
        shadow=shadow,
        compiled=compiled,
        feature_log=feature_log,
    )
    app.include_router(make_router(routes))
    marks = None if redis is None else RedisMarks(redis)
    seen = Seen(marks, window_s=settings.feedback_window_s, timeout_s=settings.store_timeout_ms / 1e3, clock=clock)
    feedback = FeedbackRoute(serving, settings, metrics=metrics.feedback, seen=seen, feature_log=feature_log)
    app.include_router(make_feedback_router(feedback))
    app.include_router(make_events_router(Events(store, settings, metrics=metrics.events, clock=clock)))
    if key is not None:
        histories = Histories(store, settings, key=key, serving=serving, feature_log=feature_log, log=log)
        app.include_router(make_history_router(histories))
        app.include_router(make_admin_router(Admin(watch, settings, key=key, log=log)))
    answer_errors(app, log)
    inner = app.build_middleware_stack()
    app.middleware_stack = Observe(inner, routes.score, metrics=metrics, log=log, clock=clock, drain=process.drain)
    return app


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """`work` in the background until the block ends."""
    task = asyncio.create_task(work)
    yield
    task.cancel()
    await asyncio.wait([task])


def make_runtimes(settings: Settings) -> Runtimes:
    """How a bundle of each format is executed, as the settings say."""
    if settings.device != "cpu":
        device = Device.parse(settings.device)
        on_gpu = partial(choose_on_gpu, device=device, max_candidates=settings.max_candidates)
        return dict.fromkeys(RUNTIMES, on_gpu)
    return {**RUNTIMES, "onnx": partial(choose_runtime, choice=settings.runtime, precision=settings.precision)}


def make_store(settings: Settings) -> BehaviorStore:
    """The store that `settings.store` names. Raises ValueError for a URL that cannot be read."""
    return choose_store(settings)


def _make_items(settings: Settings, redis: Servers | None, *, metrics: Metrics, clock: Clock) -> CachedItems | None:
    """Where features of items come from that are newer than the bundle."""
    if redis is None or not settings.item_cache:
        return None
    reader = RedisItems(redis, prefix=settings.item_key_prefix)
    count = metrics.feedback.items
    return CachedItems(reader, keep=settings.item_cache, ttl_s=settings.item_cache_s, clock=clock, count=count)


def _make_feature_log(settings: Settings, *, metrics: Metrics, log: FilteringBoundLogger) -> FeatureLog:
    try:
        return FeatureLog(settings, metrics=metrics.feedback, log=log)
    except OSError as error:
        raise SettingsError([f"{PREFIX}FEATURE_LOG: cannot be written: {error.strerror}"]) from error


def _metrics(settings: Settings, place: Place | None) -> Metrics:
    """Our metrics beside those of the process: memory, CPU, open files; of one process also garbage collections."""
    registry = CollectorRegistry()
    if place is not None:
        shown = merged(place.metrics)
        return Metrics(registry, slo_s=settings.slo_s, routes=_ROUTES, shown=shown)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return Metrics(registry, slo_s=settings.slo_s, routes=_ROUTES)
