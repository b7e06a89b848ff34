"""One training run in order: log -> encoder -> encoded splits -> net -> figures -> a `TrainedRun`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.bundle.encode import Encoder, Tensors
from model.bundle.schema import PADDING
from model.config import RunConfig
from model.data.batches import EncodedSplit, encode_split
from model.data.log import Log
from model.data.negatives import NegativeSampler
from model.data.vocab import fit_encoder, prior_ctr
from model.evaluate import predict
from model.metrics import all_metrics
from model.nets import build_net
from model.regularisation import impressions_by_table
from model.run_folder import TrainedRun, config_table, vocabulary_sizes
from model.train import Samples, Step, Training, train

_GOLDEN_USERS, _GOLDEN_CANDIDATES = 16, 8
_SCORE_BINS = 20


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A log encoded for training."""

    encoder: Encoder
    train: EncodedSplit
    valid: EncodedSplit


def prepare(log: Log, config: RunConfig) -> Prepared:
    """Fit the encoder on the training split and encode what training reads. The test split is not touched."""
    encoder = fit_encoder(log, config.schema)
    return Prepared(encoder=encoder, train=encode_split(log.train, encoder), valid=encode_split(log.valid, encoder))


def run_training(
    log: Log, prepared: Prepared, config: RunConfig, *, report: Callable[[Step], None] = lambda step: None
) -> tuple[TrainedRun, Training]:
    """Train the configured net. Pure in (config, log): the seed is in the configuration; torch's own is restored."""
    encoder = prepared.encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        net = build_net(config.net, config.schema, vocabulary_sizes(encoder), file="config")
        samples = Samples(
            train=prepared.train,
            valid=prepared.valid,
            sampler=NegativeSampler(encoder),
            impressions=_impressions(prepared, config),
        )
        training = train(net, samples, config=config.train, report=report)
    run = TrainedRun(
        net=net,
        encoder=encoder,
        prior_ctr=prior_ctr(log, encoder),
        golden=golden_inputs(prepared.valid, encoder, seed=config.train.seed),
        config=config_table(config),
        metrics=_figures(training, prepared),
    )
    return run, training


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
    return impressions_by_table(prepared.train, config.schema, vocabulary_sizes(prepared.encoder))


def _figures(training: Training, prepared: Prepared) -> dict[str, Any]:
    valid, times = prepared.valid, prepared.train.timestamp
    pctr = predict(training.net, valid)
    counts, edges = np.histogram(pctr, bins=_SCORE_BINS, range=(0.0, 1.0))
    return {
        "splits": {"valid": all_metrics(valid.label, pctr, valid.user)},
        "evaluations": training.evaluations,
        "best_epoch": training.best_epoch,
        "interrupted": training.interrupted,
        "window": {"first": int(times.min()), "last": int(times.max()), "rows": len(prepared.train)},
        "score_distribution": {"split": "valid", "edges": edges.tolist(), "counts": counts.tolist()},
    }
