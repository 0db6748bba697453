"""The control socket: JSON lines over a unix socket that only the owner and root may use."""

import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from .loop import Loop
from .sockets import short_path

Json = dict[str, Any]
_CREDENTIALS = struct.Struct("3i")
_LONGEST_LINE = 1024 * 1024
_MOST_UNSENT = 4 * 1024 * 1024


class Refused(Exception):
    """A request that is not done: a stable kind for programs, a text for people."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Client:
    def __init__(self, control: "Control", connection: socket.socket) -> None:
        self.control, self.socket = control, connection
        self.subscribed = False
        self._read = b""
        self._unsent = b""

    def readable(self) -> None:
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._read = (self._read + data).split(b"\n")
        if not data or len(self._read) > _LONGEST_LINE:
            self.close()
            return
        for line in lines:
            if line.strip():
                self.control.request(self, line)

    def send(self, message: Json, fds: list[int] | None = None) -> None:
        data = json.dumps(message, ensure_ascii=False).encode() + b"\n"
        try:
            if fds and not self._unsent:
                sent = socket.send_fds(self.socket, [data], fds)
                data = data[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._unsent += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            # A reader that does not read may not fill our memory: it can subscribe again from where it was.
            if len(self._unsent) > _MOST_UNSENT:
                self.close()
                return
            self.control.loop.watch(self.socket.fileno(), self._flush, write=True)
            return
        except OSError:
            self.close()
            return
        self.control.loop.watch(self.socket.fileno(), self.readable)

    def close(self) -> None:
        if self.socket.fileno() >= 0:
            self.control.loop.unwatch(self.socket.fileno())
            self.socket.close()
        self.control.clients.discard(self)


class Control:
    """Listens at `path`; to be made only while the service's lock is held, for it removes a stale socket."""

    def __init__(self, loop: Loop, path: str, handle: Callable[[str, Json, Client], Json | None]) -> None:
        self.loop, self.path, self._handle = loop, path, handle
        self.clients: set[Client] = set()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        name, directory = short_path(path)
        mask = os.umask(0o177)
        try:
            self._listening.bind(name)
        finally:
            os.umask(mask)
            if directory is not None:
                os.close(directory)
        self._listening.listen(64)
        loop.watch(self._listening.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(peer)[1] not in (os.getuid(), 0):
            connection.close()
            return
        connection.setblocking(False)
        client = Client(self, connection)
        self.clients.add(client)
        self.loop.watch(connection.fileno(), client.readable)

    def request(self, client: Client, line: bytes) -> None:
        number = None
        try:
            request = json.loads(line)
            number = request.get("id")
            answer = self._handle(str(request.get("verb")), request, client)
            if answer is None:  # answered already
                return
            message = {"id": number, "ok": True, **answer}
        except Refused as error:
            message = {"id": number, "ok": False, "kind": error.kind, "error": str(error)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            text = f"cannot understand the request: {type(error).__name__}: {error}"
            message = {"id": number, "ok": False, "kind": "bad_request", "error": text}
        except Exception as error:
            sys.excepthook(*sys.exc_info())
            message = {"id": number, "ok": False, "kind": "internal", "error": f"cannot do it: {error}"}
        client.send(message)

    def publish(self, event: Json) -> None:
        for client in list(self.clients):
            if client.subscribed:
                client.send({"event": event})

    def close(self) -> None:
        for client in list(self.clients):
            client.close()
        self.loop.unwatch(self._listening.fileno())
        self._listening.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)  # noqa: PTH108
