"""The example of a TLS proxy, run by the real Caddy before a real service."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.integration.caddy import HOST, Proxy, adapted, proxied
from tests.integration.service_process import REQUEST, WAIT_S, free_port, metric, serving
from tests.online.tiny_bundle import tiny_encoder, write_tiny_bundle

KEY, ADMIN = "api-key-0123456789", "admin-key-0123456789"
BEARER = {"Authorization": f"Bearer {KEY}"}
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service with keys, and with a larger limit of bodies than the proxy's."""
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("bundles"), tiny_encoder())
    keys = {"api_keys": KEY, "admin_key": ADMIN, "admin_port": free_port()}
    with serving(bundle, "memory://", max_body_bytes=8 * MEBIBYTE, deadline_ms=5000, threads=1, **keys) as (_, url):
        yield url


@pytest.fixture(scope="module")
def proxy(service: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Caddy before it."""
    with proxied(service, tmp_path_factory.mktemp("caddy")) as running:
        yield running


def asked(connection: http.client.HTTPConnection, path: str, **request: object) -> tuple[http.client.HTTPResponse, str]:
    """The answer and its text."""
    connection.request("GET" if "body" not in request else "POST", path, **request)
    answer = connection.getresponse()
    return answer, answer.read().decode()


def passed_on(service: str) -> float:
    """How many requests the service has answered that the tests did not ask it for themselves."""
    samples = [metric(service, "ctr_requests_total", code=code, route="other") for code in ("401", "403", "404")]
    return sum(samples) + metric(service, "ctr_requests_total", code="200", route="/score")


def test_callers_reach_the_service_through_tls(proxy):
    """Key and request id pass, a refusal of the service comes back as it is, and one connection carries it all."""
    body = json.dumps(REQUEST)
    with proxy.connected() as connection:
        scored, text = asked(connection, "/score", body=body, headers={**BEARER, "X-Request-Id": "from-far"})
        opened = connection.sock
        refused, why = asked(connection, "/score", body=body)
        kept = connection.sock

    assert (scored.status, json.loads(text)["request_id"]) == (200, "from-far")
    assert scored.getheader("x-request-id") == "from-far"
    assert (refused.status, json.loads(why)["error_type"]) == (401, "unauthorized")
    assert scored.getheader("strict-transport-security") == "max-age=31536000"
    assert scored.getheader("server") is None
    assert isinstance(opened, ssl.SSLSocket)
    assert kept is opened


def test_only_what_callers_need_is_passed_on(proxy, service):
    """/admin, /users, /metrics and the rest are a 404 of the proxy, with any key and however they are spelled."""
    paths = ["/metrics", "/admin/bundles", "/users/1/history", "/bundle", "/", "/docs", "/readyz", "/console/state"]
    paths += ["//metrics", "/score/../metrics", "/score/", "/score%2f..%2fmetrics", "/SCORE/../admin/bundles"]
    before = passed_on(service)
    with proxy.connected() as connection:
        found = [
            asked(connection, path, headers={"Authorization": f"Bearer {key}"}, **extra)
            for path in paths
            for key in (KEY, ADMIN)
            for extra in ({}, {"body": "{}"})
        ]

    assert {answer.status for answer, _ in found} == {404}
    assert {json.loads(text)["error_type"] for _, text in found} == {"not_found"}
    assert passed_on(service) == before


def test_plain_http_is_not_passed_on(proxy, service, tmp_path):
    """Not at the port with TLS, and there is no other."""
    before = passed_on(service)
    with closing(http.client.HTTPConnection(HOST, proxy.port, timeout=WAIT_S)) as plain:
        answer, _ = asked(plain, "/score", body=json.dumps(REQUEST), headers=BEARER)
    servers = adapted(service, tmp_path)["apps"]["http"]["servers"]

    assert answer.status == 400
    assert passed_on(service) == before
    assert [len(server["listen"]) for server in servers.values()] == [1]


def test_a_large_body_is_refused(proxy):
    """With and without a declared length, though the service would take it. Newer versions of Caddy say 413."""
    large = b"x" * (3 * MEBIBYTE)
    with proxy.connected() as connection:
        declared, text = asked(connection, "/events", body=large, headers=BEARER)
    with proxy.connected() as connection:
        chunked, _ = asked(connection, "/events", body=iter([large]), headers=BEARER)

    assert declared.status in (413, 502)
    assert json.loads(text)["error_type"] == "http_error"
    assert chunked.status in (413, 502)


def test_slow_clients_are_let_go(proxy):
    """A head without an end is waited for as long as the file says, a body as long as the service does, and a long head
    is refused.
    """
    begun, head = time.monotonic(), f"POST /score HTTP/1.1\r\nhost: {HOST}:{proxy.port}\r\n".encode()
    key = f"authorization: {BEARER['Authorization']}\r\n".encode()
    heads = [
        head + b"x-slow:",
        head + key + b"x-deadline-ms: 300\r\ncontent-length: 9\r\n\r\n{",
        head + b"x-long: " + b"a" * 64 * 1024 + b"\r\n\r\n",
    ]
    opened = [
        proxy.trust.wrap_socket(socket.create_connection((HOST, proxy.port)), server_hostname=HOST) for _ in heads
    ]
    for one, sent in zip(opened, heads, strict=True):
        one.settimeout(WAIT_S)
        one.sendall(sent)
    answers = [one.recv(1000) for one in opened]
    for one in opened:
        one.close()

    assert answers[0] == b""
    assert answers[1].startswith(b"HTTP/1.1 504")
    assert answers[2].startswith(b"HTTP/1.1 431")
    assert time.monotonic() - begun < WAIT_S


def test_a_service_that_is_away_is_a_502(tmp_path):
    """In the one error shape, with an id."""
    with proxied(f"http://{HOST}:{free_port()}", tmp_path) as proxy, proxy.connected() as connection:
        answer, text = asked(connection, "/score", body="{}")

    found = json.loads(text)
    assert (answer.status, found["error_type"], found["error"]) == (502, "http_error", "Bad Gateway")
    assert found["request_id"]
