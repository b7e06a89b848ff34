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
from model.nets import NETS, check_net_table, check_settings
from model.pretrained import PretrainedConfig
from model.track_config import TrackConfig
from model.train_config import TrainConfig
from model.tune_config import TuneConfig


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, checked. `net` is `{"kind": ..., ...settings}`, `nets` what some kinds have besides; relative paths start
    at `base`.
    """

    name: str
    data: DataConfig
    schema: Schema
    net: Mapping[str, Any]
    train: TrainConfig
    calibration: CalibrationConfig = dataclasses.field(default_factory=CalibrationConfig)
    pretrained: tuple[PretrainedConfig, ...] = ()
    base: Path
    nets: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    tune: TuneConfig = dataclasses.field(default_factory=TuneConfig)
    track: TrackConfig = dataclasses.field(default_factory=TrackConfig)

    def with_net(self, kind: str) -> "RunConfig":
        """The same run with another net: the settings of the configured one that it has too, and its own of `nets`."""
        if kind == self.net["kind"]:
            return self
        known = vars(check_net_table({"kind": kind}, file="--net"))
        alone = self.nets.get(self.net["kind"], {})
        shared = {name: value for name, value in self.net.items() if name in known and name not in alone}
        return dataclasses.replace(self, net={"kind": kind, **shared, **self.nets.get(kind, {})})


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
    tune: TuneConfig = dataclasses.field(default_factory=TuneConfig)
    track: TrackConfig = dataclasses.field(default_factory=TrackConfig)


def read_config(path: Path) -> RunConfig:
    """Read and check a TOML file. Raises ConfigError naming the file, the key, what was found and what is allowed."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(file=str(path), key="(file)", found=error.strerror, allowed="a readable file") from error
    except ValueError as error:
        raise ConfigError(file=str(path), key="(syntax)", found=str(error), allowed="TOML") from error
    return config_from_table(table, file=str(path), base=path.parent)


def config_from_table(table: Mapping[str, Any], *, file: str, base: Path) -> RunConfig:
    """Check what a TOML file holds (`Any`: TOML values). Raises ConfigError as `read_config`, which names `file`."""
    checked = from_table(_File, table, file=file)
    nets = {name: settings for name, settings in checked.net.items() if name in NETS}
    for name, settings in nets.items():
        check_settings(name, settings, file=file, key=f"net.{name}")
    net = {name: value for name, value in checked.net.items() if name not in nets}
    check_net_table(net, file=file)
    schema = schema_from_table(checked.schema, file=file)
    if not schema.behavior:
        raise ConfigError(file=file, key="schema.behavior", found="no sequence", allowed="at least one")
    return RunConfig(
        name=checked.name,
        data=checked.data,
        schema=schema,
        net={**net, **nets.get(net["kind"], {})},
        nets=nets,
        train=checked.train,
        calibration=checked.calibration,
        pretrained=checked.pretrained,
        tune=checked.tune,
        track=checked.track,
        base=base,
    )
