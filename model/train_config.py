"""How to train: the `[train]` section of the file."""

from dataclasses import dataclass
from typing import Literal

from model.bundle.typed_table import setting

EmbeddingOptimizer = Literal["adam", "adagrad", "dense_adam"]
Schedule = Literal["constant", "linear", "cosine", "exponential"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The defaults suit logs of 10^5 to 10^6 impressions."""

    seed: int = setting(0, low=0, high=2**63 - 1)  # what torch takes
    epochs: int = setting(8, low=1)
    batch_size: int = setting(1024, low=1, high=1_000_000)
    learning_rate: float = setting(1e-3, low=0.0)
    embedding_learning_rate: float = setting(0.0, low=0.0)  # of the tables; 0: the same
    schedule: Schedule = "constant"  # of the learning rate; linear and cosine end at 0 with the last epoch
    warmup_steps: int = setting(0, low=0)  # batches in which the learning rate rises to its full value
    epoch_decay: float = setting(0.5, low=0.0, high=1.0)  # exponential: the factor per epoch
    patience: int = setting(2, low=1)  # evaluations without a better validation AUC before stopping
    evaluations_per_epoch: int = setting(1, low=1)
    length_buckets: bool = False  # rows of similar length together: less padding, but AUC falls (docs/log.md)
    clip_norm: float = setting(10.0, low=0.0)  # of the gradient; one bad batch must not undo an epoch
    weight_decay: float = setting(0.0, low=0.0, high=1.0)  # of weight matrices, decoupled (AdamW)
    embedding_optimizer: EmbeddingOptimizer = "adam"  # dense_adam moves every row in every step
    embedding_beta1: float = setting(0.9, low=0.0, high=0.999)  # Adam's momentum for tables; 0 needs no memory for it
    lookup_l2: float = setting(0.0, low=0.0)  # of the rows that an impression looks up, behaviors apart
    embedding_l2: float = setting(0.0, low=0.0)  # mini-batch aware regularisation
    fresh_negatives: bool = False  # non-clicks get another item in every epoch; only where the log drew them at random
    negative_sampling_rate: float = setting(1.0, low=1e-6, high=1.0)  # share of non-clicks trained on; calibrated back
    device: str = "cpu"  # or cuda, cuda:N
    precision: Literal["float32", "bfloat16"] = "float32"  # of the arithmetic; weights stay float32
    compile: bool = False  # torch.compile of both halves
    sharded_rows: int = setting(0, low=0)  # tables with so many rows are divided among ranks; 0: none
    keep_moments: bool = False  # of the optimiser, in the run's folder, for training that goes on from it
    checkpoint_batches: int = setting(0, low=0)  # batches between checkpoints; 0: one per evaluation
