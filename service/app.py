"""The composition root: settings in, a FastAPI app out.

    Settings -> Parts -> the routes over them -> Observe

At start-up the bundle loads in the background, so that /livez answers at once and /readyz says how far we are.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from structlog.typing import FilteringBoundLogger

from service.api.admin import ADMIN_ROUTES, Admin, make_admin_router
from service.api.answers import answer_errors
from service.api.console import CONSOLE_ROUTES, Console, make_console_router
from service.api.events import EVENTS_PATH, Events
from service.api.feedback import FEEDBACK_PATH, FeedbackRoute
from service.api.history import HISTORY_PATH, Histories, make_history_router
from service.api.observe import Observe
from service.api.routes import ROUTES, Routes, make_router
from service.api.rows import open_compiled_rows
from service.api.writes import make_writes_router
from service.config import Settings, read_admin_key
from service.loader import Runtimes
from service.parts import Given, Parts
from service.process import Process
from service.scoring.engine import Clock
from service.stores.base import BehaviorStore

_ROUTES = (*ROUTES, *ADMIN_ROUTES, *CONSOLE_ROUTES, EVENTS_PATH, HISTORY_PATH, FEEDBACK_PATH)


def create_app(  # noqa: PLR0913  # whatever a test or a server replaces is a parameter
    settings: Settings,
    *,
    store: BehaviorStore | None = None,
    log: FilteringBoundLogger | None = None,
    runtimes: Runtimes | None = None,
    clock: Clock = time.monotonic,
    process: Process | None = None,
) -> FastAPI:
    """The service. `store` replaces the one that the settings name; the app closes either when it ends.

    Raises ValueError if the store's URL cannot be read, SettingsError if the bundle's, the admin key's or the public
    keys' file or the feature log cannot.
    """
    key = read_admin_key(settings)
    given = Given(clock=clock, store=store, log=log, runtimes=runtimes, process=process)
    parts = Parts(settings, given, routes=_ROUTES)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with parts.running():
            yield

    app = FastAPI(
        title="CTR Scorer",
        version=version("ctr-scorer"),
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # of its own, beside ours
    )
    _mount_writes(app, parts)
    if key is not None:
        _mount_admin(app, parts, key=key)
    if settings.console:
        console = Console(parts.serving, settings, vitals=parts.vitals, keyed=key is not None)
        app.include_router(make_console_router(console))
    routes = _routes(parts)
    app.include_router(make_router(routes))
    answer_errors(app, parts.log)
    app.middleware_stack = _observed(app, routes, parts)
    return app


def _observed(app: FastAPI, routes: Routes, parts: Parts) -> Observe:
    """The edge: everything that FastAPI answers passes it, and POST /score stays inside."""
    return Observe(
        app.build_middleware_stack(),
        routes.score,
        metrics=parts.metrics,
        log=parts.log,
        clock=parts.clock,
        drain=parts.process.drain,
        slow_s=parts.settings.slow_ms / 1e3,
        tracing=parts.tracing,
    )


def _routes(parts: Parts) -> Routes:
    return Routes(
        parts.serving,
        parts.settings,
        metrics=parts.metrics,
        clock=parts.clock,
        vitals=parts.vitals,
        shadow=parts.shadow,
        compiled=open_compiled_rows(),
        feature_log=parts.feature_log,
    )


def _mount_writes(app: FastAPI, parts: Parts) -> None:
    """What callers send that is not to be scored: behaviors and clicks."""
    events = Events(parts.store, parts.settings, metrics=parts.metrics.events, clock=parts.clock)
    feedback = FeedbackRoute(
        parts.serving,
        parts.settings,
        metrics=parts.metrics.feedback,
        seen=parts.seen(),
        feature_log=parts.feature_log,
    )
    app.include_router(make_writes_router(events, feedback))


def _mount_admin(app: FastAPI, parts: Parts, *, key: bytes) -> None:
    """What takes the admin key."""
    histories = Histories(
        parts.store,
        parts.settings,
        key=key,
        serving=parts.serving,
        feature_log=parts.feature_log,
        log=parts.log,
    )
    app.include_router(make_history_router(histories))
    app.include_router(make_admin_router(Admin(parts.watch, parts.settings, key=key, check=parts.check, log=parts.log)))
