"""The nets by name. A net is only a net: tensors in, logits out (STYLE C11)."""

from collections.abc import Callable, Mapping
from typing import Any

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.bundle.typed_table import from_table
from model.nets.agru import Agru, AgruConfig
from model.nets.aigru import Aigru, AigruConfig
from model.nets.base import Base, BaseConfig
from model.nets.dien import Dien, DienConfig
from model.nets.din import Din, DinConfig
from model.nets.din_gru import DinGru, DinGruConfig
from model.nets.frame import FrameConfig
from model.nets.gru_gru import GruGru, GruGruConfig
from model.nets.interest import InterestNet
from model.nets.pnn import Pnn, PnnConfig
from model.nets.wide_deep import WideDeep, WideDeepConfig

Net = Base | WideDeep | Pnn | Din | InterestNet

# `Any`: each net takes its own configuration.
NETS: Mapping[str, tuple[type[FrameConfig], Callable[[Any, Schema, Mapping[str, int]], Net]]] = {
    "base": (BaseConfig, Base),
    "wide_deep": (WideDeepConfig, WideDeep),
    "pnn": (PnnConfig, Pnn),
    "din": (DinConfig, Din),
    "din_gru": (DinGruConfig, DinGru),
    "gru_gru": (GruGruConfig, GruGru),
    "aigru": (AigruConfig, Aigru),
    "agru": (AgruConfig, Agru),
    "dien": (DienConfig, Dien),
}


def check_net_table(table: Mapping[str, object], *, file: str) -> FrameConfig:
    """The typed configuration of `{"kind": ..., ...}`. Raises ConfigError naming `file` and the key at fault."""
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in NETS:
        raise ConfigError(file=file, key="net.kind", found=kind, allowed="one of " + ", ".join(NETS))
    return check_settings(kind, {name: value for name, value in table.items() if name != "kind"}, file=file)


def check_settings(kind: str, settings: object, *, file: str, key: str = "net") -> FrameConfig:
    """The typed configuration of a net of that kind, of NETS. Raises ConfigError naming `file` and the key at fault."""
    if not isinstance(settings, Mapping):
        raise ConfigError(file=file, key=key, found=settings, allowed="a table of settings")
    config = from_table(NETS[kind][0], settings, file=file, key=key)
    for name, sizes in vars(config).items():
        if isinstance(sizes, tuple) and (not sizes or min(sizes) < 1):
            raise ConfigError(
                file=file, key=f"{key}.{name}", found=list(sizes), allowed="layer sizes, one or more, >= 1"
            )
    return config


def build_net(table: Mapping[str, object], schema: Schema, sizes: Mapping[str, int], *, file: str) -> Net:
    """The net that `{"kind": ..., ...}` describes, freshly initialised from torch's global generator."""
    if not schema.behavior:
        raise ConfigError(file=file, key="schema.behavior", found="no sequence", allowed="at least one")
    config = check_net_table(table, file=file)
    return NETS[str(table["kind"])][1](config, schema, sizes)
