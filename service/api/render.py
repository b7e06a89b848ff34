"""A scored request as the bytes of its answer."""

from collections.abc import Mapping, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from model.bundle.vocabulary import Ids
from service.api.rows import CompiledRows
from service.scoring.scored import STATUSES, Scored, Status

Column = Ids | NDArray[np.float32]

# One candidate is its id, _PCTR, its score, one of _RANKS and one of _ENDS, which begins the next.
_BEGIN, _PCTR = b'{"item_id":', b',"pctr":'
_RANKS = [b',"rank":%d,"status":"' % rank for rank in range(2001)]
_ENDS = {status: b'%b"},%b' % (status.encode(), _BEGIN) for status in STATUSES}


def render_scored(scored: Scored, scores: bytes, *, head: Mapping[str, object], ms: Mapping[str, float]) -> bytes:
    """The JSON of one answer: `head`, what `scored` says of the request, `scores` of `render_rows`, `ms` per phase."""
    return orjson.dumps(
        {
            **head,
            "degraded": scored.degraded,
            "user_status": scored.user_status,
            "history_len": scored.history_len,
            "scores": orjson.Fragment(scores),
            "timings_ms": {name: round(milliseconds, 3) for name, milliseconds in ms.items()},
        }
    )


def render_explanation(explanation: Mapping[str, object] | None) -> orjson.Fragment:
    """Its JSON, as a value of `head`; numbers may be numpy's, and are written as the scores are."""
    return orjson.Fragment(orjson.dumps(explanation, option=orjson.OPT_SERIALIZE_NUMPY))


def answered(scored: Scored, top_k: int | None) -> NDArray[np.int64]:
    """Which candidates are answered, in which order."""
    return np.arange(len(scored.rank)) if top_k is None else np.argsort(scored.rank)[:top_k]


def render_rows(scored: Scored, item_ids: Ids, *, top_k: int | None, compiled: CompiledRows | None) -> bytes:
    """The JSON list of candidates, one object each; `compiled` writes it where there is one.

    They come in the caller's order; with `top_k` only the best, in rank order. Scores are written as the shortest
    decimal that is the same float32, which also makes the answer a quarter shorter.
    """
    pctr, rank, status = scored.pctr, scored.rank, scored.status
    if top_k is not None:
        best = answered(scored, top_k)
        item_ids, pctr, rank, status = item_ids[best], pctr[best], rank[best], [status[i] for i in best.tolist()]
    written = compiled.write(item_ids, pctr, rank=rank, status=status) if compiled else None
    return written or _join(item_ids, pctr, rank=rank, status=status)


def _join(item_ids: Ids, pctr: NDArray[np.float32], *, rank: NDArray[np.int64], status: Sequence[Status]) -> bytes:
    """Whole columns rendered, then put between the names; a dict per candidate would take half as long again."""
    parts = [_PCTR] * (5 * len(rank))
    parts[0::5] = _values(item_ids)
    parts[2::5] = _values(pctr)
    parts[3::5] = _ranks(rank)
    parts[4::5] = map(_ENDS.__getitem__, status)
    parts[-1] = parts[-1].removesuffix(b"," + _BEGIN)
    return b"[%b%b]" % (_BEGIN, b"".join(parts))


def _ranks(rank: NDArray[np.int64]) -> list[bytes]:
    if int(rank.max()) < len(_RANKS):
        return [_RANKS[r] for r in rank.tolist()]
    return [b',"rank":%d,"status":"' % r for r in rank.tolist()]


def _values(column: Column) -> list[bytes]:
    """Each value's JSON; none of them has a comma."""
    return orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
