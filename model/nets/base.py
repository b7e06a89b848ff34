"""`base`: the pooled history, no attention (DIN, section 4.2, "BaseModel").

U users, C candidates.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from model.bundle.schema import Schema
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors
from model.nets.factors import add_factors, factor_state
from model.nets.frame import FrameConfig, candidate_part, make_factors, make_head, read_history, user_part


class BaseConfig(FrameConfig):
    """Settings of `base`."""


class Base(nn.Module):
    """Head over [user; context; pooled history | target; other item features; target * pooled history]."""

    candidate_tile = 0

    def __init__(self, config: BaseConfig, schema: Schema, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(schema, sizes, max_norm=config.max_norm)
        self.pooling: Pooling = config.pooling
        self.head = make_head(config, self.embedding)
        self.factors = make_factors(config, schema, sizes)

    def encode_user(self, request: Tensors) -> dict[str, Tensor]:
        """The user half: request tensors and history -> state."""
        _, _, pooled_UE = read_history(self.embedding, request, self.pooling)
        share_UH = self.head.user_half(user_part(self.embedding, request, pooled_UE))
        return {"state_share": share_UH, "state_pooled": pooled_UE, **factor_state(self.factors, request)}

    def score(self, state: Tensors, candidates: Tensors) -> Tensor:
        """The candidate half: state and candidates -> logit [U, C]."""
        logit_UC: Tensor = self.head(state["state_share"], candidate_part(self.embedding, state, candidates))
        return add_factors(logit_UC, self.factors, state, candidates)

    def forward(self, request: Tensors, candidates: Tensors) -> Tensor:
        """Both halves: logit [U, C]."""
        return self.score(self.encode_user(request), candidates)
