"""Dice, and the head whose first layer is split between the halves. R any leading shape, D features."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from model.nets.native.dice import dice, fits_dice

Activation = Literal["dice", "prelu"]


class Dice(nn.Module):
    """f(x) = p x + (1 - p) alpha x with p = sigmoid((x - E[x]) / sqrt(Var[x] + eps)) (DIN, section 5.3, eq. 3).

    Mean and variance are taken over all leading dimensions in training and are running averages afterwards.
    """

    def __init__(self, features: int, *, momentum: float = 0.1, eps: float = 1e-8) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.momentum, self.eps = momentum, eps
        self.mean: Tensor
        self.variance: Tensor

    def forward(self, x_RD: Tensor) -> Tensor:
        """[..., D] -> [..., D]. One row is enough in training: its variance is 0."""
        mean, variance = self.mean, self.variance
        if self.training and fits_dice(x_RD):
            y_RD, mean, variance = dice(x_RD, self.alpha, self.eps)
            self.learn(mean, variance)
            return y_RD
        if self.training:
            rows = x_RD.flatten(0, -2).float()  # autocast gives bfloat16, too coarse for a mean
            mean, variance = rows.mean(0), rows.var(0, unbiased=False)
            self.learn(mean, variance)
        p_RD = torch.sigmoid((x_RD - mean) * torch.rsqrt(variance + self.eps))
        return x_RD * (self.alpha + (1 - self.alpha) * p_RD)

    @torch.no_grad()
    def learn(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running averages towards a batch's."""
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_(variance, self.momentum)


class PRelu(nn.Module):
    """max(0, x) + alpha min(0, x), one alpha per feature of the last axis; torch's own takes the second axis."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((features,), 0.1))

    def forward(self, x_RD: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return x_RD.clamp(min=0) + self.alpha * x_RD.clamp(max=0)


class SplitHead(nn.Module):
    """The prediction MLP. Its first layer is linear in [user part; candidate part], so each half adds its own columns.

    user [U, user_width] -> `user_half` -> [U, H]; with candidates [U, C, candidate_width] -> `forward` -> logit [U, C].
    """

    def __init__(
        self,
        user_width: int,
        candidate_width: int,
        *,
        hidden: tuple[int, ...],
        activation: Activation,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        first = nn.Linear(user_width + candidate_width, hidden[0])  # drawn as the one layer that it is
        self.user_weight = nn.Parameter(first.weight[:, :user_width].detach().clone())
        self.candidate_weight = nn.Parameter(first.weight[:, user_width:].detach().clone())
        self.bias = nn.Parameter(first.bias.detach().clone())
        layers: list[nn.Module] = [_activation(activation, hidden[0]), nn.Dropout(dropout)]
        for before, after in pairwise(hidden):
            layers += [nn.Linear(before, after), _activation(activation, after), nn.Dropout(dropout)]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def user_half(self, user_UD: Tensor) -> Tensor:
        """[U, user_width] -> the first layer's share [U, H], bias included."""
        return nn.functional.linear(user_UD, self.user_weight, self.bias)

    def forward(self, share_UH: Tensor, candidate_UCD: Tensor) -> Tensor:
        """The user's share and the candidates' features -> logit [U, C]."""
        first_UCH = nn.functional.linear(candidate_UCD, self.candidate_weight) + share_UH[:, None, :]
        logit_UC1: Tensor = self.rest(first_UCH)
        return logit_UC1.squeeze(-1)


def _activation(kind: Activation, features: int) -> nn.Module:
    return Dice(features) if kind == "dice" else PRelu(features)
