"""What /docs says of routes that read and write their own bytes."""

from typing import Any

from service.api.body import DEADLINE_HEADER
from service.api.schemas import Promotion, Refusal, ScoreAnswer, ScoreBody

Responses = dict[int | str, dict[str, Any]]  # FastAPI's own type


def refusals(*statuses: int) -> Responses:
    """The one error shape for each status."""
    return {status: {"model": Refusal} for status in statuses}


SCORE_RESPONSES = {200: {"model": ScoreAnswer}, **refusals(413, 422, 429, 500, 503, 504)}
PROMOTE_REQUEST: dict[str, Any] = {  # an OpenAPI fragment
    "requestBody": {"required": True, "content": {"application/json": {"schema": Promotion.model_json_schema()}}}
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
