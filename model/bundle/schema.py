"""Which features there are, on which side, and under which names the log and the requests carry them.

One schema drives the reader, the vocabularies, the encoder, the nets' widths and the service's validation.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model.bundle.errors import ConfigError
from model.bundle.typed_table import from_table, setting

PADDING = 0  # index of "no position here"
UNKNOWN = 1  # index of "never seen in training"
FIRST_ID = 2  # index of the first vocabulary entry

Side = Literal["user", "item", "context"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One named input: `sparse` (an id with an embedding of width `dim`) or `dense` (a number)."""

    name: str
    kind: Literal["sparse", "dense"] = "sparse"
    dtype: Literal["int", "str"] = "int"  # of a sparse feature's raw ids
    dim: int = setting(16, low=1, high=4096)
    min_count: int = setting(1, low=1)  # ids seen less often in training are UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One field of the behavior history. It shares vocabulary and embedding table with the item feature `shares`."""

    shares: str
    column: str  # the log's list column, oldest behavior first
    kind: Literal["sequence"] = "sequence"


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

    def features(self, side: Side) -> tuple[Feature, ...]:
        """The features of one side."""
        return {"user": self.user, "item": self.item, "context": self.context}[side]

    def sparse(self, side: Side) -> tuple[Feature, ...]:
        """The sparse features of one side, in tensor column order."""
        return tuple(f for f in self.features(side) if f.kind == "sparse")

    def dense(self, side: Side) -> tuple[Feature, ...]:
        """The dense features of one side, in tensor column order."""
        return tuple(f for f in self.features(side) if f.kind == "dense")

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
    return schema


def _check_names(schema: Schema, *, file: str, key: str) -> None:
    seen: set[str] = set()
    for side in ("user", "item", "context"):
        for i, feature in enumerate(schema.features(side)):
            where = f"{key}.{side}[{i}].name"
            if not feature.name.isidentifier():
                raise ConfigError(file=file, key=where, found=feature.name, allowed="letters, digits and _")
            if feature.name in seen:
                raise ConfigError(file=file, key=where, found=feature.name, allowed="a name not used before")
            seen.add(feature.name)


def _check_keys(schema: Schema, *, file: str, key: str) -> None:
    sparse = [f.name for f in schema.sparse("item")]
    for role in ("item", "category"):
        name = getattr(schema.keys, role)
        if name is not None and name not in sparse:
            allowed = "a sparse item feature: " + (", ".join(sparse) or "there is none")
            raise ConfigError(file=file, key=f"{key}.keys.{role}", found=name, allowed=allowed)
        if name is not None and schema.item_feature(name).dtype != "int":
            raise ConfigError(file=file, key=f"{key}.keys.{role}", found="str ids", allowed="a feature with dtype int")


def _check_behavior(schema: Schema, *, file: str, key: str) -> None:
    sparse = [f.name for f in schema.sparse("item")]
    for i, sequence in enumerate(schema.behavior):
        if sequence.shares not in sparse:
            allowed = "a sparse item feature: " + ", ".join(sparse)
            raise ConfigError(file=file, key=f"{key}.behavior[{i}].shares", found=sequence.shares, allowed=allowed)
