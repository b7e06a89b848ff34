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


def predict(
    net: Net, split: Split, *, batch_size: int = 4096, report: Callable[[int], None] = lambda rows: None
) -> NDArray[np.float32]:
    """pCTR [N] in the split's order, not calibrated. `report` is told the number of rows done.

    Leaves `net` in evaluation mode.
    """
    pctr: NDArray[np.float32] = torch.sigmoid(
        torch.from_numpy(predict_logit(net, split, batch_size=batch_size, report=report))
    ).numpy()
    return pctr


def predict_logit(
    net: Net, split: Split, *, batch_size: int = 4096, report: Callable[[int], None] = lambda rows: None
) -> NDArray[np.float32]:
    """Raw logits [N] in the split's order; else as `predict`. A split on disk is read part by part."""
    net.eval()
    out, before, done = np.empty(len(split), dtype=np.float32), 0, 0
    for part in split.parts():
        for rows, logit in _logits(net, part, batch_size):
            out[before + rows] = logit
            done += len(rows)
            report(done)
        before = done
    return out


def _logits(net: Net, split: EncodedSplit, batch_size: int) -> Iterator[tuple[Ids, NDArray[np.float32]]]:
    device = next(net.parameters()).device
    order = np.argsort(split.lengths, kind="stable")  # rows of similar length together: less padding, same scores
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        tensors = {name: torch.from_numpy(tensor).to(device) for name, tensor in split.take(rows).items()}
        with torch.inference_mode():
            logit = net(tensors, tensors)[:, 0].cpu().numpy()
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
