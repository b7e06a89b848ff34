"""The process of `ctr-service consume-events`: what the consumer needs, its /metrics, and its end.

SIGTERM or SIGINT: the entries in hand are written and acknowledged, nothing more is read, and the exit code is 0.
"""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from structlog.typing import FilteringBoundLogger

from service.config import Settings
from service.consumer import Consumer, ConsumerOptions
from service.event_metrics import ConsumerMetrics
from service.stores.base import StoreError, StoreMisconfigured
from service.stores.check import explain
from service.stores.choice import choose_store, server_options
from service.stores.servers import Servers, open_servers
from service.stores.stream import EventStream, StreamNames

_CONNECTIONS = 2  # one that waits for entries, one that measures the lag


async def consume_events(settings: Settings, *, log: FilteringBoundLogger) -> None:
    """Consume until a signal comes. A Redis that is away is waited for.

    Raises StoreMisconfigured where waiting will not help, ValueError if the store's URL cannot be read, OSError if the
    port of /metrics is taken.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = stream_servers(settings)
    stream = EventStream(servers, stream_names(settings), dead_keep=settings.events_dead_keep)
    store = choose_store(settings)
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry)
    options = ConsumerOptions(
        rules=settings.event_rules(),
        batch=settings.events_batch,
        wait_s=settings.events_pause_ms / 1e3,
        claim_s=settings.events_claim_s,
    )
    try:
        await _check(stream)
        with _shown(registry, settings):
            log.info("consuming", stream=settings.events_stream, group=settings.events_group)
            await Consumer(stream, store, options, metrics=metrics, log=log).run(stop)
            log.info("stopped")
    finally:
        await store.close()
        await servers.close()


def stream_servers(settings: Settings) -> Servers:
    """The store's servers, asked as a stream needs it: always the master, and for as long as an answer takes."""
    options = replace(
        server_options(settings),
        pool_size=_CONNECTIONS,
        read_timeout_s=None,
        read_replicas=False,
        wait_replicas=0,  # an acknowledgement that a failover loses only brings an entry once more
    )
    return open_servers(settings.store, options)


def stream_names(settings: Settings) -> StreamNames:
    """Stream, group and this consumer."""
    consumer = settings.events_consumer or socket.gethostname()
    return StreamNames(stream=settings.events_stream, group=settings.events_group, consumer=consumer)


async def _check(stream: EventStream) -> None:
    try:
        await stream.open()
    except StoreError as error:
        if why := explain(error, "XGROUP"):
            raise StoreMisconfigured(why) from error


@contextmanager
def _shown(registry: CollectorRegistry, settings: Settings) -> Iterator[None]:
    """/metrics, where a port is set."""
    if not settings.consumer_port:
        yield
        return
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    server, thread = start_http_server(settings.consumer_port, addr=settings.host, registry=registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
