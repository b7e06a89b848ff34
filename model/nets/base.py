"""`base`: the pooled history, no attention (DIN, section 4.2, "BaseModel").

U users, C candidates, L history, E width of one behavior.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.bundle.schema import Schema
from model.bundle.typed_table import setting
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors, mask_from_length, pool_history
from model.nets.layers import Activation, SplitHead


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Settings of `base`."""

    head: tuple[int, ...] = (200, 80)
    activation: Activation = "dice"
    pooling: Pooling = "mean"  # "sum" is the paper's; on long histories it drowns the target (docs/log.md)
    dropout: float = setting(0.0, low=0.0, high=0.9)


class Base(nn.Module):
    """Head over [user; context; pooled history | target; other item features; target * pooled history]."""

    candidate_tile = 0

    def __init__(self, config: BaseConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(schema, sizes)
        self.pooling: Pooling = config.pooling
        E = self.embedding.behavior_width
        self.head = SplitHead(
            self.embedding.request_width + E,
            2 * E + self.embedding.item_extra_width,
            hidden=config.head,
            activation=config.activation,
            dropout=config.dropout,
        )

    def encode_user(self, request: Tensors) -> dict[str, Tensor]:
        """The user half: request tensors and history -> state."""
        history_ULE = self.embedding.history(request["history"])
        mask_UL = mask_from_length(request["history"], request["history_len"])
        pooled_UE = pool_history(history_ULE, mask_UL, self.pooling)
        share_UH = self.head.user_half(torch.cat([*self.embedding.request(request), pooled_UE], dim=-1))
        return {"state_share": share_UH, "state_pooled": pooled_UE}

    def score(self, state: Tensors, candidates: Tensors) -> Tensor:
        """The candidate half: state and candidates -> logit [U, C]."""
        target_UCE = self.embedding.target(candidates)
        parts = [target_UCE, *self.embedding.item_extra(candidates), target_UCE * state["state_pooled"][:, None, :]]
        logit_UC: Tensor = self.head(state["state_share"], torch.cat(parts, dim=-1))
        return logit_UC

    def forward(self, request: Tensors, candidates: Tensors) -> Tensor:
        """Both halves: logit [U, C]."""
        return self.score(self.encode_user(request), candidates)
