"""Explains candidates that have their scores: another job for the same threads, within what is left of the deadline."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle.encode import Encoder, Tensors
from model.bundle.explanation import Seen, Told, explanation
from service.errors import ComputeFailed, Conflict, DeadlineExceeded
from service.runtimes.base import Runtime, RuntimeFailure
from service.scoring.compute import Work
from service.scoring.engine import Clock, Engine
from service.scoring.scored import Scored, ScoreRequest

_NO_GRAPH = (
    "explain: found true, allowed: false with this bundle: it has no graph that tells the attention; "
    "export the run again with `ctr-model export`"
)


@dataclass(eq=False, kw_only=True)
class ExplainWork(Work):
    """Keeps every output, [C, ...] each, as its pieces come in."""

    found: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def take(self, outputs: Tensors, row: int, piece: slice) -> None:
        """See Work."""
        for name, tensor in outputs.items():
            values = tensor[row, : piece.stop - piece.start].astype(np.float32, copy=False)
            if not np.isfinite(values).all():
                raise RuntimeFailure(f"{name} is not a finite number")
            # Of two threads that bring the first pieces, both write to the array of the first.
            whole = self.found.setdefault(name, np.empty((self.rows, *values.shape[1:]), dtype=np.float32))
            whole[piece] = values


class Explaining:
    """Explains with one bundle."""

    def __init__(self, explainer: Runtime | None, encoder: Encoder, *, engine: Engine, clock: Clock) -> None:
        """Without an `explainer` the bundle cannot."""
        self._explainer = explainer
        self._encoder = encoder
        self._engine = engine
        self._clock = clock

    def check(self) -> Runtime:
        """What explains. Raises Conflict if the bundle has no graph for it."""
        if self._explainer is None:
            raise Conflict(_NO_GRAPH)
        return self._explainer

    async def explain(self, request: ScoreRequest, scored: Scored, rows: NDArray[np.int64]) -> dict[str, Any] | None:
        """`explanation` of the answer for these candidates, in this order; None if no net gave the scores.

        `Any`: as JSON has it. Raises what `Scorer.score` does, and Conflict.
        """
        inputs, left = scored.inputs, request.deadline - self._clock()
        explainer = self.check()
        if inputs is None:
            return None
        if left <= 0:
            raise DeadlineExceeded("the deadline passed before the scores were explained")
        items = {name: tensor[rows] for name, tensor in inputs.items.items()}
        candidates = {name: tensor[None] for name, tensor in items.items()}
        work = ExplainWork(runtime=explainer, user=inputs.user, candidates=candidates)
        with self._engine.admit(len(rows), deadline=request.deadline) as job:
            try:
                async with asyncio.timeout(left):
                    await self._engine.submit(job, work)
            except TimeoutError:
                raise DeadlineExceeded("the deadline passed while the scores were explained") from None
            except RuntimeFailure as error:
                raise ComputeFailed("the net could not be explained on this request") from error
        ids = np.asarray(request.candidates[self._encoder.schema.keys.item], dtype=np.int64)[rows]
        seen = Seen(history=inputs.history, user=inputs.user, items=items, item_ids=ids)
        return explanation(self._encoder, seen, _told(work, scored.pctr[rows]))


def _told(work: ExplainWork, pctr: NDArray[np.float32]) -> Told:
    found = work.found
    return Told(
        logit=found["logit"],
        logit_without_history=found["logit_without_history"],
        pctr=pctr,
        attention=found.get("attention"),
        update=found.get("update"),
    )
