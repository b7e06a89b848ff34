"""What scoring is asked, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Columns, Tensors
from model.bundle.records import Behaviors
from service.scoring.new_items import NewItems
from service.stores.base import UserId

Degraded = Literal["none", "history", "prior"]
Status = Literal["ok", "unknown_item", "unknown_feature"]
UserStatus = Literal["known", "unknown"]

STATUSES: tuple[Status, ...] = ("ok", "unknown_item", "unknown_feature")


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
    now_ms: int | None = None  # when the request is, on the clock of behaviors; None: now


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Seconds per phase."""

    store_s: float
    encode_s: float
    queue_s: float
    compute_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What the net saw beside the request itself."""

    history: Behaviors
    now_ms: int
    new_items: NewItems
    user: Tensors  # encoded, [1, ...] each
    items: Tensors  # encoded, [C, ...] each


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """The answer, in the caller's candidate order."""

    pctr: NDArray[np.float32]  # [C]
    rank: NDArray[np.int64]  # [C], 1 is best
    status: Sequence[Status]
    unknown_items: int
    unknown_features: int  # candidates whose status is unknown_feature
    user_status: UserStatus  # known: the id was in training, or, where ids are no feature, there is a history
    history_len: int
    degraded: Degraded
    timings: Timings
    inputs: Inputs | None = None  # None: the net was not asked
