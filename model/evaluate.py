"""Scores of a whole split by the eager net."""

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from model.bundle.schema import Keys
from model.bundle.vocabulary import Ids
from model.data.batches import EncodedSplit
from model.data.rows import Split
from model.nets import Net
from model.predictions import Predictions
from model.ranks import ALONE, Ranks


def predict(
    net: Net,
    split: Split,
    *,
    batch_size: int = 4096,
    report: Callable[[int], None] = lambda rows: None,
    ranks: Ranks = ALONE,
) -> NDArray[np.float32]:
    """pCTR [N] in the split's order, not calibrated. `report` is told the number of rows done.

    Several ranks divide the batches and each gets all scores, which are those of one process bit for bit. Leaves `net`
    in evaluation mode.
    """
    logit = predict_logit(net, split, batch_size=batch_size, report=report, ranks=ranks)
    pctr: NDArray[np.float32] = torch.sigmoid(torch.from_numpy(logit)).numpy()
    return pctr


def predict_logit(
    net: Net,
    split: Split,
    *,
    batch_size: int = 4096,
    report: Callable[[int], None] = lambda rows: None,
    ranks: Ranks = ALONE,
) -> NDArray[np.float32]:
    """Raw logits [N] in the split's order; else as `predict`. A split on disk is read part by part."""
    net.eval()
    out, before, done = torch.zeros(len(split)), 0, 0
    for part in split.parts():
        for rows, logit in _logits(net, part, batch_size, ranks):
            out[before + rows] = logit
            done += len(rows)
            report(done)
        before += len(part)
    return ranks.total(out).numpy()  # of a row all but one rank have 0


def _logits(net: Net, split: EncodedSplit, batch_size: int, ranks: Ranks) -> Iterator[tuple[Ids, torch.Tensor]]:
    """This rank's batches of what is in memory: their rows and logits."""
    device = next(net.parameters()).device
    order = np.argsort(split.lengths, kind="stable")  # rows of similar length together: less padding, same scores
    starts = range(0, len(order), batch_size)
    for start in starts[ranks.rank :: ranks.size]:  # whole batches: cut otherwise, sums would be rounded otherwise
        rows = order[start : start + batch_size]
        tensors = {name: torch.from_numpy(tensor).to(device) for name, tensor in split.take(rows).items()}
        with torch.inference_mode():
            logit = net(tensors, tensors)[:, 0].cpu()
        yield rows, logit


def score_split(net: Net, split: Split, activity: Ids) -> Predictions:
    """The split with the net's logits. `activity` [N] is what `user_activity` counts for its rows."""
    return Predictions(
        label=split.label,
        logit=predict_logit(net, split),
        user=split.user,
        timestamp=split.timestamp,
        length=split.lengths,
        activity=activity,
    )


def user_activity(frame: pl.DataFrame, train: pl.DataFrame, keys: Keys) -> Ids:
    """[N] impressions that the training split has of each row's user; 0 for a new one."""
    counts = train.group_by(keys.user).agg(pl.len().cast(pl.Int64).alias("impressions"))
    joined = frame.select(keys.user).join(counts, on=keys.user, how="left", maintain_order="left")
    return joined["impressions"].fill_null(0).to_numpy()
