"""Adam and Adagrad that touch only the rows that have a gradient. R rows of a table, T touched ones, E width.

A table of millions of rows is then neither read nor written as a whole in a step, and its gradient is never made dense.
A row's moments stand still while it is not touched ("lazy" Adam, as torch.optim.SparseAdam and TensorFlow's LazyAdam).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

_BETA2, _ADAM_EPS = 0.999, 1e-8  # Adam's defaults (Kingma and Ba 2015, algorithm 1)
_ADAGRAD_EPS = 1e-10  # torch.optim.Adagrad's


class RowAdam:
    """Adam on the touched rows, with the number of steps so far in the bias correction, as torch.optim.SparseAdam.

    With `beta1` 0 the first moment is the gradient itself and takes no memory.
    """

    def __init__(self, weight_RE: Tensor, *, beta1: float) -> None:
        self.weight_RE, self.beta1 = weight_RE.detach(), beta1
        self.moments = {"second": torch.zeros_like(self.weight_RE)}
        if beta1:
            self.moments["first"] = torch.zeros_like(self.weight_RE)
        self.steps = 0

    def step(self, rows_T: Tensor, gradient_TE: Tensor, *, rate: float) -> None:
        """Move the rows, each named once. `gradient_TE` is consumed."""
        self.steps += 1
        second_TE = self.moments["second"].index_select(0, rows_T)
        second_TE.mul_(_BETA2).addcmul_(gradient_TE, gradient_TE, value=1 - _BETA2)
        self.moments["second"].index_copy_(0, rows_T, second_TE)
        move_TE = gradient_TE
        if self.beta1:
            move_TE = self.moments["first"].index_select(0, rows_T).lerp_(gradient_TE, 1 - self.beta1)
            self.moments["first"].index_copy_(0, rows_T, move_TE)
        rate = rate * (1 - _BETA2**self.steps) ** 0.5 / (1 - self.beta1**self.steps)
        self.weight_RE.index_add_(0, rows_T, move_TE.div_(second_TE.sqrt_().add_(_ADAM_EPS)), alpha=-rate)

    def restore(self, moments: Mapping[str, Tensor], *, steps: int) -> None:
        """Go on from the moments and the step count of another one."""
        _copy_all(self.moments, moments)
        self.steps = steps


class RowAdagrad:
    """Adagrad (Duchi et al. 2011) on the touched rows; exact, because an untouched row has nothing to do."""

    def __init__(self, weight_RE: Tensor) -> None:
        self.weight_RE = weight_RE.detach()
        self.moments = {"second": torch.zeros_like(self.weight_RE)}
        self.steps = 0

    def step(self, rows_T: Tensor, gradient_TE: Tensor, *, rate: float) -> None:
        """Move the rows, each named once. `gradient_TE` is consumed."""
        self.steps += 1
        sum_TE = self.moments["second"].index_select(0, rows_T).addcmul_(gradient_TE, gradient_TE)
        self.moments["second"].index_copy_(0, rows_T, sum_TE)
        self.weight_RE.index_add_(0, rows_T, gradient_TE.div_(sum_TE.sqrt_().add_(_ADAGRAD_EPS)), alpha=-rate)

    def restore(self, moments: Mapping[str, Tensor], *, steps: int) -> None:
        """Go on from the sums and the step count of another one."""
        _copy_all(self.moments, moments)
        self.steps = steps


def touched_rows(gradient_RE: Tensor) -> tuple[Tensor, Tensor]:
    """The rows [T] of a table that a gradient reaches, ascending and each once, and their gradients [T, E].

    The gradient is what `nn.Embedding(sparse=True)` gives. A dense one, of a lookup that knows no other, costs a pass
    over the table, and its rows that are all zero count as untouched.
    """
    if not gradient_RE.is_sparse:
        rows_T = gradient_RE.any(dim=1).nonzero()[:, 0]
        return rows_T, gradient_RE[rows_T]
    if gradient_RE.is_coalesced():
        return gradient_RE.indices()[0], gradient_RE.values()
    looked_up, values = gradient_RE._indices()[0], gradient_RE._values()
    rows_T, place = torch.unique(looked_up, return_inverse=True)  # a quarter faster than coalesce()
    return rows_T, values.new_zeros(len(rows_T), values.shape[1]).index_add_(0, place, values)


def _copy_all(into: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    for name, tensor in into.items():
        tensor.copy_(source[name])
