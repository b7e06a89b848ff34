"""A time limit for the store that does not blame the store for an event loop that is late.

A loop with much to do looks at its timers before it looks at its sockets: a reply that has been there for long would
count as missing, and answers would degrade because there are many of them.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_LATE_S = 0.002
_TIMES = 4  # that a late loop is waited for; a store that hangs while the loop is late must end too


@asynccontextmanager
async def patience(timeout_s: float) -> AsyncIterator[None]:
    """Raises TimeoutError in the block after `timeout_s`; if the timer itself came late, the time begins again."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:

        def ring(due: float, left: int) -> None:
            nonlocal timer
            now = time.monotonic()
            if left and now - due > _LATE_S:
                timer = loop.call_later(timeout_s, ring, now + timeout_s, left - 1)
            else:
                limit.reschedule(loop.time())

        timer = loop.call_later(timeout_s, ring, time.monotonic() + timeout_s, _TIMES)
        try:
            yield
        finally:
            timer.cancel()
