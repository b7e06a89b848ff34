"""One line of the feature log: all that went into a scored request, raw and by name, and what came out; or its clicks.

    {"user_id":17,"request_id":"r1","bundle":"din","bundle_version":"v1","time_ms":...,"degraded":"none",
     "user":{...},"context":{...},"history":{"item":[...],"category":[...],"time":[...],"action":[...]},
     "items":{"item_id":[...],"cate_id":[...]},"pctr":[...]}
    {"feedback_for":"r1","bundle_version":"v1","time_ms":...,"items":[...],"pctr":[...],"clicked":[...]}

`items` has every item feature of the schema: as the request gave it, else as the bundle's catalogue or Redis has it,
null where nobody knows; a behavior's category likewise, -1 where nobody knows. A line begins with whose it is, so that
erasing a user need not read the rest of others' lines.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from model.bundle.encode import Columns, Encoder
from model.bundle.raw import Lists
from model.bundle.records import NOT_GIVEN, Behaviors
from service.feedback import Feedback
from service.scoring.scored import Inputs
from service.shadow import Answered

_OWNER, _FEEDBACK = b'{"user_id":', b'{"feedback_for":'


def scored_line(answered: Answered) -> bytes | None:
    """The line of a scored request; None if the net did not score it."""
    request, scored, served = answered.request, answered.scored, answered.served
    inputs = scored.inputs
    if inputs is None:
        return None
    manifest, encoder = served.loaded.manifest, served.loaded.encoder
    line = {
        "user_id": request.user_id,
        "request_id": answered.request_id,
        "bundle": manifest.name,
        "bundle_version": manifest.version,
        "time_ms": inputs.now_ms,
        "degraded": scored.degraded,
        "user": _single(request.user),
        "context": _single(
            {f.name: request.context[f.name] for f in encoder.schema.context if f.name in request.context}
        ),
        "history": _history(inputs.history[-encoder.schema.max_history :], encoder),
        "items": _items(request.candidates, inputs, encoder),
        "pctr": scored.pctr,
    }
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def feedback_line(feedback: Feedback, *, time_ms: int) -> bytes:
    """The line of a request's clicks."""
    impressions = feedback.impressions
    line = {
        "feedback_for": feedback.request_id,
        "bundle_version": feedback.bundle_version,
        "time_ms": time_ms,
        "items": [impression.item_id for impression in impressions],
        "pctr": [impression.pctr for impression in impressions],
        "clicked": [impression.clicked for impression in impressions],
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def owner_starts(user_id: int | str) -> tuple[bytes, ...]:
    """How lines of this user begin: 7 and "7" are one user."""
    text = str(user_id)
    forms: list[int | str] = [text]
    if text.isascii() and text.isdigit() and str(int(text)) == text and int(text) < 2**63:
        forms.append(int(text))
    return tuple(b"%b%b," % (_OWNER, orjson.dumps(form)) for form in forms)


def request_of(line: bytes) -> str | None:
    """The request id of a line; None if it is damaged."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    found: str | None = value.get("feedback_for") or value.get("request_id")
    return found


def is_feedback(line: bytes) -> bool:
    """Whether the line has clicks."""
    return line.startswith(_FEEDBACK)


def _single(columns: Columns) -> dict[str, Any]:
    """Columns of one row as plain values (`Any`: as JSON has them)."""
    return {name: _plain(column)[0] for name, column in columns.items()}


def _plain(column: object) -> list[Any]:
    """`Any`: as JSON has them."""
    if isinstance(column, Lists):
        return column.rows(np.arange(len(column.lengths)))
    values: list[Any] = column.tolist() if isinstance(column, np.ndarray) else list(column)  # type: ignore[call-overload]  # a column
    return values


def _history(behaviors: Behaviors, encoder: Encoder) -> dict[str, list[int]]:
    """Columns of the behaviors; a category that is not given is the catalogue's, as it was for the net."""
    columns = {name: behaviors[name].tolist() for name in ("item", "category", "time", "action")}
    key, absent = encoder.schema.keys.category, np.flatnonzero(behaviors["category"] == NOT_GIVEN)
    if key is not None and len(absent):
        rows = encoder.catalogue_rows(behaviors["item"][absent])
        for place, category in zip(absent.tolist(), encoder.catalogue.values(key, rows), strict=True):
            columns["category"][place] = NOT_GIVEN if category is None else category
    return columns


def _items(candidates: Columns, inputs: Inputs, encoder: Encoder) -> Mapping[str, list[Any]]:
    key = encoder.schema.keys.item
    ids = np.asarray(candidates[key], dtype=np.int64)
    out = {key: ids.tolist()}
    rows = encoder.catalogue_rows(ids)
    for feature in encoder.schema.item:
        name = feature.name
        if name in candidates:
            out[name] = _plain(candidates[name])
            continue
        if name not in encoder.catalogue.columns:
            out[name] = [None] * len(ids)
        else:
            out[name] = encoder.catalogue.values(name, rows)
        for row in np.flatnonzero(rows < 0).tolist() if inputs.new_items else ():
            out[name][row] = inputs.new_items.get(out[key][row], {}).get(name)
    return out
