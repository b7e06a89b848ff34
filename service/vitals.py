"""Whether this process can serve, and the figures that only the moment tells."""

import asyncio

from service.errors import NotReady
from service.metrics import Metrics
from service.process import Process
from service.serving import Served, Serving
from service.shared_metrics import ProcessUsage

REFRESH_S = 0.5  # how old the gauges of one process may be when another one shows them
_POLL_S = 0.02


class Vitals:
    """Readiness, and the gauges that are set when somebody looks."""

    def __init__(self, serving: Serving, process: Process, *, metrics: Metrics) -> None:
        self._serving = serving
        self._process = process
        self._metrics = metrics.process
        self._all = metrics
        self._usage = ProcessUsage(metrics.registry) if process.place else None
        self._metrics.living.set(1)
        if process.place and process.place.restarted:
            self._metrics.restarts.inc()

    def ready(self) -> Served:
        """What serves now. Raises NotReady: nothing does, or this process is about to end."""
        if self._process.drain.draining:
            raise NotReady("draining: this process is about to end")
        return self._serving.current()

    def refresh(self) -> None:
        """Set every gauge that changes by itself, and show what is recorded in bulk."""
        self._all.show()
        self._metrics.rows.set(self._serving.engine.rows)
        self._metrics.ready.set(self._is_ready())
        self._metrics.store_circuit.set(self._serving.open_circuits)
        self._metrics.log_lines_lost(self._process.lost_lines())
        if self._usage is not None:
            self._usage.refresh()

    async def keep_fresh(self) -> None:
        """Where others show this process's gauges, refresh them, for ever; end the process if it is of no more use."""
        while self._process.place is not None:
            self.refresh()
            if self._serving.engine.lost:
                self._process.drain.begin()  # the parent replaces it
            await asyncio.sleep(REFRESH_S)

    async def may_listen(self) -> None:
        """Wait until this process should take its share of the connections, or has to end."""
        place = self._process.place
        if place is not None and place.joins_when_ready:
            while not self._is_ready() and not self._process.drain.draining:  # noqa: ASYNC110  # nothing to wait on
                await asyncio.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        try:
            self.ready()
        except NotReady:
            return False
        return True
