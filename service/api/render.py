"""A scored request as the bytes of its answer."""

from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from service.scoring.scorer import Scored


def render_scored(
    scored: Scored,
    item_ids: Sequence[object],
    *,
    top_k: int | None,
    head: Mapping[str, object],
    ms: Mapping[str, float],
) -> bytes:
    """The JSON of one answer: `head`, what `scored` says of the request, one object per candidate, `ms` per phase.

    Candidates come in the caller's order; with `top_k` only the best, in rank order.
    """
    pctr, rank = scored.pctr.tolist(), scored.rank.tolist()
    rows = [
        {"item_id": item, "pctr": p, "rank": r, "status": status}
        for item, p, r, status in zip(item_ids, pctr, rank, scored.status, strict=True)
    ]
    if top_k is not None:
        rows = [rows[i] for i in np.argsort(scored.rank)[:top_k].tolist()]
    return orjson.dumps(
        {
            **head,
            "degraded": scored.degraded,
            "user_status": scored.user_status,
            "history_len": scored.history_len,
            "scores": rows,
            "timings_ms": {name: round(milliseconds, 3) for name, milliseconds in ms.items()},
        }
    )
