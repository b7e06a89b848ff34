"""The real Caddy with the example's file, on a free port, with a certificate of a CA that is made here."""

import datetime
import ipaddress
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.service_process import WAIT_S, address, free_port, wait_until
from tests.programs import program

FILE = Path(__file__).parents[2] / "examples" / "proxy" / "Caddyfile"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Proxy:
    """One that runs: its port, and what a caller trusts."""

    port: int
    trust: ssl.SSLContext

    @contextmanager
    def connected(self) -> Iterator[HTTPSConnection]:
        """A connection with TLS."""
        with closing(HTTPSConnection(HOST, self.port, timeout=WAIT_S, context=self.trust)) as connection:
            yield connection


@contextmanager
def proxied(url: str, folder: Path) -> Iterator[Proxy]:
    """Caddy before the service at `url`; without the program the test is skipped or, in the gate, fails."""
    environ, proxy = _environ(url, folder)
    command = [program("caddy"), "run", "--config", str(FILE), "--adapter", "caddyfile"]
    log = (folder / "caddy.log").open("wb")
    process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _answers(proxy))
        assert process.poll() is None, (folder / "caddy.log").read_text()
        yield proxy
    finally:
        process.terminate()
        process.wait(timeout=WAIT_S)
        log.close()


def adapted(url: str, folder: Path) -> dict[str, object]:
    """What Caddy makes of the file."""
    environ, _ = _environ(url, folder)
    command = [program("caddy"), "adapt", "--config", str(FILE), "--adapter", "caddyfile"]
    done = subprocess.run(command, env=environ, capture_output=True, timeout=WAIT_S, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _environ(url: str, folder: Path) -> tuple[dict[str, str], Proxy]:
    ca, certificate, key = _certificates(folder)
    proxy = Proxy(free_port(), ssl.create_default_context(cafile=str(ca)))
    host, port = address(url)
    own = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    own |= {"PROXY_SITE": f"https://{HOST}:{proxy.port}", "PROXY_UPSTREAM": f"{host}:{port}"}
    return {**os.environ, **own, "PROXY_TLS": f"{certificate} {key}"}, proxy


def _answers(proxy: Proxy) -> bool:
    with proxy.connected() as connection:
        connection.request("GET", "/")
        return connection.getresponse().status == 404


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A CA, and a certificate of its for our address with its key, as files."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of a test")])
    ca = _unsigned(ca_name, ca_key.public_key(), issuer=ca_name).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    leaf = _unsigned(x509.Name([]), key.public_key(), issuer=ca_name).add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=True
    )
    paths = folder / "ca.pem", folder / "certificate.pem", folder / "key.pem"
    for path, builder in zip(paths, (ca, leaf), strict=False):
        path.write_bytes(builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    paths[2].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return paths


def _unsigned(name: x509.Name, key: ec.EllipticCurvePublicKey, *, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )
