"""One training run in order: log -> encoder -> encoded splits -> net -> figures -> a `TrainedRun`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.bundle.encode import Encoder, Tensors
from model.bundle.schema import PADDING
from model.checkpoint import LANES, Checkpoints, run_identity
from model.config import RunConfig
from model.data.batches import EncodedSplit, encode_split
from model.data.clicked_pairs import Pairs
from model.data.downsample import downsampled
from model.data.fresh_negatives import FreshNegatives
from model.data.known import extended
from model.data.lanes import lanes_of
from model.data.negatives import NegativeSampler
from model.data.rows import Split
from model.data.sharded_log import ShardedLog
from model.data.sharded_split import ShardedSplit
from model.data.vocab import fit_encoder
from model.evaluate import score_split
from model.incremental import Parent, check_parent, go_on
from model.log_facts import AnyLog, activity_of, prior_of_items, rows_of
from model.nets import build_net
from model.pretrained import fill_tables
from model.ranks import current_ranks
from model.regularisation import impressions_by_table
from model.report.assessment import assess, assess_split, begun_report
from model.report.attention import attention_maps
from model.report.figures import Scores
from model.run_folder import TrainedRun, config_table, vocabulary_sizes
from model.train import train
from model.training import Samples, Step, Training

_GOLDEN_USERS, _GOLDEN_CANDIDATES = 16, 8


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A log encoded for training, and what training goes on from if it does not begin anew."""

    encoder: Encoder
    train: Split
    valid: Split
    parent: Parent | None = None
    clicked: Callable[[], Pairs] | None = None  # of a log in shards: who clicked what


def prepare(log: AnyLog, config: RunConfig, *, parent: Parent | None = None) -> Prepared:
    """Fit the encoder on the training split and encode what training reads. The test split is not touched.

    With a `parent` its encoder learns the new ids of the log, which is `incremental.newer` then. Raises ConfigError if
    the parent has another schema or net, and for shards that were not prepared from it.
    """
    seed, rate = config.train.seed, config.train.negative_sampling_rate
    if parent is not None:
        check_parent(parent, config)
    if isinstance(log, ShardedLog):
        log.check_parent(parent)
        ranks = current_ranks()
        lanes = lanes_of(config.data.lanes, rank=ranks.rank, ranks=ranks.size)
        train = log.split("train", lanes=lanes, rate=rate, seed=seed)
        valid = log.split("valid")
        return Prepared(encoder=log.encoder, train=train, valid=valid, parent=parent, clicked=log.clicked_pairs)
    encoder = fit_encoder(log, config.schema)
    if parent is not None:
        encoder = extended(parent.encoder, encoder)
    rng = np.random.default_rng(seed)
    kept = downsampled(log.train, label=config.schema.keys.label, rate=rate, rng=rng)
    train_split, valid_split = encode_split(kept, encoder), encode_split(log.valid, encoder)
    return Prepared(encoder=encoder, train=train_split, valid=valid_split, parent=parent)


def run_training(
    log: AnyLog,
    prepared: Prepared,
    config: RunConfig,
    *,
    report: Callable[[Step], None] = lambda step: None,
    checkpoints: Checkpoints | None = None,
) -> tuple[TrainedRun, Training]:
    """Train the configured net. Pure in (config, log): the seed is in the configuration; torch's own is restored.

    Of several ranks the first one calls this, the others `follow_training`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        training, pretrained = _trained(prepared, config, report=report, checkpoints=checkpoints)
    net, encoder, parent = training.net, prepared.encoder, prepared.parent
    valid = score_split(net, prepared.valid, activity_of(log, "valid", config.schema.keys))
    assessed = assess(valid, config.calibration, negative_sampling_rate=config.train.negative_sampling_rate)
    golden = golden_inputs(next(prepared.valid.parts()), encoder, seed=config.train.seed)
    metrics = {**_history(training, prepared), **assessed.metrics, **({"pretrained": pretrained} if pretrained else {})}
    metrics |= {"parent": parent.to_table()} if parent else {}
    table = config_table(config)
    run = TrainedRun(
        net=net,
        encoder=encoder,
        prior_ctr=prior_of_items(log, encoder, before=parent.prior_ctr if parent else None),
        golden=golden,
        config=table,
        metrics=metrics,
        predictions={"valid": valid},
        report={
            **begun_report(log, config.schema, config=table, metrics=metrics),
            **assessed.report,
            "attention": attention_maps(net, golden, encoder),
        },
    )
    return run, training


def train_only(prepared: Prepared, config: RunConfig, *, report: Callable[[Step], None]) -> Training:
    """The net trained as `run_training` does it, and nothing measured: for a search, which wants its AUC alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return _trained(prepared, config, report=report, checkpoints=None)[0]


def follow_training(prepared: Prepared, config: RunConfig, *, checkpoints: Checkpoints) -> None:
    """What every rank but the first does while that one is in `run_training`: its part of each batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        _trained(prepared, config, report=lambda step: None, checkpoints=checkpoints)


def _trained(
    prepared: Prepared, config: RunConfig, *, report: Callable[[Step], None], checkpoints: Checkpoints | None
) -> tuple[Training, dict[str, dict[str, int]]]:
    """The net as the configuration says, trained, and what was found of its pretrained tables."""
    encoder = prepared.encoder
    net = build_net(config.net, config.schema, vocabulary_sizes(encoder), file="config")
    pretrained = fill_tables(net.embedding, encoder, config.pretrained, base=config.base)
    if prepared.parent is not None:
        go_on(net, prepared.parent)
    samples = Samples(
        train=prepared.train,
        valid=prepared.valid,
        sampler=NegativeSampler(encoder),
        fresh=_fresh_negatives(prepared) if config.train.fresh_negatives else None,
        impressions=_impressions(prepared, config),
        moments=prepared.parent.moments if prepared.parent else None,
        ranks=current_ranks(),
    )
    return train(net, samples, config=config.train, report=report, checkpoints=checkpoints), pretrained


def _fresh_negatives(prepared: Prepared) -> FreshNegatives:
    clicked = prepared.clicked() if prepared.clicked else None
    return FreshNegatives(prepared.encoder, prepared.train, clicked=clicked)


def evaluated(run: TrainedRun, log: AnyLog, *, split: str, base: Scores | None = None) -> TrainedRun:
    """The run with the figures, the scores and the report of another split of its log.

    `base` are the scores of a run of `base` on the same rows, for RelaImpr. Raises ConfigError if they are of others.
    """
    rows = score_split(run.net, rows_of(log, split, run.encoder), activity_of(log, split, run.schema.keys))
    metrics, report = assess_split(rows, split, calibration=run.calibration, base=base)
    return replace(
        run,
        metrics={**run.metrics, "splits": {**run.metrics["splits"], split: metrics}},
        predictions={split: rows},
        report={**run.report, "splits": {**run.report["splits"], split: report}} if run.report else {},
    )


def checkpoints_of(prepared: Prepared, config: RunConfig, *, folder: Path, resume: bool) -> Checkpoints:
    """Where the run keeps its place. Raises ConfigError if `resume` finds a checkpoint of another run in `folder`."""
    identity = run_identity(config_table(config), {"train": prepared.train, "valid": prepared.valid})
    identity |= {"parent": prepared.parent.digest} if prepared.parent else {}
    if isinstance(prepared.train, ShardedSplit):  # both shape its batches
        identity |= {LANES: prepared.train.lanes.count, "data.memory_mb": config.data.memory_mb}
    return Checkpoints(folder, identity=identity, resume=resume)


def golden_inputs(split: EncodedSplit, encoder: Encoder, *, seed: int) -> Tensors:
    """Rows on which exports are checked: 16 users of the split over all history lengths, one with an empty history.

    Each has 8 candidates: the row's own, an unknown item, and items drawn from the catalogue.
    """
    by_length = np.argsort(split.lengths, kind="stable")
    rows = by_length[np.linspace(0, len(by_length) - 1, _GOLDEN_USERS).astype(np.int64)]
    taken = split.take(rows)
    tensors = {name: tensor for name, tensor in taken.items() if name != "label"}
    tensors["history"][0], tensors["history_len"][0] = PADDING, 0
    item = encoder.schema.keys.item
    unknown = encoder.catalogue.ids.max() + 1
    drawn = np.random.default_rng(seed).choice(encoder.catalogue.ids, _GOLDEN_USERS * (_GOLDEN_CANDIDATES - 2))
    others = encoder.encode_items({item: np.concatenate([np.full(_GOLDEN_USERS, unknown), drawn])})
    for name, encoded in others.items():
        each = encoded.reshape(_GOLDEN_CANDIDATES - 1, _GOLDEN_USERS, -1).swapaxes(0, 1)
        tensors[name] = np.concatenate([tensors[name], each], axis=1)
    return tensors


def _impressions(prepared: Prepared, config: RunConfig) -> dict[str, Tensor] | None:
    """Counted only where they are used: on a long log that takes a while."""
    if not config.train.embedding_l2:
        return None
    sizes = vocabulary_sizes(prepared.encoder)
    return impressions_by_table(prepared.train, config.schema, sizes, ranks=current_ranks())


def _history(training: Training, prepared: Prepared) -> dict[str, Any]:
    first, last = prepared.train.span()
    return {
        "evaluations": training.evaluations,
        "best_epoch": training.best_epoch,
        "interrupted": training.interrupted,
        "window": {"first": first, "last": last, "rows": len(prepared.train)},
    }
