"""`aigru`: attention scales the input of the second GRU (DIEN, section 4.3).

    r = sigmoid(a x_r + b_r + U_r h),  u = sigmoid(a x_u + b_u + U_u h),  c = tanh(a x_c + b_c + r * (U_c h + d_c))
    h <- h + m u (c - h)

W (a i) = a (W i), so x = W i stays in the user half. An input of 0 still changes a GRU's state, as the paper says; the
mask m keeps padding out. U users, C candidates, L history, H hidden, G = 3H the gates (r, u, c).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.bundle.schema import Schema
from model.nets.gru import Gates
from model.nets.interest import InterestConfig, InterestNet
from model.nets.recurrence import gated_recurrence


class AigruConfig(InterestConfig):
    """Settings of `aigru`."""


class Aigru(InterestNet):
    """GRU, attention, and a second GRU over the attended states."""

    def __init__(self, config: AigruConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__(config, schema, sizes, evolution=AttendedInputGru)


class AttendedInputGru(Gates):
    """A GRU over inputs times attention. `inputs` belongs to the user half, `forward` to the candidate half."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, recurrence=aigru_recurrence)

    def inputs(self, interest_ULH: Tensor) -> Tensor:
        """The gates' share of each step's input before attention and bias, [U, L, G]."""
        return nn.functional.linear(interest_ULH, self.input_weight)

    def forward(self, inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor) -> Tensor:
        """The final state of every candidate, [U, C, H]."""
        bias_2G = torch.stack([self.input_bias, self.hidden_bias])
        return self.recurrence(inputs_ULG, attention_UCL, mask_UL, self.hidden_weight, bias_2G)


def aigru_recurrence(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_2G: Tensor
) -> Tensor:
    """The loop over L: gate inputs [U, L, G], attention [U, C, L], mask [U, L] -> final state [U, C, H].

    Every candidate has inputs of its own here, as if it were a user; the exported loops scale them step by step.
    """
    return aigru_states(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_2G)[-1]


def aigru_states(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_2G: Tensor
) -> Tensor:
    """The states after each step of that loop, [L, U, C, H]."""
    U, C, L = attention_UCL.shape
    inputs_UCLG = attention_UCL[..., None] * inputs_ULG[:, None] + bias_2G[0]
    always_N1L = mask_UL[:, None].expand(U, C, L).reshape(U * C, 1, L)
    states_LN1H = gated_recurrence(inputs_UCLG.flatten(0, 1), always_N1L, weight_GH, bias_2G[1])
    return states_LN1H.view(L, U, C, weight_GH.shape[1])
