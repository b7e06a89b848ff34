"""The bytes of POST /score -> a valid ScoreRequest, or an InvalidRequest that says what to change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import orjson
from pydantic import BaseModel, ValidationError

from model.bundle.records import Behaviors, make_behaviors
from model.bundle.schema import Schema
from model.bundle.vocabulary import Ids
from service.api.columns import (
    Fields,
    check_column,
    check_columns,
    check_ids,
    kind_of,
    shown,
    to_columns,
    to_single_row,
)
from service.api.rows import CompiledRows
from service.api.schemas import ScoreBody
from service.errors import InvalidRequest, TooLarge
from service.scoring.scored import ScoreRequest

M = TypeVar("M", bound=BaseModel)
_MAX_SECONDS = 2**53  # in ms still an int64
_TIME = "time"  # of a behavior in the request, in ms since the epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """A valid request and what the answer repeats of it."""

    request: ScoreRequest
    item_ids: Ids
    top_k: int | None
    explain: bool = False


class ScoreParser:
    """Reads requests for one schema, with limits on candidates and behaviors."""

    def __init__(self, schema: Schema, *, max_candidates: int, max_history: int, max_explained: int = 0) -> None:
        keys = schema.keys
        self._keys = keys
        self._max_candidates = max_candidates
        self._max_history = max_history
        self._max_explained = max_explained
        self._item: Fields = {keys.item: "id", **{f.name: kind_of(f) for f in schema.item}}
        self._context: Fields = {f.name: kind_of(f) for f in schema.context}
        self._timed = schema.times is not None
        if self._timed:
            self._context = {keys.timestamp: "number", **self._context}
        users = {f.name: kind_of(f) for f in schema.user}
        self._user_key = users.pop(keys.user, None)  # a feature that user_id fills
        self._user: Fields = users
        self._behavior: Fields = {keys.item: "id", **({keys.category: "id"} if keys.category else {}), _TIME: "id"}

    def parse(self, body: ScoreBody, *, deadline: float) -> Parsed:
        """Check what the envelope left open. Raises InvalidRequest or TooLarge."""
        columns = dict(to_columns(body.candidates, self._item, key=self._keys.item, where="candidates"))
        self._check_count(len(columns[self._keys.item]))
        if body.explain:
            self._check_explained(min(len(columns[self._keys.item]), body.top_k or self._max_candidates))
        item_ids = check_ids(columns.pop(self._keys.item), where=f"candidates.{self._keys.item}")
        user = to_single_row(body.user, self._user, where="user")
        if self._user_key:
            user[self._keys.user] = check_column([body.user_id], self._user_key, where="user_id")
        context = to_single_row(body.context, self._context, where="context")
        request = ScoreRequest(
            user_id=body.user_id,
            candidates={self._keys.item: item_ids, **check_columns(columns, self._item, where="candidates")},
            count=len(item_ids),
            user=user,
            context=context,
            history=None if body.history is None else self._history(body.history),
            deadline=deadline,
            now_ms=self._now_ms(context),
        )
        return Parsed(request=request, item_ids=item_ids, top_k=body.top_k, explain=body.explain)

    def _now_ms(self, context: Mapping[str, object]) -> int | None:
        """The request's own time, in ms; None: now. A log's time is in seconds, under the same name."""
        given = context.get(self._keys.timestamp) if self._timed else None
        if given is None:
            return None
        seconds = float(given[0])  # type: ignore[index]  # a column of one number
        if not 0 <= seconds < _MAX_SECONDS:
            raise InvalidRequest(
                f"context.{self._keys.timestamp}: found {seconds}, allowed: seconds since the epoch, below 2^53"
            )
        return int(seconds * 1000)

    def _check_count(self, count: int) -> None:
        if count == 0:
            raise InvalidRequest(f"candidates: found none, allowed: 1 to {self._max_candidates}")
        if count > self._max_candidates:
            raise TooLarge(f"candidates: found {count}, allowed: 1 to {self._max_candidates}")

    def _check_explained(self, count: int) -> None:
        if not self._max_explained:
            raise InvalidRequest("explain: found true, allowed: false; explanations are off (CTR_EXPLAIN_CANDIDATES)")
        if count > self._max_explained:
            raise InvalidRequest(
                f"explain: found {count} candidates to explain, allowed: 1 to {self._max_explained}; with `top_k` only "
                "the best are explained"
            )

    def _history(self, value: object) -> Behaviors:
        columns = to_columns(value, self._behavior, key=self._keys.item, where="history")
        count = len(columns[self._keys.item])
        if count > self._max_history:
            raise TooLarge(f"history: found {count} behaviors, allowed: at most {self._max_history}")
        ids = {name: check_ids(values, where=f"history.{name}") for name, values in columns.items()}
        time = ids.get(_TIME)
        if time is None and self._timed and count:
            raise InvalidRequest(f"history: has no {_TIME}, which this bundle needs: milliseconds since the epoch")
        behaviors = make_behaviors(ids[self._keys.item], category=ids.get(self._keys.category or ""), time=time)
        return behaviors if time is None else behaviors[np.argsort(time, kind="stable")]


def read_envelope(raw: bytes, compiled: CompiledRows | None) -> ScoreBody:
    """Who asks and what for, candidates unchecked, before a bundle is chosen. Raises InvalidRequest.

    `compiled` reads candidates that are rows of ids, as it can; what is found wrong is the same without it.
    """
    found = compiled.read(raw) if compiled else None
    if found is not None:
        rest, rows = found
        try:
            return validated(ScoreBody, {**orjson.loads(rest), "candidates": rows})
        except orjson.JSONDecodeError:
            pass  # below, with the right position
    return read_model(ScoreBody, raw)


def read_model(model: type[M], raw: bytes) -> M:
    """A JSON object as `model`. Raises InvalidRequest that names the field; every field has a description."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body: found {shown(value)}, allowed: an object")
    return validated(model, value)


def validated(model: type[M], value: object) -> M:
    """A parsed JSON value as `model`; raises as `read_model` does."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"found {shown(value)}, allowed: an object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    # A misspelt field is both unknown and missing; that it is unknown says more.
    detail = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    name = str(detail["loc"][0]) if detail["loc"] else ""
    field = model.model_fields.get(name)
    if field is None:
        raise InvalidRequest(f"unknown field {shown(name)}, allowed: {', '.join(model.model_fields)}")
    found = f"found {shown(value[name])}" if name in value else "missing"
    raise InvalidRequest(f"{name}: {found}, allowed: {field.description}")
