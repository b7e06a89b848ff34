"""`din`: Deep Interest Network (Zhou et al., KDD 2018). U users, C candidates, L history, E width of one behavior."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from model.bundle.schema import Schema
from model.nets.attention import make_attention
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors
from model.nets.factors import add_factors, factor_state
from model.nets.frame import AttentionConfig, candidate_part, make_factors, make_head, read_history, user_part


@dataclass(frozen=True, kw_only=True)
class DinConfig(AttentionConfig):
    """Settings of `din`."""

    softmax: bool = False  # the paper keeps the raw weights, so that their sum tells the intensity of interest


class Din(nn.Module):
    """Head over [user; context; pooled history | target; other item features; target * pooled; attended history]."""

    candidate_tile = 64  # activations of 64 candidates x 100 behaviors x 80 stay in a 2 MB L2 (DESIGN 4)

    def __init__(self, config: DinConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(schema, sizes, max_norm=config.max_norm)
        self.pooling: Pooling = config.pooling
        E = self.embedding.behavior_width
        self.attention = make_attention(config.attention_kind, E, hidden=config.attention, softmax=config.softmax)
        self.head = make_head(config, self.embedding, reads=E)
        self.factors = make_factors(config, schema, sizes)

    def encode_user(self, request: Tensors) -> dict[str, Tensor]:
        """The user half: request tensors and history -> state."""
        history_ULE, mask_UL, pooled_UE = read_history(self.embedding, request, self.pooling)
        return {
            "state_share": self.head.user_half(user_part(self.embedding, request, pooled_UE)),
            "state_pooled": pooled_UE,
            "state_keys": self.attention.keys(history_ULE),
            "state_mask": mask_UL,
            **factor_state(self.factors, request),
        }

    def score(self, state: Tensors, candidates: Tensors) -> Tensor:
        """The candidate half: state and candidates -> logit [U, C]."""
        target_UCE = self.embedding.target(candidates)
        weight_UCL = self.attention(target_UCE, state["state_keys"], state["state_mask"])
        attended_UCE = weight_UCL @ state["state_keys"][..., :-1]
        candidate_UCD = candidate_part(self.embedding, state, candidates, attended_UCE)
        logit_UC: Tensor = self.head(state["state_share"], candidate_UCD)
        return add_factors(logit_UC, self.factors, state, candidates)

    def forward(self, request: Tensors, candidates: Tensors) -> Tensor:
        """Both halves: logit [U, C]."""
        return self.score(self.encode_user(request), candidates)
