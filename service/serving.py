"""What serves now, and whom; or why nothing does.

A lineup is never changed, only replaced, in one assignment on the event loop. A request takes its bundle once, so what
it began with is what it ends with; a bundle that left the lineup is let go with its last request.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from service.api.parse import ScoreParser
from service.bundle_metrics import BundleFacts
from service.config import Settings
from service.errors import Conflict, NotReady
from service.loader import Loaded
from service.scoring.engine import Clock, Engine
from service.scoring.explaining import Explaining
from service.scoring.new_items import ItemSource
from service.scoring.scorer import Net, Scorer, ScorerOptions
from service.source import Role, Wanted
from service.split import in_share
from service.stores.base import BehaviorStore, UserId


@dataclass(frozen=True, kw_only=True)
class Served:
    """A loaded bundle with the parser and the scorer made for it, and what it is there for."""

    role: Role
    wanted: Wanted
    loaded: Loaded
    parser: ScoreParser
    scorer: Scorer
    explaining: Explaining

    @property
    def version(self) -> str:
        """What answers call it."""
        return self.loaded.manifest.version


@dataclass(frozen=True, kw_only=True)
class Lineup:
    """What serves at one moment."""

    stable: Served | None = None
    canary: Served | None = None

    def __iter__(self) -> Iterator[Served]:
        return (served for served in (self.stable, self.canary) if served is not None)

    def find(self, wanted: Wanted) -> Served | None:
        """The one with this content, in whichever role."""
        return next((served for served in self if served.wanted == wanted), None)

    def facts(self) -> list[BundleFacts]:
        """What metrics tell of each."""
        return [BundleFacts.of(served.loaded.manifest, role=served.role) for served in self]


class Serving:
    """Holds the lineup. Starts empty; the watch fills it."""

    def __init__(  # what every bundle that serves is given
        self,
        settings: Settings,
        *,
        store: BehaviorStore,
        engine: Engine,
        clock: Clock,
        items: ItemSource | None = None,
    ) -> None:
        self.engine = engine
        self.lineup = Lineup()
        self._settings = settings
        self._store = store
        self._options = ScorerOptions(
            clock=clock,
            store_timeout_s=settings.store_timeout_ms / 1e3,
            allow_prior=settings.allow_prior,
            state_cache_bytes=settings.state_cache_mb * 1024**2,
            items=items,
        )
        self._reason = "the bundle is still loading"

    @property
    def open_circuits(self) -> int:
        """Servers of the store that are left alone now."""
        return self._store.open_circuits

    def current(self) -> Served:
        """The stable bundle. Raises NotReady with the reason if nothing can serve."""
        stable = self.lineup.stable
        if stable is None:
            raise NotReady(self._reason)
        if not self.engine.alive:
            raise NotReady("a compute thread died")
        return stable

    def route(self, user_id: UserId) -> Served:
        """What serves this user: the canary for its share of users, else the stable bundle. Raises NotReady.

        Each canary has users of its own, so that it is not always the same ones who try what is new.
        """
        stable, canary = self.current(), self.lineup.canary
        if canary is not None and in_share(f"{canary.version}:{user_id}", percent=self._settings.canary_percent):
            return canary
        return stable

    def of_role(self, role: Role) -> Served:
        """The bundle of that role. Raises NotReady if nothing serves, Conflict if there is no canary."""
        stable, canary = self.current(), self.lineup.canary
        if role == "stable":
            return stable
        if canary is None:
            raise Conflict("there is no canary")
        return canary

    def beside(self, served: Served) -> Served | None:
        """The other bundle of the lineup, if there is one."""
        return self.lineup.stable if served.role == "canary" else self.lineup.canary

    def put(self, role: Role, loaded: Loaded, wanted: Wanted) -> None:
        """Let `loaded` serve in this role from now on. Nothing happens if it does so already."""
        found = self.lineup.find(wanted)
        if found is not None and found.role == role:
            return
        served = self._serve(role, loaded, wanted) if found is None else replace(found, role=role)
        self.lineup = replace(self.lineup, **{role: served})

    def drop(self, role: Role) -> None:
        """End this role's bundle."""
        self.lineup = replace(self.lineup, **{role: None})

    def explain(self, reason: str) -> None:
        """Why nothing serves, for as long as nothing does."""
        self._reason = reason

    def _serve(self, role: Role, loaded: Loaded, wanted: Wanted) -> Served:
        settings = self._settings
        parser = ScoreParser(
            loaded.encoder.schema,
            max_candidates=settings.max_candidates,
            max_history=settings.history_keep,
            max_explained=settings.explain_candidates,
        )
        net = Net(encoder=loaded.encoder, runtime=loaded.runtime, prior_ctr=loaded.prior_ctr)
        scorer = Scorer(net, store=self._store, engine=self.engine, options=self._options)
        explaining = Explaining(loaded.explainer, loaded.encoder, engine=self.engine, clock=self._options.clock)
        return Served(role=role, wanted=wanted, loaded=loaded, parser=parser, scorer=scorer, explaining=explaining)
