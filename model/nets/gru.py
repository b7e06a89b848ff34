"""The interest extractor: a GRU over the history (DIEN, section 4.2).

U users, L history, E width, H hidden, G = 3H gates.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Gru(nn.Module):
    """One layer, oldest behavior first, from a zero state."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        cell = nn.GRUCell(width, hidden)  # for its initialisation
        self.input_weight = nn.Parameter(cell.weight_ih.detach().clone())
        self.input_bias = nn.Parameter(cell.bias_ih.detach().clone())
        self.hidden_weight = nn.Parameter(cell.weight_hh.detach().clone())
        self.hidden_bias = nn.Parameter(cell.bias_hh.detach().clone())
        # Export puts an operator here: tracing torch's own GRU fixes the history length now and then.
        self.recurrence: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = gru_recurrence

    def forward(self, x_ULE: Tensor) -> Tensor:
        """The state after each position, [U, L, H]."""
        weights = self.input_weight, self.hidden_weight, self.input_bias, self.hidden_bias
        return self.recurrence(x_ULE, *weights)


def gru_recurrence(
    x_ULE: Tensor, weight_GE: Tensor, weight_GH: Tensor, input_bias_G: Tensor, hidden_bias_G: Tensor
) -> Tensor:
    """torch's GRU on explicit weights, gates in its order (r, u, c): [U, L, E] -> [U, L, H]."""
    start_1UH = x_ULE.new_zeros(1, x_ULE.shape[0], weight_GH.shape[1])
    weights = [weight_GE, weight_GH, input_bias_G, hidden_bias_G]
    state_ULH, _ = torch.gru(x_ULE, start_1UH, weights, True, 1, 0.0, False, False, True)
    return state_ULH
