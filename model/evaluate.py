"""Scores of a whole split by the eager net."""

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from model.bundle.schema import Keys
from model.bundle.vocabulary import Ids
from model.data.rows import Split
from model.nets import Net
from model.predictions import Predictions
from model.ranks import ALONE, Ranks
from model.table_shards import fetched


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
    """Raw logits [N] in the split's order; else as `predict`. Of a split on disk a rank reads what it scores."""
    net.eval()
    device = next(net.parameters()).device
    out, done = torch.zeros(len(split)), 0
    for rows, tensors in fetched(net, _scan(split, batch_size, ranks, device=device), ranks):
        with torch.inference_mode():
            out[rows] = net(tensors, tensors)[:, 0].cpu()
        done += len(rows)
        report(done)
    return ranks.total(out).numpy()  # of a row all but one rank have 0


def _scan(
    split: Split, batch_size: int, ranks: Ranks, *, device: torch.device
) -> Iterator[tuple[Ids, dict[str, torch.Tensor]]]:
    for rows, batch in split.scan(batch_size, reader=ranks.rank, readers=ranks.size):
        yield rows, {name: torch.from_numpy(tensor).to(device) for name, tensor in batch.items()}


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
