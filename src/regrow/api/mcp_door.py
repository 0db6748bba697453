"""The tools over streamable HTTP, on the console's port: for a program that starts no process of its own for them.

It has a token of its own, which opens nothing else. A call is a whole conversation (no session is kept), so a daemon
that was restarted in between is not noticed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from regrow.api.client import Client
from regrow.api.types import ErrorBody
from regrow.errors import ConfigError
from regrow.secret import Secret
from regrow.web.guards import LoopbackHost
from regrow.web.session import Session

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

PATH = "/mcp"
_BODY_BYTES = 1024 * 1024


class McpDoor:
    """Serves the tools to who shows the token.

    Args:
        token: of the settings.
        client: speaks as the program.

    Raises:
        ConfigError: the extra is not installed, or the token is too short to be one.
    """

    def __init__(self, token: Secret, client: Client) -> None:
        try:
            import mcp.server  # noqa: F401
        except ImportError:
            raise ConfigError("cannot serve [mcp]: its library is not there; install regrow[mcp]") from None
        try:
            self._session = Session(token.reveal())
        except ValueError:
            raise ConfigError(
                "cannot use the token of [mcp]: it has fewer than 16 characters; make a longer one"
            ) from None
        self._client = client
        self._manager: StreamableHTTPSessionManager | None = None

    async def run(self) -> None:
        """Be open until cancelled."""
        from regrow.api.mcp import Tools, server

        made = server(Tools(self._client))
        made.streamable_http_app(stateless_http=True, max_request_body_size=_BODY_BYTES)
        async with made.session_manager.run():
            self._manager = made.session_manager
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._manager = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._session.is_token(given.strip()):
            text = "cannot let you in: show the token of [mcp] as a bearer token"
            answer = JSONResponse(ErrorBody(kind="unauthorized", error=text).model_dump(), 401)
            await answer(scope, receive, send)
        elif (manager := self._manager) is None:
            text = "cannot answer yet: the daemon is starting or stopping; try again"
            await JSONResponse(ErrorBody(kind="starting", error=text).model_dump(), 503)(scope, receive, send)
        else:
            await manager.handle_request(scope, receive, send)


def beside(door: ASGIApp, others: ASGIApp) -> ASGIApp:
    """The door at its path, for callers of this machine's own names, and everything else as it was."""
    guarded = LoopbackHost(door)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        mine = scope["type"] == "http" and scope["path"] == PATH
        await (guarded if mine else others)(scope, receive, send)

    return app
