"""What `benchmarks.options` changes: for each baseline, one option at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Changes = Mapping[str, Any]  # dotted key of the training file -> its value (`Any`: TOML's); a number is a list's index


@dataclass(frozen=True, kw_only=True)
class Study:
    """A baseline and its variants by label. `users` keeps one user in so many; paths start at `--data`."""

    table: Mapping[str, Any]  # as TOML has it
    variants: Mapping[str, Changes]
    users: int = 1
    seeds: int = 2


def _each(key: str, *values: object) -> dict[str, Changes]:
    """A variant for each value of one option."""
    return {f"{key} = {_written(value)}": {key: value} for value in values}


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


_TRAIN = {"epochs": 2, "batch_size": 512, "learning_rate": 1e-3, "embedding_learning_rate": 3e-3, "lookup_l2": 0.01}
_KEYS = {"user": "user_id", "item": "item_id"}


def _next_item(net: Mapping[str, Any]) -> dict[str, Any]:
    """`examples/next_item.toml` as it was when the table in docs/training.md was made, for two epochs."""
    names = ("item_id", "cate_id")
    return {
        "name": "next_item",
        "data": {"format": "task", "path": "tasks/beauty_next"},
        "schema": {
            "max_history": 20,
            "keys": {**_KEYS, "category": "cate_id"},
            "item": [{"name": name, "dim": 16} for name in names],
            "behavior": [{"shares": name, "column": f"hist_{name}s"} for name in names],
        },
        "net": dict(net),
        "train": dict(_TRAIN),
        "calibration": {},
    }


_DIN = _next_item({"kind": "din", "softmax": True})
_RATINGS: dict[str, Any] = {
    "name": "ratings",
    "data": {"format": "atomic", "path": "ml-100k"},
    "schema": {
        "max_history": 20,
        "keys": _KEYS,
        "user": [
            {"name": "user_id", "dim": 16},
            {"name": "gender", "dtype": "str", "dim": 4},
            {"name": "occupation", "dtype": "str", "dim": 8},
            {"name": "age", "kind": "dense"},
        ],
        "item": [
            {"name": "item_id", "dim": 16},
            {"name": "class", "kind": "multi", "dtype": "str", "dim": 16},
            {"name": "release_year", "dtype": "str", "dim": 8},
        ],
        "behavior": [{"shares": "item_id", "column": "hist_item_ids"}],
        "times": {"column": "hist_times", "gaps": []},
    },
    "net": {"kind": "din", "softmax": True},
    "train": {**_TRAIN, "learning_rate": 3e-4},
    "calibration": {},
}
_AGE = "schema.user.3"
_GENRES_OF_HISTORY = {"schema.behavior.1": {"shares": "class", "column": "hist_class"}}


_NET = {
    **_each("net.head", [80, 40]),
    **_each("net.activation", "prelu"),
    **_each("net.pooling", "sum", "sqrtn"),
    **_each("net.dropout", 0.2),
    **_each("net.max_norm", 0.5),
    **_each("net.factors", 16),
    **_each("net.attention", [40, 20]),
    **_each("net.attention_kind", "dot", "bilinear"),
    **_each("net.softmax", False),
}
_LOOP = {
    **_each("train.embedding_learning_rate", 0.0),
    **_each("train.learning_rate", 3e-3),
    **_each("train.batch_size", 4096),
    **_each("train.lookup_l2", 0.0),
    "train.embedding_l2 = 0.01, lookup_l2 = 0": {"train.embedding_l2": 0.01, "train.lookup_l2": 0.0},
    **_each("train.fresh_negatives", True),
    **_each("train.weight_decay", 0.01),
    **_each("train.clip_norm", 0.0),
    **_each("train.schedule", "linear", "exponential"),
    **_each("train.warmup_steps", 50),
    **_each("train.length_buckets", True),
    **_each("train.negative_sampling_rate", 0.5),
    **_each("train.precision", "bfloat16"),
    **_each("calibration.method", "isotonic", "none"),
}
_TABLES = {
    **_each("train.embedding_optimizer", "adagrad", "dense_adam"),
    **_each("train.embedding_beta1", 0.0),
}
_IDS = {
    **_each("schema.max_history", 5),
    "dim = 8": {"schema.item.0.dim": 8, "schema.item.1.dim": 8},
    "dim = 32": {"schema.item.0.dim": 32, "schema.item.1.dim": 32},
    "item: min_count = 5": {"schema.item.0.min_count": 5},
    "item: hash_buckets = 6000": {"schema.item.0.hash_buckets": 6000},
}

STUDIES: Mapping[str, Study] = {
    "din": Study(table=_DIN, variants={**_NET, **_LOOP, **_IDS}, users=4),
    "tables": Study(table=_DIN, variants=_TABLES, users=4, seeds=3),
    "dien": Study(
        table=_next_item({"kind": "dien"}),
        variants={
            **_each("net.auxiliary", "mlp"),
            **_each("net.auxiliary_alpha", 0.0, 0.1, 1.0),
            **_each("net.residual", True),
            **_each("net.augru", "public"),
        },
        users=4,
    ),
    "features": Study(
        table=_RATINGS,
        variants={
            "without genres": {"schema.item.1": None},
            "genres: pooling = sum": {"schema.item.1.pooling": "sum"},
            "genres: max_values = 1": {"schema.item.1.max_values": 1},
            "genres of the history too": _GENRES_OF_HISTORY,
            "without age": {_AGE: None},
            "age: transform = log": {f"{_AGE}.transform": "log"},
            "age: transform = none": {f"{_AGE}.transform": "none"},
            "age: transform = bucketise": {f"{_AGE}.transform": "bucketise"},
            "age: transform = bucketise, buckets = 4": {f"{_AGE}.transform": "bucketise", f"{_AGE}.buckets": 4},
            "age: missing = 0": {f"{_AGE}.missing": 0.0},
            "times.gaps = request": {"schema.times.gaps": ["request"]},
            "times.gaps = request, next": {"schema.times.gaps": ["request", "next"]},
            "times.cut_s = a day": {"schema.times.cut_s": 86400},
            "times.cut_s = 30 minutes": {"schema.times.cut_s": 1800},
        },
    ),
    "nets": Study(
        table=_next_item({"kind": "base"}),
        variants={
            **_each("net.kind", "wide_deep", "pnn", "din", "din_gru", "gru_gru", "aigru", "agru", "dien"),
            "din with softmax": {"net.kind": "din", "net.softmax": True},
        },
        users=4,
    ),
}

SPEED: Mapping[str, tuple[str, Changes]] = {  # label -> the study of its baseline, and what is changed
    **{
        label: ("din", changes)
        for label, changes in {
            **_each("train.length_buckets", True),
            **_each("train.precision", "bfloat16"),
            **_each("train.compile", True),
            **_each("train.embedding_optimizer", "dense_adam", "adagrad"),
            **_each("train.embedding_beta1", 0.0),
            **_each("train.lookup_l2", 0.0),
            **_each("train.clip_norm", 0.0),
            **_each("train.fresh_negatives", True),
            **_each("net.attention_kind", "dot"),
        }.items()
    },
    **{label: ("dien", changes) for label, changes in _each("net.augru", "public").items()},
    **{label: ("dien", changes) for label, changes in _each("net.auxiliary", "mlp").items()},
    "base: train.compile = true": ("nets", {"train.compile": True}),
    "base: train.precision = bfloat16": ("nets", {"train.precision": "bfloat16"}),
}

UNMEASURED: Mapping[str, str] = {
    "train.seed": "the spread over seeds is in every table",
    "train.epochs": "when training ends",
    "train.patience": "when training ends",
    "train.evaluations_per_epoch": "when training ends",
    "train.epoch_decay": "a part of train.schedule",
    "train.device": "no GPU",
    "train.checkpoint_batches": "changes no result",
    "train.keep_moments": "of training that goes on: docs/freshness.md",
    "train.sharded_rows": "changes no result, and needs several processes",
}
