"""What surrounds every reading of the history: the settings, the pooled history, and what the head sees.

    user half:       [user; context; pooled history]
    candidate half:  [target; the item's other features; target * pooled history; what a net reads of the history]

The product is the public DIN code's (`Model_DIN`): on short histories most of DIN's gain over the paper's figure comes
from there. Functions, not a base class, so that each net reads top to bottom. U users, C candidates, L history,
E width of one behavior, D any width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.bundle.errors import ConfigError
from model.bundle.schema import Schema
from model.bundle.typed_table import setting
from model.nets.attention import AttentionKind
from model.nets.embedding import FeatureEmbedding, Pooling, Tensors, mask_from_length, pool_history
from model.nets.factors import Factors
from model.nets.layers import Activation, SplitHead


@dataclass(frozen=True, kw_only=True)
class FrameConfig:
    """Settings of every net."""

    head: tuple[int, ...] = (200, 80)
    activation: Activation = "dice"
    pooling: Pooling = "mean"  # "sum" is the paper's; on long histories it drowns the target (docs/log.md)
    dropout: float = setting(0.0, low=0.0, high=0.9)
    max_norm: float = setting(0.0, low=0.0)  # of an embedding row; 0 leaves them free
    factors: int = setting(0, low=0, high=4096)  # width of the factor term; 0 leaves it out


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(FrameConfig):
    """Settings of every net with target attention; sizes are those of the public code."""

    attention: tuple[int, ...] = (80, 40)  # of the kind "mlp"
    attention_kind: AttentionKind = "mlp"


def make_head(config: FrameConfig, embedding: FeatureEmbedding, *, reads: int = 0, user_reads: int = 0) -> SplitHead:
    """The head of a net that shows it `reads` numbers more per candidate, and `user_reads` more per user."""
    E = embedding.behavior_width
    return SplitHead(
        embedding.request_width + E + user_reads,
        2 * E + embedding.item_extra_width + reads,
        hidden=config.head,
        activation=config.activation,
        dropout=config.dropout,
    )


def make_factors(config: FrameConfig, schema: Schema, sizes: Mapping[str, int]) -> Factors | None:
    """The factor term of a net, if it has one. Raises ConfigError if no behavior shares the item's id."""
    if not config.factors:
        return None
    item = schema.keys.item
    if item not in {sequence.shares for sequence in schema.behavior}:
        allowed = f"0, or a schema.behavior that shares {item}"
        raise ConfigError(file="config", key="net.factors", found=config.factors, allowed=allowed)
    return Factors(schema, sizes, width=config.factors)


def read_history(embedding: FeatureEmbedding, request: Tensors, pooling: Pooling) -> tuple[Tensor, Tensor, Tensor]:
    """Behaviors [U, L, E], mask [U, L] and pooled history [U, E]."""
    history_ULE = embedding.history(request["history"])
    mask_UL = mask_from_length(request["history"], request["history_len"])
    return history_ULE, mask_UL, pool_history(history_ULE, mask_UL, pooling)


def user_part(embedding: FeatureEmbedding, request: Tensors, pooled_UE: Tensor, *reads_UD: Tensor) -> Tensor:
    """What the head sees of the user, [U, D]; `reads_UD` is what the net found out besides."""
    return torch.cat([*embedding.request(request), pooled_UE, *reads_UD], dim=-1)


def candidate_part(embedding: FeatureEmbedding, state: Tensors, candidates: Tensors, *reads_UCD: Tensor) -> Tensor:
    """What the head sees of a candidate, [U, C, D]; `reads_UCD` is what the net read of the history for it."""
    target_UCE = embedding.target(candidates)
    product_UCE = target_UCE * state["state_pooled"][:, None, :]
    return torch.cat([target_UCE, *embedding.item_extra(candidates), product_UCE, *reads_UCD], dim=-1)
