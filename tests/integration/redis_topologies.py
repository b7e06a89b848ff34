"""A real Redis Cluster, and a real master with a replica and three Sentinels, on free ports of 127.0.0.1."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import ReadOnlyError, RedisError

from service.embedded import find_server_binary

START_S = 30.0
NODE_TIMEOUT_MS = 1000  # after which a cluster or a Sentinel takes a silent server for dead
BUS = 10_000  # a cluster node also listens on its port plus this


class Server:
    """One server process, of any mode, that can be killed, paused and started again on its port."""

    def __init__(self, folder: Path, *options: str, port: int, config: Path | None = None) -> None:
        self.port = port
        self._folder = folder
        self._command = [str(find_server_binary()), *([str(config), "--sentinel"] if config else []), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log)
        wait_until(self._answers)

    def kill(self) -> None:
        """SIGKILL: connections break, new ones are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Redis:
        """A client of this server alone."""
        return Redis(port=self.port, socket_timeout=5, decode_responses=True)

    def _answers(self) -> bool:
        with suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False


class _Servers:
    """Servers that end with the `with` block."""

    servers: dict[int, Server]  # by port, those that hold data

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._root = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ctr-redis-")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def flush(self) -> None:
        """Forget everything, on every master."""
        for server in self.servers.values():
            with suppress(ReadOnlyError), server.client() as client:
                client.flushall()

    def _folder(self, port: int) -> Path:
        folder = self._root / str(port)
        folder.mkdir()
        return folder

    def _data_server(self, *options: str, port: int) -> Server:
        plain = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        server = Server(self._folder(port), *plain, "--repl-diskless-sync-delay", "0", *options, port=port)
        self._stack.callback(server.kill)
        return server


class RedisCluster(_Servers):
    """Three masters, each with one replica."""

    def __init__(self) -> None:
        super().__init__()
        mode = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
        self.servers = {port: self._data_server(*mode, port=port) for port in free_ports(6, below=65_535 - BUS)}
        self._create()

    @property
    def url(self) -> str:
        """All six, as an operator would name them."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in self.servers)}"

    def master_of(self, key: str) -> Server:
        """The server that owns a key now."""
        for server in self.servers.values():
            with suppress(RedisError), server.client() as client:
                slot = client.cluster("keyslot", key)
                for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return self.servers[port]
        raise AssertionError("no server of the cluster answers")

    def _create(self) -> None:
        hosts = [f"127.0.0.1:{port}" for port in self.servers]
        tool = find_server_binary().with_name(find_server_binary().name.replace("server", "cli"))
        command = [str(tool), "--cluster", "create", *hosts, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=START_S)
        wait_until(self._is_whole)

    def _is_whole(self) -> bool:
        for server in self.servers.values():
            with server.client() as client:
                replicating = client.info("replication")
                fit = replicating["role"] == "master" or replicating["master_link_status"] == "up"
                known = len(client.execute_command("CLUSTER", "SLOTS")) == 3
                if not (fit and known and client.cluster("info")["cluster_state"] == "ok"):
                    return False
        return True


class SentinelSetUp(_Servers):
    """A master, two replicas, three Sentinels of which two must agree."""

    SERVICE = "histories"

    def __init__(self) -> None:
        super().__init__()
        master, *others = free_ports(6, below=65_536)
        follow = ("--replicaof", "127.0.0.1", str(master))
        self.servers = {master: self._data_server(port=master)}
        self.servers |= {port: self._data_server(*follow, port=port) for port in others[:2]}
        self.sentinels = {port: self._sentinel(port, master) for port in others[2:]}
        wait_until(self._is_whole)

    @property
    def url(self) -> str:
        """As an operator would write it."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/{self.SERVICE}/0"

    def master_of(self, key: str) -> Server:  # noqa: ARG002, RUF100  # as in a cluster
        """The server that the Sentinels call master now, of every key."""
        with next(iter(self.sentinels.values())).client() as client:
            return self.servers[client.sentinel_get_master_addr_by_name(self.SERVICE)[1]]

    def _sentinel(self, port: int, master: int) -> Server:
        folder = self._folder(port)
        config = folder / "sentinel.conf"
        rules = [
            f"port {port}\nbind 127.0.0.1\nsentinel monitor {self.SERVICE} 127.0.0.1 {master} 2",
            f"sentinel down-after-milliseconds {self.SERVICE} {NODE_TIMEOUT_MS}",
            f"sentinel failover-timeout {self.SERVICE} 5000\n",
        ]
        config.write_text("\n".join(rules))
        server = Server(folder, port=port, config=config)
        self._stack.callback(server.kill)
        return server

    def _is_whole(self) -> bool:
        for sentinel in self.sentinels.values():
            with sentinel.client() as client:
                state = client.sentinel_master(self.SERVICE)
                if (state["num-slaves"], state["num-other-sentinels"]) != (2, 2):
                    return False
                if any(one["master-link-status"] != "ok" for one in client.sentinel_slaves(self.SERVICE)):
                    return False
        return True


def free_ports(count: int, *, below: int) -> list[int]:
    """Ports that nobody has now."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            if probe.getsockname()[1] < below:
                found.append(probe.getsockname()[1])
    return found


def wait_until(condition: Callable[[], bool], *, within_s: float = START_S) -> None:
    """Poll until the condition holds."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.05)
