"""Ports: the one that several processes share, and that of /admin.

Each process has its own listening socket (SO_REUSEPORT), and the kernel spreads new connections over them by a hash of
their addresses.
"""

import socket


class PortError(Exception):
    """A port that cannot be listened on. The message names the settings and the reason."""


def shared_socket(host: str, port: int) -> socket.socket:
    """A socket for `host` and `port`, bound and not yet listening. Raises OSError: the address is taken or unknown."""
    return _bound(host, port, share=True)


def own_socket(host: str, port: int) -> socket.socket:
    """A socket for `host` and `port` that nobody may share. Raises OSError as `shared_socket` does."""
    return _bound(host, port, share=False)


def hold_port(host: str, port: int) -> socket.socket:
    """Take `port` (0: any that is free) for as long as the socket that is returned stays open; it gets no connections.

    Raises OSError if the address is unknown or somebody listens there, be it one who would share.
    """
    with _bound(host, port, share=False) as alone:
        port = alone.getsockname()[1]
    return _bound(host, port, share=True)


def _bound(host: str, port: int, *, share: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(share))
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
