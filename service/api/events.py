"""POST /events: behaviors into the store. What was not stored is not acknowledged."""

import time
from collections.abc import Callable

import orjson
from fastapi import Request, Response

from service.api.answers import json_answer
from service.api.body import read_body
from service.api.exchange import exchange_of
from service.config import Settings
from service.errors import Conflict, InvalidRequest, StoreUnavailable, TooLarge
from service.event_metrics import EventMetrics
from service.events import CheckedEvents, check_events, shown
from service.scoring.engine import Clock
from service.stores.base import BehaviorStore, StoreError, StoreOccupied

EVENTS_PATH = "/events"


class Events:
    """The endpoint. It needs no bundle: records hold raw ids."""

    def __init__(
        self,
        store: BehaviorStore,
        settings: Settings,
        *,
        metrics: EventMetrics,
        clock: Clock,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is what the timeout goes by, `now` gives seconds since the epoch."""
        self._store = store
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._rules = settings.event_rules()

    async def append(self, request: Request) -> Response:
        """Append one event, or up to CTR_MAX_EVENTS; each may be sent again. Those that break a rule are named."""
        exchange = exchange_of(request.scope)
        settings = self._settings
        timeout_s = settings.events_timeout_ms / 1e3
        raw = await read_body(request.scope, request.receive, limit=settings.max_body_bytes, timeout_s=timeout_s)
        events, alone = self._read(raw)
        checked = check_events(events, self._rules, now_ms=int(self._now() * 1000))
        if alone and checked.rejected:
            self._metrics.checked(checked)
            raise InvalidRequest(checked.rejected[0].error)
        await self._write(checked, left_s=exchange.started + timeout_s - self._clock())
        self._metrics.checked(checked)
        body = {
            "request_id": exchange.request_id,
            "accepted": checked.accepted,
            "duplicates": checked.duplicates,
            "rejected": [{"index": r.index, "reason": r.reason, "error": r.error} for r in checked.rejected],
        }
        return json_answer(body, status=202)

    def _read(self, raw: bytes) -> tuple[list[object], bool]:
        """The events, and whether the body is one event by itself."""
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from None
        if not isinstance(body, dict) or "events" not in body:
            return [body], True
        if unknown := body.keys() - {"events"}:
            raise InvalidRequest(f"unknown field {shown(min(unknown))}, allowed: events, or the fields of one event")
        events, most = body["events"], self._settings.max_events
        if not isinstance(events, list) or not events:
            found = "none" if events == [] else shown(events)
            raise InvalidRequest(f"events: found {found}, allowed: a list of 1 to {most} events")
        if len(events) > most:
            raise TooLarge(f"events: found {len(events)}, allowed: 1 to {most}")
        return events, False

    async def _write(self, checked: CheckedEvents, *, left_s: float) -> None:
        if not checked.histories:
            return
        try:
            await self._store.append_many(checked.histories, timeout_s=max(left_s, 0.0))
        except StoreOccupied as error:
            raise Conflict(
                "the key of a user's history holds something else; other users' events are stored"
            ) from error
        except StoreError as error:
            raise StoreUnavailable("the store did not take the events: send all of them again") from error
