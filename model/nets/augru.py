"""AUGRU: a GRU whose update gate is scaled by attention (DIEN, section 4.3.2, eq. 14-16).

    r = sigmoid(x_r + U_r h),  u = sigmoid(x_u + U_u h),  c = tanh(x_c + r * (U_c h))
    u' = a u,                  h <- (1 - u') h + u' c

x = W i + b does not depend on the candidate, so it is computed once per user. Where a = 0 (padding, or an irrelevant
behavior) the state stays as it is, so neither padding nor an empty history needs a branch.

Shapes: U users, C candidates, L history, H hidden, G = 3H the gates (r, u, c).
"""

from collections.abc import Callable

from torch import Tensor, nn

from model.nets.recurrence import gated_recurrence


class Augru(nn.Module):
    """Interest evolution. `inputs` belongs to the user half, `forward` to the candidate half."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        cell = nn.GRUCell(width, hidden)  # for its initialisation
        self.input_weight = nn.Parameter(cell.weight_ih.detach().clone())
        self.input_bias = nn.Parameter(cell.bias_ih.detach().clone())
        self.hidden_weight = nn.Parameter(cell.weight_hh.detach().clone())
        self.hidden_bias = nn.Parameter(cell.bias_hh.detach().clone())
        # Export puts an operator here whose loop stays a loop: a Python loop would be unrolled at the example's length.
        self.recurrence: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = augru_recurrence

    def inputs(self, interest_ULH: Tensor) -> Tensor:
        """The gates' share of each step's input, [U, L, G]."""
        return nn.functional.linear(interest_ULH, self.input_weight, self.input_bias)

    def forward(self, inputs_ULG: Tensor, attention_UCL: Tensor) -> Tensor:
        """The final state of every candidate, [U, C, H]."""
        return self.recurrence(inputs_ULG, attention_UCL, self.hidden_weight, self.hidden_bias)


def augru_recurrence(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    """The loop over L: gate inputs [U, L, G], attention [U, C, L] -> final state [U, C, H]."""
    U, C, _ = attention_UCL.shape
    if attention_UCL.shape[2] == 0:
        return inputs_ULG.new_zeros(U, C, weight_GH.shape[1])
    return gated_recurrence(inputs_ULG, attention_UCL, weight_GH, bias_G)[-1]
