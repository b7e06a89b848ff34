"""Several serving processes behind one port, and the small parent that starts, watches and ends them.

    died -> Restarts.pause(place) -> a replacement after that pause, or None: give up, exit code 1
    SIGTERM, SIGINT -> SIGTERM to every process -> all drain -> exit code 0

The processes share the port by SO_REUSEPORT (docs/adr/0006-processes-and-threads.md); the parent only holds it, so
that no stranger takes it between two processes. The parent imports nothing that serves: it stays small.
"""

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from structlog.typing import FilteringBoundLogger

from service.config import Settings
from service.process import Place
from service.shared_metrics import forget_dead

QUICK_S = 10.0  # a process that lives for less died of its start
PAUSES_S = (0.5, 1.0, 2.0, 4.0)
END_S = 10.0  # beyond pause and drain: compute threads and connections to the store end
GAVE_UP = OVERRAN = 1  # exit codes
HOPELESS = (2, 3)  # exit codes of a process that another one would repeat: a wrong setting, a port that is taken

Serve = Callable[..., None]


class Restarts:
    """How long to wait before a process is replaced. Pure: times come in, pauses go out."""

    def __init__(self, pauses_s: Sequence[float] = PAUSES_S) -> None:
        """`pauses_s` after the first, second, ... quick death in a row at one place; beyond them is the end."""
        self._pauses_s = pauses_s
        self._quick: dict[int, int] = {}  # place -> quick deaths in a row

    def pause(self, place: int, *, lived_s: float) -> float | None:
        """Seconds to wait; 0 after a long life. None: too many quick deaths in a row, another will not help."""
        quick = self._quick.get(place, 0) + 1 if lived_s < QUICK_S else 0
        self._quick[place] = quick
        if quick == 0:
            return 0.0
        return self._pauses_s[quick - 1] if quick <= len(self._pauses_s) else None


@dataclass
class _Seat:
    """A place: the process that lives there, or when the next one is due."""

    number: int
    process: SpawnProcess | None = None
    started: float = 0.0
    due: float = 0.0
    starts: int = 0


class Supervisor:
    """Runs `settings.workers` processes until it is told to end, in the calling (main) thread."""

    def __init__(
        self, settings: Settings, serve: Serve, *, port: int, log: FilteringBoundLogger, restarts: Restarts
    ) -> None:
        """`serve(settings, place=..., port=...)` is what each process runs until SIGTERM; importable by name."""
        self._settings = settings
        self._serve = serve
        self._port = port
        self._log = log
        self._spawn = multiprocessing.get_context("spawn")
        self._seats = [_Seat(number) for number in range(settings.workers)]
        self._restarts = restarts
        self._ending = False
        self._woken, self._wake = os.pipe()

    def run(self) -> int:
        """Serve. Returns the exit code: 0 after a clean end, 1 if processes kept dying or one had to be killed, and
        the code of a process that ended with one of `HOPELESS`.
        """
        before = {asked: signal.signal(asked, self._end) for asked in (signal.SIGTERM, signal.SIGINT)}
        try:
            with tempfile.TemporaryDirectory(prefix="ctr-metrics-") as folder:
                code = self._watch(Path(folder))
                return self._stop() or code
        finally:
            for asked, handler in before.items():
                signal.signal(asked, handler)

    def _end(self, _: int, __: FrameType | None) -> None:
        self._ending = True
        with suppress(BlockingIOError):
            os.write(self._wake, b"!")

    def _watch(self, folder: Path) -> int:
        """Start and replace processes until the end is asked for (0), or until that is no use (another exit code)."""
        while not self._ending:
            now = time.monotonic()
            for seat in self._seats:
                if seat.process is None and seat.due <= now:
                    self._start(seat, folder)
            due = [seat.due - now for seat in self._seats if seat.process is None]
            living = [seat.process.sentinel for seat in self._seats if seat.process is not None]
            wait([self._woken, *living], timeout=max(0.0, min(due)) if due else None)
            for seat in self._seats:
                if (
                    seat.process is not None
                    and seat.process.exitcode is not None
                    and (code := self._bury(seat, folder))
                ):
                    return code
        return 0

    def _start(self, seat: _Seat, folder: Path) -> None:
        place = Place(number=seat.number, restarted=seat.starts > 0, metrics=folder)
        arguments = {"place": place, "port": self._port}
        seat.process = self._spawn.Process(target=self._serve, args=(self._settings,), kwargs=arguments)
        seat.process.start()
        seat.started = time.monotonic()
        seat.starts += 1
        self._log.info("process started", place=seat.number, pid=seat.process.pid, restarted=place.restarted)

    def _bury(self, seat: _Seat, folder: Path) -> int:
        """Forget a dead process and plan the next. Not 0: do not, and end with this exit code."""
        assert seat.process is not None
        code = seat.process.exitcode
        lived_s = time.monotonic() - seat.started
        pause = None if code in HOPELESS else self._restarts.pause(seat.number, lived_s=lived_s)
        died = {"place": seat.number, "pid": seat.process.pid, "exit_code": code, "lived_s": round(lived_s, 1)}
        seat.process = None
        forget_dead(seat.number, folder)
        if self._ending:
            return 0
        self._log.error("process died", **died, replaced_in_s=pause)
        if pause is None:
            self._log.error("no more replacements", place=seat.number)
            return code if code in HOPELESS else GAVE_UP
        seat.due = time.monotonic() + pause
        return 0

    def _stop(self) -> int:
        """Ask every process to end, and wait. Not 0: one had to be killed, because it took too long."""
        living = [seat.process for seat in self._seats if seat.process is not None]
        for process in living:
            process.terminate()
        give_up = time.monotonic() + self._settings.drain_delay_s + self._settings.drain_s + END_S
        for process in living:
            process.join(max(0.0, give_up - time.monotonic()))
        overran = [process for process in living if process.exitcode is None]
        for process in overran:
            self._log.error("process killed: it did not end in time", pid=process.pid)
            process.kill()
            process.join()
        return OVERRAN if overran else 0
