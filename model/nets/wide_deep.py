"""`wide_deep`: a linear model of ids and crosses beside `base` (Cheng et al., DLRS 2016, section 3).

The wide part has one weight per id of every sparse feature, behaviors included, and one per number of the cross
target * pooled history, as the public DIEN code's `Model_WideDeep` has. Both parts are trained together; their logits
add up. Dense features are in the deep part alone. U users, C candidates, E width of one behavior.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from model.bundle.schema import Feature, Schema
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors
from model.nets.factors import add_factors, factor_state
from model.nets.frame import FrameConfig, candidate_part, make_factors, make_head, read_history, user_part


class WideDeepConfig(FrameConfig):
    """Settings of `wide_deep`."""


class WideDeep(nn.Module):
    """Head over [user; context; pooled history | target; other item features; target * pooled history], plus wide."""

    candidate_tile = 0

    def __init__(self, config: WideDeepConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(schema, sizes, max_norm=config.max_norm)
        self.pooling: Pooling = config.pooling
        self.head = make_head(config, self.embedding)
        self.factors = make_factors(config, schema, sizes)
        self.wide = FeatureEmbedding(_one_wide(schema), sizes)
        self.cross = nn.Linear(self.embedding.behavior_width, 1, bias=False)
        for weights in [*self.wide.parameters(), self.cross.weight]:
            nn.init.zeros_(weights)  # a linear model knows nothing at first

    def encode_user(self, request: Tensors) -> dict[str, Tensor]:
        """The user half: request tensors and history -> state."""
        _, _, pooled_UE = read_history(self.embedding, request, self.pooling)
        _, _, pooled_UF = read_history(self.wide, request, self.pooling)
        wide_UD = torch.cat([*self.wide.request(request, dense=False), pooled_UF], dim=-1)
        return {
            "state_share": self.head.user_half(user_part(self.embedding, request, pooled_UE)),
            "state_pooled": pooled_UE,
            "state_wide": wide_UD.sum(-1, keepdim=True),
            **factor_state(self.factors, request),
        }

    def score(self, state: Tensors, candidates: Tensors) -> Tensor:
        """The candidate half: state and candidates -> logit [U, C]."""
        deep_UC = self.head(state["state_share"], candidate_part(self.embedding, state, candidates))
        ids_UCD = torch.cat([self.wide.target(candidates), *self.wide.item_extra(candidates, dense=False)], dim=-1)
        cross_UCE = self.embedding.target(candidates) * state["state_pooled"][:, None, :]
        logit_UC: Tensor = deep_UC + state["state_wide"] + ids_UCD.sum(-1) + self.cross(cross_UCE).squeeze(-1)
        return add_factors(logit_UC, self.factors, state, candidates)

    def forward(self, request: Tensors, candidates: Tensors) -> Tensor:
        """Both halves: logit [U, C]."""
        return self.score(self.encode_user(request), candidates)


def _one_wide(schema: Schema) -> Schema:
    """The same features with a single number per id."""

    def narrow(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        return tuple(dataclasses.replace(feature, dim=1) for feature in features)

    item, user, context = narrow(schema.item), narrow(schema.user), narrow(schema.context)
    return dataclasses.replace(schema, item=item, user=user, context=context)
