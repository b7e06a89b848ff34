"""`gru_gru`: two GRUs and attention on the states of the second (DIEN, section 5.3, "Two layer GRU Attention").

The public code calls it `Model_DIN_V2_Gru_Gru_att`. Nothing recurrent depends on the candidate. The other order, with
attention between the GRUs, is `aigru`.
"""

from collections.abc import Mapping

from model.bundle.schema import Schema
from model.nets.interest import AttendedSum, InterestConfig, InterestNet


class GruGruConfig(InterestConfig):
    """Settings of `gru_gru`."""


class GruGru(InterestNet):
    """Two GRUs, then the attended sum of the second's states; these are the auxiliary loss's interest states too."""

    def __init__(self, config: GruGruConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__(config, schema, sizes, evolution=lambda width, hidden: AttendedSum(), extractors=2)
