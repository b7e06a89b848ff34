"""Dice in training as one autograd node. R rows, D features."""

from typing import Any

import torch
from torch import Tensor

from model.nets.native.library import LANES, Dice, address, fits, loaded


def fits_dice(x_RD: Tensor) -> bool:
    """Whether the kernel can do it: no fewer features than a vector has lanes, and no empty batch."""
    return x_RD.shape[-1] >= LANES and x_RD.numel() > 0 and not torch.is_autocast_enabled("cpu") and fits(x_RD)


def dice(x_RD: Tensor, alpha_D: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Dice of [..., D], and the mean and variance [D] over all leading dimensions, which have no gradient."""
    y_RD, mean_D, variance_D = _Dice.apply(x_RD, alpha_D, eps)  # type: ignore[no-untyped-call]  # torch's
    return y_RD, mean_D, variance_D


class _Dice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_RD: Tensor, alpha_D: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401  # autograd's untyped context
        x_RD, alpha_D = x_RD.contiguous(), alpha_D.contiguous()
        y_RD = torch.empty_like(x_RD)
        mean_D, variance_D, scale_D = (torch.empty_like(alpha_D) for _ in range(3))
        job = _job(x_RD, alpha_D, mean_D, scale_D)
        job.eps, job.y, job.variance = eps, address(y_RD), address(variance_D)
        loaded().run("dice_forward", job)
        ctx.save_for_backward(x_RD, alpha_D, mean_D, scale_D)
        ctx.mark_non_differentiable(mean_D, variance_D)
        return y_RD, mean_D, variance_D

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # autograd's untyped context
        x_RD, alpha_D, mean_D, scale_D = ctx.saved_tensors
        d_y, d_x, d_alpha = grads[0].contiguous(), torch.empty_like(x_RD), torch.empty_like(alpha_D)
        job = _job(x_RD, alpha_D, mean_D, scale_D)
        job.d_y, job.d_x, job.d_alpha = address(d_y), address(d_x), address(d_alpha)
        loaded().run("dice_backward", job)
        return d_x, d_alpha, None


def _job(x_RD: Tensor, alpha_D: Tensor, mean_D: Tensor, scale_D: Tensor) -> Dice:
    job = Dice(rows=x_RD.numel() // x_RD.shape[-1], width=x_RD.shape[-1], threads=torch.get_num_threads())
    job.x, job.alpha, job.mean, job.scale = (address(t) for t in (x_RD, alpha_D, mean_D, scale_D))
    return job
