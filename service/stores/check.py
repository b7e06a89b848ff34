"""What is wrong with the settings, told apart from a store that is only away for now.

A server that answers and refuses (password, rights, certificate, kind of URL) will refuse until somebody changes
something: that is a wrong setting. A server that does not answer may come back: the service starts without it.
"""

import socket
import ssl
from collections.abc import Awaitable, Iterator
from contextlib import suppress

from redis.exceptions import AuthenticationError, MovedError, NoPermissionError, ResponseError

from service.stores.address import Address, Tls
from service.stores.base import StoreError, StoreMisconfigured, StoreNotReplicated
from service.stores.connections import Command
from service.stores.servers import Request, Servers

HANDSHAKE_S = 1.0


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
    spread: list[Request] = [(name, [("ZRANGE", name, 0, 0, "REV")]) for name in (b"%s%d" % (key, i) for i in range(9))]
    await _told(servers.ask(spread, timeout_s=timeout_s, purpose="read"), "ZRANGE")  # one of a cluster has not all
    for command in commands:
        await _told(servers.ask([(key, [command])], timeout_s=timeout_s, purpose="read"), str(command[0]))
    with suppress(StoreNotReplicated):
        await _told(servers.ask([(key, commands[:1])], timeout_s=timeout_s, purpose="write"), "WAIT")


async def _told(asking: Awaitable[object], command: str) -> None:
    try:
        await asking
    except StoreError as error:
        if why := explain(error, command):
            raise StoreMisconfigured(why) from error
        raise


def refused_certificate(address: Address, tls: Tls) -> str:
    """What a server says of our certificate, empty if it is content or does not answer. Blocks for up to some seconds.

    A client learns that only after its own half of the handshake, and mostly finds just a broken connection.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # not what is asked here; nothing is sent
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
    for place in address.places or [
        (address.connection.get("host", "localhost"), address.connection.get("port", 6379))
    ]:
        try:
            with (
                socket.create_connection(place, timeout=HANDSHAKE_S) as plain,
                context.wrap_socket(plain, server_hostname=place[0]) as secured,
            ):
                secured.recv(1)
        except ssl.SSLError as error:
            return _why(error, "")
        except OSError:  # silence too: it waits for a command, so it is content
            continue
    return ""


def explain(error: BaseException, command: str) -> str:
    """What has to be changed, without any secret; empty if nothing has to."""
    return next((why for cause in _causes(error) if (why := _why(cause, command))), "")


def _why(cause: BaseException, command: str) -> str:
    if isinstance(cause, StoreMisconfigured):
        return str(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, _ENDED):
        return f"no TLS with this server: {(cause.reason or 'unknown').lower().replace('_', ' ')}"
    if isinstance(cause, ResponseError) and any(text in str(cause).lower() for text in _OTHER_KIND_TEXTS):
        return _OTHER_KIND
    return next((text.format(command=command) for kind, text in _TOLD.items() if isinstance(cause, kind)), "")


_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # a server that goes away in the middle
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
