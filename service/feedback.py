"""What callers report back: which candidates were shown, what was predicted of them, and which were clicked.

A request id counts once in `window_s`: feedback is sent once, when the clicks are known, and again only if the answer
did not arrive. This process remembers a bounded number of ids; where there is a Redis, all processes share theirs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cachetools import TTLCache

from service.feedback_metrics import FeedbackMetrics, Role
from service.scoring.engine import Clock
from service.serving import Serving
from service.stores.base import StoreError

REMEMBERED = 200_000  # request ids in this process


@dataclass(frozen=True, kw_only=True, slots=True)
class Impression:
    """A candidate that was shown."""

    item_id: int
    pctr: float
    clicked: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """What became of one request."""

    request_id: str
    bundle_version: str
    impressions: tuple[Impression, ...]


class Marks(Protocol):
    """Remembers keys for all processes."""

    async def mark(self, keys: Sequence[str], *, ttl_s: int, timeout_s: float) -> list[bool]:
        """Whether each key is new; it is not for the next `ttl_s` seconds. Raises StoreError."""
        ...


class Seen:
    """Which request ids were reported already."""

    def __init__(self, marks: Marks | None, *, window_s: int, timeout_s: float, clock: Clock) -> None:
        """`marks`: what all processes share, if there is such a thing; asked for at most `timeout_s`."""
        self._marks = marks
        self._window_s = window_s
        self._timeout_s = timeout_s
        self._here: TTLCache[str, None] = TTLCache(REMEMBERED, window_s, timer=clock)

    async def new(self, request_ids: Sequence[str]) -> set[str]:
        """Those that were not reported before; they are from now on. If the store fails: as this process knows."""
        fresh = [one for one in dict.fromkeys(request_ids) if one not in self._here]
        for one in fresh:
            self._here[one] = None
        if self._marks is None or not fresh:
            return set(fresh)
        try:
            marked = await self._marks.mark(fresh, ttl_s=self._window_s, timeout_s=self._timeout_s)
        except StoreError:
            return set(fresh)
        return {one for one, is_new in zip(fresh, marked, strict=True) if is_new}


def count(feedback: Feedback, serving: Serving, metrics: FeedbackMetrics) -> None:
    """Add one request's impressions to the metrics of the bundle that scored it."""
    impressions = feedback.impressions
    metrics.impressions(
        _role(feedback.bundle_version, serving),
        count=len(impressions),
        clicks=sum(impression.clicked for impression in impressions),
        pctr=sum(impression.pctr for impression in impressions),
    )


def _role(version: str, serving: Serving) -> Role:
    """The role in which this version serves now."""
    return next((served.role for served in serving.lineup if served.version == version), "other")
