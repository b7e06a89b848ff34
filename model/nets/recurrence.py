"""The loop that GRU and AUGRU share, with its gradient by hand: one matrix product per step each way, no graph nodes.

    r = sigmoid(x_r + U_r h),  u = sigmoid(x_u + U_u h),  c = tanh(x_c + r * (U_c h)),  h <- h + a u (c - h)

a = 1 is a GRU; a = attention is AUGRU. Shapes: U users, C candidates, L history, H hidden, G = 3H the gates (r, u, c).
"""

from typing import Any

import torch
from torch import Tensor, nn


def gated_recurrence(inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:
    """The states after every step, [L, U, C, H], from a zero state; `inputs_ULG` are the gates' shares x."""
    states_LUCH: Tensor = _Recurrence.apply(inputs_ULG, attention_UCL, weight_GH, bias_G)  # type: ignore[no-untyped-call]  # torch's
    return states_LUCH


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs_ULG: Tensor, attention_UCL: Tensor, weight_GH: Tensor, bias_G: Tensor) -> Tensor:  # noqa: ANN401  # autograd's untyped context
        U, C, L = attention_UCL.shape
        H = weight_GH.shape[1]
        states_LUCH = inputs_ULG.new_empty(L, U, C, H)
        gates_LUCG = inputs_ULG.new_empty(L, U, C, 3 * H)  # r, u and c after their functions
        recurrent_LUCH = inputs_ULG.new_empty(L, U, C, H)  # U_c h, before r scales it
        h = inputs_ULG.new_zeros(U, C, H)
        for t in range(L):
            x = inputs_ULG[:, t, None, :]
            g = nn.functional.linear(h, weight_GH, bias_G)
            recurrent_LUCH[t] = g[..., 2 * H :]
            ru = torch.sigmoid(torch.add(x[..., : 2 * H], g[..., : 2 * H]), out=gates_LUCG[t, ..., : 2 * H])
            pre = torch.addcmul(x[..., 2 * H :], ru[..., :H], g[..., 2 * H :])
            c = torch.tanh(pre, out=gates_LUCG[t, ..., 2 * H :])
            h = torch.addcmul(h, attention_UCL[:, :, t, None] * ru[..., H:], c - h, out=states_LUCH[t])
        ctx.save_for_backward(attention_UCL, weight_GH, states_LUCH, gates_LUCG, recurrent_LUCH)
        return states_LUCH

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # noqa: ANN401  # autograd's untyped context
        attention_UCL, weight_GH, states_LUCH, gates_LUCG, recurrent_LUCH = ctx.saved_tensors
        L, U, C, H = states_LUCH.shape
        d_inputs_LUG = states_LUCH.new_empty(L, U, 3 * H)
        d_gates_LUCG = states_LUCH.new_empty(L, U, C, 3 * H)
        d_attention_UCL = torch.zeros_like(attention_UCL)
        start = torch.zeros_like(states_LUCH[0])
        dh = start
        # Step by step although much of it could be done for all steps at once: one step's tensors stay in the cache.
        for t in range(L - 1, -1, -1):
            dh = dh + grads[0][t]
            a = attention_UCL[:, :, t, None]
            r, u, c = gates_LUCG[t].split(H, dim=-1)
            before = states_LUCH[t - 1] if t else start
            scale = a * u
            push = dh * (c - before)
            d_c = dh * scale * (1 - c * c)
            d_r = d_c * recurrent_LUCH[t] * (r * (1 - r))
            d_u = push * scale * (1 - u)
            d_inputs_LUG[t] = torch.cat([d_r, d_u, d_c], dim=-1).sum(1)
            torch.cat([d_r, d_u, d_c * r], dim=-1, out=d_gates_LUCG[t])
            if ctx.needs_input_grad[1]:
                d_attention_UCL[:, :, t] = (push * u).sum(-1)
            dh = torch.addcmul(d_gates_LUCG[t] @ weight_GH, dh, 1 - scale)
        gates_RG = d_gates_LUCG.flatten(0, 2)
        d_weight_GH = gates_RG[C * U :].T @ states_LUCH[:-1].flatten(0, 2)  # the first step starts from zero
        return d_inputs_LUG.transpose(0, 1), d_attention_UCL, d_weight_GH, gates_RG.sum(0)
