"""A key, as a request carries it."""

from starlette.types import Scope

from service.errors import Forbidden, Unauthorized
from service.keys import Keys

ADMIN_KEY, API_KEY = "the admin key", "an API key"


def check_key(scope: Scope, keys: Keys, *, kind: str) -> None:
    """Pass if the request has one of `keys`. Raises Unauthorized without one, else Forbidden.

    `kind` is what the message calls such a key; neither repeats what was sent.
    """
    given: bytes | None = dict(scope["headers"]).get(b"authorization")
    if given is None:
        raise Unauthorized(f"the header Authorization is missing, allowed: Bearer and {kind}")
    scheme, _, sent = given.partition(b" ")
    if not keys.accepts(sent.strip()) or scheme.lower() != b"bearer":
        raise Forbidden(f"the header Authorization has another value than Bearer and {kind}")
