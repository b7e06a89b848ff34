"""What /docs says of routes that read and write their own bytes."""

from typing import Any

from pydantic import BaseModel

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

DOOR = (401, 403)  # where keys are set, or a web page of another origin asks


def refusals(*statuses: int) -> Responses:
    """The one error shape for each status."""
    return {status: {"model": Refusal} for status in statuses}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """`requestBody`, an OpenAPI fragment without any `$ref`: it would be looked up in the whole document."""
    schema = model.model_json_schema()
    return {
        "required": True,
        "content": {"application/json": {"schema": _without_references(schema, schema.pop("$defs", {}))}},
    }


def _without_references(value: Any, named: dict[str, Any]) -> Any:  # noqa: ANN401  # any JSON
    if isinstance(value, list):
        return [_without_references(each, named) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _without_references(named[value["$ref"].rpartition("/")[2]], named)
    return {key: _without_references(each, named) for key, each in value.items()}


SCORE_RESPONSES = {200: {"model": ScoreAnswer}, **refusals(*DOOR, 409, 413, 422, 429, 500, 503, 504)}
LIVEZ_RESPONSES: Responses = {503: {"description": "Compute threads died; only a restart helps."}}
PROMOTE_REQUEST: dict[str, Any] = {"requestBody": _body(Promotion)}
EVENTS_RESPONSES = {202: {"model": EventsAnswer}, **refusals(*DOOR, 409, 413, 422, 503, 504)}
EVENTS_REQUEST: dict[str, Any] = {"requestBody": _body(EventsBody)}
_USER: dict[str, Any] = {
    "name": "user_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"},
}
_LIMIT: dict[str, Any] = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}}
HISTORY_PARAMETERS: dict[str, list[dict[str, Any]]] = {"GET": [_USER, _LIMIT], "DELETE": [_USER]}
ROLE_PARAMETER: dict[str, Any] = {"name": "role", "in": "query", "schema": {"enum": ["stable", "canary"]}}
MAX_ITEMS, MAX_SEED = 200, 2**31
_ITEMS_LIMIT: dict[str, Any] = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_ITEMS},
}
_ITEMS_SEED: dict[str, Any] = {
    "name": "seed",
    "in": "query",
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
}
_FILE: dict[str, Any] = {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}
CONSOLE_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "items": [_ITEMS_LIMIT, _ITEMS_SEED, ROLE_PARAMETER],
    "report": [ROLE_PARAMETER],
    "file": [_FILE],
}
CONSOLE_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILE_RESPONSES: Responses = {
    200: {"content": {media_type: {"schema": {"type": "string"}} for media_type in CONSOLE_TYPES.values()}},
    304: {"description": "What the caller has, by its `If-None-Match`."},
    **refusals(404),
}
FEEDBACK_RESPONSES = {202: {"model": FeedbackAnswer}, **refusals(*DOOR, 413, 422, 504)}
FEEDBACK_REQUEST: dict[str, Any] = {"requestBody": _body(FeedbackBody)}
SCORE_REQUEST: dict[str, Any] = {  # an OpenAPI fragment
    "requestBody": _body(ScoreBody),
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
