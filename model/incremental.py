"""Training that goes on from an earlier run or bundle on newer days of log.

    parent's vocabularies + ids that only the new rows have, behind them --> encoder
    parent's weights, tables with a fresh row for each new id            --> net, which is then trained as any other

So an old id keeps its index and its row. What was fitted to the numbers (means, bucket edges) stays as the weights know
it. The calibration is fitted anew, on the newest validation rows.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.bundle.catalogue import Catalogue
from model.bundle.encode import Encoder
from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.bundle.manifest import MANIFEST
from model.bundle.raw import Lists
from model.bundle.vocabulary import IdIndex, Vocabulary
from model.bundle_weights import WEIGHTS, read_weights
from model.config import RunConfig
from model.data.log import Log
from model.data.ragged import slices
from model.nets import Net, check_net_table
from model.run_folder import load_run


@dataclass(frozen=True, kw_only=True)
class Parent:
    """What training goes on from."""

    name: str
    version: str | None  # None of a run
    digest: str  # SHA-256 of a bundle's manifest, or of a run's weights
    net: Mapping[str, Any]  # Any: TOML values
    encoder: Encoder
    prior_ctr: NDArray[np.float32]
    weights: Mapping[str, Tensor]
    last: int  # time of its newest training row, in seconds

    def to_table(self) -> dict[str, str | None]:
        """What the child's manifest says about it."""
        return {"name": self.name, "version": self.version, "digest": self.digest}


def read_parent(path: Path) -> Parent:
    """The run, or the bundle that `path` is or points to. Raises ConfigError or BundleError naming the file."""
    if (path / "config.json").is_file():
        run = load_run(path)
        return Parent(
            name=run.config["name"],
            version=None,
            digest=hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest(),
            net=run.config["net"],
            encoder=run.encoder,
            prior_ctr=run.prior_ctr,
            weights=run.net.state_dict(),
            last=_last(run.metrics, file=str(path / "metrics.json")),
        )
    bundle = read_bundle(path)
    manifest = bundle.manifest
    return Parent(
        name=manifest.name,
        version=manifest.version,
        digest=hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
        net=manifest.net,
        encoder=bundle.encoder,
        prior_ctr=bundle.prior_ctr,
        weights=read_weights(bundle),
        last=_last(manifest.training, file=str(bundle.path / MANIFEST)),
    )


def check_parent(parent: Parent, config: RunConfig) -> None:
    """Raises ConfigError naming the first key of schema or net in which the configuration differs from the parent."""
    tables = [
        {"schema": schema.to_table(), "net": {"kind": net["kind"], **vars(check_net_table(net, file="net"))}}
        for schema, net in ((parent.encoder.schema, parent.net), (config.schema, config.net))
    ]
    before, now = (_flat(_indexed(table)) for table in tables)
    for key in sorted({*before, *now}, key=lambda key: (key != "net.kind", key)):
        if before.get(key) != now.get(key):
            allowed = f"{before.get(key)!r}, as in the parent; a net that is trained anew may have another"
            raise ConfigError(file="config", key=key, found=now.get(key), allowed=allowed)


def newer(log: Log, parent: Parent, *, timestamp: str) -> Log:
    """The log with those training rows alone that the parent has not trained on. Raises ConfigError if none is left."""
    train = log.train.filter(pl.col(timestamp) > parent.last)
    if not len(train):
        newest = "none" if not len(log.train) else _utc(int(log.train[timestamp].max()))  # type: ignore[arg-type]  # polars types a max by the column
        allowed = f"training rows after {_utc(parent.last)}, the newest that the parent knows"
        raise ConfigError(file="the log", key=f"column {timestamp}", found=f"newest {newest}", allowed=allowed)
    return dataclasses.replace(log, train=train)


def extended(parent: Encoder, fresh: Encoder) -> Encoder:
    """The parent's encoder that knows the ids and the items of `fresh` too, which was fitted on the new rows."""
    vocabularies = {n: _with_new(index, fresh.vocabularies[n]) for n, index in parent.vocabularies.items()}
    catalogue = _merged(parent.catalogue, fresh.catalogue)
    return Encoder(parent.schema, vocabularies, scalings=parent.scalings, catalogue=catalogue)


def go_on(net: Net, parent: Parent) -> None:
    """Give the net the parent's weights, in place; rows of ids that the parent does not know stay as they are.

    Raises ConfigError for weights that are not those of such a net.
    """
    state = net.state_dict()
    if state.keys() != parent.weights.keys():
        differ = sorted(state.keys() ^ parent.weights.keys())
        raise ConfigError(file=WEIGHTS, key="(names)", found=differ[:3], allowed="the weights of this net")
    with torch.no_grad():
        for name, weight in state.items():
            before = parent.weights[name]
            rows = len(before) if before.dim() else 0
            if before.shape == weight.shape:
                weight.copy_(before)
            elif before.shape[1:] == weight.shape[1:] and 0 < rows < len(weight):
                weight[:rows] = before
            else:
                shapes = list(before.shape), list(weight.shape)
                raise ConfigError(file=WEIGHTS, key=name, found=shapes[0], allowed=f"{shapes[1]}, or fewer rows")


def _with_new(index: IdIndex, fresh: IdIndex) -> IdIndex:
    """The index of before with the new ids behind; hash buckets know every id already."""
    if not isinstance(index, Vocabulary) or not isinstance(fresh, Vocabulary):
        return index
    new = fresh.keys[~np.isin(fresh.keys, index.keys)]
    return Vocabulary(np.concatenate([index.keys, new.astype(fresh.keys.dtype)]) if len(new) else index.keys)


def _merged(before: Catalogue, fresh: Catalogue) -> Catalogue:
    """Every item of both; what `fresh` says of an item counts."""
    old = np.flatnonzero(~np.isin(before.ids, fresh.ids))
    columns = {name: _joined(column, before.columns[name], old) for name, column in fresh.columns.items()}
    return Catalogue(ids=np.concatenate([fresh.ids, before.ids[old]]), columns=columns)


def _joined(
    fresh: NDArray[np.generic] | Lists, before: NDArray[np.generic] | Lists, old: NDArray[np.int64]
) -> NDArray[np.generic] | Lists:
    """`fresh` and behind it the rows `old` of `before`, a column of the same kind."""
    if not isinstance(fresh, Lists) or not isinstance(before, Lists):
        return np.concatenate([fresh, before[old]])  # type: ignore[index]  # both are arrays
    starts = np.cumsum(before.lengths) - before.lengths
    kept = np.asarray(before.values)[slices(starts[old], before.lengths[old])]
    values = np.concatenate([np.asarray(fresh.values), kept]) if len(kept) else np.asarray(fresh.values)
    return Lists(values=values, lengths=np.concatenate([fresh.lengths, before.lengths[old]]))


def _last(table: Mapping[str, Any], *, file: str) -> int:  # Any: JSON
    try:
        return int(table["window"]["last"])
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigError(file=file, key="window.last", found=None, allowed="the time of the newest row") from error


def _indexed(value: Any) -> Any:  # noqa: ANN401  # JSON
    """Lists of tables as tables, so that a key inside one has a name."""
    if isinstance(value, dict):
        return {key: _indexed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(inner, dict) for inner in value):
        return {f"[{i}]": _indexed(inner) for i, inner in enumerate(value)}
    return list(value) if isinstance(value, tuple) else value


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:  # Any: JSON
    out: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}" if not prefix or key.startswith("[") else f"{prefix}.{key}"
        out |= _flat(value, name) if isinstance(value, Mapping) else {name: value}
    return out


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
