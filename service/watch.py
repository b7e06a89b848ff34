"""Follows the pointers: what they name is loaded beside the requests, and serves once it has passed every check.

    look -> what should serve, by role
         -> serves already, in this role or the other: nothing to load
         -> new: load, verify, replay, warm up in a thread of low priority, then one assignment on the event loop
         -> refused: the old one goes on serving; the new one is tried again when it changes, and from time to time

Polling rather than file events: those do not reach a client of NFS, nor many Kubernetes volumes, nor a URL.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from model.bundle.errors import BundleError
from model.bundle.manifest import MANIFEST
from service.bundle_metrics import BundleMetrics
from service.loader import Loaded
from service.low_priority import in_low_priority
from service.scoring.engine import Clock
from service.serving import Serving
from service.source import ROLES, BundleSource, Role, Wanted

_LONGEST_PAUSE = 128  # looks between two attempts to load the same refused content
_REMEMBERED = 32  # refused contents


@dataclass(kw_only=True)
class Refusal:
    """A version that was refused, and how many looks to wait before it is tried again."""

    version: str
    why: str
    pause: int = 1
    wait: int = 1


class Watch:
    """Keeps what serves at what the pointers name. One step at a time, on the event loop."""

    def __init__(  # noqa: PLR0913  # what it follows, what it changes and what it tells
        self,
        source: BundleSource,
        serving: Serving,
        *,
        load: Callable[[Path], Loaded],
        metrics: BundleMetrics,
        log: FilteringBoundLogger,
        clock: Clock,
    ) -> None:
        self.source = source
        self.serving = serving
        self._load = load
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._refused: dict[Wanted | str, Refusal] = {}  # the newest last; a text where not even a look was possible
        self.last_refusal: Refusal | None = None

    async def run(self, every_s: float) -> None:
        """Look, and look again every `every_s` seconds, until cancelled; 0: only once."""
        while True:
            try:
                await self.step()
            except Exception:  # a defect of ours must not end the watch
                self._log.exception("bundle watch failed")
            if not every_s:
                return
            await asyncio.sleep(every_s)

    async def step(self) -> None:
        """Look once and load what is new. What cannot be loaded leaves everything as it was."""
        try:
            wanted = await in_low_priority(self.source.look)
        except BundleError as error:
            self._refuse(str(error), version="", why=str(error), error=error)
            return
        for role in ROLES:
            version = wanted.get(role)
            if version is None or (role == "canary" and version == wanted["stable"]):
                self.serving.drop(role)
            else:
                await self._follow(role, version)
            self._metrics.serve(self.serving.lineup.facts())

    async def _follow(self, role: Role, wanted: Wanted) -> None:
        found = self.serving.lineup.find(wanted)
        if found is not None:
            self.serving.put(role, found.loaded, wanted)
            return
        if (refusal := self._refused.get(wanted)) is not None:
            refusal.wait -= 1
            if refusal.wait > 0:
                return
        began = self._clock()
        try:
            loaded = await in_low_priority(partial(self._fetch_and_load, wanted))
        except Exception as error:
            why = str(error) if isinstance(error, BundleError) else f"{type(error).__name__} while loading"
            self._refuse(wanted, version=wanted.version, why=why, error=error)
            return
        self._refused.pop(wanted, None)
        self.serving.put(role, loaded, wanted)
        self._metrics.loaded("swapped")
        self._metrics.load_seconds.observe(self._clock() - began)
        name, version = loaded.manifest.name, loaded.manifest.version
        self._log.info("ready", bundle=name, bundle_version=version, role=role, runtime=loaded.runtime.name)

    def _fetch_and_load(self, wanted: Wanted) -> Loaded:
        loaded = self._load(self.source.fetch(wanted))
        if wanted.pointed and loaded.manifest.version != wanted.version:  # answers would name another than the pointer
            raise BundleError(MANIFEST, f"is of version {loaded.manifest.version!r} in a folder {wanted.version!r}")
        return loaded

    def _refuse(self, content: Wanted | str, *, version: str, why: str, error: Exception) -> None:
        """Remember it. Logged and counted once, however often it is tried."""
        self.serving.explain(f"bundle refused: {why}")
        if (known := self._refused.get(content)) is not None:
            known.wait = known.pause = min(2 * known.pause, _LONGEST_PAUSE)
            return
        self.last_refusal = self._refused[content] = Refusal(version=version, why=why)
        if len(self._refused) > _REMEMBERED:
            del self._refused[next(iter(self._refused))]
        self._metrics.loaded("refused")
        unexpected = None if isinstance(error, BundleError) else error
        file = error.file if isinstance(error, BundleError) else None
        self._log.error("bundle refused", bundle_version=version, file=file, error=why, exc_info=unexpected)
