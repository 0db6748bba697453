"""A listening socket that can be paused and resumed while other processes accept from it too."""

import asyncio
import errno
import logging
import socket
from email.utils import formatdate
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

log = logging.getLogger("claw")

ACCEPT_AT_ONCE = 16
RETRY_S = 0.5
SILENT_S = 1.0
LOOK_S = 0.02


class Listener:
    """Accepts connections of one socket and serves an application on them.

    asyncio.Server is not used: a connection that it has accepted in the turn of the loop in which it is
    closed is lost. Here a connection is accepted in a readiness callback, which nothing can interrupt, and
    has its own task from then on, so that pausing is only to take the callback away.
    """

    def __init__(self, sock: socket.socket, app: Any, *, own: bool) -> None:
        self._sock = sock
        self._app = app
        self._own = own
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._arriving: set[asyncio.Task[Any]] = set()
        self._state = ServerState()
        self._config = uvicorn.Config(
            self._serve,
            interface="asgi3",
            http=H11Protocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            access_log=False,
        )
        self._config.load()

    def resume(self) -> None:
        self._accepting = True
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def pause(self) -> None:
        """Accept no more. What has been accepted is answered, and asked to connect anew next time."""
        self._accepting = False
        asyncio.get_running_loop().remove_reader(self._sock)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    async def finish(self, drain_s: float) -> None:
        """Stop for good: answer what has been accepted, for at most `drain_s` seconds, then hang up."""
        self.pause()
        if self._own:
            # Nobody else accepts from this socket: closing it would reset those who wait in its queue.
            while self._accept():
                pass
        self._sock.close()
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.sleep(LOOK_S)
        while (self._arriving or self._state.connections) and clock() < began + drain_s:
            for connection in self._connections():
                # One that has been opened and has not asked yet is about to ask; it is given a moment.
                idle = connection.cycle.response_complete if connection.cycle else clock() > began + SILENT_S
                if idle and not connection.transport.is_closing():
                    connection.shutdown()
            await asyncio.sleep(LOOK_S)
        for connection in self._connections():
            connection.transport.abort()
        late = [*self._arriving, *self._state.tasks]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _connections(self) -> list[Any]:
        return list(self._state.connections)

    def _accept(self) -> bool:
        """Take waiting connections, but not all: the others who listen get their share."""
        for _ in range(ACCEPT_AT_ONCE):
            try:
                connection, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("cannot accept, trying again: %s", error)
                if self._accepting:
                    self.pause()
                    self._retry = asyncio.get_running_loop().call_later(RETRY_S, self.resume)
                return False
            connection.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._connect(connection))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)
        return True

    async def _connect(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()

        def protocol() -> H11Protocol:
            return H11Protocol(self._config, self._state, {}, loop)

        try:
            await loop.connect_accepted_socket(protocol, connection)
        except OSError as error:
            connection.close()
            log.info("a connection was gone before it was served: %s", error)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                headers = [*event.get("headers", ()), (b"date", formatdate(usegmt=True).encode())]
                if not self._accepting:
                    headers.append((b"connection", b"close"))
                event = {**event, "headers": headers}
            await send(event)

        await self._app(scope, receive, with_headers)
