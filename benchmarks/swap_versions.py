"""Two good bundles of one net under a `stable` pointer, broken ones beside them, and the scores of the good ones."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.baseline.ranker import Ranker
from benchmarks.load_workload import Workload, histories
from benchmarks.naive import export_naive
from benchmarks.sized import HISTORY, sized_bundle
from model.bundle.pointers import STABLE, write_pointer
from model.bundle.records import to_members

VERSIONS = ("v1", "v2")
SPOILED = "user.onnx"
TOLERANCE = 1e-4
Scores = Mapping[str, NDArray[np.float32]]  # by version: pCTR [requests, candidates]


def write_versions(root: Path, kind: str, *, broken: int) -> dict[str, Path]:
    """Both good versions, `stable` at the first, and so many corrupt ones; returns each good one's naive graph."""
    naive = {}
    for seed, version in enumerate(VERSIONS):
        folder, net = sized_bundle(root, kind, version=version, seed=seed)
        naive[version] = root.parent / f"naive_{version}.onnx"
        naive[version].write_bytes(export_naive(net, history=HISTORY, fields=2))
    for number in range(broken):
        _spoil(folder, root / broken_name(number))
    write_pointer(root, STABLE, VERSIONS[0])
    return naive


def broken_name(number: int) -> str:
    """The version of a corrupt bundle; each is another one, because a version is refused and counted once."""
    return f"broken{number}"


def expected_scores(naive: Mapping[str, Path], workload: Workload) -> Scores:
    """What each version answers to each of the workload's users, by the naive graph.

    Raises ValueError if the versions are too alike to be told apart.
    """
    users = {user: to_members(behaviors)[::-1] for user, behaviors in histories()[: workload.users]}
    scores = {version: _all_scores(path, users, workload) for version, path in naive.items()}
    first, second = scores.values()
    if float(np.abs(first - second).max(axis=1).min()) < 10 * TOLERANCE:
        raise ValueError("the two versions give nearly the same scores, so a mixed answer could not be seen")
    return scores


def _all_scores(path: Path, users: Mapping[int, list[bytes]], workload: Workload) -> NDArray[np.float32]:
    ranker, rows = Ranker(str(path), threads=1), []
    for index in range(workload.users):
        request = orjson.loads(workload.body(index))
        columns = {name: [c[name] for c in request["candidates"]] for name in ("item_id", "cate_id")}
        rows.append(ranker.scores(request["user_id"], users[request["user_id"]], columns))
    return np.array(rows, dtype=np.float32)


def _spoil(good: Path, target: Path) -> None:
    """A copy of which one byte of one file was changed; the other files are the same on disk."""
    for path in good.rglob("*"):
        copy = target / path.relative_to(good)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.name == SPOILED:
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 1
            copy.write_bytes(raw)
        else:
            os.link(path, copy)
