"""`agru`: attention replaces the update gate of the second GRU (DIEN, section 4.3).

    r = sigmoid(x_r + U_r h),  c = tanh(x_c + r * (U_c h)),  h <- h + a (c - h)

That is AUGRU with the update gate wide open, and it runs on AUGRU's loop: one constant instead of the gate, and no
kernel of its own. U users, C candidates, L history, H hidden, G = 3H the gates (r, u, c).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.bundle.schema import Schema
from model.nets.augru import augru_recurrence
from model.nets.gru import Gates
from model.nets.interest import InterestConfig, InterestNet

_OPEN = 30.0  # sigmoid(30) is 1 in float32


class AgruConfig(InterestConfig):
    """Settings of `agru`."""


class Agru(InterestNet):
    """GRU, attention, and a second GRU that moves as far as the attention says."""

    def __init__(self, config: AgruConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__(config, schema, sizes, evolution=AttendedUpdateGru)


class AttendedUpdateGru(Gates):
    """Two gates (r, c). `inputs` belongs to the user half, `forward` to the candidate half."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, recurrence=augru_recurrence, gates=2)
        self.hidden = hidden

    def inputs(self, interest_ULH: Tensor) -> Tensor:
        """The gates' share of each step's input, [U, L, G]."""
        r_ULH, c_ULH = nn.functional.linear(interest_ULH, self.input_weight, self.input_bias).chunk(2, dim=-1)
        return torch.cat([r_ULH, torch.full_like(r_ULH, _OPEN), c_ULH], dim=-1)

    def forward(self, inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor) -> Tensor:
        """The final state of every candidate, [U, C, H]."""
        return self.recurrence(inputs_ULG, attention_UCL, self.loop_weight(), self.loop_bias())

    def loop_weight(self) -> Tensor:
        """The recurrent weights [G, H] as AUGRU's loop takes them."""
        return _opened(self.hidden_weight, self.hidden)

    def loop_bias(self) -> Tensor:
        """The recurrent biases [G] as AUGRU's loop takes them."""
        return _opened(self.hidden_bias, self.hidden)


def _opened(gates: Tensor, hidden: int) -> Tensor:
    """Rows (r, c) as (r, u, c); the state has no say in u."""
    r, c = gates[:hidden], gates[hidden:]
    return torch.cat([r, torch.zeros_like(r), c])
