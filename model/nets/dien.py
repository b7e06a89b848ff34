"""`dien`: Deep Interest Evolution Network (Zhou et al., AAAI 2019): AUGRU and the auxiliary loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from model.bundle.schema import Schema
from model.bundle.typed_table import setting
from model.nets.augru import Augru, Update
from model.nets.interest import InterestConfig, InterestNet


@dataclass(frozen=True, kw_only=True)
class DienConfig(InterestConfig):
    """Settings of `dien`."""

    auxiliary_alpha: float = setting(0.5, low=0.0)  # the auxiliary loss is a part of this net
    augru: Update = "paper"


class Dien(InterestNet):
    """GRU, attention, and a second GRU whose update gate the attention scales."""

    def __init__(self, config: DienConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__(config, schema, sizes, evolution=partial(Augru, update=config.augru))
