"""One file configures a run: where the log is, which features it has, which net, how to train."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema, schema_from_table
from model.bundle.typed_table import from_table
from model.calibration import CalibrationConfig
from model.data.log import DataConfig
from model.nets import check_net_table
from model.pretrained import PretrainedConfig
from model.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, checked. `net` is `{"kind": ..., ...settings}`; relative paths start at `base`."""

    name: str
    data: DataConfig
    schema: Schema
    net: Mapping[str, Any]
    train: TrainConfig
    calibration: CalibrationConfig = dataclasses.field(default_factory=CalibrationConfig)
    pretrained: tuple[PretrainedConfig, ...] = ()
    base: Path

    def with_net(self, kind: str) -> "RunConfig":
        """The same run with another net, which keeps the settings of the configured one that it has too."""
        if kind == self.net["kind"]:
            return self
        known = vars(check_net_table({"kind": kind}, file="--net"))
        shared = {name: value for name, value in self.net.items() if name in known}
        return dataclasses.replace(self, net={"kind": kind, **shared})


@dataclass(frozen=True, kw_only=True)
class _File:
    """The sections of the file."""

    name: str
    data: DataConfig
    schema: dict[str, Any]
    net: dict[str, Any]
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    calibration: CalibrationConfig = dataclasses.field(default_factory=CalibrationConfig)
    pretrained: tuple[PretrainedConfig, ...] = ()


def read_config(path: Path) -> RunConfig:
    """Read and check a TOML file. Raises ConfigError naming the file, the key, what was found and what is allowed."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(file=str(path), key="(file)", found=error.strerror, allowed="a readable file") from error
    except ValueError as error:
        raise ConfigError(file=str(path), key="(syntax)", found=str(error), allowed="TOML") from error
    file = from_table(_File, table, file=str(path))
    check_net_table(file.net, file=str(path))
    schema = schema_from_table(file.schema, file=str(path))
    if not schema.behavior:
        raise ConfigError(file=str(path), key="schema.behavior", found="no sequence", allowed="at least one")
    return RunConfig(
        name=file.name,
        data=file.data,
        schema=schema,
        net=file.net,
        train=file.train,
        calibration=file.calibration,
        pretrained=file.pretrained,
        base=path.parent,
    )
