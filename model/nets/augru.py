"""AUGRU: a GRU whose update gate is scaled by attention (DIEN, section 4.3.2, eq. 14-16).

    r = sigmoid(x_r + U_r h),  u = sigmoid(x_u + U_u h),  c = tanh(x_c + r * (U_c h))
    paper:   h <- h + a u (c - h)
    public:  h <- h + (1 - (1 - a)(1 - u)) (c - h)

x = W i + b does not depend on the candidate, so it is computed once per user. In the paper's form the state stays as it
is where a = 0 (padding, or an irrelevant behavior), so neither padding nor an empty history needs a branch. The public
code's `VecAttGRUCell` has u <- (1 - a) u, h <- u h + (1 - u) c; with its u called 1 - u that is the line above, and an
irrelevant behavior still changes the state. Only the mask keeps padding out.

Shapes: U users, C candidates, L history, H hidden, G = 3H the gates (r, u, c).
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from model.nets.gru import Gates
from model.nets.recurrence import gated_recurrence

Update = Literal["paper", "public"]


class Augru(Gates):
    """Interest evolution. `inputs` belongs to the user half, `forward` to the candidate half."""

    def __init__(self, width: int, hidden: int, *, update: Update = "paper") -> None:
        super().__init__(width, hidden, recurrence=augru_recurrence if update == "paper" else public_recurrence)
        self.update = update

    def inputs(self, interest_ULH: Tensor) -> Tensor:
        """The gates' share of each step's input, [U, L, G]."""
        return nn.functional.linear(interest_ULH, self.input_weight, self.input_bias)

    def forward(self, inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor) -> Tensor:
        """The final state of every candidate, [U, C, H]."""
        mask = () if self.update == "paper" else (mask_UL,)
        return self.recurrence(inputs_ULG, attention_UCL, *mask, self.loop_weight(), self.loop_bias())

    def loop_weight(self) -> Tensor:
        """The recurrent weights [G, H]."""
        return self.hidden_weight

    def loop_bias(self) -> Tensor:
        """The recurrent biases [G]."""
        return self.hidden_bias


def augru_recurrence(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    """The paper's loop over L: gate inputs [U, L, G], attention [U, C, L] -> final state [U, C, H]."""
    U, C, _ = attention_UCL.shape
    if attention_UCL.shape[2] == 0:
        return inputs_ULG.new_zeros(U, C, weight_GH.shape[1])
    return gated_recurrence(inputs_ULG, attention_UCL, weight_GH, bias_G)[-1]


def public_recurrence(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor
) -> Tensor:
    """The public code's loop over L: gate inputs [U, L, G], attention [U, C, L], mask [U, L] -> final state [U, C, H].

    Attention is 0 where the mask is.
    """
    h = inputs_ULG.new_zeros(*attention_UCL.shape[:2], weight_GH.shape[1])
    for state in public_states(inputs_ULG, attention_UCL, mask_UL, weight_GH, bias_G):
        h = state
    return h


def public_states(
    inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor, weight_GH: Tensor, bias_G: Tensor
) -> Iterator[Tensor]:
    """The state [U, C, H] after each step of that loop."""
    U, C, L = attention_UCL.shape
    H = weight_GH.shape[1]
    rest_UCL = mask_UL[:, None] - attention_UCL
    h = inputs_ULG.new_zeros(U, C, H)
    for t in range(L):
        x, g = inputs_ULG[:, t, None, :], nn.functional.linear(h, weight_GH, bias_G)
        r, u = torch.sigmoid(x[..., : 2 * H] + g[..., : 2 * H]).chunk(2, dim=-1)
        c = torch.tanh(x[..., 2 * H :] + r * g[..., 2 * H :])
        h = h + (attention_UCL[:, :, t, None] + rest_UCL[:, :, t, None] * u) * (c - h)
        yield h
