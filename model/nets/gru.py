"""The interest extractor: a GRU over the history (DIEN, section 4.2), and the weights that every gated layer has.

U users, L history, E width, H hidden, G gates' rows: 3H (r, u, c), or 2H (r, c) in AGRU.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.nets.recurrence import gated_recurrence


class Gates(nn.Module):
    """Weights and biases of `gates` gates, drawn as torch draws those of its GRU, and the loop that runs over them.

    The two biases are parameters of their own: that of the candidate state's recurrent part is scaled by the reset
    gate, that of its input is not. In the other gates only their sum counts.
    """

    def __init__(self, width: int, hidden: int, *, recurrence: Callable[..., Tensor], gates: int = 3) -> None:
        super().__init__()
        shapes = {"input_weight": (width,), "hidden_weight": (hidden,), "input_bias": (), "hidden_bias": ()}
        for name, columns in shapes.items():
            drawn = torch.empty(gates * hidden, *columns).uniform_(-(hidden**-0.5), hidden**-0.5)
            self.register_parameter(name, nn.Parameter(drawn))
        self.input_weight: Tensor
        self.hidden_weight: Tensor
        self.input_bias: Tensor
        self.hidden_bias: Tensor
        # Export puts an operator here whose loop stays a loop: a Python loop would be unrolled at the example's length.
        self.recurrence = recurrence


class Gru(Gates):
    """One layer, oldest behavior first, from a zero state."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, recurrence=gru_recurrence)

    def forward(self, x_ULE: Tensor) -> Tensor:
        """The state after each position, [U, L, H]."""
        weights = self.input_weight, self.hidden_weight, self.input_bias, self.hidden_bias
        return self.recurrence(x_ULE, *weights)


def gru_recurrence(
    x_ULE: Tensor, weight_GE: Tensor, weight_GH: Tensor, input_bias_G: Tensor, hidden_bias_G: Tensor
) -> Tensor:
    """h <- (1 - u) h + u c as in the paper (eq. 2-5; torch's own GRU swaps u and 1 - u): [U, L, E] -> [U, L, H]."""
    inputs_ULG = nn.functional.linear(x_ULE, weight_GE, input_bias_G)
    always_U1L = x_ULE.new_ones(x_ULE.shape[0], 1, x_ULE.shape[1])
    states_LU1H = gated_recurrence(inputs_ULG, always_U1L, weight_GH, hidden_bias_G)
    return states_LU1H[:, :, 0].transpose(0, 1)
