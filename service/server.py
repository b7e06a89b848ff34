"""One serving process: the app, uvicorn around it, and an end that loses nothing.

SIGTERM or SIGINT begins the drain (`service/drain.py`) and the exit code is 0. A second SIGTERM changes nothing; a
second SIGINT, from somebody at a terminal, does not wait for what is in flight.
"""

import asyncio
import multiprocessing
import signal
import socket
import sys
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.config import PREFIX, Settings
from service.connection import KEEP_ALIVE_S, Connection
from service.drain import Drain
from service.logs import DescriptorSink, SafeSink, json_log, redirect_stdlib
from service.port import PortError, own_socket, shared_socket
from service.process import Place, Process
from service.shared_metrics import share_values
from service.stores.base import StoreMisconfigured
from service.stores.choice import check_store

BACKLOG = 2048  # connections that wait to be accepted; uvicorn's own default


class Server(uvicorn.Server):
    """uvicorn with a drain in place of its own way to end, which would pass the signal on once all is closed."""

    def __init__(self, config: uvicorn.Config, drain: Drain, *, admin: socket.socket | None = None) -> None:
        """`admin` is a second port to listen on, bound and not yet listening."""
        super().__init__(config)
        self._drain = drain
        self._admin = admin

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """What uvicorn calls to begin."""
        await super().startup(sockets)
        if self._admin is not None and not self.should_exit:
            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_server(self._connection, sock=self._admin, backlog=BACKLOG))

    def _connection(self) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What uvicorn calls on SIGTERM and SIGINT, in the main thread."""
        if self._drain.draining and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True
        self._drain.begin()

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn calls ten times a second; True ends listening."""
        return await super().on_tick(counter) or self._drain.over


def serve(settings: Settings, *, place: Place | None = None, port: int | None = None) -> None:
    """Serve until a signal or, at a place among several, until the parent is gone.

    At a place, `port` is shared with the other processes (SO_REUSEPORT). Raises ValueError if the store's URL cannot
    be read or the store refuses us for good, OSError or (on its own) SystemExit if the port cannot be listened on,
    PortError if that of /admin cannot.
    """
    sink = SafeSink(DescriptorSink(sys.stdout.fileno()))
    log = json_log(settings.log_level, sink=sink)
    redirect_stdlib(log, settings.log_level)
    drain = Drain(delay_s=settings.drain_delay_s)
    process = Process(drain=drain, lost_lines=lambda: sink.lost, place=place)
    if place is not None:
        share_values(place)
        _drain_without_parent(drain)
    if place is None or not place.restarted:  # one that replaces another must serve, degraded if need be
        _check_store(settings)
    admin = _admin_socket(settings, shared=place is not None)
    app = create_app(settings, log=log, process=process)
    server = Server(_config(app, settings), drain, admin=admin)
    server.run(None if port is None else [shared_socket(settings.host, port)])


def _admin_socket(settings: Settings, *, shared: bool) -> socket.socket | None:
    """For the port of /admin, where it has one of its own. Raises PortError."""
    if not settings.admin_apart:
        return None
    try:
        return (shared_socket if shared else own_socket)(settings.admin_host, settings.admin_port)
    except OSError as error:
        raise PortError(f"{PREFIX}ADMIN_HOST, {PREFIX}ADMIN_PORT: {error}") from error


def _check_store(settings: Settings) -> None:
    try:
        asyncio.run(check_store(settings))
    except StoreMisconfigured as error:
        raise ValueError(str(error)) from error


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        host=settings.host,
        port=settings.port,
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s,
    )


def _drain_without_parent(drain: Drain) -> None:
    """A parent that was killed can ask nobody to stop, and nobody could ask it; so its end is taken for the request."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        drain.begin()

    threading.Thread(target=wait, name="parent", daemon=True).start()
