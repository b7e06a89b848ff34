"""The end of a process, in order: not ready, a pause in which load balancers notice, then no new connections.

begin() -> draining: /readyz is 503, every answer says `Connection: close`
        -> `delay_s` later, over: the listening socket closes, and what was admitted is finished
"""

import time
from collections.abc import Callable


class Drain:
    """Whether this process is on its way out. `begin` may come from a signal handler or from any thread."""

    def __init__(self, *, delay_s: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`delay_s`: seconds between `begin` and `over`."""
        self._delay_s = delay_s
        self._clock = clock
        self._began: float | None = None

    def begin(self) -> None:
        """Start, once: a second call changes nothing."""
        if self._began is None:
            self._began = self._clock()

    @property
    def draining(self) -> bool:
        """Whether it has begun."""
        return self._began is not None

    @property
    def over(self) -> bool:
        """Whether the pause has passed too, so that listening can end."""
        return self._began is not None and self._clock() >= self._began + self._delay_s
