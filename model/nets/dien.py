"""`dien`: Deep Interest Evolution Network (Zhou et al., AAAI 2019).

Interest extractor (GRU) and everything the attention and AUGRU need of it belong to the user half; the attention itself
and AUGRU run per candidate. U users, C candidates, L history, E width of one behavior, H = E hidden.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from model.bundle.schema import Schema
from model.bundle.typed_table import setting
from model.nets.attention import TargetAttention
from model.nets.augru import Augru
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors, mask_from_length, pool_history
from model.nets.gru import Gru
from model.nets.layers import Activation, SplitHead


@dataclass(frozen=True, kw_only=True)
class DienConfig:
    """Settings of `dien`; sizes are those of the public code."""

    attention: tuple[int, ...] = (80, 40)
    head: tuple[int, ...] = (200, 80)
    activation: Activation = "dice"
    pooling: Pooling = "mean"  # of the history that the head sees beside the attended one
    dropout: float = setting(0.0, low=0.0, high=0.9)
    auxiliary: Literal["dot", "mlp"] = "dot"  # dot: the paper's inner product; mlp: the public code's 100-50-1
    auxiliary_alpha: float = setting(0.5, low=0.0)  # weight of the auxiliary loss; 0 trains without it


class Dien(nn.Module):
    """Head over [user; context; pooled history | target; other item features; target * pooled; final interest]."""

    candidate_tile = 0  # AUGRU's steps are small: every tile would pay for all of them again

    def __init__(self, config: DienConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(schema, sizes)
        self.pooling: Pooling = config.pooling
        E = self.embedding.behavior_width
        self.extractor = Gru(E, E)
        self.attention = TargetAttention(E, hidden=config.attention, softmax=True)
        self.evolution = Augru(E, E)
        self.auxiliary_alpha = config.auxiliary_alpha
        self.discriminator = _Discriminator(E) if config.auxiliary == "mlp" else _InnerProduct()
        self.head = SplitHead(
            self.embedding.request_width + E,
            3 * E + self.embedding.item_extra_width,
            hidden=config.head,
            activation=config.activation,
            dropout=config.dropout,
        )

    def extract_interest(self, history_ULE: Tensor) -> Tensor:
        """Interest states [U, L, H], one after each behavior. Padding comes last, so no real state sees it."""
        interest_ULH: Tensor = self.extractor(history_ULE)
        return interest_ULH

    def encode_user(self, request: Tensors) -> dict[str, Tensor]:
        """The user half: request tensors and history -> state."""
        history_ULE = self.embedding.history(request["history"])
        mask_UL = mask_from_length(request["history"], request["history_len"])
        pooled_UE = pool_history(history_ULE, mask_UL, self.pooling)
        interest_ULH = self.extract_interest(history_ULE)
        return {
            "state_share": self.head.user_half(torch.cat([*self.embedding.request(request), pooled_UE], dim=-1)),
            "state_pooled": pooled_UE,
            "state_keys": self.attention.keys(interest_ULH),
            "state_mask": mask_UL,
            "state_inputs": self.evolution.inputs(interest_ULH),
        }

    def score(self, state: Tensors, candidates: Tensors) -> Tensor:
        """The candidate half: state and candidates -> logit [U, C]."""
        target_UCE = self.embedding.target(candidates)
        weight_UCL = self.attention(target_UCE, state["state_keys"], state["state_mask"])
        evolved_UCH = self.evolution(state["state_inputs"], weight_UCL)
        product_UCE = target_UCE * state["state_pooled"][:, None, :]
        parts = [target_UCE, *self.embedding.item_extra(candidates), product_UCE, evolved_UCH]
        logit_UC: Tensor = self.head(state["state_share"], torch.cat(parts, dim=-1))
        return logit_UC

    def forward(self, request: Tensors, candidates: Tensors) -> Tensor:
        """Both halves: logit [U, C]."""
        return self.score(self.encode_user(request), candidates)

    def auxiliary_loss(self, state: Tensors, history_ULF: Tensor, negatives_ULF: Tensor) -> Tensor:
        """Mean over real steps of -[log p(h_t, e_t+1) + log(1 - p(h_t, e'_t+1))] (DIEN, section 4.2, eq. 6).

        `negatives_ULF` holds a sampled behavior for each position of the history; padding counts for nothing. 0 where
        no history has two behaviors. Training only: nothing of it is in the exported graph.
        """
        interest_ULH = state["state_keys"][:, :-1, :-1]
        mask_UL = state["state_mask"][:, 1:]
        real = self.discriminator(interest_ULH, self.embedding.history(history_ULF)[:, 1:])
        fake = self.discriminator(interest_ULH, self.embedding.history(negatives_ULF)[:, 1:])
        loss_UL = nn.functional.softplus(-real) + nn.functional.softplus(fake)
        return (loss_UL * mask_UL).sum() / mask_UL.sum().clamp(min=1)


class _InnerProduct(nn.Module):
    """The paper's p(h, e) = sigmoid(h . e), as a logit."""

    def forward(self, interest_ULH: Tensor, behavior_ULE: Tensor) -> Tensor:
        return (interest_ULH * behavior_ULE).sum(-1)


class _Discriminator(nn.Module):
    """The public code's `auxiliary_net`: an MLP 100-50-1 on [h; e], as a logit."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = [nn.Linear(2 * width, 100), nn.Sigmoid(), nn.Linear(100, 50), nn.Sigmoid(), nn.Linear(50, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, interest_ULH: Tensor, behavior_ULE: Tensor) -> Tensor:
        logit_UL1: Tensor = self.layers(torch.cat([interest_ULH, behavior_ULE], dim=-1))
        return logit_UL1.squeeze(-1)
