"""What serves now, or why nothing does."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from model.bundle.errors import BundleError
from service.api.parse import ScoreParser
from service.config import Settings
from service.errors import NotReady
from service.loader import Loaded, Runtimes, load
from service.metrics import Metrics
from service.scoring.scorer import Scorer, ScorerOptions
from service.scoring.workers import Clock, Workers
from service.stores.base import BehaviorStore, UserId


@dataclass(frozen=True, kw_only=True)
class Served:
    """A loaded bundle with the parser and the scorer made for it."""

    loaded: Loaded
    parser: ScoreParser
    scorer: Scorer


class Serving:
    """Holds the bundle that serves. Starts empty; `load` fills it, in the background."""

    def __init__(self, settings: Settings, *, store: BehaviorStore, workers: Workers, clock: Clock) -> None:
        self.workers = workers
        self._settings = settings
        self._store = store
        self._options = ScorerOptions(clock=clock, store_timeout_s=settings.store_timeout_ms / 1e3)
        self._served: Served | None = None
        self._reason = "the bundle is still loading"

    def current(self) -> Served:
        """What serves now. Raises NotReady with the reason if nothing can."""
        if self._served is None:
            raise NotReady(self._reason)
        if not self.workers.alive:
            raise NotReady("a compute worker died")
        return self._served

    def route(self, user_id: UserId) -> Served:
        """What serves this user. Raises NotReady."""
        return self.current()

    async def load(self, runtimes: Runtimes, *, metrics: Metrics, log: FilteringBoundLogger) -> None:
        """Load the configured bundle in a thread. A bundle that is refused leaves the reason for /readyz."""
        path, limit = Path(self._settings.bundle), self._settings.max_candidates
        try:
            loaded = await asyncio.to_thread(load, path, max_candidates=limit, runtimes=runtimes)
        except BundleError as error:
            self._reason = f"bundle refused: {error}"
            log.error("bundle refused", file=error.file, error=str(error))
        except Exception as error:
            self._reason = f"bundle refused: {type(error).__name__} while loading; the log has more"
            log.error("bundle refused", error=str(error), exc_info=True)
        else:
            self._served = self._serve(loaded)
            metrics.serves(loaded.manifest.name, loaded.manifest.version)
            log.info("ready", bundle=loaded.manifest.name, bundle_version=loaded.manifest.version)

    def _serve(self, loaded: Loaded) -> Served:
        settings = self._settings
        parser = ScoreParser(
            loaded.encoder.schema, max_candidates=settings.max_candidates, max_history=settings.history_keep
        )
        scorer = Scorer(loaded.encoder, loaded.runtime, store=self._store, workers=self.workers, options=self._options)
        return Served(loaded=loaded, parser=parser, scorer=scorer)
