"""A socket to Redis that sends bytes made beforehand: what the server itself can take."""

import socket
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from model.bundle.records import to_members
from service.history_file import History
from service.history_loader import BEHAVIORS_PER_WRITE


class RawRedis:
    """One connection, for as long as the `with` block lasts."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, commands: bytes, *, replies: int) -> None:
        """Send commands, and wait until each has its reply of one line."""
        self._socket.sendall(commands)
        while replies > 0:
            received = self._socket.recv(1 << 16)
            if not received or b"-" in received:
                raise ConnectionError(f"Redis answered {received[:80]!r}")
            replies -= received.count(b"\n")


def packed_writes(histories: Sequence[History], *, keep: int, ttl_s: int) -> Iterator[tuple[bytes, int]]:
    """The commands of the store for these histories, some hundred behaviors at once, and how many replies they get."""
    parts: list[bytes] = []
    held = commands = 0
    for user, behaviors in histories:
        key = f"ctr:h:{user}".encode()
        newest_first = behaviors[::-1]
        pairs = zip(newest_first["time"].tolist(), to_members(newest_first), strict=True)
        parts.append(_pack(b"ZADD", key, *(part for time, member in pairs for part in (b"%d" % time, member))))
        parts.append(_pack(b"ZREMRANGEBYRANK", key, b"0", b"%d" % (-keep - 1)))
        parts.append(_pack(b"EXPIRE", key, b"%d" % ttl_s))
        held, commands = held + len(behaviors), commands + 3
        if held >= BEHAVIORS_PER_WRITE:
            yield b"".join(parts), commands
            parts, held, commands = [], 0, 0
    if parts:
        yield b"".join(parts), commands


def _pack(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
