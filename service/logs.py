"""JSON lines on stdout: one object per event, for machines first. No bodies, no secrets.

A log that cannot be written must not cost a request, so a failing sink is counted and otherwise ignored.
"""

import logging
import os
import select
import sys
from contextvars import ContextVar
from typing import Any, Protocol

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor


class Identified(Protocol):
    """A request: whatever is logged while it is handled carries its id, as it is then."""

    request_id: str


# Set by the edge. Each request has a context of its own, which the tasks that it starts inherit.
in_request: ContextVar[Identified] = ContextVar("in_request")


class Sink(Protocol):
    """Where log lines go: the binary side of a stream."""

    def write(self, line: bytes, /) -> object:
        """Take one line."""
        ...

    def flush(self) -> object:
        """Pass on what was written."""
        ...


class DescriptorSink:
    """An open file, written at once and whole, and never waited for.

    No buffer, because what a failed flush leaves behind would fail again when the process ends. No waiting, because a
    log collector that hangs would otherwise hang the service.
    """

    def __init__(self, descriptor: int) -> None:
        """`descriptor` stays the caller's to close."""
        self._descriptor = descriptor
        self._writable = select.poll()  # of a pipe: there is room for 4096 bytes
        self._writable.register(descriptor, select.POLLOUT)

    def write(self, line: bytes, /) -> None:
        """Write the line. Raises OSError if it could not be written whole, or not now."""
        if not self._writable.poll(0):
            raise BlockingIOError("nobody reads the log")
        if os.write(self._descriptor, line) < len(line):
            raise OSError("only a part of the line could be written")

    def flush(self) -> None:
        """Nothing waits to be written."""


class SafeSink:
    """A sink that never raises: a full disk or a closed pipe loses lines, not requests."""

    def __init__(self, sink: Sink) -> None:
        self.lost = 0
        self._sink = sink

    def write(self, line: bytes, /) -> None:
        """Write, or count the line as lost."""
        try:
            self._sink.write(line)
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.lost += 1

    def flush(self) -> None:
        """Flush if possible."""
        try:
            self._sink.flush()
        except (OSError, ValueError):
            self.lost += 1


def json_log(level: str, *, sink: Sink | None = None) -> FilteringBoundLogger:
    """A logger that writes events of `level` and above to `sink`, by default stdout."""
    safe = sink if isinstance(sink, SafeSink) else SafeSink(sink or sys.stdout.buffer)
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.BytesLogger(safe),  # type: ignore[arg-type]  # it only writes and flushes
        processors=_processors(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    ).bind()
    return log


def redirect_stdlib(log: FilteringBoundLogger, level: str) -> None:
    """Send what uvicorn and other libraries log through `logging` to `log`. Called once, by the command line."""
    root = logging.getLogger()
    root.handlers = [_Forward(log)]
    root.setLevel(level.upper())


class _Forward(logging.Handler):
    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}  # any JSON value
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        self._log.log(record.levelno, record.getMessage(), **fields)


def _processors() -> list[Processor]:
    return [
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]


def _add_request_id(_: object, __: str, event: EventDict) -> EventDict:
    request = in_request.get(None)
    if request is not None:
        event.setdefault("request_id", request.request_id)
    return event


def _dumps(event: object, **_: object) -> bytes:
    """`default=str`: a value that JSON does not know is better logged as text than lost."""
    return orjson.dumps(event, default=str)
