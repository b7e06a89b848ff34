"""What the service is made of: everything is constructed here, from the settings, and handed on.

Settings -> store, engine, metrics, log -> Serving -> Shadow, Vitals
                                 source -> Watch ^
"""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from structlog.typing import FilteringBoundLogger

from service.config import PREFIX, Settings, SettingsError
from service.counted_stores import CountedItems, CountedMarks, CountedStore
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
from service.source import open_source
from service.stores.base import BehaviorStore
from service.stores.choice import choose_store
from service.stores.items import CachedItems, RedisItems
from service.stores.marks import RedisMarks
from service.stores.redis import RedisStore
from service.stores.servers import Servers
from service.tracing import open_tracing
from service.trust import open_check
from service.vitals import Vitals
from service.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a test or a server may bring itself; None is made from the settings."""

    clock: Clock
    store: BehaviorStore | None = None
    log: FilteringBoundLogger | None = None
    runtimes: Runtimes | None = None
    process: Process | None = None


class Parts:
    """The service without its HTTP edge. It owns the store and closes it."""

    def __init__(self, settings: Settings, given: Given, *, routes: tuple[str, ...]) -> None:
        """`routes` are the paths that requests are counted by.

        Raises ValueError if the store's URL cannot be read, SettingsError if the feature log cannot be written,
        the public keys cannot be read, or the library for either traces or signatures is missing.
        """
        self.settings, self.clock = settings, given.clock
        self.log = given.log or json_log(settings.log_level)
        self.process = given.process or Process()
        self.tracing = open_tracing(settings)
        self.metrics = _metrics(settings, self.process.place, routes=routes)
        store = given.store or choose_store(settings)
        self.servers = store.servers if isinstance(store, RedisStore) else None
        self.store = CountedStore(store, self.metrics.store.done)
        self.engine = _make_engine(settings, metrics=self.metrics, clock=self.clock)
        self.feature_log = _make_feature_log(settings, metrics=self.metrics, log=self.log)
        items = _make_items(settings, self.servers, metrics=self.metrics, clock=self.clock)
        self.serving = Serving(settings, store=self.store, engine=self.engine, clock=self.clock, items=items)
        runtimes = given.runtimes or make_runtimes(settings)
        self.check = open_check(settings)
        self.watch = Watch(
            open_source(settings.bundle, cache=settings.bundle_cache, check=self.check),
            self.serving,
            load=partial(
                load,
                max_candidates=settings.max_candidates,
                runtimes=runtimes,
                explain=settings.explain_candidates > 0,
                check=self.check,
            ),
            metrics=self.metrics.bundles,
            log=self.log,
            clock=self.clock,
        )
        self.shadow = Shadow(self.serving, settings, metrics=self.metrics.bundles, log=self.log, clock=self.clock)
        self.vitals = Vitals(self.serving, self.process, metrics=self.metrics)

    def seen(self) -> Seen:
        """The requests that had feedback."""
        marks = None if self.servers is None else CountedMarks(RedisMarks(self.servers), self.metrics.store.done)
        settings = self.settings
        timeout_s = settings.store_timeout_ms / 1e3
        return Seen(marks, window_s=settings.feedback_window_s, timeout_s=timeout_s, clock=self.clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Threads and tasks, for as long as the block lasts; the bundle loads in the background."""
        self.engine.start()
        self.feature_log.start()
        async with _running(self.watch.run(self.settings.watch_s)), _running(self.vitals.keep_fresh()):
            await self.vitals.may_listen()
            yield
        await self.shadow.close()
        await asyncio.to_thread(self.engine.close)
        await asyncio.to_thread(self.feature_log.close)
        await self.store.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)


@asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """`work` in the background until the block ends."""
    task = asyncio.create_task(work)
    yield
    task.cancel()
    await asyncio.wait([task])


def _make_engine(settings: Settings, *, metrics: Metrics, clock: Clock) -> Engine:
    threads = settings.threads or max(1, usable_cpus(len(os.sched_getaffinity(0))) // settings.workers)
    queue = BatchQueue(threads=threads, budget_rows=settings.queue_rows, max_wait_s=settings.queue_ms / 1e3)
    return Engine(
        queue,
        threads=threads,
        clock=clock,
        on_start=partial(lower_priority, settings.compute_nice),
        on_batch=metrics.process.batch_rows.observe,
        on_crash=metrics.process.thread_crashes.inc,
    )


def make_runtimes(settings: Settings) -> Runtimes:
    """How a bundle of each format is executed, as the settings say."""
    if settings.device != "cpu":
        device = Device.parse(settings.device)
        on_gpu = partial(choose_on_gpu, device=device, max_candidates=settings.max_candidates)
        return dict.fromkeys(RUNTIMES, on_gpu)
    return {**RUNTIMES, "onnx": partial(choose_runtime, choice=settings.runtime, precision=settings.precision)}


def _make_items(settings: Settings, redis: Servers | None, *, metrics: Metrics, clock: Clock) -> CachedItems | None:
    """Where features of items come from that are newer than the bundle."""
    if redis is None or not settings.item_cache:
        return None
    reader = CountedItems(RedisItems(redis, prefix=settings.item_key_prefix), metrics.store.done)
    count = metrics.feedback.items
    return CachedItems(reader, keep=settings.item_cache, ttl_s=settings.item_cache_s, clock=clock, count=count)


def _make_feature_log(settings: Settings, *, metrics: Metrics, log: FilteringBoundLogger) -> FeatureLog:
    try:
        return FeatureLog(settings, metrics=metrics.feedback, log=log)
    except OSError as error:
        raise SettingsError([f"{PREFIX}FEATURE_LOG: cannot be written: {error.strerror}"]) from error


def _metrics(settings: Settings, place: Place | None, *, routes: tuple[str, ...]) -> Metrics:
    """Our metrics beside those of the process: memory, CPU, open files; of one process also garbage collections."""
    registry = CollectorRegistry()
    if place is None:
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
    return Metrics(registry, slo_s=settings.slo_s, routes=routes, place=place)
