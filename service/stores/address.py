"""What a store's URL says: which servers to ask, and how to connect to each.

redis://[[user]:password@]host[:port][/db]                          one server; rediss:// with TLS
unix://[[user]:password@]/path[?db=N]
redis+sentinel://[[user]:password@]host[:port],.../service[/db]     rediss+sentinel:// with TLS, Sentinels too
redis+cluster://[[user]:password@]host[:port],...                   rediss+cluster:// with TLS

Options behind `?` are redis-py's; `sentinel_username` and `sentinel_password` are the Sentinels' own.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url

Place = tuple[str, int]  # host and port
Kind = Literal["single", "sentinel", "cluster"]

_MANY = tuple(f"{scheme}+{kind}://" for kind in ("sentinel", "cluster") for scheme in ("redis", "rediss"))
SCHEMES = ("redis://", "rediss://", "unix://", *_MANY)
_PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379}
_OF_SENTINELS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Files for TLS, each a path or empty: whom to trust, and who we are."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def arguments(self) -> dict[str, str]:
        """redis-py's names for them. Raises ValueError for a file that is missing or is not what it should be."""
        given = {"ssl_ca_certs": self.ca_file, "ssl_certfile": self.cert_file, "ssl_keyfile": self.key_file}
        if self.key_file and not self.cert_file:
            raise ValueError("a client's key needs the client's certificate beside it")
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file or None)
        except OSError as error:  # SSLError is one
            why = error.strerror if not isinstance(error, ssl.SSLError) else error.reason
            raise ValueError(f"certificate authority, client certificate or key cannot be read: {why}") from None
        return {name: path for name, path in given.items() if path}


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the servers are. `connection` has redis-py's arguments for each of them, and may hold a password."""

    kind: Kind
    places: tuple[Place, ...] = ()  # empty for a unix socket
    service: str = ""  # the name that Sentinels know the master by
    connection: Mapping[str, Any] = field(repr=False)  # `Any`: as redis-py's arguments have it
    to_sentinels: Mapping[str, Any] = field(default_factory=dict, repr=False)


def read_address(url: str, tls: Tls) -> Address:
    """Read a URL. Raises ValueError without repeating it, since it may hold a password."""
    arguments = tls.arguments()
    try:
        return _read(url, arguments)
    except _Wrong:
        raise
    except ValueError:  # of the standard library or redis-py, whose texts may quote the URL
        raise _Wrong(_ALLOWED) from None


class _Wrong(ValueError):
    """A text of ours: safe to show."""


_ALLOWED = f"not a Redis URL, allowed: {', '.join(SCHEMES[:-1])} and {SCHEMES[-1]}"


def _read(url: str, tls: Mapping[str, str]) -> Address:
    scheme, _, kind = url.partition("://")[0].partition("+")
    if not url.startswith(SCHEMES):
        raise _Wrong(_ALLOWED)
    if tls and scheme != "rediss":
        raise _Wrong("certificates are given, but this kind of URL has no TLS: rediss has")
    if not kind:
        return Address(kind="single", connection=_arguments(url, tls))
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    places = tuple(_place(host, _PORTS[kind]) for host in hosts.split(","))
    service, _, database = parts.path.strip("/").partition("/") if kind == "sentinel" else ("", "", parts.path[1:])
    if (kind == "sentinel") != bool(service) or (kind == "cluster" and database not in ("", "0")):
        raise _Wrong("after the hosts, Sentinel needs /service and perhaps /db, and a cluster has database 0 only")
    query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    theirs = {name.removeprefix("sentinel_"): query.pop(name) for name in _OF_SENTINELS if name in query}
    plain = f"{scheme}://{login}{at}host/{database}?{urlencode(query)}"
    connection = _arguments(plain, tls)
    shared = {name: value for name, value in connection.items() if name not in ("username", "password", "db")}
    found: Kind = "sentinel" if kind == "sentinel" else "cluster"
    return Address(kind=found, places=places, service=service, connection=connection, to_sentinels={**shared, **theirs})


def _place(host: str, port: int) -> Place:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise _Wrong(_ALLOWED)
    return parts.hostname, parts.port or port


def _arguments(url: str, tls: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = dict(parse_url(url))
    if found.get("connection_class") is SSLConnection:
        found.update(tls)
    return found
