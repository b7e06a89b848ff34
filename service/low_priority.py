"""Work beside the requests: in a thread of its own that gives way to those that answer."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

NICE = 10
END_S = 5.0  # longest wait for the thread when nobody needs its result any more

T = TypeVar("T")


async def in_low_priority(work: Callable[[], T]) -> T:
    """What `work` returns or raises. Threads that it starts are of low priority too (Linux; elsewhere none is).

    Cancelled, it waits a while for the thread to end: one that is killed with the interpreter may crash it.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        lower_priority()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="low-priority", daemon=True)
    thread.start()
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        await asyncio.to_thread(thread.join, END_S)
        raise


def lower_priority(nice: int = NICE) -> None:
    """Let every other thread of this process go before the calling one, where the system can do that."""
    if sys.platform == "linux":  # elsewhere the number means the whole process, or nothing
        with contextlib.suppress(OSError):  # forbidden in this container: then loading costs the answers more
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
