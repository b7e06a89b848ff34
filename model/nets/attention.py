"""Target attention: DIN's local activation unit, arranged so that [C, L, 4E] is never built, and products of vectors.

The unit's first layer reads [q; k; q-k; q*k] (DIN, section 4.3; the public code's `din_fcn_attention`), linear in k
once q is known:

    W1 [q; k; q-k; q*k] + b  =  (diag(q) Wp + Wk - Wd) k + (Wq + Wd) q + b  =  M(q) [k; 1]

M(q) is [E+1, H] per candidate, cheaper than one row of it per behavior, and the layer becomes a single matrix product
with the keys. Exact, not approximate. Shapes: U users, C candidates, L history, E width, H hidden, K = E + 1.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

AttentionKind = Literal["mlp", "dot", "bilinear"]

_HIDDEN_BY_MASK = -1e9  # far below any score, yet finite: an all-masked row must not become NaN


def make_attention(
    kind: AttentionKind, width: int, *, hidden: tuple[int, ...], softmax: bool
) -> "TargetAttention | ProductAttention":
    """The attention of that kind for queries and keys of `width`; only `mlp` has `hidden` layers."""
    if kind == "mlp":
        return TargetAttention(width, hidden=hidden, softmax=softmax)
    return ProductAttention(width, bilinear=kind == "bilinear", softmax=softmax)


def with_ones(key_ULE: Tensor) -> Tensor:
    """Keys with a column of ones, [U, L, K], so that an offset is part of the product."""
    return torch.cat([key_ULE, torch.ones_like(key_ULE[..., :1])], dim=-1)


def masked(score_UCL: Tensor, mask_UL: Tensor, *, softmax: bool) -> Tensor:
    """Weights of the scores, exactly 0 where the mask is 0.

    With softmax the weights of a history sum to 1, those of an empty one to 0.
    """
    mask_U1L = mask_UL[:, None, :]
    if softmax:
        score_UCL = torch.softmax(score_UCL + (1 - mask_U1L) * _HIDDEN_BY_MASK, dim=-1)
    return score_UCL * mask_U1L


class TargetAttention(nn.Module):
    """`mlp`: the local activation unit. No softmax by default, as in the DIN paper."""

    def __init__(self, width: int, *, hidden: tuple[int, ...] = (80, 40), softmax: bool = False) -> None:
        super().__init__()
        first = nn.Linear(4 * width, hidden[0])  # drawn as the one layer that it is
        query, key, difference, product = torch.split(first.weight.detach().T, width)  # each [E, H]
        # Stored by what multiplies them; four free matrices in the paper's form are these three and one redundant.
        self.query_weight = nn.Parameter((query + difference).clone())
        self.key_weight = nn.Parameter((key - difference).clone())
        self.product_weight = nn.Parameter(product.clone())
        self.bias = nn.Parameter(first.bias.detach().clone())
        layers: list[nn.Module] = [nn.Sigmoid()]
        for before, after in pairwise(hidden):
            layers += [nn.Linear(before, after), nn.Sigmoid()]
        self.rest = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))
        self.softmax = softmax

    @staticmethod
    def keys(key_ULE: Tensor) -> Tensor:
        """The user half: [U, L, K]."""
        return with_ones(key_ULE)

    def forward(self, query_UCE: Tensor, keys_ULK: Tensor, mask_UL: Tensor) -> Tensor:
        """The candidate half: attention weights [U, C, L], exactly 0 where `mask_UL` is 0.

        `keys_ULK` comes from `keys`.
        """
        offset_UC1H = (query_UCE @ self.query_weight + self.bias)[..., None, :]
        slope_UCEH = query_UCE[..., None] * self.product_weight + self.key_weight
        first_UCLH = keys_ULK[:, None] @ torch.cat([slope_UCEH, offset_UC1H], dim=-2)
        # As rows, because a Linear on rows is one GEMM with its bias inside, not a product and a pass over the result.
        score_UCL: Tensor = self.rest(first_UCLH.flatten(0, 2)).view(first_UCLH.shape[:-1])
        return masked(score_UCL, mask_UL, softmax=self.softmax)


class ProductAttention(nn.Module):
    """`dot`: q.k / sqrt(E) (Vaswani et al., 2017, section 3.2.1). `bilinear`: q W [k; 1] (DIEN, section 4.3).

    Both start equal: W is drawn as the scaled unit matrix. The offset q.w of its last column, which a softmax does not
    see, lets a net without one tell how much of the history counts at all.
    """

    weight: Tensor

    def __init__(self, width: int, *, bilinear: bool, softmax: bool) -> None:
        super().__init__()
        self.softmax = softmax
        weight_EK = torch.eye(width, width + 1) / width**0.5
        if bilinear:
            self.weight = nn.Parameter(weight_EK)
        else:
            self.register_buffer("weight", weight_EK, persistent=False)

    @staticmethod
    def keys(key_ULE: Tensor) -> Tensor:
        """The user half: [U, L, K]."""
        return with_ones(key_ULE)

    def forward(self, query_UCE: Tensor, keys_ULK: Tensor, mask_UL: Tensor) -> Tensor:
        """The candidate half: attention weights [U, C, L], exactly 0 where `mask_UL` is 0."""
        score_UCL = (query_UCE @ self.weight) @ keys_ULK.transpose(1, 2)
        return masked(score_UCL, mask_UL, softmax=self.softmax)
