"""The story of one request: read the history, encode, compute, rank.

    history   from the request, else from the store; a store that fails means an empty history, `degraded: history`
    encode    on the event loop: it is numpy under the GIL and takes a fraction of a millisecond, so a thread would
              only add two hand-overs
    compute   in a worker thread, where the runtime releases the GIL
    rank      1 is the highest pCTR; equal scores keep the caller's order

Pure but for the store and the workers, which are passed in, as is the clock.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Columns, Encoder, Tensors
from model.bundle.records import Behaviors, no_behaviors
from model.bundle.schema import UNKNOWN
from service.errors import ComputeFailed, DeadlineExceeded
from service.runtimes.base import Runtime, RuntimeFailure
from service.scoring.workers import Clock, Workers
from service.stores.base import BehaviorStore, StoreError, UserId

Degraded = Literal["none", "history"]
Status = Literal["ok", "unknown_item", "unknown_feature"]
UserStatus = Literal["known", "unknown"]

_STATUSES: tuple[Status, ...] = ("ok", "unknown_item", "unknown_feature")
# A store that hangs may spend this part of the time that is left; the rest is for computing without a history.
_STORE_SHARE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """A valid request. `candidates` are equally long columns by feature name, `user` and `context` columns of one."""

    user_id: UserId
    candidates: Columns
    count: int
    user: Columns
    context: Columns
    history: Behaviors | None  # None: ask the store
    deadline: float  # on the scorer's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Seconds per phase."""

    store_s: float
    encode_s: float
    queue_s: float
    compute_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """The answer, in the caller's candidate order."""

    pctr: NDArray[np.float32]  # [C]
    rank: NDArray[np.int64]  # [C], 1 is best
    status: Sequence[Status]
    unknown_items: int
    user_status: UserStatus  # known: the id was in training, or, where ids are no feature, there is a history
    history_len: int
    degraded: Degraded
    timings: Timings


class Scorer:
    """Scores requests with one bundle's encoder and runtime."""

    def __init__(
        self, encoder: Encoder, runtime: Runtime, *, store: BehaviorStore, workers: Workers, options: "ScorerOptions"
    ) -> None:
        self.encoder = encoder
        self._runtime = runtime
        self._store = store
        self._workers = workers
        self._options = options
        names = [feature.name for feature in encoder.schema.sparse("user")]
        user_key = encoder.schema.keys.user
        self._user_at = names.index(user_key) if user_key in names else None

    async def score(self, request: ScoreRequest) -> Scored:
        """Score every candidate. Raises Overloaded, DeadlineExceeded, ComputeFailed or NotReady."""
        left = request.deadline - self._options.clock()
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before scoring began")
        with self._workers.reserve(request.count):
            try:
                async with asyncio.timeout(left):
                    return await self._score(request)
            except TimeoutError:
                raise DeadlineExceeded("the deadline passed while scoring") from None

    async def _score(self, request: ScoreRequest) -> Scored:
        clock = self._options.clock
        began = clock()
        history, degraded = await self._read_history(request)
        read = clock()
        user, items = self._encode(request, history)
        status, unknown_items = self._statuses(items)
        encoded = clock()
        candidates = {name: tensor[None] for name, tensor in items.items()}
        try:
            computed = await self._workers.submit(
                lambda: _compute(self._runtime, user, candidates), deadline=request.deadline
            )
        except RuntimeFailure as error:
            raise ComputeFailed("the net could not be run on this request") from error
        timings = Timings(
            store_s=read - began, encode_s=encoded - read, queue_s=computed.queue_s, compute_s=computed.compute_s
        )
        return Scored(
            pctr=computed.value,
            rank=rank(computed.value),
            status=status,
            unknown_items=unknown_items,
            user_status=self._user_status(user, history),
            history_len=min(len(history), self.encoder.schema.max_history),
            degraded=degraded,
            timings=timings,
        )

    async def _read_history(self, request: ScoreRequest) -> tuple[Behaviors, Degraded]:
        schema = self.encoder.schema
        if not schema.behavior:
            return no_behaviors(), "none"
        if request.history is not None:
            return request.history, "none"
        left = request.deadline - self._options.clock()
        timeout_s = min(self._options.store_timeout_s, max(left, 0.0) * _STORE_SHARE)
        try:
            return await self._store.read(request.user_id, limit=schema.max_history, timeout_s=timeout_s), "none"
        except StoreError:
            return no_behaviors(), "history"

    def _encode(self, request: ScoreRequest, history: Behaviors) -> tuple[Tensors, Tensors]:
        user = self.encoder.encode_request(request.user, request.context, rows=1)
        return {**user, **self.encoder.encode_history([history])}, self.encoder.encode_items(request.candidates)

    def _statuses(self, items: Tensors) -> tuple[Sequence[Status], int]:
        features = self.encoder.unknown_features(items)
        if not features.any():  # the usual case; an unknown item is an unknown feature too
            return ["ok"] * len(features), 0
        unknown = self.encoder.unknown_items(items)
        codes = np.where(unknown, 1, np.where(features, 2, 0))
        return [_STATUSES[code] for code in codes.tolist()], int(unknown.sum())

    def _user_status(self, user: Tensors, history: Behaviors) -> UserStatus:
        known = len(history) > 0 if self._user_at is None else user["user_sparse"][0, self._user_at] != UNKNOWN
        return "known" if known else "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerOptions:
    """The clock that every deadline is on, and the longest wait for the store."""

    clock: Clock
    store_timeout_s: float


def rank(pctr: NDArray[np.float32]) -> NDArray[np.int64]:
    """Ranks [C] from 1 for the highest score; equal scores are ranked in their own order."""
    ranks = np.empty(len(pctr), dtype=np.int64)
    ranks[np.argsort(-pctr, kind="stable")] = np.arange(1, len(pctr) + 1)
    return ranks


def _compute(runtime: Runtime, user: Tensors, candidates: Tensors) -> NDArray[np.float32]:
    """Both halves for one user: pCTR [C]. Raises RuntimeFailure if one of them is not a number."""
    scored = runtime.score(runtime.encode_user(user), candidates)
    pctr: NDArray[np.float32] = scored["pctr"][0].astype(np.float32, copy=False)
    if not np.isfinite(pctr).all():
        raise RuntimeFailure("a score is not a finite number")
    return pctr
