"""What is wrong with the settings, told apart from a store that is only away for now.

A server that answers and refuses (password, rights, certificate, kind of URL) will refuse until somebody changes
something: that is a wrong setting. A server that does not answer may come back: the service starts without it.
"""

import ssl
from collections.abc import Iterator

from redis.exceptions import AuthenticationError, MovedError, NoPermissionError, ResponseError

from service.stores.base import StoreError, StoreMisconfigured
from service.stores.connections import Command
from service.stores.servers import NotReplicated, Servers


async def check_rights(servers: Servers, key: bytes, *, timeout_s: float) -> None:
    """Send what the store sends, for a key that does not exist, in forms that leave it so.

    Raises StoreError, and StoreMisconfigured where no waiting will help.
    """
    commands: list[Command] = [
        ("ZRANGE", key, 0, 0, "REV"),
        ("ZADD", key, "XX", 0, b"0"),  # XX: only what is there already
        ("ZREMRANGEBYRANK", key, 0, -1),
        ("EXPIRE", key, 1),
    ]
    for command in commands:
        try:
            await servers.ask([(key, [command])], timeout_s=timeout_s, purpose="read")
        except StoreError as error:
            why = explain(error, str(command[0]))
            raise (StoreMisconfigured(why) if why else error) from error
    try:
        await servers.ask([(key, [commands[0]])], timeout_s=timeout_s, purpose="write")  # with WAIT, where it is used
    except StoreError as error:
        why = explain(error, "WAIT")
        if why or not isinstance(error.__cause__, NotReplicated):
            raise (StoreMisconfigured(why) if why else error) from error


def explain(error: BaseException, command: str) -> str:
    """What has to be changed, without any secret; empty if nothing has to."""
    return next((why for cause in _causes(error) if (why := _why(cause, command))), "")


def _why(cause: BaseException, command: str) -> str:
    if isinstance(cause, StoreMisconfigured):
        return str(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS with this server: {(cause.reason or 'unknown').lower().replace('_', ' ')}"
    if isinstance(cause, ResponseError) and any(text in str(cause).lower() for text in _OTHER_KIND_TEXTS):
        return _OTHER_KIND
    return next((text.format(command=command) for kind, text in _TOLD.items() if isinstance(cause, kind)), "")


_OTHER_KIND = "the server is of another kind than the URL says: one server, Sentinel or cluster"
_OTHER_KIND_TEXTS = ("cluster support disabled", "unknown command", "db index is out of range")
_TOLD: dict[type[Exception], str] = {
    NoPermissionError: "this user has no right to {command} there; docs/operations.md lists what is needed",
    AuthenticationError: "user or password are wrong or missing",
    MovedError: _OTHER_KIND,
}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
