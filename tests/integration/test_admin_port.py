"""/admin and /users have a port of their own, with one process and with several behind it."""

import socket
from pathlib import Path

import pytest

from model.bundle.pointers import read_pointer, write_pointer
from service.config import Settings
from service.embedded import EmbeddedRedis
from service.server import _admin_socket
from tests.integration.service_process import REQUEST, WAIT_S, ask, free_port, serving, start, wait_until
from tests.online.bundle_versions import encoder_of
from tests.online.tiny_bundle import write_tiny_bundle

ADMIN, API = "admin-key-0123456789", "api-key-0123456789"
EVENT = {"user_id": 1, "item_id": 100, "time": 1_700_000_000_000, "event_id": 1}
TRIES = 12  # connections, which the kernel spreads over the processes


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def root(tmp_path) -> Path:
    """Versions v1 and v2; `stable` points to v1."""
    for version in ("v1", "v2"):
        write_tiny_bundle(tmp_path, encoder_of(version), version=version)
    write_pointer(tmp_path, "stable", "v1")
    return tmp_path


@pytest.mark.parametrize("workers", [1, 2])
def test_admin_answers_at_its_own_port_only(root, redis_server: EmbeddedRedis, workers: int):
    """At the public port /admin and /users are no routes, with the key too; at theirs all routes are, and what they
    move or erase is what every process serves.
    """
    port, chosen = free_port(), {"workers": workers, "threads": 1, "watch_s": 0.05, "key_prefix": f"{root}:"}
    keys = {"admin_key": ADMIN, "api_keys": API, "admin_port": port}
    with serving(root, redis_server.url, **keys, **chosen) as (process, url):
        admin = f"http://127.0.0.1:{port}"
        assert ask(url, "/events", EVENT, headers=bearer(API)).status == 202
        outside = [
            ask(url, path, headers=bearer(key)).status
            for _ in range(TRIES // 4)
            for path in ("/admin/bundles", "/users/1/history")
            for key in (ADMIN, API)
        ]
        history = [ask(admin, "/users/1/history", headers=bearer(ADMIN)).body for _ in range(TRIES)]
        refused = [ask(admin, "/admin/bundles", headers=headers).status for headers in ({}, bearer(API))]
        documented = ["/admin/promote" in ask(at, "/openapi.json").text for at in (url, admin)]
        scored = ask(admin, "/score", REQUEST, headers=bearer(API)).status
        moved = ask(admin, "/admin/promote", {"version": "v2"}, headers=bearer(ADMIN)).status
        wait_until(lambda: all(ask(url, "/readyz").body.get("bundle_version") == "v2" for _ in range(TRIES)))
    ended = process.returncode

    assert outside == [404] * len(outside)
    assert [len(each["history"]) for each in history] == [1] * TRIES
    assert refused == [401, 403]
    assert documented == [False, True]
    assert (scored, moved, read_pointer(root, "stable"), ended) == (200, 202, "v2", 0)
    with pytest.raises(ConnectionRefusedError):
        ask(admin, "/livez")


def test_without_an_admin_key_there_is_no_second_port():
    """Nor with CTR_ADMIN_PORT=0."""
    assert _admin_socket(Settings(), shared=False) is None
    assert _admin_socket(Settings(admin_key=ADMIN, admin_port=0), shared=False) is None


def test_a_port_that_is_taken_ends_the_start(root):
    """With exit code 3."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process, _ = start(root, "memory://", admin_key=ADMIN, admin_port=taken.getsockname()[1])
        assert process.wait(timeout=WAIT_S) == 3
