"""The port of /admin and /users: all routes are there, and those two nowhere else."""

from starlette.types import ASGIApp, Receive, Scope, Send


class ByPort:
    """Passes a request on by the port at which its connection came in, which no header can change."""

    def __init__(self, public: ASGIApp, admin: ASGIApp, *, port: int) -> None:
        """`admin` answers at `port`, `public` at any other."""
        self._public = public
        self._admin = admin
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan."""
        server = scope.get("server")
        app = self._admin if server is not None and server[1] == self._port else self._public
        await app(scope, receive, send)
