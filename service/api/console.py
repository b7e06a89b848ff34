"""The console: a page at / for people, its files, and what it asks beside the routes that programs have.

Everything comes from the package, is read once, and is answered from memory with an ETag of its content. The page may
load nothing from elsewhere and runs no script that is not a file of ours (Content-Security-Policy).
"""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from service.api.answers import json_answer
from service.api.exchange import exchange_of, header
from service.api.openapi import CONSOLE_PARAMETERS, CONSOLE_TYPES, DOOR, FILE_RESPONSES, MAX_ITEMS, MAX_SEED, refusals
from service.api.routes import DirectRoute, asked_role
from service.config import Settings
from service.errors import InvalidRequest, NotReady
from service.events import shown
from service.serving import Served, Serving
from service.vitals import Vitals

PAGE, STATE, ITEMS, REPORT, FILES = (
    "/",
    "/console/state",
    "/console/items",
    "/console/report",
    "/console/files/{path}",
)
CONSOLE_ROUTES = (PAGE, STATE, ITEMS, REPORT, FILES)
_USUAL_ITEMS = 20
_HEADERS = {
    "Cache-Control": "no-cache",  # ask again, by the ETag
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the page, as it is sent."""

    plain: bytes
    zipped: bytes
    etag: str
    media_type: str


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which keys are to be typed: for the route that shows histories, and for all others."""

    admin: bool
    api: bool


class Console:
    """The endpoints."""

    def __init__(
        self, serving: Serving, settings: Settings, *, vitals: Vitals, files: Mapping[str, File], keys: Asked
    ) -> None:
        """`files` are the page's own, of `read_files`."""
        self._serving = serving
        self._settings = settings
        self._vitals = vitals
        self._keys = keys
        self._files = files

    async def page(self, request: Request) -> Response:
        """The console, a page for people."""
        return self._send("index.html", request)

    async def file(self, request: Request) -> Response:
        """A file of that page."""
        exchange_of(request.scope).route = FILES
        return self._send(str(request.path_params["path"]), request)

    async def state(self, _: Request) -> Response:
        """Whether this process is ready, or why not, what serves, and what a request may ask. Always a 200."""
        try:
            self._vitals.ready()
            reason = None
        except NotReady as error:
            reason = str(error)
        settings = self._settings
        body = {
            "ready": reason is None,
            "reason": reason,
            "bundles": {served.role: _summary(served) for served in self._serving.lineup},
            "canary_percent": settings.canary_percent,
            "open_circuits": self._serving.open_circuits,
            "admin_key": self._keys.admin,
            "api_key": self._keys.api,
            "slo_s": settings.slo_s,
            "limits": {
                "candidates": settings.max_candidates,
                "explain_candidates": settings.explain_candidates,
                "history": settings.history_keep,
                "items": MAX_ITEMS,
                "deadline_ms": settings.deadline_ms,
                "max_deadline_ms": settings.max_deadline_ms,
            },
        }
        return json_answer(body)

    async def items(self, request: Request) -> Response:
        """Items of a bundle's catalogue, drawn at random: candidates to try."""
        count = _number(request, "limit", usual=_USUAL_ITEMS, least=1, most=MAX_ITEMS)
        seed = _number(request, "seed", usual=-1, least=0, most=MAX_SEED)
        served = self._serving.of_role(asked_role(request))
        encoder, rng = served.loaded.encoder, np.random.default_rng(None if seed < 0 else seed)
        catalogue, key = encoder.catalogue, encoder.schema.keys.item
        rows = np.sort(rng.choice(len(catalogue.ids), min(count, len(catalogue.ids)), replace=False, shuffle=False))
        columns = {key: catalogue.ids[rows].tolist()}
        columns |= {name: catalogue.values(name, rows) for name in catalogue.columns}
        found = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return json_answer({"items": found, "catalogue": len(catalogue.ids), "bundle_version": served.version})

    async def report(self, request: Request) -> Response:
        """The report of a bundle's training, `report.json`; null if it has none."""
        report = self._serving.of_role(asked_role(request)).loaded.report
        return Response(report or b"null", media_type="application/json")

    def _send(self, path: str, request: Request) -> Response:
        file = self._files.get(path)
        if file is None:
            raise HTTPException(404, "Not Found")
        headers = {**_HEADERS, "ETag": file.etag}
        if file.etag in (header(request.scope, b"if-none-match") or ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in (header(request.scope, b"accept-encoding") or ""):
            return Response(file.zipped, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"})
        return Response(file.plain, media_type=file.media_type, headers=headers)


def read_files() -> Mapping[str, File]:
    """The page's files by path."""
    return dict(_read(files("service").joinpath("console"), ""))


def make_console_router(console: Console) -> APIRouter:
    """The router that FastAPI mounts and documents."""
    router = APIRouter(route_class=DirectRoute)
    errors = refusals(*DOOR, 409, 422, 503)
    add = router.add_api_route
    add(PAGE, console.page, methods=["GET"], response_class=HTMLResponse)
    add(
        FILES.replace("}", ":path}"),
        console.file,
        methods=["GET"],
        response_class=Response,
        responses=FILE_RESPONSES,
        openapi_extra=_parameters("file"),
    )
    add(STATE, console.state, methods=["GET"], responses=refusals(*DOOR))
    add(ITEMS, console.items, methods=["GET"], responses=errors, openapi_extra=_parameters("items"))
    add(REPORT, console.report, methods=["GET"], responses=errors, openapi_extra=_parameters("report"))
    return router


def _parameters(route: str) -> dict[str, Any]:
    """An OpenAPI fragment."""
    return {"parameters": CONSOLE_PARAMETERS[route]}


def _summary(served: Served) -> dict[str, object]:
    manifest, loaded = served.loaded.manifest, served.loaded
    return {
        "name": manifest.name,
        "version": manifest.version,
        "net": manifest.net.get("kind"),
        "runtime": loaded.runtime.name,
        "catalogue": len(loaded.encoder.catalogue.ids),
    }


def _number(request: Request, name: str, *, usual: int, least: int, most: int) -> int:
    given = request.query_params.get(name)
    if given is None:
        return usual
    if not (given.isascii() and given.isdigit() and len(given) < 11 and least <= int(given) <= most):
        raise InvalidRequest(f"{name}: found {shown(given)}, allowed: an integer from {least} to {most}")
    return int(given)


def _read(folder: Traversable, prefix: str) -> Iterator[tuple[str, File]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")
        elif media_type := CONSOLE_TYPES.get("." + entry.name.rpartition(".")[2]):
            plain = entry.read_bytes()
            etag = f'"{hashlib.sha256(plain).hexdigest()[:20]}"'
            zipped = gzip.compress(plain, 6, mtime=0)
            yield prefix + entry.name, File(plain=plain, zipped=zipped, etag=etag, media_type=media_type)
