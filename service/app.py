"""The composition root: settings in, a FastAPI app out.

    Settings -> Parts -> the routes over them -> Observe

At start-up the bundle loads in the background, so that /livez answers at once and /readyz says how far we are.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Lifespan
from structlog.typing import FilteringBoundLogger

from service.access import Access
from service.api.admin import ADMIN_ROUTES, Admin, make_admin_router
from service.api.answers import answer_errors
from service.api.console import CONSOLE_ROUTES, Asked, Console, make_console_router, read_files
from service.api.door import Door
from service.api.events import EVENTS_PATH, Events
from service.api.exchange import HISTORY_PATH
from service.api.feedback import FEEDBACK_PATH, FeedbackRoute
from service.api.history import Histories, make_history_router
from service.api.observe import Observe
from service.api.ports import ByPort
from service.api.routes import ROUTES, Routes, make_router
from service.api.rows import open_compiled_rows
from service.api.writes import make_writes_router
from service.config import Settings
from service.keys import Keys
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

    All its routes are in the app that is returned; where /admin has a port of its own, it answers elsewhere without it.

    Raises ValueError if the store's URL cannot be read, SettingsError if the bundle's, a file of keys or of public
    keys or the feature log cannot.
    """
    access = Access(settings)
    given = Given(clock=clock, store=store, log=log, runtimes=runtimes, process=process)
    parts = Parts(settings, given, routes=_ROUTES)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with parts.running(), access.followed(parts.log):
            yield

    routes = _routes(parts)
    common = [_writes(parts), make_router(routes)]
    public, whole = _routers(common, parts, access)
    app = _app(whole, lifespan, parts.log)
    inner: ASGIApp = app.build_middleware_stack()
    if settings.admin_apart:
        inner = ByPort(_app(public, lifespan, parts.log).build_middleware_stack(), inner, port=settings.admin_port)
    app.middleware_stack = _observed(inner, routes, parts, door=Door(access.api, origins=settings.origins))
    return app


def _app(routers: Sequence[APIRouter], lifespan: Lifespan[FastAPI], log: FilteringBoundLogger) -> FastAPI:
    app = FastAPI(
        title="CTR Scorer",
        version=version("ctr-scorer"),
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # of its own, beside ours
    )
    for router in routers:
        app.include_router(router)
    answer_errors(app, log)
    return app


def _routers(common: list[APIRouter], parts: Parts, access: Access) -> tuple[list[APIRouter], list[APIRouter]]:
    """Those for everybody, and all: with what takes an admin key, if there is one."""
    admin = [] if access.admin is None else _admin(parts, keys=access.admin)
    public, whole = list(common), [*common, *admin]
    if parts.settings.console:
        make = partial(Console, parts.serving, parts.settings, vitals=parts.vitals, files=read_files())
        api = access.api is not None
        public.append(make_console_router(make(keys=Asked(api=api, admin=False))))
        whole.append(make_console_router(make(keys=Asked(api=api, admin=bool(admin)))))
    return public, whole


def _observed(inner: ASGIApp, routes: Routes, parts: Parts, *, door: Door) -> Observe:
    """The edge: everything that is answered passes it, and POST /score stays inside."""
    return Observe(
        inner,
        routes.score,
        door=door,
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


def _writes(parts: Parts) -> APIRouter:
    """What callers send that is not to be scored: behaviors and clicks."""
    events = Events(parts.store, parts.settings, metrics=parts.metrics.events, clock=parts.clock)
    feedback = FeedbackRoute(
        parts.serving,
        parts.settings,
        metrics=parts.metrics.feedback,
        seen=parts.seen(),
        feature_log=parts.feature_log,
    )
    return make_writes_router(events, feedback)


def _admin(parts: Parts, *, keys: Keys) -> list[APIRouter]:
    """What takes an admin key."""
    histories = Histories(
        parts.store,
        parts.settings,
        keys=keys,
        serving=parts.serving,
        feature_log=parts.feature_log,
        log=parts.log,
    )
    admin = Admin(parts.watch, parts.settings, keys=keys, check=parts.check, log=parts.log)
    return [make_history_router(histories), make_admin_router(admin)]
