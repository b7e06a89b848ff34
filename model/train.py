"""The training loop: best validation AUC wins, whatever ends the run. No files, no printing; progress is a callback."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from model.bundle.encode import Tensors
from model.bundle.vocabulary import Ids
from model.data.batches import EncodedSplit, batches
from model.data.negatives import NegativeSampler
from model.evaluate import predict
from model.metrics import all_metrics
from model.nets import Net
from model.nets.interest import InterestNet
from model.optimizer import NetOptimizer, sparse_gradients
from model.train_config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Step:
    """Progress after one batch. `loss` is this batch's; `auc` the newest validation AUC, NaN before the first."""

    epoch: int
    done: int  # samples of this epoch
    total: int
    loss: float
    auc: float


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a net learns from. Without `sampler` DIEN's auxiliary loss has no negatives and is left out."""

    train: EncodedSplit
    valid: EncodedSplit
    sampler: NegativeSampler | None = None
    impressions: Mapping[str, Tensor] | None = None  # for train.embedding_l2: regularisation.impressions_by_table


@dataclass
class Training:
    """What a training run came to. `net` holds the best weights."""

    net: Net
    best_auc: float = float("nan")
    best_epoch: float = 0.0
    interrupted: bool = False
    evaluations: list[dict[str, float]] = field(default_factory=list)


def train(
    net: Net,
    samples: Samples,
    *,
    config: TrainConfig,
    report: Callable[[Step], None] = lambda step: None,
) -> Training:
    """Train `net` in place until the epochs or the patience run out, or Ctrl-C; then restore the best weights.

    The order of samples and the negatives come from `config.seed`; dropout from torch's global generator, which the
    caller seeds together with the initial weights.
    """
    with sparse_gradients(net):
        return _train(_Run(net, samples, config), report)


def _train(run: "_Run", report: Callable[[Step], None]) -> Training:
    net, samples, config = run.net, run.samples, run.config
    result = Training(net=net)
    best: dict[str, Tensor] = {}
    stale, valid = 0, samples.valid
    try:
        for step, evaluate_now in run.steps():
            if evaluate_now:
                figures = all_metrics(valid.label, predict(net, valid), valid.user)
                epoch = step.epoch - 1 + step.done / step.total
                result.evaluations.append({"epoch": epoch, **figures})
                if math.isnan(result.best_auc) or figures["auc"] > result.best_auc:
                    result.best_auc, result.best_epoch, stale = figures["auc"], epoch, 0
                    best = copy.deepcopy(net.state_dict())
                elif (stale := stale + 1) >= config.patience:
                    break
            report(_with_auc(step, result))
    except KeyboardInterrupt:
        result.interrupted = True
    if best:
        net.load_state_dict(best)
    net.eval()
    return result


class _Run:
    """One pass after another over the training split."""

    def __init__(self, net: Net, samples: Samples, config: TrainConfig) -> None:
        self.net, self.samples, self.config = net, samples, config
        self.rng = np.random.default_rng(config.seed)
        steps_per_epoch = math.ceil(len(samples.train) / config.batch_size)
        self.optimizer = NetOptimizer(net, config, steps_per_epoch=steps_per_epoch, impressions=samples.impressions)
        self.loss = nn.BCEWithLogitsLoss()

    def steps(self) -> Iterator[tuple[Step, bool]]:
        """Train batch by batch; after each one tell where we are and whether it is time to evaluate."""
        split = self.samples.train
        for epoch in range(1, self.config.epochs + 1):
            done, evaluated = 0, 0
            for rows in self._batches():
                loss = self._step(split.take(rows))
                done += len(rows)
                due = done * self.config.evaluations_per_epoch // len(split)
                yield Step(epoch=epoch, done=done, total=len(split), loss=loss, auc=float("nan")), due > evaluated
                evaluated = due

    def _batches(self) -> Iterator[Ids]:
        config = self.config
        split, bucket = self.samples.train, config.length_buckets
        return batches(split, batch_size=config.batch_size, rng=self.rng, bucket=bucket)

    def _step(self, batch: Tensors) -> float:
        self.net.train()
        tensors = {name: torch.from_numpy(tensor) for name, tensor in batch.items()}
        state = self.net.encode_user(tensors)
        loss: Tensor = self.loss(self.net.score(state, tensors)[:, 0], tensors["label"])
        if isinstance(self.net, InterestNet) and self.samples.sampler is not None and self.net.auxiliary_alpha > 0:
            negatives = self.samples.sampler.sample(batch["history"], batch["history_len"], self.rng)  # type: ignore[arg-type]  # int64 by contract
            auxiliary = self.net.auxiliary_loss(state, tensors["history"], torch.from_numpy(negatives))
            loss = loss + self.net.auxiliary_alpha * auxiliary
        self.optimizer.step(loss)
        return float(loss.detach())


def _with_auc(step: Step, result: Training) -> Step:
    newest = result.evaluations[-1]["auc"] if result.evaluations else float("nan")
    return Step(**{**step.__dict__, "auc": newest})
