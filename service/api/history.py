"""/users/{id}/history: what is known about a user, and its end. Both only with the admin key."""

from typing import Any

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import HTTPBearer
from structlog.typing import FilteringBoundLogger

from model.bundle.records import ACTIONS, NOT_GIVEN
from service.api.answers import json_answer
from service.api.exchange import HISTORY_PATH, exchange_of
from service.api.key import ADMIN_KEY, check_key
from service.api.openapi import HISTORY_PARAMETERS, refusals
from service.api.routes import DirectRoute
from service.config import Settings
from service.errors import InvalidRequest, StoreUnavailable
from service.events import is_name, shown
from service.feature_log import FeatureLog
from service.keys import Keys
from service.serving import Serving
from service.stores.base import BehaviorStore, StoreError


class Histories:
    """The endpoints."""

    def __init__(  # noqa: PLR0913  # whatever may know something of a user
        self,
        store: BehaviorStore,
        settings: Settings,
        *,
        keys: Keys,
        serving: Serving,
        feature_log: FeatureLog,
        log: FilteringBoundLogger,
    ) -> None:
        self._store = store
        self._settings = settings
        self._keys = keys
        self._serving = serving
        self._feature_log = feature_log
        self._log = log

    async def read(self, request: Request) -> Response:
        """A user's newest behaviors, oldest first, as POST /score would read them."""
        user_id = self._admit(request)
        limit = self._limit(request)
        try:
            behaviors = await self._store.read(user_id, limit=limit, timeout_s=self._timeout_s)
        except StoreError as error:
            raise StoreUnavailable("the store did not answer") from error
        columns = (behaviors[name].tolist() for name in ("item", "category", "time", "action"))
        history = [_shown(*values) for values in zip(*columns, strict=True)]
        return json_answer({"user_id": user_id, "history": history}, headers={"Cache-Control": "no-store"})

    async def erase(self, request: Request) -> Response:
        """Forget a user, and say what was forgotten. Repeating it is right after any error."""
        user_id = self._admit(request)
        try:
            behaviors = await self._store.erase(user_id, timeout_s=self._timeout_s)
        except StoreError as error:
            raise StoreUnavailable("the store did not erase the history: ask again") from error
        try:
            lines = await self._feature_log.forget(user_id)
        except OSError as error:
            raise StoreUnavailable("the feature log could not be changed: ask again") from error
        erased = {
            "behaviors": behaviors,
            "feature_log_lines": lines,
            "cached_states": sum(served.scorer.states.clear() for served in self._serving.lineup),
        }
        request_id = exchange_of(request.scope).request_id
        self._log.info("user erased", request_id=request_id, **erased)  # who it was, the log must forget too
        return json_answer({"user_id": user_id, "erased": erased})

    @property
    def _timeout_s(self) -> float:
        return self._settings.events_timeout_ms / 1e3

    def _admit(self, request: Request) -> str:
        """The user, if the key is right."""
        check_key(request.scope, self._keys, kind=ADMIN_KEY)
        user_id = str(request.path_params["user_id"])
        if not is_name(user_id):
            raise InvalidRequest(
                f"user_id: found {shown(user_id)}, allowed: 1 to 128 characters without control characters"
            )
        return user_id

    def _limit(self, request: Request) -> int:
        most = self._settings.history_keep
        given = request.query_params.get("limit", str(most))
        if not (given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= most and len(given) < 9):
            raise InvalidRequest(f"limit: found {shown(given)}, allowed: an integer from 1 to {most}")
        return int(given)


def make_history_router(histories: Histories) -> APIRouter:
    """The router that FastAPI mounts and documents. The key is checked by the endpoints; here it is only described."""
    key = HTTPBearer(auto_error=False, scheme_name="admin key")
    router = APIRouter(route_class=DirectRoute, dependencies=[Security(key)])
    path, errors = HISTORY_PATH.replace("}", ":path}"), refusals(401, 403, 422, 503)
    for method, endpoint in (("GET", histories.read), ("DELETE", histories.erase)):
        extra: dict[str, Any] = {"parameters": HISTORY_PARAMETERS[method]}  # an OpenAPI fragment
        router.add_api_route(path, endpoint, methods=[method], responses=errors, openapi_extra=extra)
    return router


def _shown(item: int, category: int, time: int, action: int) -> dict[str, object]:
    return {
        "item_id": item,
        "category": None if category == NOT_GIVEN else category,
        "time": time,
        "action": ACTIONS[action] if action < len(ACTIONS) else action,
    }
