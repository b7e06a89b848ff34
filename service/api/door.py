"""Who is let in: decided on the head of a request alone, before anything is read or computed.

    POST or DELETE from a web page  -> its origin must be ours or a named one, else 403
    a route that is not open        -> a key, where there are any, else 401 or 403

A browser sends `Origin` with every POST and DELETE of a page, and programs send none. A page is ours if its origin is
the `Host` that it asks. Of a name this says little, as a page can move its own name to our address while it is open
(DNS rebinding), so only an address or localhost counts; a name has to be listed.
"""

from collections.abc import Mapping
from ipaddress import ip_address

from starlette.types import Scope

from service.api.key import API_KEY, check_key
from service.errors import ForeignOrigin
from service.keys import Keys

# They say nothing of users and ask for no key; all other paths do, those to come too.
OPEN_PATHS = frozenset(
    ("/", "/livez", "/readyz", "/metrics", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json")
)
OPEN_FOLDERS = ("/console/files/", "/admin/", "/users/")  # the latter ask for keys of their own
_READS = ("GET", "HEAD", "OPTIONS")


class Door:
    """Asked about every request."""

    def __init__(self, keys: Keys | None, *, origins: frozenset[str]) -> None:
        """`keys`: None asks nobody for one. `origins` of pages that may do what programs may."""
        self._keys = keys
        self._origins = frozenset(origin.encode() for origin in origins)

    def check(self, scope: Scope) -> None:
        """Pass, or raise ForeignOrigin, Unauthorized or Forbidden."""
        if scope["method"] not in _READS:
            headers: Mapping[bytes, bytes] = dict(scope["headers"])
            if b"origin" in headers or b"sec-fetch-site" in headers:
                self._check_page(headers)
        if self._keys is not None and not _is_open(scope["path"]):
            check_key(scope, self._keys, kind=API_KEY)

    def _check_page(self, headers: Mapping[bytes, bytes]) -> None:
        origin = headers.get(b"origin")
        if origin is None:
            foreign = headers[b"sec-fetch-site"] not in (b"same-origin", b"none")
        else:
            foreign = origin not in self._origins and not _is_ours(origin, headers.get(b"host", b""))
        if foreign:
            found = "another site's" if origin is None else repr(origin[:80].decode("latin-1"))
            allowed = "none, this service's own at an address or localhost, or one of CTR_ALLOWED_ORIGINS"
            raise ForeignOrigin(f"Origin: found {found}, allowed: {allowed}")


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def _is_ours(origin: bytes, host: bytes) -> bool:
    """Behind a proxy with TLS the schemes differ, so they are not compared."""
    if not host or origin.partition(b"://")[2] != host:
        return False
    name = host[1 : host.find(b"]")] if host.startswith(b"[") else host.partition(b":")[0]
    if name == b"localhost":
        return True
    try:
        ip_address(name.decode("latin-1"))
    except ValueError:
        return False
    return True
