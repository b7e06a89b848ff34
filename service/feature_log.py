"""A sample of what was scored, and of its clicks, on disk: to train on, and to score again offline.

    answer rendered -> in the sample? -> queue -> thread: lines -> folder
                                           full: dropped, and counted

Nothing waits for the log: neither an answer nor the process's memory. A scored request is written at once and its
clicks when they come, by whichever process gets them; `model/data/feature_log.py` joins them.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from service.config import Settings
from service.feature_lines import feedback_line, is_feedback, owner_starts, request_of, scored_line
from service.feedback import Feedback
from service.feedback_metrics import FeedbackMetrics
from service.log_folder import Limits, LogFolder
from service.low_priority import lower_priority
from service.shadow import Answered
from service.split import in_share

WAITING = 256  # requests, each with its candidates
_BATCH_BYTES = 1 << 20
_END_S = 5.0  # longest wait for the thread, at the end and before a user is erased
_MB = 1 << 20

Line = Callable[[], bytes | None]


class FeatureLog:
    """Writes the lines of requests in the sample. With an empty CTR_FEATURE_LOG there is none, and nothing to erase."""

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: FeedbackMetrics,
        log: FilteringBoundLogger,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make the folder. Raises OSError if it cannot be made or written."""
        self._percent = settings.feature_log_percent if settings.feature_log else 0.0
        self._metrics = metrics
        self._log = log
        self._now = now
        self._queue: queue.Queue[Line | None] = queue.Queue(WAITING)
        self._after_writing: list[threading.Event] = []  # the thread's own
        self._failing = False
        self._thread: threading.Thread | None = None
        self._folder: LogFolder | None = None
        if settings.feature_log:
            limits = Limits(
                file_bytes=settings.feature_log_file_mb * _MB,
                file_s=settings.feature_log_file_s,
                total_bytes=settings.feature_log_mb * _MB,
            )
            self._folder = LogFolder(Path(settings.feature_log), limits=limits, now=now)

    def start(self) -> None:
        """Start the thread that writes, if there is something to write."""
        if self._folder is not None:
            self._thread = threading.Thread(target=self._run, args=(self._folder,), name="feature-log", daemon=True)
            self._thread.start()

    def wants(self, request_id: str) -> bool:
        """Whether this request is in the sample. The same in every process, so that its clicks are too."""
        return self._percent > 0 and in_share(f"log:{request_id}", percent=self._percent)

    def scored(self, answered: Answered) -> None:
        """Write what was scored, later. What it refers to must not change any more."""
        self._put(lambda: scored_line(answered))

    def feedback(self, feedback: Feedback) -> None:
        """Write a request's clicks, later."""
        time_ms = int(self._now() * 1000)
        self._put(lambda: feedback_line(feedback, time_ms=time_ms))

    async def forget(self, user_id: int | str) -> int:
        """Overwrite the user's lines in all files, and those of their clicks; return how many there were.

        What waits in this process is written first, and so erased too. Raises OSError if files cannot be changed.
        """
        return 0 if self._folder is None else await asyncio.to_thread(self._forget, self._folder, user_id)

    def close(self) -> None:
        """Write what waits, and end. Blocks for a few seconds at most."""
        if self._thread is not None:
            try:
                self._queue.put(None, timeout=_END_S)
            except queue.Full:  # the disk hangs
                return
            self._thread.join(_END_S)

    def _forget(self, folder: LogFolder, user_id: int | str) -> int:
        self._flush()
        starts, requests = owner_starts(user_id), set[str]()

        def theirs(line: bytes) -> bool:
            if not line.startswith(starts):
                return False
            if (request_id := request_of(line)) is not None:
                requests.add(request_id)
            return True

        def their_clicks(line: bytes) -> bool:
            return is_feedback(line) and request_of(line) in requests

        scored = folder.blank(theirs)
        return scored + (folder.blank(their_clicks) if requests else 0)

    def _put(self, line: Line) -> None:
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._metrics.lines("dropped")

    def _flush(self) -> None:
        """Wait until all that waits now is written."""
        if self._thread is None:
            return
        written = threading.Event()
        with suppress(queue.Full):
            self._queue.put(lambda: self._after_writing.append(written), timeout=_END_S)
        if not written.wait(_END_S):
            raise TimeoutError("the feature log does not write")

    def _run(self, folder: LogFolder) -> None:
        lower_priority()
        going_on = True
        while going_on:
            lines, going_on = self._batch()
            if lines:
                self._write(folder, lines)
            while self._after_writing:
                self._after_writing.pop().set()

    def _write(self, folder: LogFolder, lines: list[bytes]) -> None:
        try:
            folder.append(b"".join(lines))
        except OSError as error:
            self._metrics.lines("failed", len(lines))
            if not self._failing:  # once: a full disk stays full for a while
                self._log.warning("feature log cannot be written", error=error.strerror)
            self._failing = True
        else:
            self._metrics.lines("written", len(lines))
            self._failing = False

    def _batch(self) -> tuple[list[bytes], bool]:
        """What waits, up to some size, at least one; and whether more is to come."""
        lines: list[bytes] = []
        size, line = 0, self._queue.get()
        while line is not None:
            if (rendered := self._rendered(line)) is not None:
                lines.append(rendered)
                size += len(rendered)
            if size >= _BATCH_BYTES or self._queue.empty():
                return lines, True
            line = self._queue.get()
        return lines, False

    def _rendered(self, line: Line) -> bytes | None:
        try:
            return line()
        except Exception:  # a defect here must not end the log
            self._metrics.lines("failed")
            self._log.error("feature log line failed", exc_info=True)
            return None
