"""DIEN's auxiliary loss with inner products as one autograd node. U users, L history, E width."""

from typing import Any

import torch
from torch import Tensor

from model.nets.native.library import Auxiliary, address, loaded
from model.nets.native.rows import Rows


def auxiliary_loss(states_ULE: Tensor, real_ULE: Tensor, fake_ULE: Tensor, rows: Rows) -> Tensor:
    """Mean over real steps of -[log p(h_t, e_t+1) + log(1 - p(h_t, e'_t+1))], p a sigmoid of the inner product.

    model.nets.interest.InterestNet.auxiliary_loss says what it is; 0 where no history has two behaviors.
    """
    total: Tensor = _Auxiliary.apply(states_ULE, real_ULE, fake_ULE, rows)  # type: ignore[no-untyped-call]  # torch's
    return total / (rows.count - 1).clamp(min=0).sum().clamp(min=1)


class _Auxiliary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:  # noqa: ANN401  # autograd's untyped context
        *tensors, rows = args
        tensors = [t.contiguous() for t in tensors]
        losses_U, residual = tensors[0].new_empty(len(tensors[0])), tensors[0].new_empty(*tensors[0].shape[:2], 2)
        job = _job(tensors, residual, rows)
        job.losses = address(losses_U)
        loaded().run("auxiliary_forward", job)
        ctx.rows = rows
        ctx.save_for_backward(residual, *tensors)
        total: Tensor = losses_U.sum()
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # autograd's untyped context
        residual, *tensors = ctx.saved_tensors
        d_tensors = [torch.empty_like(t) for t in tensors]
        job = _job(tensors, residual, ctx.rows)
        job.scale = float(grads[0])
        job.d_states, job.d_real, job.d_fake = (address(d) for d in d_tensors)
        loaded().run("auxiliary_backward", job)
        return *d_tensors, None


def _job(tensors: list[Tensor], residual: Tensor, rows: Rows) -> Auxiliary:
    U, L, E = tensors[0].shape
    states, real, fake = (address(t) for t in tensors)
    return Auxiliary(
        rows=U,
        length=L,
        width=E,
        threads=torch.get_num_threads(),
        count=address(rows.count),
        states=states,
        real=real,
        fake=fake,
        residual=address(residual),
    )
