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
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from model.bundle.errors import ConfigError
from model.bundle.folder import read_bundle
from model.bundle.manifest import MANIFEST
from model.bundle.schema import Schema
from model.bundle_weights import WEIGHTS, read_weights
from model.config import RunConfig
from model.data.known import Known, nothing_new, utc
from model.data.log import Log
from model.nets import Net, check_net_table
from model.run_folder import load_run


@dataclass(frozen=True, kw_only=True)
class Parent(Known):
    """What training goes on from."""

    net: Mapping[str, Any]  # Any: TOML values
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor] | None = None  # of its optimiser, where they were kept

    @property
    def known(self) -> Known:
        """All but the net, which needs not be held while a log is prepared."""
        return Known(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Known)})


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
    nets = [{"kind": net["kind"], **vars(check_net_table(net, file="net"))} for net in (parent.net, config.net)]
    before, now = (
        {"schema": schema.to_table(), "net": net}
        for schema, net in zip((parent.encoder.schema, config.schema), nets, strict=True)
    )
    _check_alike(before, now)


def check_schema(known: Known, schema: Schema) -> None:
    """As `check_parent`, of the schema alone."""
    _check_alike({"schema": known.encoder.schema.to_table()}, {"schema": schema.to_table()})


def newer(log: Log, parent: Parent, *, timestamp: str) -> Log:
    """The log with those training rows alone that the parent has not trained on. Raises ConfigError if none is left."""
    train = log.train.filter(pl.col(timestamp) > parent.last)
    if not len(train):
        newest = "none" if not len(log.train) else utc(int(log.train[timestamp].max()))  # type: ignore[arg-type]  # polars types a max by the column
        raise nothing_new(parent, found=f"newest {newest}", key=f"column {timestamp}")
    return dataclasses.replace(log, train=train)


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


def _check_alike(parent: Mapping[str, Any], config: Mapping[str, Any]) -> None:  # Any: TOML values
    before, now = _flat(_indexed(parent)), _flat(_indexed(config))
    for key in sorted({*before, *now}, key=lambda key: (key != "net.kind", key)):
        if before.get(key) != now.get(key):
            allowed = f"{before.get(key)!r}, as in the parent; a net that is trained anew may have another"
            raise ConfigError(file="config", key=key, found=now.get(key), allowed=allowed)


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
