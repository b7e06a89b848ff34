"""A store that refuses us for good: a line that says why, exit code 2, and nothing is served."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.config import Settings
from service.embedded import EmbeddedRedis
from service.stores.base import StoreMisconfigured
from service.stores.choice import check_store, choose_store
from tests.integration.service_process import free_port, score, serving
from tests.integration.tls_end import TlsEnd
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

RIGHTS = ("+zrange", "+zadd", "+zremrangebyrank", "+expire")  # docs/operations.md lists them
PASSWORD = "correct-horse"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """The tiny bundle on disk."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())


@pytest.fixture
def guarded(own_redis: EmbeddedRedis) -> Iterator[str]:
    """host:port of a Redis where `scorer` has what the service needs, `reader` less, and `stranger` other keys."""
    with Redis.from_url(own_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "scorer", "on", f">{PASSWORD}", "~ctr:*", *RIGHTS)
        client.execute_command("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~ctr:*", "+zrange")
        client.execute_command("ACL", "SETUSER", "stranger", "on", f">{PASSWORD}", "~other:*", *RIGHTS)
        client.execute_command("ACL", "SETUSER", "default", "off")
        yield own_redis.url.removeprefix("redis://").removesuffix("/0")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """Two authorities, a server's and a client's certificate of the first, a client's of the second."""
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ca", "other-ca"):
        _openssl(folder, "req", "-x509", "-nodes", *_new(authority), "-days", "2", "-subj", f"/CN={authority}")
    _sign(folder, "server", "ca", "subjectAltName=IP:127.0.0.1")
    _sign(folder, "client", "ca", "extendedKeyUsage=clientAuth")
    _sign(folder, "other-client", "other-ca", "extendedKeyUsage=clientAuth")
    return folder


def _new(name: str) -> list[str]:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    return [*curve, "-keyout", f"{name}.key", "-out", f"{name}.pem"]


def _sign(folder: Path, name: str, authority: str, extension: str) -> None:
    _openssl(folder, "req", "-nodes", *_new(name), "-subj", f"/CN={name}")
    (folder / "extension").write_text(extension)
    signed_by = ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial"]
    _openssl(
        folder, "x509", "-req", "-in", f"{name}.pem", *signed_by, "-days", "2", "-extfile", "extension",
        "-out", f"{name}.pem",
    )  # fmt: skip


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def tls_port(own_redis: EmbeddedRedis, certificates: Path) -> Iterator[int]:
    """Redis behind TLS that asks clients for a certificate. The server of the tests is built without it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    with TlsEnd(own_redis.port, context) as end:
        yield end.port


def refusal(store: str, **settings: object) -> str:
    """What the check at start-up says is wrong."""
    with pytest.raises(StoreMisconfigured) as caught:
        asyncio.run(check_store(Settings(store=store, **settings)))
    return str(caught.value)


def started(bundle: Path, store: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """`ctr-service serve` that ends by itself."""
    chosen = {"bundle": bundle, "store": store, "port": free_port(), **settings}
    environ = {"PATH": os.environ["PATH"], **{f"CTR_{name.upper()}": str(value) for name, value in chosen.items()}}
    command = [str(Path(sys.executable).with_name("ctr-service")), "serve"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_wrong_login_ends_the_start(bundle, guarded):
    """Exit code 2 and one line that holds neither the password nor the user; no line says that it listens."""
    ended = started(bundle, f"redis://scorer:hunter2@{guarded}")

    assert ended.returncode == 2
    assert ended.stderr.splitlines() == ["CTR_STORE: user or password are wrong or missing"]
    assert "running" not in ended.stdout


def test_processes_behind_one_port_end_too(bundle, guarded):
    """With several processes the parent ends with the same code, and starts none again."""
    ended = started(bundle, f"redis://scorer:hunter2@{guarded}", workers=2)

    assert ended.returncode == 2
    assert "user or password are wrong" in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout


def test_user_without_rights_ends_the_start(bundle, guarded):
    """The line names the command that Redis refused."""
    ended = started(bundle, f"redis://reader:{PASSWORD}@{guarded}")

    assert ended.returncode == 2
    assert ended.stderr.splitlines()[0].startswith("CTR_STORE: this user has no right to ZADD")
    assert len(ended.stderr.splitlines()) == 1


def test_every_kind_of_refusal_is_told(guarded):
    """No login where one is needed, another user's keys, another kind of server."""
    assert refusal(f"redis://{guarded}") == "user or password are wrong or missing"
    assert refusal(f"redis://stranger:{PASSWORD}@{guarded}").startswith("this user has no right to ZRANGE")
    assert refusal(f"redis://scorer:{PASSWORD}@{guarded}", store_wait_replicas=1).startswith(
        "this user has no right to WAIT"
    )


def test_the_rights_of_the_documentation_suffice(guarded):
    """A user with these and no others starts, and can do everything that the store does."""
    settings = Settings(store=f"redis://scorer:{PASSWORD}@{guarded}")

    async def check() -> None:
        await check_store(settings)

    asyncio.run(check())


def test_another_kind_of_server_is_told(redis_url, cluster_server):
    """A plain server where a cluster is named, and the other way round."""
    host = redis_url.removeprefix("redis://").removesuffix("/0")
    one_of_cluster = next(iter(cluster_server.servers))

    assert "another kind" in refusal(f"redis+cluster://{host}")
    assert "another kind" in refusal(f"redis+sentinel://{host}/s")
    assert "another kind" in refusal(f"redis://127.0.0.1:{one_of_cluster}")


def test_sentinels_that_do_not_know_the_service_are_told(sentinel_server):
    """The name in the URL is a setting as any other."""
    url = sentinel_server.url.replace(sentinel_server.SERVICE, "unheard")

    assert refusal(url) == "the Sentinels watch no service of the name in the URL"


def test_wrong_certificates_end_the_start(bundle, tls_port, certificates):
    """Ours is of another authority: exit code 2, one line, no secret."""
    ours = {"cert_file": certificates / "other-client.pem", "key_file": certificates / "other-client.key"}
    files = {f"store_{name}": str(path) for name, path in {"ca_file": certificates / "ca.pem", **ours}.items()}
    ended = started(bundle, f"rediss://:hunter2@127.0.0.1:{tls_port}", **files)

    assert ended.returncode == 2
    assert ended.stderr.startswith("CTR_STORE: no TLS with this server: ")
    assert len(ended.stderr.splitlines()) == 1
    assert "hunter2" not in ended.stderr


def test_every_wrong_certificate_is_told(tls_port, certificates):
    """An authority that did not sign the server's, the system's own, and no certificate of ours."""
    url = f"rediss://127.0.0.1:{tls_port}"
    trusted = {"store_ca_file": str(certificates / "ca.pem")}

    assert "not trusted" in refusal(url, store_ca_file=str(certificates / "other-ca.pem"))
    assert "not trusted" in refusal(url)
    assert "no TLS" in refusal(url, **trusted)


def test_right_certificates_serve(bundle, tls_port, certificates):
    """With our certificate of the right authority the service starts and reads histories."""
    names = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
    files = {f"store_{setting}": str(certificates / name) for setting, name in names.items()}
    store = f"rediss://127.0.0.1:{tls_port}"
    with serving(bundle, store, store_timeout_ms=2000, deadline_ms=5000, threads=1, **files) as (_, url):
        assert score(url).body["degraded"] == "none"


def test_a_store_that_is_away_is_no_wrong_setting():
    """Refused connections, and Sentinels or clusters that nobody reaches: the service starts and waits."""
    port = free_port()
    for url in (
        f"redis://127.0.0.1:{port}",
        f"redis+sentinel://127.0.0.1:{port}/s",
        f"redis+cluster://127.0.0.1:{port}",
    ):
        asyncio.run(check_store(Settings(store=url)))


def test_the_check_leaves_nothing_behind(redis_url):
    """It sends writes that find nothing to change."""

    async def check() -> None:
        store = choose_store(Settings(store=redis_url))
        await store.check(timeout_s=5)
        await store.close()

    asyncio.run(check())
    with Redis.from_url(redis_url) as client:
        assert client.keys() == []
