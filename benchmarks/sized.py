"""A bundle with random weights at the sizes of the public DIEN code (DESIGN 3)."""

from pathlib import Path

import numpy as np
import torch

from model.bundle.catalogue import Catalogue
from model.bundle.encode import Encoder
from model.bundle.records import make_behaviors
from model.bundle.schema import Schema, schema_from_table
from model.bundle.vocabulary import Vocabulary
from model.nets import build_net
from model.nets.dien import Dien
from model.nets.din import Din
from model.publish import Format, publish
from model.run_folder import TrainedRun, vocabulary_sizes

ITEMS, CATEGORIES, USERS = 367_983, 1_601, 543_060
HISTORY = 100
DIM = 18
USER = 7


def sized_schema() -> Schema:
    """User, item and category, each of width 18; a behavior is 36 wide."""
    table = {
        "keys": {"category": "cate_id"},
        "max_history": HISTORY,
        "user": [{"name": "user_id", "dim": DIM}],
        "item": [{"name": "item_id", "dim": DIM}, {"name": "cate_id", "dim": DIM}],
        "behavior": [{"shares": "item_id", "column": "i"}, {"shares": "cate_id", "column": "c"}],
    }
    return schema_from_table(table, file="benchmark")


def sized_bundle(
    root: Path, kind: str, *, version: str = "v1", seed: int = 0, export_format: Format = "onnx"
) -> tuple[Path, Din | Dien]:
    """Write a bundle of a freshly initialised net; returns its folder and the net. `user_id` is a user feature."""
    schema, rng = sized_schema(), np.random.default_rng(0)
    # Vocabulary rows include padding and unknown.
    sizes = {"user_id": USERS, "item_id": ITEMS, "cate_id": CATEGORIES}
    vocabularies = {name: Vocabulary(np.arange(1, size - 1, dtype=np.int64)) for name, size in sizes.items()}
    ids = np.arange(1, ITEMS - 1, dtype=np.int64)
    catalogue = Catalogue(ids=ids, columns={"cate_id": rng.integers(1, CATEGORIES - 1, len(ids))})
    encoder = Encoder(schema, vocabularies, scalings={}, catalogue=catalogue)
    torch.manual_seed(seed)
    net = build_net({"kind": kind}, schema, vocabulary_sizes(encoder), file="benchmark")
    run = TrainedRun(
        net=net,
        encoder=encoder,
        prior_ctr=np.full(ITEMS, 0.5, dtype=np.float32),
        golden=_golden(encoder),
        config={"name": kind, "net": {"kind": kind}, "train": {}},
        metrics={"window": {}, "splits": {}, "score_distribution": {}},
    )
    return publish(run, root, version=version, code_version="benchmark", export_format=export_format), net


def _golden(encoder: Encoder) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    histories = [make_behaviors(rng.integers(1, ITEMS - 1, length)) for length in (0, 1, 50, HISTORY)]
    users = len(histories)
    items = encoder.encode_items({"item_id": rng.integers(1, ITEMS - 1, users * 4)})
    request = encoder.encode_request({"user_id": np.arange(1, users + 1)}, {}, rows=users)
    return {**request, **encoder.encode_history(histories), **{n: t.reshape(users, 4, -1) for n, t in items.items()}}
