"""A connection whose request heads are bounded in length and time, which uvicorn leaves open.

Without a bound, one caller could send a header without an end, or begin one on thousands of connections and stop.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_S = 75  # longer than the 60 s of common load balancers, so that they close first and no request is lost
HEAD_S = 10.0  # from the first bytes of a head to its end
HEAD_BYTES = 64 * 1024  # of a head, after the read in which it began
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(HttpToolsProtocol):
    """uvicorn's, that ends where a head grows too long, takes too long, or never comes."""

    head_s, idle_s = HEAD_S, float(KEEP_ALIVE_S)
    _in_head, _new_head, _head_bytes = True, False, 0
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A caller may connect ahead of time, but not for ever."""
        super().connection_made(transport)
        self._end_after(self.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to end."""
        self._unset_end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and look where a head is still open. Most come whole."""
        self._new_head = False
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        if self._new_head:
            self._end_after(self.head_s)
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """What the parser calls at the first byte of a head."""
        self._in_head, self._new_head, self._head_bytes = True, True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """What it calls at a head's end."""
        self._in_head = False
        self._unset_end()
        super().on_headers_complete()

    def _end_after(self, seconds: float) -> None:
        self._unset_end()
        self._end = self.loop.call_later(seconds, self.transport.close)

    def _unset_end(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
