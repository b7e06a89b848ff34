"""`din_gru`: DIN over the states of a GRU instead of the behaviors themselves: attention after the extractor."""

from collections.abc import Mapping

from model.bundle.schema import Schema
from model.nets.interest import AttendedSum, InterestConfig, InterestNet


class DinGruConfig(InterestConfig):
    """Settings of `din_gru`."""


class DinGru(InterestNet):
    """GRU, then the attended sum of its states."""

    def __init__(self, config: DinGruConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__(config, schema, sizes, evolution=lambda width, hidden: AttendedSum())
