"""A scored request as the bytes of its answer."""

from collections.abc import Mapping, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from model.bundle.vocabulary import Ids
from service.scoring.scorer import Scored

Column = Sequence[str] | Ids | NDArray[np.float32]

# One candidate: names, and a hole (b"") for each value.
_ROW = (b'{"item_id":', b"", b',"pctr":', b"", b',"rank":', b"", b',"status":', b"", b"},")


def render_scored(
    scored: Scored, item_ids: Ids, *, top_k: int | None, head: Mapping[str, object], ms: Mapping[str, float]
) -> bytes:
    """The JSON of one answer: `head`, what `scored` says of the request, one object per candidate, `ms` per phase.

    Candidates come in the caller's order; with `top_k` only the best, in rank order.
    """
    return orjson.dumps(
        {
            **head,
            "degraded": scored.degraded,
            "user_status": scored.user_status,
            "history_len": scored.history_len,
            "scores": orjson.Fragment(_rows(scored, item_ids, top_k=top_k)),
            "timings_ms": {name: round(milliseconds, 3) for name, milliseconds in ms.items()},
        }
    )


def _rows(scored: Scored, item_ids: Ids, *, top_k: int | None) -> bytes:
    """The list of candidates: whole columns rendered, then put between the names.

    A dict per candidate would take a quarter longer. Scores are written as the shortest decimal that is the same
    float32, which also makes the answer a quarter shorter.
    """
    pctr, rank, status = scored.pctr, scored.rank, scored.status
    if top_k is not None:
        best = np.argsort(rank)[:top_k]
        item_ids, pctr, rank, status = item_ids[best], pctr[best], rank[best], [status[i] for i in best.tolist()]
    parts = list(_ROW) * len(rank)
    columns: tuple[Column, ...] = (item_ids, pctr, rank, status)
    for hole, column in zip((1, 3, 5, 7), columns, strict=True):
        parts[hole :: len(_ROW)] = _values(column)
    parts[-1] = b"}"
    return b"[%b]" % b"".join(parts)


def _values(column: Column) -> list[bytes]:
    """Each value's JSON; none of them has a comma."""
    return orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
