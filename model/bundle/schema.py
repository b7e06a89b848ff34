"""Which features there are, on which side, and under which names the log and the requests carry them.

One schema drives the reader, the vocabularies, the encoder, the nets' widths and the service's validation.
"""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from model.bundle.errors import ConfigError
from model.bundle.records import ACTIONS, action_code
from model.bundle.typed_table import from_table, setting

K = TypeVar("K", bound=Hashable)

PADDING = 0  # index of "no position here"
UNKNOWN = 1  # index of "never seen in training"
FIRST_ID = 2  # index of the first vocabulary entry

Side = Literal["user", "item", "context"]
Gap = Literal["request", "next"]  # from a behavior to the request, to the next behavior

SIDES: tuple[Side, ...] = ("user", "item", "context")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One named input: `sparse` (an id), `multi` (a list of ids) or `dense` (a number).

    Ids have an embedding of width `dim`, and so has a dense feature that is cut into buckets.
    """

    name: str
    kind: Literal["sparse", "dense", "multi"] = "sparse"
    dtype: Literal["int", "str"] = "int"  # of raw ids
    dim: int = setting(16, low=1, high=4096)
    min_count: int = setting(1, low=1)  # ids seen less often in training are UNKNOWN
    hash_buckets: int = setting(0, low=0, high=2**31)  # 0: a vocabulary
    max_values: int = setting(8, low=1, high=256)  # of a list; what comes after is not read
    pooling: Literal["mean", "sum"] = "mean"  # of the embeddings of a list
    transform: Literal["standardise", "none", "log", "bucketise"] = "standardise"  # of a number
    buckets: int = setting(16, low=2, high=1024)  # about as many training rows in each
    missing: float | None = None  # what a number that is not given counts as; none: the training mean

    @property
    def embedded(self) -> bool:
        """Whether the feature is looked up in an embedding table; otherwise it is a number."""
        return self.kind != "dense" or self.transform == "bucketise"

    @property
    def places(self) -> int:
        """Columns that the feature takes in its side's sparse tensor."""
        return self.max_values if self.kind == "multi" else int(self.embedded)


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One field of the behavior history. It shares vocabulary and embedding table with the item feature `shares`."""

    shares: str
    column: str  # the log's list column, oldest behavior first
    negatives: str | None = None  # the log's list column of what did not happen in each one's place; training only
    kind: Literal["sequence"] = "sequence"


@dataclass(frozen=True, kw_only=True)
class Times:
    """What the times of behaviors are used for; `column` is the log's list column of them, in seconds."""

    column: str
    gaps: tuple[Gap, ...] = ("request",)  # each a feature of every behavior
    cut_s: int = setting(0, low=0)  # a history begins after its last gap longer than this; 0: never cut


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The log's columns that are not features by themselves. `user` names the user in Redis and in requests."""

    user: str = "user_id"
    item: str = "item_id"
    category: str | None = None
    label: str = "label"
    timestamp: str = "timestamp"


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Features by side: `user` and `context` once per request, `item` per candidate, `behavior` per past action."""

    item: tuple[Feature, ...]
    user: tuple[Feature, ...] = ()
    context: tuple[Feature, ...] = ()
    behavior: tuple[Sequence, ...] = ()
    keys: Keys = Keys()
    max_history: int = setting(50, low=1, high=10_000)
    times: Times | None = None
    actions: tuple[str, ...] = ()  # stored behaviors that a history is made of, of ACTIONS; none: all

    def action_codes(self) -> frozenset[int] | None:
        """Codes of `actions`; None: every action counts."""
        return frozenset(map(action_code, self.actions)) or None

    def features(self, side: Side) -> tuple[Feature, ...]:
        """The features of one side."""
        return {"user": self.user, "item": self.item, "context": self.context}[side]

    def sparse(self, side: Side) -> tuple[Feature, ...]:
        """The features of one side that have an embedding, in tensor column order (`columns`)."""
        return tuple(f for f in self.features(side) if f.embedded)

    def dense(self, side: Side) -> tuple[Feature, ...]:
        """The features of one side that stay numbers, in tensor column order."""
        return tuple(f for f in self.features(side) if not f.embedded)

    def columns(self, side: Side) -> dict[str, slice]:
        """Where each embedded feature of a side stands in the last axis of its sparse tensor."""
        return _side_by_side((f.name, f.places) for f in self.sparse(side))

    def history_columns(self) -> list[slice]:
        """Where each of `behavior`'s fields stands in the last axis of the history; `gap_columns` follow."""
        fields = ((i, self.item_feature(sequence.shares).places) for i, sequence in enumerate(self.behavior))
        return list(_side_by_side(fields).values())

    def gap_columns(self) -> dict[Gap, int]:
        """Where each gap stands in the last axis of the history."""
        first = sum(self.item_feature(sequence.shares).places for sequence in self.behavior)
        return {gap: first + i for i, gap in enumerate(self.times.gaps if self.times else ())}

    def item_feature(self, name: str) -> Feature:
        """The item feature called `name`."""
        return next(f for f in self.item if f.name == name)

    def to_table(self) -> dict[str, Any]:
        """The plain table that `schema_from_table` reads back."""
        return dataclasses.asdict(self)


def schema_from_table(table: Mapping[str, object], *, file: str, key: str = "schema") -> Schema:
    """Read and check a schema. Raises ConfigError naming `file` and the key at fault."""
    schema = from_table(Schema, table, file=file, key=key)
    _check_names(schema, file=file, key=key)
    _check_keys(schema, file=file, key=key)
    _check_behavior(schema, file=file, key=key)
    for side in SIDES:
        for i, feature in enumerate(schema.features(side)):
            _check_options(feature, file=file, key=f"{key}.{side}[{i}]")
    return schema


def _side_by_side(widths: Iterable[tuple[K, int]]) -> dict[K, slice]:
    out: dict[K, slice] = {}
    at = 0
    for name, width in widths:
        out[name] = slice(at, at + width)
        at += width
    return out


def _check_names(schema: Schema, *, file: str, key: str) -> None:
    seen: set[str] = set()
    for side in SIDES:
        for i, feature in enumerate(schema.features(side)):
            where = f"{key}.{side}[{i}].name"
            if not feature.name.isidentifier():
                raise ConfigError(file=file, key=where, found=feature.name, allowed="letters, digits and _")
            if feature.name in seen:
                raise ConfigError(file=file, key=where, found=feature.name, allowed="a name not used before")
            seen.add(feature.name)


def _check_keys(schema: Schema, *, file: str, key: str) -> None:
    sparse = [f.name for f in schema.item if f.kind == "sparse"]
    for role in ("item", "category"):
        name = getattr(schema.keys, role)
        if name is not None and name not in sparse:
            allowed = "a sparse item feature: " + (", ".join(sparse) or "there is none")
            raise ConfigError(file=file, key=f"{key}.keys.{role}", found=name, allowed=allowed)
        if name is not None and schema.item_feature(name).dtype != "int":
            raise ConfigError(file=file, key=f"{key}.keys.{role}", found="str ids", allowed="a feature with dtype int")
    users = [f.kind for f in schema.user if f.name == schema.keys.user]
    if users and users != ["sparse"]:
        raise ConfigError(file=file, key=f"{key}.keys.user", found=users[0], allowed="a sparse feature, or none")


def _check_behavior(schema: Schema, *, file: str, key: str) -> None:
    embedded = [f.name for f in schema.sparse("item")]
    for i, sequence in enumerate(schema.behavior):
        if sequence.shares not in embedded:
            allowed = "an item feature with an embedding: " + ", ".join(embedded)
            raise ConfigError(file=file, key=f"{key}.behavior[{i}].shares", found=sequence.shares, allowed=allowed)
    keys = {s.shares for s in schema.behavior if s.negatives is not None}
    if keys and (schema.keys.item not in keys or keys > {schema.keys.item, schema.keys.category}):
        allowed = f"none, or one of {schema.keys.item!r}, and then perhaps one of the category"
        raise ConfigError(file=file, key=f"{key}.behavior.negatives", found=sorted(keys), allowed=allowed)
    if schema.times is not None and len(set(schema.times.gaps)) < len(schema.times.gaps):
        raise ConfigError(file=file, key=f"{key}.times.gaps", found=list(schema.times.gaps), allowed="each gap once")
    if not set(schema.actions) <= set(ACTIONS):
        allowed = "some of " + ", ".join(ACTIONS)
        raise ConfigError(file=file, key=f"{key}.actions", found=list(schema.actions), allowed=allowed)


# Options that mean something for some features only: there, anything but the default is a mistake worth telling.
_IDS, _LISTS, _NUMBERS = "sparse and multi features", "multi features", "dense features"
_MEANT_FOR = {
    "min_count": "features without hash_buckets",
    "hash_buckets": _IDS,
    "max_values": _LISTS,
    "pooling": _LISTS,
    "transform": _NUMBERS,
    "buckets": f'{_NUMBERS} with transform = "bucketise"',
    "missing": _NUMBERS,
}


def _check_options(feature: Feature, *, file: str, key: str) -> None:
    """Raise ConfigError for an option that has no meaning for this kind of feature."""
    fits = {"hash_buckets"} if feature.kind != "dense" else {"transform", "missing"}
    fits |= {"max_values", "pooling"} if feature.kind == "multi" else set()
    fits |= {"buckets"} if feature.kind == "dense" and feature.embedded else set()
    fits |= {"min_count"} if not feature.hash_buckets else set()
    for field in dataclasses.fields(feature):
        value = getattr(feature, field.name)
        if field.name in _MEANT_FOR and field.name not in fits and value != field.default:
            allowed = f"only for {_MEANT_FOR[field.name]}"
            raise ConfigError(file=file, key=f"{key}.{field.name}", found=value, allowed=allowed)
