"""The interest extractor: a GRU over the history (DIEN, section 4.2).

U users, L history, E width, H hidden, G = 3H gates.
"""

from collections.abc import Callable

from torch import Tensor, nn

from model.nets.recurrence import gated_recurrence


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
    """h <- (1 - u) h + u c as in the paper (eq. 2-5; torch's own GRU swaps u and 1 - u): [U, L, E] -> [U, L, H]."""
    inputs_ULG = nn.functional.linear(x_ULE, weight_GE, input_bias_G)
    always_U1L = x_ULE.new_ones(x_ULE.shape[0], 1, x_ULE.shape[1])
    states_LU1H = gated_recurrence(inputs_ULG, always_U1L, weight_GH, hidden_bias_G)
    return states_LU1H[:, :, 0].transpose(0, 1)
