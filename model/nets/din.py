"""`din`: Deep Interest Network (Zhou et al., KDD 2018). U users, C candidates, L history, E width of one behavior.

The head also sees the plain sum of the history and its product with the target, as the public code does
(`Model_DIN`): on short histories most of DIN's gain over the paper's figure comes from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.bundle.schema import Schema
from model.bundle.typed_table import setting
from model.nets.attention import TargetAttention
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors, mask_from_length, pool_history
from model.nets.layers import Activation, SplitHead


@dataclass(frozen=True, kw_only=True)
class DinConfig:
    """Settings of `din`; sizes are those of the public code."""

    attention: tuple[int, ...] = (80, 40)
    softmax: bool = False  # the paper keeps the raw weights, so that their sum tells the intensity of interest
    head: tuple[int, ...] = (200, 80)
    activation: Activation = "dice"
    pooling: Pooling = "mean"  # of the history that the head sees beside the attended one
    dropout: float = setting(0.0, low=0.0, high=0.9)


class Din(nn.Module):
    """Head over [user; context; pooled history | target; other item features; target * pooled; attended history]."""

    candidate_tile = 64  # activations of 64 candidates x 100 behaviors x 80 stay in a 2 MB L2 (DESIGN 4)

    def __init__(self, config: DinConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(schema, sizes)
        self.pooling: Pooling = config.pooling
        E = self.embedding.behavior_width
        self.attention = TargetAttention(E, hidden=config.attention, softmax=config.softmax)
        self.head = SplitHead(
            self.embedding.request_width + E,
            3 * E + self.embedding.item_extra_width,
            hidden=config.head,
            activation=config.activation,
            dropout=config.dropout,
        )

    def encode_user(self, request: Tensors) -> dict[str, Tensor]:
        """The user half: request tensors and history -> state."""
        history_ULE = self.embedding.history(request["history"])
        mask_UL = mask_from_length(request["history"], request["history_len"])
        pooled_UE = pool_history(history_ULE, mask_UL, self.pooling)
        return {
            "state_share": self.head.user_half(torch.cat([*self.embedding.request(request), pooled_UE], dim=-1)),
            "state_pooled": pooled_UE,
            "state_keys": self.attention.keys(history_ULE),
            "state_mask": mask_UL,
        }

    def score(self, state: Tensors, candidates: Tensors) -> Tensor:
        """The candidate half: state and candidates -> logit [U, C]."""
        target_UCE = self.embedding.target(candidates)
        weight_UCL = self.attention(target_UCE, state["state_keys"], state["state_mask"])
        attended_UCE = weight_UCL @ state["state_keys"][..., :-1]
        product_UCE = target_UCE * state["state_pooled"][:, None, :]
        parts = [target_UCE, *self.embedding.item_extra(candidates), product_UCE, attended_UCE]
        logit_UC: Tensor = self.head(state["state_share"], torch.cat(parts, dim=-1))
        return logit_UC

    def forward(self, request: Tensors, candidates: Tensors) -> Tensor:
        """Both halves: logit [U, C]."""
        return self.score(self.encode_user(request), candidates)
