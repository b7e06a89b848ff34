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
from service.scoring.engine import Clock, Engine
from service.scoring.scorer import Net, Scorer, ScorerOptions
from service.stores.base import BehaviorStore, UserId


@dataclass(frozen=True, kw_only=True)
class Served:
    """A loaded bundle with the parser and the scorer made for it."""

    loaded: Loaded
    parser: ScoreParser
    scorer: Scorer


class Serving:
    """Holds the bundle that serves. Starts empty; `load` fills it, in the background."""

    def __init__(self, settings: Settings, *, store: BehaviorStore, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self._settings = settings
        self._store = store
        self._options = ScorerOptions(
            clock=clock,
            store_timeout_s=settings.store_timeout_ms / 1e3,
            allow_prior=settings.allow_prior,
            state_cache_bytes=settings.state_cache_mb * 1024**2,
        )
        self._served: Served | None = None
        self._reason = "the bundle is still loading"

    def current(self) -> Served:
        """What serves now. Raises NotReady with the reason if nothing can."""
        if self._served is None:
            raise NotReady(self._reason)
        if not self.engine.alive:
            raise NotReady("a compute thread died")
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
            name, version = loaded.manifest.name, loaded.manifest.version
            log.info("ready", bundle=name, bundle_version=version, runtime=loaded.runtime.name)

    def _serve(self, loaded: Loaded) -> Served:
        settings = self._settings
        parser = ScoreParser(
            loaded.encoder.schema, max_candidates=settings.max_candidates, max_history=settings.history_keep
        )
        net = Net(encoder=loaded.encoder, runtime=loaded.runtime, prior_ctr=loaded.prior_ctr)
        scorer = Scorer(net, store=self._store, engine=self.engine, options=self._options)
        return Served(loaded=loaded, parser=parser, scorer=scorer)
