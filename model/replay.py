"""Scores the service's feature log once more, offline, and says how far that is from what was served.

    line of the log --Encoder--> tensors --the bundle's two graphs--> pCTR <--> the pCTR that was answered

A difference is training-serving skew: another encoder, catalogue, history or net than the offline half would have used.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Encoder, Tensors
from model.bundle.errors import BundleError, ConfigError, EncodeError
from model.bundle.folder import Bundle
from model.bundle.manifest import MANIFEST
from model.bundle.records import make_behaviors
from model.data.feature_log import Line, read_lines
from model.onnx_tables import open_half, run_half


@dataclass(frozen=True, kw_only=True, order=True)
class Row:
    """A candidate whose two scores differ."""

    difference: float
    request_id: str
    item_id: int
    served: float
    replayed: float


@dataclass(frozen=True, kw_only=True)
class Skew:
    """Absolute differences of pCTR over all rows that were scored twice."""

    requests: int
    rows: int
    max: float
    mean: float
    worst: list[Row]  # largest difference first
    skipped: dict[str, int] = field(default_factory=dict)  # reason -> requests


class Replayer:
    """A bundle's encoder and graphs, without the service."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError for a bundle that has no ONNX graphs."""
        manifest = bundle.manifest
        if manifest.export_format != "onnx":
            raise BundleError(MANIFEST, f"export_format {manifest.export_format!r} cannot be replayed, allowed: onnx")
        self._encoder = bundle.encoder
        self._halves = [(h, open_half(bundle.files, h)) for h in (manifest.user_half, manifest.candidate_half)]

    def pctr(self, line: Line) -> NDArray[np.float32]:
        """The scores [C] of a logged request. Raises EncodeError if it does not fit the bundle's schema."""
        request, items = encode_line(line, self._encoder)
        user, candidate = self._halves
        state = run_half(*user, request)
        candidates = {name: tensor[None] for name, tensor in items.items()}
        found: NDArray[np.float32] = run_half(*candidate, {**state, **candidates})["pctr"][0]
        return found


def replay(log: Path, bundle: Bundle, *, every_bundle: bool = False, worst: int = 10) -> Skew:
    """Compare every request in a file or folder of the feature log, by default those that this very bundle scored.

    Raises ConfigError if there is no log, or nothing in it to compare.
    """
    replayer, skipped = Replayer(bundle), Counter[str]()
    mine = (bundle.manifest.name, bundle.manifest.version)
    requests, rows, total, largest = 0, 0, 0.0, 0.0
    heap: list[Row] = []
    for line in read_lines(log):
        if "request_id" not in line:
            continue
        if not every_bundle and (line["bundle"], line["bundle_version"]) != mine:
            skipped["another bundle"] += 1
            continue
        try:
            replayed = replayer.pctr(line).astype(np.float64)
        except EncodeError:
            skipped["does not fit the schema"] += 1
            continue
        served = np.array(line["pctr"], dtype=np.float32).astype(np.float64)
        differences = np.nan_to_num(np.abs(served - replayed), nan=np.inf)
        requests, rows = requests + 1, rows + len(served)
        total, largest = total + float(differences.sum()), max(largest, float(differences.max()))
        _keep_worst(heap, _row(line, replayed, differences, bundle), worst)
    if not rows:
        allowed = f"requests scored by {mine[0]} {mine[1]}"
        raise ConfigError(file=str(log), key="lines", found=dict(skipped) or "no requests", allowed=allowed)
    worst_rows = sorted(heap, reverse=True)
    return Skew(requests=requests, rows=rows, max=largest, mean=total / rows, worst=worst_rows, skipped=dict(skipped))


def encode_line(line: Line, encoder: Encoder) -> tuple[Tensors, Tensors]:
    """The user's and the candidates' tensors of a logged request, as the service encodes it. Raises EncodeError."""
    schema = encoder.schema
    user = {f.name: [line["user"][f.name]] for f in schema.user if f.name in line["user"]}
    context = {f.name: [line["context"][f.name]] for f in schema.context if f.name in line["context"]}
    past = line["history"]
    history = make_behaviors(past["item"], category=past["category"], time=past["time"])
    history["action"] = past["action"]
    request = encoder.encode_request(user, context, rows=1)
    request |= encoder.encode_history([history], now_ms=np.array([line["time_ms"]]))
    return request, _encode_items(line["items"], encoder)


def _encode_items(columns: Mapping[str, list[object]], encoder: Encoder) -> Tensors:
    """What the log knows of each candidate; what it does not know is as in the catalogue."""
    key = encoder.schema.keys.item
    if key not in columns:
        raise EncodeError(feature=key, found="nothing", allowed="item ids")
    encoded = encoder.encode_items({key: columns[key]})
    for feature in encoder.schema.item:
        column = columns.get(feature.name, []) if feature.name != key else []
        rows = np.array([row for row, value in enumerate(column) if value is not None], dtype=np.int64)
        if len(rows):
            encoder.fill_items(encoded, rows, {feature.name: [column[row] for row in rows.tolist()]})
    return encoded


def _row(line: Line, replayed: NDArray[np.float64], differences: NDArray[np.float64], bundle: Bundle) -> Row:
    """The row of a request that differs most."""
    at = int(differences.argmax())
    return Row(
        difference=float(differences[at]),
        request_id=line["request_id"],
        item_id=line["items"][bundle.schema.keys.item][at],
        served=line["pctr"][at],
        replayed=float(replayed[at]),
    )


def _keep_worst(heap: list[Row], row: Row, size: int) -> None:
    if len(heap) < size:
        heappush(heap, row)
    elif heap:
        heappushpop(heap, row)
