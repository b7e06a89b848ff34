"""The command line: errors of configuration are one line each and exit code 2."""

import asyncio
import csv
import socket

import pytest
from typer.testing import CliRunner

from service.cli import cli
from service.stores.redis import RedisStore


def run(*args: str, **environ: str):
    """The command, in an environment without other CTR_ keys."""
    return CliRunner().invoke(cli, list(args), env=environ)


def test_wrong_settings_are_one_line_each():
    """Every problem is printed, and nothing is served."""
    result = run("serve", "--threads", "-1", CTR_PORT="http")

    assert result.exit_code == 2
    assert sorted(line.split(":")[0] for line in result.stderr.splitlines()) == ["CTR_PORT", "CTR_THREADS"]


def test_a_store_that_cannot_be_a_url_is_named():
    """A URL that redis-py cannot read is found before the server starts; it is not repeated."""
    result = run("serve", "--store", "redis://user:secret@host:port/x")

    assert result.exit_code == 2
    assert result.stderr.startswith("CTR_STORE: ")
    assert "secret" not in result.output


def test_several_processes_need_a_store_that_they_share():
    """memory:// with more than one process would give each its own histories: refused."""
    result = run("serve", "--store", "memory://", "--workers", "2")

    assert result.exit_code == 2
    assert result.stderr.startswith("CTR_WORKERS must be 1 with CTR_STORE=memory://")


def test_a_port_that_is_taken_is_named():
    """The parent of several processes ends with exit code 3 before it starts any."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("serve", "--workers", "2", "--port", str(taken.getsockname()[1]))

    assert result.exit_code == 3
    assert result.stderr.startswith("CTR_HOST, CTR_PORT: ")


def test_a_port_of_admin_that_is_taken_is_named():
    """Before any process starts, and by its own settings; it must not be the service's port either."""
    key = "k" * 16
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("serve", "--workers", "2", "--port", "0", CTR_ADMIN_PORT=port, CTR_ADMIN_KEY=key)
    same = run("serve", "--port", port, CTR_ADMIN_PORT=port, CTR_ADMIN_KEY=key)

    assert result.exit_code == 3
    assert result.stderr.startswith("CTR_ADMIN_HOST, CTR_ADMIN_PORT: ")
    assert same.exit_code == 2
    assert same.stderr.startswith("CTR_ADMIN_PORT must not be CTR_PORT")


def test_every_command_has_help():
    """The commands say what they do."""
    listed = run("--help").output

    assert all(command in listed for command in ("serve", "load-history", "demo", "bench"))
    assert all(run(command, "--help").exit_code == 0 for command in ("serve", "load-history", "demo", "bench"))


@pytest.fixture
def log_file(tmp_path):
    """Three behaviors of two users."""
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "genre", "timestamp"])
        rows.writerows([[1, 10, 3, 100], [1, 11, 3, 200], [2, 10, 3, 300]])
    return path


def test_load_history_fills_the_store(log_file, redis_url):
    """Histories of a file end up in Redis, oldest first; a second load changes nothing."""
    command = ["load-history", str(log_file), "--time-unit", "s", "--store", redis_url, "--column", "category=genre"]
    results = [run(*command), run(*command)]

    async def stored() -> list[int]:
        store = RedisStore.from_url(redis_url, history_keep=10, ttl_s=60)
        try:
            return (await store.read(1, limit=10, timeout_s=5))["item"].tolist()
        finally:
            await store.close()

    assert [result.exit_code for result in results] == [0, 0], results[0].output
    assert results[0].stdout.startswith("3 behaviors of 2 users in ")
    assert asyncio.run(stored()) == [10, 11]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "memory://"], "CTR_STORE: memory:// would end with this command"),
        (["--store", "redis://127.0.0.1:1", "--column", "colour=x"], "--column: found 'colour=x', allowed: ROLE=NAME"),
        (["--store", "redis://127.0.0.1:1", "--column", "category"], "--column: found 'category'"),
        (["--store", "redis://127.0.0.1:1", "--column", "category=kind"], "kind"),
    ],
)
def test_load_history_names_what_is_wrong(log_file, arguments, message):
    """A store that would not last, a role that does not exist, a column that is not there: exit code 2."""
    result = run("load-history", str(log_file), "--time-unit", "s", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_load_history_without_redis_fails(log_file):
    """A store out of reach is exit code 1: the command is right, the world is not."""
    command = ["--time-unit", "s", "--store", "redis://127.0.0.1:1", "--column", "category=genre"]
    result = run("load-history", str(log_file), *command)

    assert result.exit_code == 1
    assert "redis is out of reach" in result.stderr
