"""The bodies of POST /score, as pydantic models: the only place where a request's envelope is described.

`ScoreBody` checks the envelope and documents the whole. Candidates, history and features are left to `columns.py`,
which reads 500 rows faster than pydantic makes one object per row.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SkipValidation, StringConstraints

from model.bundle.records import ACTIONS
from service.events import Reason

Value = int | float | str | list[int] | list[str]
Rows = list[dict[str, Value]]
Columns = dict[str, list[Value]]

UserId = (
    Annotated[int, Field(ge=0, lt=2**63)]
    | Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
)


class ScoreBody(BaseModel):
    """Who looks, and what could be shown."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {
                "user_id": 17,
                "candidates": [{"item_id": 1193}, {"item_id": 661}],
                "history": [{"item_id": 914}, {"item_id": 3408}],
            }
        },
    )

    request_id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")] | None = Field(
        None, description="a string of 1 to 128 printable ASCII characters without spaces"
    )
    user_id: UserId = Field(
        description="an integer from 0 to 2^63 - 1, or a string of 1 to 128 characters without control characters"
    )
    candidates: SkipValidation[Rows | Columns] = Field(
        description="a list of objects with the item id and other item features of the bundle, or one object of "
        "equally long lists"
    )
    context: SkipValidation[dict[str, Value] | None] = Field(None, description="an object of context features")
    history: SkipValidation[Rows | Columns | None] = Field(
        None,
        description="the user's behaviors, oldest first unless they carry a time; replaces what the store has",
    )
    user: SkipValidation[dict[str, Value] | None] = Field(None, description="an object of user features")
    top_k: Annotated[int, Field(ge=1)] | None = Field(
        None, description="an integer from 1: answer only the best, in rank order"
    )
    explain: bool = Field(False, description="true or false: say why each candidate of the answer got its score")
    bundle: Literal["stable", "canary"] | None = Field(None, description="stable or canary")


class ScoreRow(BaseModel):
    """One candidate's answer."""

    item_id: int
    pctr: float = Field(ge=0, le=1, description="Predicted click probability.")
    rank: int = Field(ge=1, description="1 is the highest pctr; equal scores keep the request's order.")
    status: Literal["ok", "unknown_item", "unknown_feature"] = Field(
        description="unknown_item: the item was not in training; unknown_feature: another of its ids was not."
    )


class ScoreAnswer(BaseModel):
    """The answer; only its description is used, the bytes are made directly."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "request_id": "6f1f8a1e7a4b4d0c9d0d8c8d7f6e5a4b",
                "bundle_version": "20250101-din",
                "degraded": "none",
                "user_status": "known",
                "history_len": 2,
                "scores": [
                    {"item_id": 1193, "pctr": 0.31, "rank": 1, "status": "ok"},
                    {"item_id": 661, "pctr": 0.07, "rank": 2, "status": "ok"},
                ],
                "timings_ms": {"parse": 0.1, "store": 0.0, "encode": 0.2, "queue": 0.1, "compute": 3.1, "total": 3.6},
            }
        }
    )

    request_id: str
    bundle_version: str
    degraded: Literal["none", "history", "prior"] = Field(
        description="history: the store failed, scored without a history. prior: no room or time for the net, so "
        "each item's click rate in training."
    )
    user_status: Literal["known", "unknown"]
    history_len: int = Field(description="Behaviors that were used.")
    scores: list[ScoreRow] = Field(description="In the request's order; with top_k the best k in rank order.")
    timings_ms: dict[str, float]
    explanation: dict[str, JsonValue] | None = Field(None, description="Only there if `explain` asked for it.")


class Promotion(BaseModel):
    """The body of POST /admin/promote."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")] = Field(
        description="a version below the folder of bundles"
    )
    pointer: Literal["stable", "canary"] = Field("stable", description="stable or canary")


class EventBody(BaseModel):
    """One event; only its description is used, `service/events.py` reads it."""

    user_id: UserId
    item_id: int = Field(ge=0, lt=2**63)
    category: int | None = Field(None, ge=0, lt=2**63, description="None: the bundle's catalogue has it.")
    action: str = Field(ACTIONS[0], json_schema_extra={"enum": list(ACTIONS)})
    time: int | str = Field(description="Milliseconds since the epoch, or ISO 8601 with an offset.")
    event_id: UserId = Field(description="The event sent again has the same id, and counts once.")


class EventsBody(BaseModel):
    """The body of POST /events: this, or one event by itself."""

    events: Annotated[list[EventBody], Field(min_length=1)]


class RejectedEvent(BaseModel):
    """An event that breaks a rule."""

    index: int
    reason: Reason
    error: str


class EventsAnswer(BaseModel):
    """The answer of POST /events; only its description is used."""

    request_id: str
    accepted: int = Field(description="Events that the store has now.")
    duplicates: int = Field(description="Events that were in the request already.")
    rejected: list[RejectedEvent]


class ImpressionBody(BaseModel):
    """A candidate that was shown."""

    model_config = ConfigDict(extra="forbid", strict=True)

    item_id: Annotated[int, Field(ge=0, lt=2**63)] = Field(description="an integer from 0 to 2^63 - 1")
    pctr: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(description="a number from 0 to 1")
    clicked: bool = Field(description="true or false")


class FeedbackBody(BaseModel):
    """What became of one scored request: the body of POST /feedback, or one of its list `feedback`."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "example": {
                "request_id": "6f1f8a1e7a4b4d0c9d0d8c8d7f6e5a4b",
                "bundle_version": "20250101-din",
                "impressions": [{"item_id": 1193, "pctr": 0.31, "clicked": True}],
            }
        },
    )

    request_id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")] = Field(
        description="a string of 1 to 128 printable ASCII characters without spaces"
    )
    bundle_version: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        description="a string of 1 to 128 characters"
    )
    impressions: SkipValidation[Annotated[list[ImpressionBody], Field(min_length=1)]] = Field(
        description="a list of at least one object"
    )


class RejectedFeedback(BaseModel):
    """What was not taken: of the request at `index` all, or one impression."""

    index: int
    impression: int | None
    error: str


class FeedbackAnswer(BaseModel):
    """The answer of POST /feedback; only its description is used."""

    request_id: str
    accepted: int = Field(description="Requests that were counted.")
    impressions: int = Field(description="Impressions of them.")
    duplicates: int = Field(description="Requests that were reported before.")
    rejected: list[RejectedFeedback]


class Refusal(BaseModel):
    """The one shape of every error."""

    error: str
    error_type: str
    request_id: str
