"""Scores of a whole split by the eager net."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.batches import EncodedSplit
from model.nets import Net


def predict(
    net: Net, split: EncodedSplit, *, batch_size: int = 4096, report: Callable[[int], None] = lambda rows: None
) -> NDArray[np.float32]:
    """pCTR [N] in the split's order. `report` is told the number of rows done. Leaves `net` in evaluation mode."""
    net.eval()
    out = np.empty(len(split), dtype=np.float32)
    order = np.argsort(split.lengths, kind="stable")  # rows of similar length together: less padding, same scores
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            tensors = {name: torch.from_numpy(tensor) for name, tensor in split.take(rows).items()}
            out[rows] = torch.sigmoid(net(tensors, tensors)[:, 0]).numpy()
            report(start + len(rows))
    return out
