"""A TCP proxy in a thread that adds latency, cuts connections, or swallows everything."""

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class TcpProxy:
    """Forwards 127.0.0.1:`port` to another port of this machine. `latency_s` and `blackhole` may change at any time."""

    def __init__(self, target: int) -> None:
        self.latency_s = 0.0  # added to each piece, in each direction
        self.blackhole = False  # connections open, and nothing arrives
        self.port = 0
        self._accepted = self._lost = 0  # connections so far, and how many of them went silent
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lose(self) -> None:
        """Let the connections that are open now go silent for good, as a firewall does that forgot them."""
        self._lost = self._accepted

    def cut(self) -> None:
        """Break every connection now."""
        self._loop.call_soon_threadsafe(self._cut)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self._open.add(writer)
        self._accepted += 1
        number = self._accepted
        try:
            onward_reader, onward = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(onward)
            try:
                await asyncio.gather(self._pump(reader, onward, number), self._pump(onward_reader, writer, number))
            finally:
                self._open.discard(onward)
                onward.close()
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            self._tasks.discard(asyncio.current_task())
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                await asyncio.sleep(self.latency_s)
                while self.blackhole or number <= self._lost:  # noqa: ASYNC110  # set by another thread
                    await asyncio.sleep(0.01)
                writer.write(piece)
                await writer.drain()
        writer.close()

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
