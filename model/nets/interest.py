"""What the nets with an interest extractor have in common (Zhou et al., AAAI 2019, DIEN).

    history -> GRU -> interest states -> attention of each candidate on them -> `evolution` -> what the head reads

A net of this family says how many GRUs extract and what evolution makes of states and attention. Extraction, and what
evolution needs of the states, belong to the user half.

With `residual`, an interest state is e_t + s h_t, e_t the behavior and h_t the GRU's state, and what the head reads is
DIN's sum of attended states plus s' times the final interest. s and s' start at 0 (ReZero, Bachlechner et al., UAI
2021, equation 2): the net starts as DIN, and loops that know a user by heart do not come before what generalises.

U users, C candidates, L history, E width of one behavior, H = E hidden, G gates of the evolution.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from model.bundle.schema import Schema
from model.bundle.typed_table import setting
from model.nets.attention import make_attention
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors
from model.nets.factors import add_factors, factor_state
from model.nets.frame import AttentionConfig, candidate_part, make_factors, make_head, read_history, user_part
from model.nets.gru import Gru


@dataclass(frozen=True, kw_only=True)
class InterestConfig(AttentionConfig):
    """Settings of every net with an interest extractor; sizes are those of the public code."""

    auxiliary: Literal["dot", "mlp"] = "dot"  # dot: the paper's inner product; mlp: the public code's 100-50-1
    auxiliary_alpha: float = setting(0.0, low=0.0)  # weight of the auxiliary loss; 0 trains without it
    residual: bool = False  # begins as DIN and learns how much of the states to add


class Evolution(Protocol):
    """A recurrence over interest states that attention steers; an nn.Module."""

    def inputs(self, interest_ULH: Tensor) -> Tensor:
        """The user half: what each step reads of its state, [U, L, G]."""

    def __call__(self, inputs_ULG: Tensor, attention_UCL: Tensor, mask_UL: Tensor) -> Tensor:
        """The candidate half: the final state [U, C, H]; attention is 0 where the mask is."""


class AttendedSum(nn.Module):
    """The evolution that is none: interest states weighted by attention, as in DIN."""

    def forward(self, states_ULH: Tensor, attention_UCL: Tensor, mask_UL: Tensor) -> Tensor:
        """[U, C, H]; attention is 0 where the mask is."""
        return attention_UCL @ states_ULH


class InterestNet(nn.Module):
    """Head over [user; context; pooled history | target; other item features; target * pooled; final interest]."""

    candidate_tile = 0  # the steps of a recurrence are small: every tile would pay for all of them again

    def __init__(
        self,
        config: InterestConfig,
        schema: Schema,
        sizes: Mapping[str, int],
        *,
        evolution: Callable[[int, int], Evolution | AttendedSum],
        extractors: int = 1,
    ) -> None:
        """`evolution` is made for the width of its inputs and of its state."""
        super().__init__()
        self.embedding = FeatureEmbedding(schema, sizes, max_norm=config.max_norm)
        self.pooling: Pooling = config.pooling
        E = self.embedding.behavior_width
        self.extractor = Gru(E, E) if extractors == 1 else nn.Sequential(*(Gru(E, E) for _ in range(extractors)))
        self.attention = make_attention(config.attention_kind, E, hidden=config.attention, softmax=True)
        self.evolution: Evolution | AttendedSum = evolution(E, E)
        self.state_share = nn.Parameter(torch.zeros(())) if config.residual else None
        loops = not isinstance(self.evolution, AttendedSum)
        self.evolved_share = nn.Parameter(torch.zeros(())) if config.residual and loops else None
        self.auxiliary_alpha = config.auxiliary_alpha
        self.discriminator = _Discriminator(E) if config.auxiliary == "mlp" else _InnerProduct()
        self.head = make_head(config, self.embedding, reads=E)
        self.factors = make_factors(config, schema, sizes)

    def extract_interest(self, history_ULE: Tensor) -> Tensor:
        """Interest states [U, L, H], one after each behavior. Padding comes last, so no real state sees it."""
        interest_ULH: Tensor = self.extractor(history_ULE)
        return interest_ULH if self.state_share is None else history_ULE + self.state_share * interest_ULH

    def encode_user(self, request: Tensors) -> dict[str, Tensor]:
        """The user half: request tensors and history -> state."""
        history_ULE, mask_UL, pooled_UE = read_history(self.embedding, request, self.pooling)
        interest_ULH = self.extract_interest(history_ULE)
        state = {
            "state_share": self.head.user_half(user_part(self.embedding, request, pooled_UE)),
            "state_pooled": pooled_UE,
            "state_keys": self.attention.keys(interest_ULH),
            "state_mask": mask_UL,
            **factor_state(self.factors, request),
        }
        if not isinstance(self.evolution, AttendedSum):  # which reads the keys themselves
            state["state_inputs"] = self.evolution.inputs(interest_ULH)
        return state

    def score(self, state: Tensors, candidates: Tensors) -> Tensor:
        """The candidate half: state and candidates -> logit [U, C]."""
        keys_ULK, mask_UL = state["state_keys"], state["state_mask"]
        target_UCE = self.embedding.target(candidates)
        weight_UCL = self.attention(target_UCE, keys_ULK, mask_UL)
        inputs_ULG = state["state_inputs"] if "state_inputs" in state else keys_ULK[..., :-1]
        evolved_UCH = self.evolution(inputs_ULG, weight_UCL, mask_UL)
        if self.evolved_share is not None:
            evolved_UCH = weight_UCL @ keys_ULK[..., :-1] + self.evolved_share * evolved_UCH
        candidate_UCD = candidate_part(self.embedding, state, candidates, evolved_UCH)
        logit_UC: Tensor = self.head(state["state_share"], candidate_UCD)
        return add_factors(logit_UC, self.factors, state, candidates)

    def forward(self, request: Tensors, candidates: Tensors) -> Tensor:
        """Both halves: logit [U, C]."""
        return self.score(self.encode_user(request), candidates)

    def auxiliary_loss(self, state: Tensors, history_ULF: Tensor, negatives_ULF: Tensor) -> Tensor:
        """Mean over real steps of -[log p(h_t, e_t+1) + log(1 - p(h_t, e'_t+1))] (DIEN, section 4.2, eq. 6).

        `negatives_ULF` holds a behavior that did not happen for each position of the history; padding counts for
        nothing. 0 where no history has two behaviors. Training only: nothing of it is in the exported graph.
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
