"""What a training takes, tells on the way and comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from model.data.fresh_negatives import FreshNegatives
from model.data.negatives import NegativeSampler
from model.data.rows import Split
from model.nets import Net
from model.ranks import ALONE, Ranks


@dataclass(frozen=True, kw_only=True)
class Step:
    """Progress after one batch. `loss` is this batch's, on a GPU that of one in 20; `auc` the newest validation AUC,
    NaN before the first; `evaluation` all validation figures where this batch was followed by an evaluation.
    """

    epoch: int
    done: int  # samples of this epoch
    total: int
    loss: float
    auc: float
    learning_rate: float = float("nan")  # of this batch's step
    evaluation: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a net learns from. Without `sampler` DIEN's auxiliary loss has no negatives and is left out; without `fresh`
    the non-clicks of `train` stay as they are. Every one of `ranks` has the same samples and takes its part of a batch,
    which of a log in shards is what its lanes have.
    """

    train: Split
    valid: Split
    sampler: NegativeSampler | None = None
    fresh: FreshNegatives | None = None
    impressions: Mapping[str, Tensor] | None = None  # for train.embedding_l2: regularisation.impressions_by_table
    moments: Mapping[str, Tensor] | None = None  # of an earlier optimiser, to go on with: NetOptimizer.take_over
    ranks: Ranks = ALONE


@dataclass
class Training:
    """What a training run came to. `net` holds the best weights, `moments` the optimiser's last ones if kept."""

    net: Net
    best_auc: float = float("nan")
    best_epoch: float = 0.0
    interrupted: bool = False
    evaluations: list[dict[str, float]] = field(default_factory=list)
    moments: Mapping[str, Tensor] | None = None
