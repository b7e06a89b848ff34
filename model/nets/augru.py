"""AUGRU: a GRU whose update gate is scaled by attention (DIEN, section 4.3.2, eq. 14-16).

    r = sigmoid(x_r + U_r h),  u = sigmoid(x_u + U_u h),  c = tanh(x_c + r * (U_c h))
    u' = a u,                  h <- (1 - u') h + u' c

x = W i + b does not depend on the candidate, so it is computed once per user. Where a = 0 (padding, or an irrelevant
behavior) the state stays as it is, so neither padding nor an empty history needs a branch.

Shapes: U users, C candidates, L history, H hidden, G = 3H the gates (r, u, c), N = U*C rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


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
    state_UCH: Tensor = _AugruFunction.apply(inputs_ULG, attention_UCL, weight_GH, bias_G)  # type: ignore[no-untyped-call]  # torch's
    return state_UCH


class _AugruFunction(torch.autograd.Function):
    """The recurrence with its gradient by hand: one matrix product per step each way, not a dozen graph nodes."""

    @staticmethod
    def forward(ctx: Any, inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:  # noqa: ANN401  # autograd's untyped context
        U, C, L = attention_UCL.shape
        H = weight_GH.shape[1]
        h = inputs_ULG.new_zeros(U, C, H)
        steps = []
        for t in range(L):
            a = attention_UCL[:, :, t, None]
            x = inputs_ULG[:, t, None, :]
            g = nn.functional.linear(h, weight_GH, bias_G)
            ru = torch.sigmoid(x[..., : 2 * H] + g[..., : 2 * H])
            r, u = ru[..., :H], ru[..., H:]
            c = torch.tanh(torch.addcmul(x[..., 2 * H :], r, g[..., 2 * H :]))
            steps.append((h, ru, g[..., 2 * H :], c))
            h = torch.addcmul(h, a * u, c - h)
        ctx.save_for_backward(inputs_ULG, attention_UCL, weight_GH)
        ctx.steps = steps
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # noqa: ANN401  # autograd's untyped context
        inputs_ULG, attention_UCL, weight_GH = ctx.saved_tensors
        U, C, L = attention_UCL.shape
        G, H = weight_GH.shape
        dh = grads[0]
        d_inputs = torch.empty_like(inputs_ULG)
        d_attention = torch.empty_like(attention_UCL)
        d_gates_LNG = inputs_ULG.new_empty(L, U * C, G)
        h_LNH = inputs_ULG.new_empty(L, U * C, H)
        for t in range(L - 1, -1, -1):
            h, ru, gc, c = ctx.steps[t]
            r, u = ru[..., :H], ru[..., H:]
            a = attention_UCL[:, :, t, None]
            push = dh * (c - h)  # gradient of u'
            d_attention[:, :, t] = (push * u).sum(-1)
            dc = dh * (a * u) * (1 - c * c)  # before the tanh
            dr = dc * gc
            dru = torch.cat([dr, push * a], dim=-1) * ru * (1 - ru)  # before the sigmoid
            d_gates = torch.cat([dru, dc * r], dim=-1)
            d_inputs[:, t, : 2 * H] = dru.sum(1)
            d_inputs[:, t, 2 * H :] = dc.sum(1)
            d_gates_LNG[t], h_LNH[t] = d_gates.flatten(0, 1), h.flatten(0, 1)
            dh = torch.addcmul(dh, dh, a * u, value=-1) + d_gates @ weight_GH
        d_weight = d_gates_LNG.flatten(0, 1).T @ h_LNH.flatten(0, 1)
        return d_inputs, d_attention, d_weight, d_gates_LNG.sum((0, 1))
