"""Events as callers send them -> behaviors of users, by rules that HTTP and the stream share.

    {"user_id": 7, "item_id": 42, "action": "click", "time": 1767225600000, "event_id": "a1"}

duplicate     the same event again, whole: counts once, in one call or in many; an id that comes with other content is
              another behavior
out of order  falls into its place by time
late          older than `max_age_ms`: rejected. Older than all that a full history keeps: taken, and gone at once
future        further ahead of the clock than `max_future_ms`: rejected; less is taken as a clock that goes wrong
invalid       not an event: rejected

A category that is not given stays open: the bundle that reads the behavior looks it up, so an event sent again is the
same bytes whatever bundle serves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np

from model.bundle.records import ACTIONS, NOT_GIVEN, Behaviors, event_key, make_behaviors
from service.stores.base import UserId

Reason = Literal["invalid", "late", "future"]
REASONS: tuple[Reason, ...] = ("invalid", "late", "future")

_ID = "an integer from 0 to 2^63 - 1"
_NAME = f"{_ID}, or a string of 1 to 128 characters without control characters"
_TIME = "milliseconds since the epoch as an integer, or ISO 8601 with an offset such as 2026-01-31T12:00:00Z"
_FIELDS = ("user_id", "item_id", "category", "action", "time", "event_id")
_REQUIRED = ("user_id", "item_id", "time", "event_id")
_CODES = {name: code for code, name in enumerate(ACTIONS)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_NAME = 128
_LAST_MS = 253_402_300_799_999  # the end of year 9999


@dataclass(frozen=True, kw_only=True)
class EventRules:
    """What is taken."""

    max_age_ms: int  # 0: any age
    max_future_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """An event that breaks a rule; `error` names field, what was found and what is allowed."""

    index: int
    reason: Reason
    error: str


@dataclass(frozen=True, kw_only=True)
class CheckedEvents:
    """What to append, and the rest. accepted + duplicates + rejected are the events that came."""

    histories: list[tuple[UserId, Behaviors]]
    accepted: int
    duplicates: int  # of others in the same call
    rejected: list[Rejected]


class _Event(NamedTuple):
    user: str
    item: int
    category: int
    time: int
    event: int
    action: int


class _BrokenRuleError(Exception):
    def __init__(self, message: str, *, reason: Reason = "invalid") -> None:
        super().__init__(message)
        self.reason: Reason = reason


def check_events(events: Sequence[object], rules: EventRules, *, now_ms: int) -> CheckedEvents:
    """Sort out `events`, values as JSON gives them. `now_ms` is the clock that "late" and "future" go by."""
    by_user: dict[str, dict[_Event, None]] = {}  # an ordered set per user
    rejected: list[Rejected] = []
    for index, value in enumerate(events):
        try:
            event = _read(value, rules, now_ms)
        except _BrokenRuleError as error:
            rejected.append(Rejected(index=index, reason=error.reason, error=str(error)))
        else:
            by_user.setdefault(event.user, {})[event] = None
    histories = _histories(by_user)
    accepted = sum(len(behaviors) for _, behaviors in histories)
    duplicates = len(events) - len(rejected) - accepted
    return CheckedEvents(histories=histories, accepted=accepted, duplicates=duplicates, rejected=rejected)


def _histories(by_user: Mapping[str, Mapping[_Event, None]]) -> list[tuple[UserId, Behaviors]]:
    """One array for all and a slice of it for each: an array per user would cost ten times as much."""
    events = [event for theirs in by_user.values() for event in theirs]
    if not events:
        return []
    _, item, category, time, event, action = zip(*events, strict=True)
    behaviors = make_behaviors(item, category=category, time=time, event=np.array(event, dtype=np.uint64))
    behaviors["action"] = action
    ends = np.cumsum([len(theirs) for theirs in by_user.values()]).tolist()
    return [(user, behaviors[start:end]) for user, start, end in zip(by_user, [0, *ends[:-1]], ends, strict=True)]


def _read(value: object, rules: EventRules, now_ms: int) -> _Event:
    if not isinstance(value, dict):
        raise _BrokenRuleError(f"found {shown(value)}, allowed: an object")
    if unknown := value.keys() - set(_FIELDS):
        raise _BrokenRuleError(f"unknown field {shown(min(unknown))}, allowed: {', '.join(_FIELDS)}")
    if missing := [field for field in _REQUIRED if field not in value]:
        raise _BrokenRuleError(f"{missing[0]}: missing")
    category = value.get("category")
    event = _Event(
        user=_name(value["user_id"], "user_id"),
        item=_id(value["item_id"], "item_id"),
        category=NOT_GIVEN if category is None else _id(category, "category"),
        time=_ms(value["time"]),
        event=event_key(_name(value["event_id"], "event_id")),
        action=_action(value.get("action", ACTIONS[0])),
    )
    _check_time(event.time, rules, now_ms)
    return event


def _check_time(time: int, rules: EventRules, now_ms: int) -> None:
    if rules.max_age_ms and now_ms - time > rules.max_age_ms:
        message = f"time: found {time}, {(now_ms - time) // 1000} s ago, allowed: up to {rules.max_age_ms // 1000} s"
        raise _BrokenRuleError(message, reason="late")
    if time - now_ms > rules.max_future_ms:
        ahead, most = (time - now_ms) // 1000, rules.max_future_ms // 1000
        raise _BrokenRuleError(f"time: found {time}, {ahead} s ahead, allowed: up to {most} s", reason="future")


def _id(value: object, field: str) -> int:
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise _BrokenRuleError(f"{field}: found {shown(value)}, allowed: {_ID}")


def _name(value: object, field: str) -> str:
    """An integer is the same name as its digits."""
    if type(value) is int and 0 <= value < 2**63:
        return str(value)
    if isinstance(value, str) and is_name(value):
        return value
    raise _BrokenRuleError(f"{field}: found {shown(value)}, allowed: {_NAME}")


def _ms(value: object) -> int:
    ms = _iso_ms(value) if isinstance(value, str) else value
    if type(ms) is int and 0 <= ms <= _LAST_MS:
        return ms
    raise _BrokenRuleError(f"time: found {shown(value)}, allowed: {_TIME}")


def _iso_ms(text: str) -> int | None:
    """None unless the text says which moment it means. By integers: seconds as a float would lose a millisecond."""
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None


def _action(value: object) -> int:
    code = _CODES.get(value) if isinstance(value, str) else None
    if code is None:
        raise _BrokenRuleError(f"action: found {shown(value)}, allowed: {', '.join(ACTIONS)}")
    return code


def is_name(text: str) -> bool:
    """Whether a text can be a user's or an event's id: 1 to 128 characters without control characters."""
    if not 0 < len(text) <= _LONGEST_NAME:
        return False
    return text.isprintable() or not any(c < " " or "\x7f" <= c <= "\x9f" for c in text)


def shown(value: object) -> str:
    """A value for a message, at most 80 characters of it."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."
