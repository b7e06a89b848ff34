"""The factor term beside the head: biases of ids, and the inner product of a user's and a candidate's factors.

    logit  +=  b_u + b_i + (p_u + sum_j y_j / n) . q_i

p and b_u sum over the user's and the context's sparse features; q, b_i and y belong to the item's id alone, y_j to that
of one of n behaviors. That is SVD++ (Koren, KDD 2008, eq. 15) on clicks. Koren divides by the root of n; there y
learned so fast that p had no say, and factors of the category took from those of the item (docs/log.md). An MLP does
not find a product of two ids by itself, and its tables cannot be shrunk as much as factors can.
U users, C candidates, L history, K factors; F sparse fields.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.bundle.schema import Feature, Schema
from model.nets.embedding import FeatureEmbedding, Tensors, mask_from_length, pool_history


class Factors(nn.Module):
    """Tables of its own, drawn like the net's; the last column of an id's row is its bias and starts at 0."""

    def __init__(self, schema: Schema, sizes: Mapping[str, int], *, width: int) -> None:
        super().__init__()
        self.width = width
        item, user, context = (_as_wide_as(side, width + 1) for side in (schema.item, schema.user, schema.context))
        ids = dataclasses.replace(schema, item=item, user=user, context=context, behavior=())
        self.ids = FeatureEmbedding(ids, sizes, items={schema.keys.item})
        with torch.no_grad():
            for table in self.ids.tables.values():
                table.get_parameter("weight")[:, width] = 0
        past = dataclasses.replace(schema, item=_as_wide_as(schema.item, width), user=(), context=(), times=None)
        self.past = FeatureEmbedding(past, sizes, items={schema.keys.item})

    def user_half(self, request: Tensors) -> Tensor:
        """[U, K + 1]: the user's factors, and its bias last."""
        fields = self.ids.request(request, dense=False)
        mask_UL = mask_from_length(request["history"], request["history_len"])
        past_UK = pool_history(self.past.history(request["history"]), mask_UL, "mean")
        return sum(fields, nn.functional.pad(past_UK, (0, 1)))

    def forward(self, user_UK: Tensor, candidates: Tensors) -> Tensor:
        """The term [U, C], from what `user_half` gave."""
        (item_UCK,) = self.ids.item_extra(candidates, dense=False)
        product_UC = (item_UCK[..., :-1] @ user_UK[:, :-1, None]).squeeze(-1)
        return product_UC + item_UCK[..., -1] + user_UK[:, -1:]


def factor_state(factors: Factors | None, request: Tensors) -> dict[str, Tensor]:
    """The user half's share of the state; empty without factors."""
    return {} if factors is None else {"state_factors": factors.user_half(request)}


def add_factors(logit_UC: Tensor, factors: Factors | None, state: Tensors, candidates: Tensors) -> Tensor:
    """The head's logit with the factor term, or as it is without factors."""
    if factors is None:
        return logit_UC
    term_UC: Tensor = factors(state["state_factors"], candidates)
    return logit_UC + term_UC


def _as_wide_as(features: tuple[Feature, ...], width: int) -> tuple[Feature, ...]:
    return tuple(dataclasses.replace(feature, dim=width) for feature in features)
