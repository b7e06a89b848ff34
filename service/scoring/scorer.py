"""The story of one request: read the history, encode, compute, rank.

    history   from the request, else from the store; a store that fails means an empty history, `degraded: history`
    encode    on the event loop: it is numpy under the GIL and takes a fraction of a millisecond, so a thread would
              only add two hand-overs
    compute   by the engine's threads, where the runtime releases the GIL; refused where there is no room or no time,
              or answered from the items' prior click rates where that is allowed, `degraded: prior`
    rank      1 is the highest pCTR; equal scores keep the caller's order

Pure but for the store and the engine, which are passed in, as is the clock.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Encoder, Tensors
from model.bundle.records import Behaviors, no_behaviors
from model.bundle.schema import UNKNOWN
from service.errors import ComputeFailed, DeadlineExceeded, Overloaded
from service.runtimes.base import Runtime, RuntimeFailure
from service.scoring.batching import Job
from service.scoring.compute import Work
from service.scoring.engine import Clock, Engine
from service.scoring.new_items import NONE, ItemSource, NewItemEncoder, NewItems
from service.scoring.scored import STATUSES, Degraded, Inputs, Scored, ScoreRequest, Status, Timings, UserStatus
from service.scoring.state_cache import StateCache
from service.stores.base import BehaviorStore, StoreError

# A store that hangs may spend this part of the time that is left; the rest is for computing without a history.
_STORE_SHARE = 0.5
_PRIOR_MARGIN_S = 0.002  # kept back from the deadline to answer from the prior, where that is allowed


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerOptions:
    """Both clocks, the longest wait for the store, and what may be given up. Every deadline is on `clock`."""

    clock: Clock
    store_timeout_s: float
    now: Clock = time.time  # seconds since the epoch: behaviors have such times
    allow_prior: bool = False  # answer from the prior instead of refusing
    state_cache_bytes: int = 0
    items: ItemSource | None = None  # of candidates that the bundle's catalogue lacks


@dataclass(frozen=True, kw_only=True, slots=True)
class Net:
    """What a bundle brings: its encoder, the runtime of its two halves, and the prior click rate by item index."""

    encoder: Encoder
    runtime: Runtime
    prior_ctr: NDArray[np.float32]


class Scorer:
    """Scores requests with one bundle."""

    def __init__(self, net: Net, *, store: BehaviorStore, engine: Engine, options: ScorerOptions) -> None:
        self.encoder = net.encoder
        self.states = StateCache(options.state_cache_bytes)
        self._net = net
        self._new_items = NewItemEncoder(net.encoder)
        self._actions = net.encoder.schema.action_codes()
        self._store = store
        self._engine = engine
        self._options = options

    async def score(self, request: ScoreRequest) -> Scored:
        """Score every candidate. Raises Overloaded, DeadlineExceeded, ComputeFailed or NotReady."""
        try:
            return await self._within_deadline(request)
        except (Overloaded, DeadlineExceeded):
            if not self._options.allow_prior:
                raise
            return self._from_prior(request)

    async def _within_deadline(self, request: ScoreRequest) -> Scored:
        deadline = request.deadline - (_PRIOR_MARGIN_S if self._options.allow_prior else 0.0)
        left = deadline - self._options.clock()
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before scoring began")
        with self._engine.admit(request.count, deadline=deadline) as job:
            try:
                async with asyncio.timeout(left):
                    return await self._score(request, job)
            except TimeoutError:
                raise DeadlineExceeded("the deadline passed while scoring") from None

    async def _score(self, request: ScoreRequest, job: Job) -> Scored:
        clock = self._options.clock
        began = clock()
        rows, unknown = self._new_items.look(request.candidates) if self._options.items else (None, [])
        (history, degraded), new_items = await self._read(request, unknown)
        read = clock()
        now_ms = self._now_ms(request)
        user = self._encode_user(request, history, now_ms)
        items = self.encoder.encode_items(request.candidates, catalogue_rows=rows)
        if new_items:
            self._new_items.fill(items, request.candidates, new_items)
        encoded = clock()
        key = self.states.key(user)
        candidates = {name: tensor[None] for name, tensor in items.items()}
        work = Work(runtime=self._net.runtime, user=user, candidates=candidates, state=self.states.get(key))
        computing = self._engine.submit(job, work)
        status, unknown_items, unknown_features = self._statuses(items)  # costs no time while others compute
        user_status = self._user_status(user, history)
        try:
            times = await computing
        except RuntimeFailure as error:
            raise ComputeFailed("the net could not be run on this request") from error
        self.states.put(key, work.state)
        timings = Timings(
            store_s=read - began, encode_s=encoded - read, queue_s=times.queue_s, compute_s=times.compute_s
        )
        return Scored(
            pctr=work.pctr,
            rank=rank(work.pctr),
            status=status,
            unknown_items=unknown_items,
            unknown_features=unknown_features,
            user_status=user_status,
            history_len=int(user["history_len"][0]),
            degraded=degraded,
            timings=timings,
            inputs=Inputs(history=history, now_ms=now_ms, new_items=new_items, user=user, items=items),
        )

    async def _read(self, request: ScoreRequest, unknown: Sequence[int]) -> tuple[tuple[Behaviors, Degraded], NewItems]:
        """The history, and what is known of candidates that the bundle does not know; both at once."""
        source = self._options.items
        if source is None or not unknown:
            return await self._read_history(request), NONE
        known, absent = source.known(unknown)
        if not absent:
            return await self._read_history(request), known
        looking = source.look_up(absent, timeout_s=self._store_timeout_s(request))
        history, found = await asyncio.gather(self._read_history(request), looking)
        return history, {**known, **found}

    def _store_timeout_s(self, request: ScoreRequest) -> float:
        left = request.deadline - self._options.clock()
        return min(self._options.store_timeout_s, max(left, 0.0) * _STORE_SHARE)

    async def _read_history(self, request: ScoreRequest) -> tuple[Behaviors, Degraded]:
        schema = self.encoder.schema
        if not schema.behavior:
            return no_behaviors(), "none"
        if request.history is not None:
            return request.history, "none"
        timeout_s = self._store_timeout_s(request)
        try:
            read = self._store.read(
                request.user_id, limit=schema.max_history, timeout_s=timeout_s, actions=self._actions
            )
            return await read, "none"
        except StoreError:
            return no_behaviors(), "history"

    def _from_prior(self, request: ScoreRequest) -> Scored:
        """Each candidate's click rate in training, whoever looks; the mean for an item never seen."""
        began = self._options.clock()
        items = self.encoder.encode_items(request.candidates)
        status, unknown_items, unknown_features = self._statuses(items)
        pctr = self._net.prior_ctr[self.encoder.item_index(items)]
        encode_s = self._options.clock() - began
        return Scored(
            pctr=pctr,
            rank=rank(pctr),
            status=status,
            unknown_items=unknown_items,
            unknown_features=unknown_features,
            user_status=self._user_status(
                self._encode_user(request, no_behaviors(), self._now_ms(request)), no_behaviors()
            ),
            history_len=0,
            degraded="prior",
            timings=Timings(store_s=0.0, encode_s=encode_s, queue_s=0.0, compute_s=0.0),
        )

    def _now_ms(self, request: ScoreRequest) -> int:
        return int(self._options.now() * 1000) if request.now_ms is None else request.now_ms

    def _encode_user(self, request: ScoreRequest, history: Behaviors, now_ms: int) -> Tensors:
        user = self.encoder.encode_request(request.user, request.context, rows=1)
        return {**user, **self.encoder.encode_history([history], now_ms=np.array([now_ms]))}

    def _statuses(self, items: Tensors) -> tuple[Sequence[Status], int, int]:
        """Each candidate's status, and how many are unknown_item and unknown_feature."""
        features = self.encoder.unknown_features(items)
        if not features.any():  # the usual case; an unknown item is an unknown feature too
            return ["ok"] * len(features), 0, 0
        unknown = self.encoder.unknown_items(items)
        codes = np.where(unknown, 1, np.where(features, 2, 0))
        items_unknown = int(unknown.sum())
        return [STATUSES[code] for code in codes.tolist()], items_unknown, int(features.sum()) - items_unknown

    def _user_status(self, user: Tensors, history: Behaviors) -> UserStatus:
        index = self.encoder.user_index(user)
        known = len(history) > 0 if index is None else index[0] != UNKNOWN
        return "known" if known else "unknown"


def rank(pctr: NDArray[np.float32]) -> NDArray[np.int64]:
    """Ranks [C] from 1 for the highest score; equal scores are ranked in their own order."""
    ranks = np.empty(len(pctr), dtype=np.int64)
    ranks[np.argsort(-pctr, kind="stable")] = np.arange(1, len(pctr) + 1)
    return ranks
