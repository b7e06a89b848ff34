"""Training steps of several ranks that add up to the step of one process on the whole batch.

Dense weights go through DistributedDataParallel. What a net does across the rows of a batch is made to span the ranks:
Dice's mean and variance, and the draw of dropout. R rows of this rank, D features, W ranks.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.data.rows import Drawn
from model.nets.layers import Dice
from model.ranks import Ranks


class Cut:
    """The batch in hand: how many rows it has, and which of them are this rank's."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.rows, self.part = ranks, 0, slice(0, 0)

    def take(self, drawn: Drawn) -> slice:
        """Begin a batch; which of the rows that are here are this rank's."""
        whole = len(drawn.rows) == drawn.size  # else this rank has read its part alone
        self.rows, self.part = drawn.size, self.ranks.part(drawn.size) if whole else drawn.held
        return self.part if whole else slice(0, len(drawn.rows))

    def weighted(self, mean: Tensor, count: Tensor | None = None) -> Tensor:
        """A mean over this rank's rows, weighted so that the mean over ranks is that over all rows.

        `count` is of what the mean was taken if not of rows.
        """
        if self.ranks.size == 1:
            return mean
        if count is None:
            mine = self.part.stop - self.part.start
            everybodys = self.rows < self.ranks.size
            return mean if everybodys else mean * (mine * self.ranks.size / self.rows)
        own = count.to(torch.float64)
        total = self.ranks.total(own.clone()).clamp(min=1)
        return mean * (own * self.ranks.size / total).to(mean.dtype)


def parallel(loss: nn.Module, ranks: Ranks, *, apart: Iterable[nn.Embedding], unused: bool) -> nn.Module:
    """`loss`, a module that gives a scalar, with its weights' gradients averaged over ranks in backward.

    Tables `apart` are left alone: of them only touched rows travel. `unused` tells that some weights take no part in
    the loss.
    """
    if ranks.size == 1:
        return loss
    left = {id(table.weight) for table in apart}
    names = [name for name, weight in loss.named_parameters() if id(weight) in left]
    names += [name for name, _ in loss.named_buffers()]  # Dice's averages, which are alike by themselves
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(loss, names)  # type: ignore[no-untyped-call]  # torch's
    return DistributedDataParallel(loss, find_unused_parameters=unused)


@contextmanager
def synchronised(net: nn.Module, cut: Cut, *, compiled: bool = False) -> Iterator[None]:
    """Inside, and in training, `net` computes on this rank's rows what it would on the whole batch.

    `compiled` keeps that out of what torch.compile sees.
    """
    found = [m for m in net.modules() if isinstance(m, Dice | nn.Dropout)] if cut.ranks.size > 1 else []
    for module in found:  # on the instance, where it hides the class's
        forward = _DiceOfAll(module, cut) if isinstance(module, Dice) else _DropoutOfAll(module, cut)
        if compiled:
            forward = torch.compiler.disable(forward)  # type: ignore[no-untyped-call]  # torch's
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        for module in found:
            del vars(module)["forward"]


class _DropoutOfAll:
    """The draw for the whole batch, of which this rank takes its rows: the one process's, if generators are alike."""

    def __init__(self, dropout: nn.Dropout, cut: Cut) -> None:
        self._dropout, self._cut = dropout, cut

    def __call__(self, x_RD: Tensor) -> Tensor:
        if not self._dropout.training or not self._dropout.p:
            return x_RD
        whole = x_RD.new_ones(self._cut.rows, *x_RD.shape[1:])
        return x_RD * nn.functional.dropout(whole, self._dropout.p)[self._cut.part]


class _DiceOfAll:
    """Dice with the mean and the variance over the rows of all ranks."""

    def __init__(self, dice: Dice, cut: Cut) -> None:
        self._dice, self._cut = dice, cut

    def __call__(self, x_RD: Tensor) -> Tensor:
        if not self._dice.training:
            return Dice.forward(self._dice, x_RD)
        y_RD, mean_D, variance_D = _DiceOverRanks.apply(  # type: ignore[no-untyped-call]  # torch's
            x_RD.flatten(0, -2).float(), self._dice.alpha, self._dice.eps, self._cut.ranks
        )
        self._dice.learn(mean_D, variance_D)
        return y_RD.view_as(x_RD)  # type: ignore[no-any-return]  # torch's


class _DiceOverRanks(torch.autograd.Function):
    """y = x (alpha + (1 - alpha) p), p = sigmoid(z), z = (x - mean) / sqrt(variance + eps); one exchange each way."""

    @staticmethod
    def forward(ctx: Any, x_RD: Tensor, alpha_D: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401  # autograd's untyped context
        mine_D = x_RD.mean(0)
        rows = x_RD.new_full((1,), len(x_RD))
        all_WD = ranks.every(torch.cat([rows, mine_D, (x_RD - mine_D).square().sum(0)]))
        rows_W1, (means_WD, squares_WD) = all_WD[:, :1], all_WD[:, 1:].chunk(2, dim=1)
        count = rows_W1.sum()
        mean_D = (rows_W1 * means_WD).sum(0) / count
        # Chan, Golub and LeVeque 1979, equation 2.1: exact where the ranks' means differ.
        variance_D = (squares_WD.sum(0) + (rows_W1 * (means_WD - mean_D).square()).sum(0)) / count
        scale_D = torch.rsqrt(variance_D + eps)
        z_RD = (x_RD - mean_D) * scale_D
        p_RD = torch.sigmoid(z_RD)
        ctx.save_for_backward(x_RD, alpha_D, z_RD, p_RD, scale_D, count)
        ctx.mark_non_differentiable(mean_D, variance_D)
        ctx.ranks = ranks
        return x_RD * (alpha_D + (1 - alpha_D) * p_RD), mean_D, variance_D

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401  # autograd's untyped context
        x_RD, alpha_D, z_RD, p_RD, scale_D, count = ctx.saved_tensors
        d_y = grads[0]
        d_z = d_y * x_RD * (1 - alpha_D) * p_RD * (1 - p_RD)
        sums = ctx.ranks.total(torch.stack([d_z.sum(0), (d_z * z_RD).sum(0)]))
        d_mean, d_scale = sums / count
        d_x = d_y * (alpha_D + (1 - alpha_D) * p_RD) + scale_D * (d_z - d_mean - z_RD * d_scale)
        return d_x, (d_y * x_RD * (1 - p_RD)).sum(0), None, None
