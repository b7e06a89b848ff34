"""The nets by name. A net is only a net: tensors in, logits out (STYLE C11)."""

from collections.abc import Mapping

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.bundle.typed_table import from_table
from model.nets.base import Base, BaseConfig
from model.nets.dien import Dien, DienConfig
from model.nets.din import Din, DinConfig

Net = Base | Din | Dien
NetConfig = BaseConfig | DinConfig | DienConfig

NETS: Mapping[str, tuple[type, type]] = {
    "base": (BaseConfig, Base),
    "din": (DinConfig, Din),
    "dien": (DienConfig, Dien),
}


def check_net_table(table: Mapping[str, object], *, file: str) -> NetConfig:
    """The typed configuration of `{"kind": ..., ...}`. Raises ConfigError naming `file` and the key at fault."""
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in NETS:
        raise ConfigError(file=file, key="net.kind", found=kind, allowed="one of " + ", ".join(NETS))
    settings = {name: value for name, value in table.items() if name != "kind"}
    config: NetConfig = from_table(NETS[kind][0], settings, file=file, key="net")
    for name, sizes in vars(config).items():
        if isinstance(sizes, tuple) and (not sizes or min(sizes) < 1):
            raise ConfigError(file=file, key=f"net.{name}", found=list(sizes), allowed="layer sizes, one or more, >= 1")
    return config


def build_net(table: Mapping[str, object], schema: Schema, sizes: Mapping[str, int], *, file: str) -> Net:
    """The net that `{"kind": ..., ...}` describes, freshly initialised from torch's global generator."""
    if not schema.behavior:
        raise ConfigError(file=file, key="schema.behavior", found="no sequence", allowed="at least one")
    config = check_net_table(table, file=file)
    net: Net = NETS[str(table["kind"])][1](config, schema, sizes)
    return net
