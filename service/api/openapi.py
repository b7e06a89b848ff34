"""What /docs says of routes that read and write their own bytes."""

from typing import Any

from service.api.body import DEADLINE_HEADER
from service.api.schemas import (
    EventsAnswer,
    EventsBody,
    FeedbackAnswer,
    FeedbackBody,
    Promotion,
    Refusal,
    ScoreAnswer,
    ScoreBody,
)

Responses = dict[int | str, dict[str, Any]]  # FastAPI's own type


def refusals(*statuses: int) -> Responses:
    """The one error shape for each status."""
    return {status: {"model": Refusal} for status in statuses}


SCORE_RESPONSES = {200: {"model": ScoreAnswer}, **refusals(409, 413, 422, 429, 500, 503, 504)}
PROMOTE_REQUEST: dict[str, Any] = {  # an OpenAPI fragment
    "requestBody": {"required": True, "content": {"application/json": {"schema": Promotion.model_json_schema()}}}
}
EVENTS_RESPONSES = {202: {"model": EventsAnswer}, **refusals(409, 413, 422, 503, 504)}
EVENTS_REQUEST: dict[str, Any] = {  # an OpenAPI fragment
    "requestBody": {"required": True, "content": {"application/json": {"schema": EventsBody.model_json_schema()}}}
}
_USER: dict[str, Any] = {"name": "user_id", "in": "path", "required": True, "schema": {"type": "string"}}
_LIMIT: dict[str, Any] = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}}
HISTORY_PARAMETERS: dict[str, list[dict[str, Any]]] = {"GET": [_USER, _LIMIT], "DELETE": [_USER]}
ROLE_PARAMETER: dict[str, Any] = {"name": "role", "in": "query", "schema": {"enum": ["stable", "canary"]}}
_ITEMS_LIMIT: dict[str, Any] = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}}
_ITEMS_SEED: dict[str, Any] = {"name": "seed", "in": "query", "schema": {"type": "integer", "minimum": 0}}
_FILE: dict[str, Any] = {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}
CONSOLE_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "items": [_ITEMS_LIMIT, _ITEMS_SEED, ROLE_PARAMETER],
    "report": [ROLE_PARAMETER],
    "file": [_FILE],
}
FEEDBACK_RESPONSES = {202: {"model": FeedbackAnswer}, **refusals(413, 422, 504)}
FEEDBACK_REQUEST: dict[str, Any] = {  # an OpenAPI fragment
    "requestBody": {"required": True, "content": {"application/json": {"schema": FeedbackBody.model_json_schema()}}}
}
SCORE_REQUEST: dict[str, Any] = {  # an OpenAPI fragment
    "requestBody": {"required": True, "content": {"application/json": {"schema": ScoreBody.model_json_schema()}}},
    "parameters": [
        {
            "name": DEADLINE_HEADER,
            "in": "header",
            "description": "Milliseconds until the answer is useless: body, store, queue and compute together.",
            "schema": {"type": "number", "exclusiveMinimum": 0},
        },
        {
            "name": "X-Request-Id",
            "in": "header",
            "description": "Comes back in body and header. `request_id` in the body goes before; an unfit one is "
            "replaced.",
            "schema": {"type": "string"},
        },
    ],
}
