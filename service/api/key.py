"""The admin key, as a request carries it."""

import hmac

from starlette.types import Scope

from service.api.exchange import header
from service.errors import Forbidden, Unauthorized


def check_key(scope: Scope, key: bytes) -> None:
    """Pass if the request has `key`, compared in constant time. Raises Unauthorized without one, else Forbidden."""
    given = header(scope, b"authorization")
    if given is None:
        raise Unauthorized("the header Authorization is missing, allowed: Bearer and the admin key")
    scheme, _, sent = given.partition(" ")
    if not hmac.compare_digest(sent.strip().encode(), key) or scheme.lower() != "bearer":
        raise Forbidden("this is not the admin key")
