"""/admin: which bundles there are, and which of them should serve.

These routes only move pointers, after the checks that moving one needs; the watch of every process follows them. They
exist where a key is set, and every one of them asks for it.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import HTTPBearer
from structlog.typing import FilteringBoundLogger

from model.bundle.errors import BundleError
from model.bundle.folder import read_bundle
from model.bundle.manifest import MANIFEST
from model.bundle.pointers import CANARY, PREVIOUS, STABLE, read_pointer, remove_pointer, roll_back, write_pointer
from model.bundle.signature import ManifestCheck
from service.api.answers import json_answer
from service.api.body import read_body
from service.api.exchange import exchange_of
from service.api.key import ADMIN_KEY, check_key
from service.api.openapi import PROMOTE_REQUEST, refusals
from service.api.parse import read_model
from service.api.routes import DirectRoute
from service.api.schemas import Promotion
from service.config import Settings
from service.errors import Conflict
from service.keys import Keys
from service.low_priority import in_low_priority
from service.serving import Served
from service.source import BundleSource, is_url
from service.watch import Watch

ADMIN_ROUTES = ("/admin/bundles", "/admin/promote", "/admin/rollback", "/admin/canary")
_MAX_BODY_BYTES, _BODY_TIMEOUT_S = 4096, 5.0

T = TypeVar("T")


class Admin:
    """The endpoints, over the watch and the pointers that it follows."""

    def __init__(  # what it moves, and what it asks before
        self,
        watch: Watch,
        settings: Settings,
        *,
        keys: Keys,
        log: FilteringBoundLogger,
        check: ManifestCheck | None = None,
    ) -> None:
        """`check` sees the manifest of a version before a pointer is moved to it."""
        self._watch = watch
        self._settings = settings
        self._keys = keys
        self._check = check
        self._log = log
        self._one_at_a_time = asyncio.Lock()

    async def bundles(self, request: Request) -> Response:
        """The versions that are there, where the pointers lead, what this process serves and what it refused last."""
        check_key(request.scope, self._keys, kind=ADMIN_KEY)
        versions, pointers = await self._do(partial(_overview, self._watch.source))
        settings, lineup, refusal = self._settings, self._watch.serving.lineup, self._watch.last_refusal
        body = {
            "versions": versions,
            "pointers": pointers,
            "serving": {"stable": _shown(lineup.stable), "canary": _shown(lineup.canary)},
            "canary_percent": settings.canary_percent,
            "shadow_percent": settings.shadow_percent,
            "watch_s": settings.watch_s,
            "last_refusal": refusal and {"version": refusal.version, "error": refusal.why},
        }
        return json_answer(body)

    async def promote(self, request: Request) -> Response:
        """Point `stable` or `canary` at a version whose checksums hold. Every process loads it at its next look."""
        check_key(request.scope, self._keys, kind=ADMIN_KEY)
        raw = await read_body(request.scope, request.receive, limit=_MAX_BODY_BYTES, timeout_s=_BODY_TIMEOUT_S)
        asked = read_model(Promotion, raw)
        root = self._root()
        await self._do(partial(_promote, root, asked, check=self._check))
        return self._moved(request, asked.pointer, asked.version)

    async def rollback(self, request: Request) -> Response:
        """Point `stable` at the version that it named before, if its checksums hold. One step, and only once.

        A canary that points to the version taken back ends with it.
        """
        check_key(request.scope, self._keys, kind=ADMIN_KEY)
        return self._moved(request, STABLE, await self._do(partial(_roll_back, self._root(), check=self._check)))

    async def end_canary(self, request: Request) -> Response:
        """Take the pointer `canary` away: all users get the stable bundle."""
        check_key(request.scope, self._keys, kind=ADMIN_KEY)
        if not await self._do(partial(remove_pointer, self._root(), CANARY)):
            raise Conflict("there is no canary")
        return self._moved(request, CANARY, None)

    def _root(self) -> Path:
        root = self._watch.source.root
        if root is None:
            kind = "a URL" if is_url(self._settings.bundle) else "one bundle or one pointer"
            raise Conflict(f"CTR_BUNDLE names {kind}: there are no pointers that could be moved from here")
        return root

    async def _do(self, work: Callable[[], T]) -> T:
        """Work on files, one at a time. Raises Conflict with whatever is in its way."""
        try:
            async with self._one_at_a_time:
                return await in_low_priority(work)
        except BundleError as error:
            raise Conflict(str(error)) from error
        except OSError as error:
            raise Conflict(f"the pointers cannot be changed: {error.strerror}") from error

    def _moved(self, request: Request, pointer: str, version: str | None) -> Response:
        request_id = exchange_of(request.scope).request_id
        self._log.info("pointer moved", pointer=pointer, bundle_version=version, request_id=request_id)
        return json_answer({"pointer": pointer, "version": version, "watch_s": self._settings.watch_s}, status=202)


def make_admin_router(admin: Admin) -> APIRouter:
    """The router that FastAPI mounts and documents. The key is checked by the endpoints; here it is only described."""
    key = HTTPBearer(auto_error=False, scheme_name="admin key")
    router = APIRouter(route_class=DirectRoute, dependencies=[Security(key)])
    add, errors = router.add_api_route, refusals(401, 403, 409)
    bundles, promote, rollback, canary = ADMIN_ROUTES
    add(bundles, admin.bundles, methods=["GET"], responses=refusals(401, 403))
    promote_errors = {**errors, **refusals(413, 422)}
    add(
        promote,
        admin.promote,
        methods=["POST"],
        status_code=202,
        responses=promote_errors,
        openapi_extra=PROMOTE_REQUEST,
    )
    add(rollback, admin.rollback, methods=["POST"], status_code=202, responses=errors)
    add(canary, admin.end_canary, methods=["DELETE"], status_code=202, responses=errors)
    return router


def _overview(source: BundleSource) -> tuple[list[str], dict[str, str | None]]:
    """The versions, and each pointer's; a pointer that cannot be read names none."""
    if source.root is not None:
        return source.versions(), {name: _named(source.root, name) for name in (STABLE, CANARY, PREVIOUS)}
    found = source.look()
    return source.versions(), {role: wanted.version for role, wanted in found.items() if wanted.pointed}


def _named(root: Path, pointer: str) -> str | None:
    try:
        return read_pointer(root, pointer)
    except BundleError:
        return None


def _promote(root: Path, asked: Promotion, *, check: ManifestCheck | None) -> None:
    _verify(root, asked.version, check=check)
    write_pointer(root, asked.pointer, asked.version)


def _roll_back(root: Path, *, check: ManifestCheck | None) -> str:
    if (version := read_pointer(root, PREVIOUS)) is not None:
        _verify(root, version, check=check)
    left = _named(root, STABLE)
    version = roll_back(root)
    if left is not None and _named(root, CANARY) == left:  # else some users would go on with what was taken back
        remove_pointer(root, CANARY)
    return version


def _verify(root: Path, version: str, *, check: ManifestCheck | None) -> None:
    found = read_bundle(root / version, check=check).manifest.version
    if found != version:
        raise BundleError(MANIFEST, f"is of version {found!r} in a folder {version!r}")


def _shown(served: Served | None) -> dict[str, str] | None:
    if served is None:
        return None
    return {"name": served.loaded.manifest.name, "version": served.version, "runtime": served.loaded.runtime.name}
