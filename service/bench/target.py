"""What the bench asks of a service before the load: what serves there, which items it knows, and one request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import orjson

TIMEOUT_S = 10.0
DRAWS, PER_DRAW = 5, 200  # of /console/items, which gives at most 200
BUSY = (429, 504)  # what a load changes; any other refusal stays, so a load would only count it
_REPEATED = 160  # characters of a service's own words in a message


class BenchError(Exception):
    """The load cannot begin. The message is one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """What serves: the bundle, the name of its item ids, and the ids to ask for."""

    name: str
    version: str
    item_key: str
    items: Sequence[int | str]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A service by its URL; `key` goes with every request as `Authorization: Bearer`."""

    url: str
    key: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of every request."""
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    def served(self, items: range | None) -> Served:
        """What serves. Without `items`, ids are drawn from its catalogue. Raises BenchError."""
        try:
            manifest = self._json("/bundle")
            key = str(manifest["schema"]["keys"]["item"])
            ids = items if items is not None else self._catalogue(key)
            return Served(name=str(manifest["name"]), version=str(manifest["version"]), item_key=key, items=ids)
        except (LookupError, TypeError, orjson.JSONDecodeError):
            raise BenchError(f"{self.url} answers, but not as this service does: look at {self.url}/bundle") from None

    def probe(self, body: bytes) -> None:
        """Send one request. Raises BenchError if it is refused for a reason that is not load."""
        status, answer = self._ask("/score", body)
        if status != 200 and status not in BUSY:
            raise BenchError(f"{self.url}/score answers {status}: {_shown(answer)}")

    def _catalogue(self, key: str) -> list[int | str]:
        rows = [row for i in range(DRAWS) for row in self._json(f"/console/items?limit={PER_DRAW}&seed={i}")["items"]]
        if not rows:
            raise BenchError(f"the bundle at {self.url} has an empty catalogue: give --items FIRST:LAST")
        return list(dict.fromkeys(row[key] for row in rows))

    def _json(self, path: str) -> Any:  # noqa: ANN401  # JSON of another program, which may be anything
        status, body = self._ask(path)
        if status != 200:
            raise BenchError(f"{self.url}{path} answers {status}: {_shown(body)}")
        return orjson.loads(body)

    def _ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body. Raises BenchError where nobody answers."""
        try:
            with urlopen(Request(self.url + path, body, dict(self.headers)), timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()
        except (OSError, HTTPException, ValueError) as error:
            raise BenchError(f"{self.url} is out of reach: {getattr(error, 'reason', error)}") from None


def _shown(body: bytes) -> str:
    """The start of a service's own words, on one line."""
    return " ".join(body[:_REPEATED].decode(errors="replace").split())
