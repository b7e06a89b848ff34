"""The training loop: best validation AUC wins, whatever ends the run. No printing; progress is a callback."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from model.batch_loss import BatchLoss, adapted, training_device
from model.bundle.encode import Tensors
from model.bundle.errors import ConfigError
from model.checkpoint import CHECKPOINT, Checkpoints, Snapshot
from model.data.rows import Drawn
from model.evaluate import predict
from model.metrics import all_metrics
from model.nets import Net
from model.optimizer import NetOptimizer, sparse_gradients, trained_tables
from model.synchronised import Cut, synchronised
from model.table_shards import divided, own_snapshot, sharded_tables, whole_snapshot
from model.train_config import TrainConfig
from model.training import Samples, Step, Training

_GPU_LOSS_EVERY = 20  # batches: reading the loss makes the CPU wait for the GPU


def train(
    net: Net,
    samples: Samples,
    *,
    config: TrainConfig,
    report: Callable[[Step], None] = lambda step: None,
    checkpoints: Checkpoints | None = None,
) -> Training:
    """Train `net` in place until the epochs or the patience run out, or Ctrl-C; then restore the best weights.

    The order of samples and the negatives come from `config.seed`; dropout from torch's global generator, which the
    caller seeds together with the initial weights. With `checkpoints` the run goes on where their start says, and ends
    with the weights that it would have had without the break; an interrupted run leaves the last one there.
    Of several ranks the first one alone writes; all end with the same net, as if one had trained on whole batches.
    With tables divided by `config.sharded_rows` the first alone ends with the whole net, and Ctrl-C raises: then the
    last checkpoint is all that is kept.
    Raises ConfigError for a device or a compiler that is not there.
    """
    device, cut = training_device(config), Cut(samples.ranks)
    tables = divided(net, trained_tables(net), config=config, ranks=cut.ranks, device=device)
    with tables, sparse_gradients(net), adapted(net, config), synchronised(net, cut, compiled=config.compile):
        run = _Run(net.to(device), samples, config, cut)
        if checkpoints is not None and checkpoints.start is not None:
            run.restore(checkpoints.start)
        run.agree()
        try:
            run.go(report, checkpoints)
        except KeyboardInterrupt:
            if sharded_tables(net):  # the whole ones need every rank, and another may be in the middle of a batch
                raise
            run.result.interrupted = True
        if run.best:
            net.load_state_dict(run.best)
        result = run.result
        result.moments = run.optimizer.state() if config.keep_moments else None
        del run  # with its moments, before divided tables become whole
    net.to("cpu").eval()
    if checkpoints is not None and cut.ranks.first and not result.interrupted:
        checkpoints.remove()
    return result


class _Run:
    """One pass after another over the training split, and all that a pass leaves behind."""

    def __init__(self, net: Net, samples: Samples, config: TrainConfig, cut: Cut) -> None:
        self.net, self.samples, self.config, self.ranks = net, samples, config, samples.ranks
        self.result = Training(net=net)
        self.best: dict[str, Tensor] = {}
        self.stale = 0  # evaluations since the best
        self.epoch, self.batch = 1, 0  # the epoch, and how many of its batches are done
        self.rng = np.random.default_rng(config.seed)
        self.epoch_rng = self.rng.bit_generator.state  # as it was when the epoch began
        steps = samples.train.steps(config.batch_size)
        self.optimizer = NetOptimizer(
            net, config, steps_per_epoch=steps, impressions=samples.impressions, max_norm=net.embedding.max_norm
        )
        if samples.moments is not None:
            self.optimizer.take_over(samples.moments)
        self._loss_read = float("nan")
        self.loss = BatchLoss(net, config, sampler=samples.sampler, cut=cut)

    def go(self, report: Callable[[Step], None], checkpoints: Checkpoints | None) -> None:
        """Train from here to the end, and tell and keep after each batch what is due."""
        every = self.config.checkpoint_batches
        for step, evaluate_now in self._steps():
            if evaluate_now and not self._evaluate(step):
                report(self._told(step, evaluated=True))
                return
            due = self.optimizer.steps % every == 0 if every else evaluate_now
            if checkpoints is not None and due:
                self._keep(checkpoints)
            report(self._told(step, evaluated=evaluate_now))

    def _keep(self, checkpoints: Checkpoints) -> None:
        snapshot = whole_snapshot(self.net, self.snapshot(), self.ranks)
        if self.ranks.first:
            checkpoints.write(snapshot)

    def _steps(self) -> Iterator[tuple[Step, bool]]:
        """Train batch by batch; after each one tell where we are and whether it is time to evaluate."""
        total = len(self.samples.train)
        while self.epoch <= self.config.epochs:
            done = 0
            for i, drawn in enumerate(self._batches()):
                evaluated = done * self.config.evaluations_per_epoch // total
                done += drawn.size
                if i < self.batch:
                    continue  # trained before the run was resumed
                loss = self._step(drawn)
                self.batch += 1
                due = done * self.config.evaluations_per_epoch // total > evaluated
                yield Step(epoch=self.epoch, done=done, total=total, loss=loss, auc=float("nan")), due
            self.epoch, self.batch, self.epoch_rng = self.epoch + 1, 0, self.rng.bit_generator.state

    def _batches(self) -> Iterator[Drawn]:
        """The epoch's batches. The order is drawn from the epoch's own random state, then training draws on."""
        now = self.rng.bit_generator.state
        self.rng.bit_generator.state = self.epoch_rng
        size, bucket = self.config.batch_size, self.config.length_buckets
        order = self.samples.train.order(batch_size=size, rng=self.rng, bucket=bucket)
        if self.batch:
            self.rng.bit_generator.state = now
        return order

    def _step(self, drawn: Drawn) -> float:
        self.net.train()
        batch = self._redrawn(self.samples.train.take(drawn.rows), drawn)
        loss = self.loss(batch, self.rng, drawn)
        self.optimizer.step(loss, ranks=self.ranks)
        if loss.is_cuda and self.optimizer.steps % _GPU_LOSS_EVERY != 1:
            return self._loss_read
        self._loss_read = float(self.ranks.total(loss.detach())) / self.ranks.size
        return self._loss_read

    def _redrawn(self, batch: Tensors, drawn: Drawn) -> Tensors:
        """The batch with fresh negatives if there are any, drawn lane by lane."""
        fresh = self.samples.fresh
        if fresh is None:
            return batch
        lanes = [({name: tensor[at] for name, tensor in batch.items()}, at, rng) for at, rng in drawn.lanes(self.rng)]
        parts = [fresh.redraw(part, drawn.rows[at], rng) for part, at, rng in lanes]
        return {name: np.concatenate([part[name] for part in parts]) for name in batch}

    def _evaluate(self, step: Step) -> bool:
        """Score the validation split and keep the weights if they are the best; whether to go on."""
        result, valid = self.result, self.samples.valid
        pctr = predict(self.net, valid, ranks=self.ranks)
        figures = self.ranks.told(all_metrics(valid.label, pctr, valid.user) if self.ranks.first else None)
        epoch = step.epoch - 1 + step.done / step.total
        result.evaluations.append({"epoch": epoch, **figures})
        if math.isnan(result.best_auc) or figures["auc"] > result.best_auc:
            result.best_auc, result.best_epoch, self.stale = figures["auc"], epoch, 0
            self.best = {name: tensor.clone() for name, tensor in self.net.state_dict().items()}
            return True
        self.stale += 1
        return self.stale < self.config.patience

    def _told(self, step: Step, *, evaluated: bool) -> Step:
        seen = self.result.evaluations
        step = replace(step, learning_rate=self.optimizer.rate, evaluation=seen[-1] if evaluated else None)
        return replace(step, auc=seen[-1]["auc"]) if seen else step

    def agree(self) -> None:
        """Begin with the first rank's weights. Raises ConfigError where this rank has not found the same checkpoint."""
        place = {"epoch": float(self.epoch), "batch": float(self.batch)}
        if (first := self.ranks.told(place)) != place:
            allowed = f"{first}, as the first rank: a folder that every rank sees"
            raise ConfigError(file=CHECKPOINT, key="(place)", found=place, allowed=allowed)
        own = {f"{name}.weight" for name in sharded_tables(self.net)}
        self.ranks.alike({name: tensor for name, tensor in self.net.state_dict().items() if name not in own})

    def snapshot(self) -> Snapshot:
        """Everything that the rest of the run depends on. Tensors are the live ones."""
        groups = {"net": self.net.state_dict(), "best": self.best, "optimizer": self.optimizer.state()}
        tensors = {f"{group}.{name}": tensor for group, named in groups.items() for name, tensor in named.items()}
        result = self.result
        place = {
            "epoch": self.epoch,
            "batch": self.batch,
            "stale": self.stale,
            "rng": self.rng.bit_generator.state,
            "epoch_rng": self.epoch_rng,
            "best_auc": result.best_auc,
            "best_epoch": result.best_epoch,
            "evaluations": result.evaluations,
        }
        return Snapshot(tensors={**tensors, **_torch_random()}, place=place)

    def restore(self, snapshot: Snapshot) -> None:
        """Stand where `snapshot` was taken, torch's global generators included."""
        snapshot, place, result = own_snapshot(self.net, snapshot), snapshot.place, self.result
        self.net.load_state_dict(snapshot.below("net"))
        self.best = snapshot.below("best")
        self.optimizer.restore(snapshot.below("optimizer"))
        self.epoch, self.batch, self.stale = place["epoch"], place["batch"], place["stale"]
        self.rng.bit_generator.state, self.epoch_rng = place["rng"], place["epoch_rng"]
        result.best_auc, result.best_epoch = place["best_auc"], place["best_epoch"]
        result.evaluations = [dict(evaluation) for evaluation in place["evaluations"]]
        torch.set_rng_state(snapshot.tensors["random.cpu"])
        for i, state in snapshot.below("random.cuda").items():
            torch.cuda.set_rng_state(state, int(i))


def _torch_random() -> dict[str, Tensor]:
    """The states of torch's global generators."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"random.cpu": torch.get_rng_state(), **{f"random.cuda.{i}": state for i, state in enumerate(gpus)}}
