"""Scores a sample of requests on the other bundle too, after the answer was sent, and counts how far the two differ.

    answer sent -> chosen by its request id? -> requests waiting, or a shadow in flight: dropped, and counted
                                             -> the other bundle scores it -> differences per candidate

A history that came with the request is used again. One that came from the store is read again, because the other
bundle may use more of it: it can hold a behavior that came in between.
"""

import asyncio
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from structlog.typing import FilteringBoundLogger

from service.api.schemas import ScoreBody
from service.bundle_metrics import BundleMetrics, ShadowOutcome
from service.config import Settings
from service.errors import DeadlineExceeded, Overloaded, ServiceError
from service.scoring.engine import Clock
from service.scoring.scored import Scored, ScoreRequest
from service.serving import Served, Serving
from service.split import in_share

_AT_ONCE = 50  # differences counted before the event loop gets its turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A request that got its scores, and from which bundle."""

    request_id: str
    body: ScoreBody
    request: ScoreRequest
    scored: Scored
    served: Served


class Shadow:
    """Never slows an answer down by more than the one call to the net that is running when it comes."""

    def __init__(
        self, serving: Serving, settings: Settings, *, metrics: BundleMetrics, log: FilteringBoundLogger, clock: Clock
    ) -> None:
        self._serving = serving
        self._percent = settings.shadow_percent
        self._deadline_s = settings.deadline_ms / 1e3
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()

    def wants(self, request_id: str) -> bool:
        """Whether this request is in the sample. The same in every process, for a repeated request too."""
        return self._percent > 0 and in_share(f"shadow:{request_id}", percent=self._percent)

    async def begin(self, answered: Answered) -> None:
        """Start to score it on the other bundle, if there is one and nobody waits. Returns at once."""
        other = self._serving.beside(answered.served)
        if other is None or answered.scored.degraded != "none":  # nothing to compare, or nothing to compare with
            return
        if self._serving.engine.rows or self._running:
            self._metrics.shadow("dropped")
            return
        task = asyncio.create_task(self._run(answered, other))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """End what is in flight."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, answered: Answered, other: Served) -> None:
        outcome: ShadowOutcome = "failed"
        try:
            scored = await other.scorer.score(self._request(answered, other))
            if scored.degraded == "none":
                await self._count(np.abs(scored.pctr - answered.scored.pctr))
                self._metrics.scored("shadow")
                outcome = "scored"
        except (Overloaded, DeadlineExceeded):
            outcome = "dropped"
        except Exception as error:
            unexpected = None if isinstance(error, ServiceError) else error
            facts = {"request_id": answered.request_id, "bundle_version": other.version, "error": str(error)}
            self._log.warning("shadow failed", **facts, exc_info=unexpected)
        self._metrics.shadow(outcome)

    def _request(self, answered: Answered, other: Served) -> ScoreRequest:
        """The same request in the other bundle's terms. Raises InvalidRequest if it does not fit them."""
        deadline = self._clock() + self._deadline_s
        if other.loaded.manifest.schema == answered.served.loaded.manifest.schema:
            return replace(answered.request, deadline=deadline)
        return other.parser.parse(answered.body, deadline=deadline).request

    async def _count(self, differences: NDArray[np.float32]) -> None:
        observe = self._metrics.shadow_difference.observe
        for number, difference in enumerate(differences.tolist()):
            observe(difference)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
