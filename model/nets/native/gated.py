"""GRU and AUGRU as one autograd node, input projection included. Only real steps are computed.

U users, L history, E width, H hidden, G = 3H gates (r, u, c); Ep and Hp rounded up to whole vectors.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from model.nets.native.library import Gated, address, chunks, loaded, padded
from model.nets.native.rows import Rows

Weights = tuple[Tensor, Tensor, Tensor, Tensor]  # input [G, E], hidden [G, H], input bias [G], hidden bias [G]


def gated(x_ULE: Tensor, attention_UL: Tensor | None, rows: Rows, weights: Weights) -> tuple[Tensor, Tensor]:
    """The states after every step [U, L, H], 0 past the end of a history, and the final ones [U, H].

    model/nets/recurrence.py has the formulas; without attention a = 1.
    """
    states_ULH, last_UH = _Gated.apply(x_ULE, attention_UL, rows, *weights)  # type: ignore[no-untyped-call]  # torch's
    return states_ULH, last_UH


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  # autograd takes every tensor by itself
        ctx: Any,  # noqa: ANN401  # autograd's untyped context
        x_ULE: Tensor,
        attention_UL: Tensor | None,
        rows: Rows,
        weight_GE: Tensor,
        weight_GH: Tensor,
        input_bias_G: Tensor,
        hidden_bias_G: Tensor,
    ) -> tuple[Tensor, Tensor]:
        U, L, _ = x_ULE.shape
        H, Hp = weight_GH.shape[1], padded(weight_GH.shape[1])
        x_ULE, attention_UL = x_ULE.contiguous(), None if attention_UL is None else attention_UL.contiguous()
        states_ULH, saved, last_UH = x_ULE.new_empty(U, L, Hp), x_ULE.new_empty(U, L, 4, Hp), x_ULE.new_empty(U, Hp)
        weights = tuple(w.contiguous() for w in (weight_GE, weight_GH, input_bias_G, hidden_bias_G))
        job = _job(x_ULE, attention_UL, rows, weights)
        job.states, job.saved, job.last = address(states_ULH), address(saved), address(last_UH)
        loaded().run("gated_forward", job)
        ctx.rows = rows
        ctx.save_for_backward(x_ULE, attention_UL, states_ULH, saved, *weights)
        ctx.set_materialize_grads(False)
        return states_ULH[..., :H], last_UH[..., :H]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # autograd's untyped context
        x_ULE, attention_UL, states_ULH, saved, *weights = ctx.saved_tensors
        H, Hp, Ep = weights[1].shape[1], padded(weights[1].shape[1]), padded(x_ULE.shape[2])
        d_states, d_last = (None if g is None else g.contiguous() for g in grads)
        d_x = torch.empty_like(x_ULE)
        d_attention = None if attention_UL is None else torch.empty_like(attention_UL)
        partial = x_ULE.new_empty(chunks(len(x_ULE)), Ep + Hp + 2, 3, Hp)
        job = _job(x_ULE, attention_UL, ctx.rows, weights)
        job.states, job.saved, job.partial = address(states_ULH), address(saved), address(partial)
        job.d_states, job.d_last = address(d_states), address(d_last)
        job.d_x, job.d_attention = address(d_x), address(d_attention)
        loaded().run("gated_backward", job)
        total = partial.sum(0)[..., :H]
        d_input, d_hidden, d_biases = total[: x_ULE.shape[2]], total[Ep : Ep + H], total[Ep + Hp :].flatten(1)
        d_weights = [d.flatten(1).T for d in (d_input, d_hidden)]
        shared_G = d_biases[0].clone()
        shared_G[2 * H :] = d_biases[1, 2 * H :]  # r and u have one gradient for both biases
        return d_x, d_attention, None, *d_weights, d_biases[0], shared_G


def _job(x_ULE: Tensor, attention_UL: Tensor | None, rows: Rows, weights: Sequence[Tensor]) -> Gated:
    U, L, E = x_ULE.shape
    input_, hidden, input_bias, hidden_bias = (address(w) for w in weights)
    return Gated(
        rows=U,
        length=L,
        inputs=E,
        hidden=weights[1].shape[1],
        threads=torch.get_num_threads(),
        order=address(rows.order),
        count=address(rows.count),
        x=address(x_ULE),
        attention=address(attention_UL),
        input_weight=input_,
        hidden_weight=hidden,
        input_bias=input_bias,
        hidden_bias=hidden_bias,
    )
