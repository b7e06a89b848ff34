"""What a run asks of its log, whether that is in memory or in shards: the one place that tells the two apart."""

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Encoder
from model.bundle.schema import Keys
from model.bundle.vocabulary import Ids
from model.data.batches import encode_split
from model.data.log import Log
from model.data.rows import Split
from model.data.sharded_log import ShardedLog
from model.data.vocab import prior_ctr
from model.evaluate import user_activity

AnyLog = Log | ShardedLog


def rows_of(log: AnyLog, split: str, encoder: Encoder) -> Split:
    """A split, encoded. Raises ConfigError for shards that another encoder encoded."""
    if isinstance(log, ShardedLog):
        log.check_encoder(encoder)
        return log.split(split)
    return encode_split(log.splits()[split], encoder)


def activity_of(log: AnyLog, split: str, keys: Keys) -> Ids:
    """[N] training rows of each row's user."""
    return log.activity(split) if isinstance(log, ShardedLog) else user_activity(log.splits()[split], log.train, keys)


def prior_of_items(log: AnyLog, encoder: Encoder, *, before: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """`prior_ctr` of the training split."""
    return log.prior_ctr if isinstance(log, ShardedLog) else prior_ctr(log, encoder, before=before)
