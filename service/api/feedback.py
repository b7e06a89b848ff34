"""POST /feedback: what was shown and clicked, for the online metrics and the feature log. It needs no bundle."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request, Response

from service.api.answers import json_answer
from service.api.body import read_body
from service.api.columns import shown
from service.api.exchange import exchange_of
from service.api.parse import validated
from service.api.schemas import FeedbackBody, ImpressionBody
from service.config import Settings
from service.errors import InvalidRequest, TooLarge
from service.feature_log import FeatureLog
from service.feedback import Feedback, Impression, Seen, count
from service.feedback_metrics import FeedbackMetrics
from service.serving import Serving

FEEDBACK_PATH = "/feedback"
_BODY_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class _Rejected:
    """A reported request, or one of its impressions, that was not taken."""

    index: int
    impression: int | None = None
    error: str


class FeedbackRoute:
    """The endpoint."""

    def __init__(
        self, serving: Serving, settings: Settings, *, metrics: FeedbackMetrics, seen: Seen, feature_log: FeatureLog
    ) -> None:
        self._serving = serving
        self._settings = settings
        self._metrics = metrics
        self._seen = seen
        self._feature_log = feature_log

    async def report(self, request: Request) -> Response:
        """Report one request's impressions, or those of several. A request counts once, however often it is sent."""
        limit = self._settings.max_body_bytes
        raw = await read_body(request.scope, request.receive, limit=limit, timeout_s=_BODY_TIMEOUT_S)
        reported, alone = _read(raw)
        self._check_count(reported)
        taken: list[Feedback] = []
        rejected: list[_Rejected] = []
        for index, value in enumerate(reported):
            feedback, faults = _checked(value, index)
            rejected += faults
            taken += [] if feedback is None else [feedback]
            await asyncio.sleep(0)  # requests to be scored go in between
        self._metrics.feedback("rejected", len(reported) - len(taken))
        if alone and not taken:
            raise InvalidRequest(rejected[0].error)
        accepted = await self._take(taken)
        body = {
            "request_id": exchange_of(request.scope).request_id,
            "accepted": len(accepted),
            "impressions": sum(len(feedback.impressions) for feedback in accepted),
            "duplicates": len(taken) - len(accepted),
            "rejected": rejected,
        }
        return json_answer(body, status=202)

    async def _take(self, taken: list[Feedback]) -> list[Feedback]:
        """Count and log what was not reported before, and return it."""
        once = {feedback.request_id: feedback for feedback in reversed(taken)}
        new = await self._seen.new(list(once))
        accepted = [feedback for request_id, feedback in once.items() if request_id in new]
        for feedback in accepted:
            count(feedback, self._serving, self._metrics)
            if self._feature_log.wants(feedback.request_id):
                self._feature_log.feedback(feedback)
        self._metrics.feedback("accepted", len(accepted))
        self._metrics.feedback("duplicate", len(taken) - len(accepted))
        return accepted

    def _check_count(self, reported: list[object]) -> None:
        lists = [value.get("impressions") for value in reported if isinstance(value, dict)]
        found = sum(len(impressions) for impressions in lists if isinstance(impressions, list))
        most = self._settings.max_feedback
        if max(found, len(reported)) > most:
            raise TooLarge(f"feedback: found {max(found, len(reported))} impressions, allowed: 1 to {most} in all")


def _read(raw: bytes) -> tuple[list[object], bool]:
    """What was reported, and whether the body is one request by itself. Raises InvalidRequest."""
    try:
        body: Any = orjson.loads(raw)  # any JSON value
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict) or "feedback" not in body:
        return [body], True
    if unknown := body.keys() - {"feedback"}:
        raise InvalidRequest(f"unknown field {shown(min(unknown))}, allowed: feedback, or the fields of one request")
    reported = body["feedback"]
    if not isinstance(reported, list) or not reported:
        found = "none" if reported == [] else shown(reported)
        raise InvalidRequest(f"feedback: found {found}, allowed: a list of objects")
    return reported, False


def _checked(value: object, index: int) -> tuple[Feedback | None, list[_Rejected]]:
    """What can be taken of one reported request, and what cannot."""
    rejected: list[_Rejected] = []
    impressions: list[Impression] = []
    try:
        body = validated(FeedbackBody, value)
        if not isinstance(body.impressions, list) or not body.impressions:
            raise InvalidRequest("impressions: found none, allowed: a list of at least one object")
    except InvalidRequest as error:
        return None, [_Rejected(index=index, error=str(error))]
    for number, given in enumerate(body.impressions):
        try:
            one = validated(ImpressionBody, given)
        except InvalidRequest as error:
            rejected.append(_Rejected(index=index, impression=number, error=f"impressions[{number}].{error}"))
        else:
            impressions.append(Impression(item_id=one.item_id, pctr=one.pctr, clicked=one.clicked))
    if not impressions:
        return None, rejected
    return (
        Feedback(request_id=body.request_id, bundle_version=body.bundle_version, impressions=tuple(impressions)),
        rejected,
    )
