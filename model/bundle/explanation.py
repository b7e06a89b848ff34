"""Why a candidate got its score, in the form that POST /score answers: made here online and offline.

U users, C candidates, L history; F columns of a sparse tensor.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from model.bundle.calibration import sigmoid
from model.bundle.encode import Encoder, Tensors
from model.bundle.records import ACTIONS, NOT_GIVEN, Behaviors
from model.bundle.schema import UNKNOWN, Schema, Side
from model.bundle.vocabulary import Ids

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request as the net saw it: encoded for one user, and the behaviors of which the newest were encoded."""

    history: Behaviors
    user: Tensors  # [1, ...]
    items: Tensors  # [C, ...]
    item_ids: Ids  # [C]

    def of(self, rows: Ids) -> Self:
        """The same of some candidates."""
        items = {name: tensor[rows] for name, tensor in self.items.items()}
        return replace(self, items=items, item_ids=self.item_ids[rows])


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the net told of it. Padding stands behind the behaviors."""

    logit: Floats  # [C]
    logit_without_history: Floats  # [C]
    pctr: Floats  # [C], calibrated
    attention: Floats | None  # [C, L]; None: the net has none
    update: Floats | None  # [C, L]; None: the net has no second GRU

    def of(self, rows: Ids) -> "Told":
        """The same of some candidates."""
        return Told(
            logit=self.logit[rows],
            logit_without_history=self.logit_without_history[rows],
            pctr=self.pctr[rows],
            attention=None if self.attention is None else self.attention[rows],
            update=None if self.update is None else self.update[rows],
        )


def without_history(user: Tensors) -> Tensors:
    """The same users without a behavior: one place of padding, as the encoder gives for an empty history."""
    empty = {"history": np.zeros_like(user["history"][:, :1]), "history_len": np.zeros_like(user["history_len"])}
    return {**user, **empty}


def explanation(encoder: Encoder, seen: Seen, told: Told) -> dict[str, Any]:
    """`explanation` of the answer; numbers of the net are numpy's. `Any`: as JSON has it."""
    length = int(seen.user["history_len"][0])
    asked: tuple[Side, ...] = ("user", "context")
    given = [side for side in asked if f"{side}_sparse" in seen.user]
    unknown = [_unknown(encoder.schema, side, seen.user[f"{side}_sparse"])[0] for side in given]
    return {
        "behaviors": _behaviors(encoder, seen, length),
        "unknown_features": [name for names in unknown for name in names],
        "candidates": _candidates(encoder.schema, seen, told, length),
    }


def _behaviors(encoder: Encoder, seen: Seen, length: int) -> list[dict[str, Any]]:
    used = seen.history[len(seen.history) - length :]
    # Behaviors that came without a time were numbered (records.make_behaviors).
    timed = not np.array_equal(seen.history["time"], np.arange(len(seen.history)))
    categories = _categories(encoder, used)
    unknown = _unknown_behaviors(encoder.schema, seen.user["history"][0, :length])
    return [
        {
            "item_id": int(behavior["item"]),
            "category": category,
            "time": int(behavior["time"]) if timed else None,
            "action": ACTIONS[behavior["action"]] if behavior["action"] < len(ACTIONS) else int(behavior["action"]),
            "unknown_features": names,
        }
        for behavior, category, names in zip(used, categories, unknown, strict=True)
    ]


def _categories(encoder: Encoder, behaviors: Behaviors) -> list[int | None]:
    """Their own, else the catalogue's, else None."""
    known: list[int | None] = [None] * len(behaviors)
    if encoder.schema.keys.category is not None:
        rows = encoder.catalogue_rows(np.ascontiguousarray(behaviors["item"]))
        known = encoder.catalogue.values(encoder.schema.keys.category, rows)
    return [own if own != NOT_GIVEN else known[i] for i, own in enumerate(behaviors["category"].tolist())]


def _candidates(schema: Schema, seen: Seen, told: Told, length: int) -> list[dict[str, Any]]:
    def series(tensor: Floats | None, candidate: int) -> Floats | None:
        return None if tensor is None else tensor[candidate, :length]

    before = sigmoid(told.logit.astype(np.float64)).astype(np.float32)
    names = _unknown(schema, "item", seen.items["item_sparse"])
    return [
        {
            "item_id": item,
            "attention": series(told.attention, c),
            "update": series(told.update, c),
            "logit": told.logit[c],
            "logit_without_history": told.logit_without_history[c],
            "history_effect": told.logit[c] - told.logit_without_history[c],
            "unknown_features": names[c],
            "pctr_uncalibrated": before[c],
            "pctr": told.pctr[c],
        }
        for c, item in enumerate(seen.item_ids.tolist())
    ]


def _unknown(schema: Schema, side: Side, sparse: NDArray[np.generic]) -> list[list[str]]:
    """Per row of [N, F] the features that are unknown."""
    return _named(sparse, schema.columns(side).items())


def _unknown_behaviors(schema: Schema, history: NDArray[np.generic]) -> list[list[str]]:
    shared = [sequence.shares for sequence in schema.behavior]
    return _named(history, zip(shared, schema.history_columns(), strict=True))


def _named(rows: NDArray[np.generic], columns: Iterable[tuple[str, slice]]) -> list[list[str]]:
    found = [(name, np.equal(rows[:, at], UNKNOWN).any(axis=1)) for name, at in columns]
    return [[name for name, unknown in found if unknown[row]] for row in range(len(rows))]
