"""Probes: one try of an http, tcp, command or log check, inside the loop, with a deadline."""

import contextlib
import json
import os
import re
import socket
from collections.abc import Callable
from typing import Any

from .logs import Reading
from .loop import Loop
from .processes import fork
from .sockets import parse

Json = dict[str, Any]
# (passed, cause if not, version that the service reported)
Done = Callable[[bool, str, str | None], None]
_MOST_ANSWER = 256 * 1024
_LONGEST_CAUSE = 300


class Try:
    """The common part: a deadline, and exactly one answer."""

    def __init__(self, loop: Loop, probe: Json, done: Done) -> None:
        self.loop, self.probe, self._done = loop, probe, done
        self._over = False
        timeout = float(probe["timeout_s"])
        self._timer = loop.after(timeout, lambda: self.finish(False, f"no answer in {timeout:g} s"))

    def finish(self, passed: bool, cause: str = "", version: str | None = None) -> None:
        if not self._over:
            self.cancel()
            self._done(passed, cause, version)

    def cancel(self) -> None:
        self._over = True
        self._timer.cancel()
        self.release()

    def release(self) -> None:
        """Give back what the try holds."""


class TcpTry(Try):
    """A connection is accepted by the kernel or the service; http goes on from there."""

    def __init__(self, loop: Loop, probe: Json, address: str, done: Done) -> None:
        self.socket: socket.socket | None = None
        super().__init__(loop, probe, done)
        try:
            family, target = parse(address)
            self.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self.socket.connect_ex(target)  # type: ignore[arg-type]
            loop.watch(self.socket.fileno(), self._connected, write=True)
        except (OSError, ValueError) as error:
            reason = str(error)
            loop.after(0, lambda: self.finish(False, reason))

    def _connected(self) -> None:
        assert self.socket is not None
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.finish(False, os.strerror(error))
        else:
            self.connected(self.socket)

    def connected(self, connection: socket.socket) -> None:
        self.finish(True)

    def release(self) -> None:
        if self.socket is not None:
            self.loop.unwatch(self.socket.fileno())
            self.socket.close()
            self.socket = None


class HttpTry(TcpTry):
    """Status 200 to 399 passes. Reads the JSON version if the probe names a key."""

    def __init__(self, loop: Loop, probe: Json, address: str, path: str, done: Done) -> None:
        self._host = address if not address.startswith("unix:") else "localhost"
        self._path = path
        self._answer = b""
        super().__init__(loop, probe, address, done)

    def connected(self, connection: socket.socket) -> None:
        # HTTP/1.0: the end of the answer is the end of the connection, and nothing comes in chunks.
        request = f"GET {self._path} HTTP/1.0\r\nHost: {self._host}\r\nUser-Agent: regrow\r\nConnection: close\r\n\r\n"
        try:
            connection.send(request.encode())
        except OSError as error:
            self.finish(False, str(error))
            return
        self.loop.watch(connection.fileno(), self._readable)

    def _readable(self) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.finish(False, str(error))
            return
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not data or (end and len(body) >= _length(head)) or len(self._answer) > _MOST_ANSWER:
            self._judge(head, body)

    def _judge(self, head: bytes, body: bytes) -> None:
        words = head.split(b" ", 2)
        if not head.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
            self.finish(False, "no http answer")
        elif not 200 <= int(words[1]) < 400:
            self.finish(False, f"status {int(words[1])}")
        else:
            self.finish(True, "", _version(body, self.probe.get("version_json")))


class CommandTry(Try):
    """Exit code 0 passes. At the deadline the command's whole session is killed."""

    def __init__(  # noqa: PLR0917
        self, loop: Loop, probe: Json, cwd: str, env: dict[str, str], log: int, done: Done
    ) -> None:
        self._birth = fork(probe["target"], cwd, env, [], log)
        super().__init__(loop, probe, done)
        self._birth.go()
        loop.watch(self._birth.process.pidfd, self._ended)

    def _ended(self) -> None:
        error = self._birth.error()
        how = self._reap()
        self.finish(how == "exit code 0", error[1] if error else how)

    def _reap(self) -> str:
        self.loop.unwatch(self._birth.process.pidfd)
        os.close(self._birth.errors)
        how = self._birth.process.reap()
        self._reaped = True
        return how

    _reaped = False

    def _bury(self) -> None:
        self._reap()

    def release(self) -> None:
        if self._reaped:
            return
        process = self._birth.process
        process.kill_session()
        # Its death is a moment away; bury it then, without an answer.
        self.loop.watch(process.pidfd, self._bury)


class LogTry(Try):
    """The pattern has appeared since the start, and no new line is a failure. Two processes of one release write to
    one log: a line of either counts."""

    def __init__(self, loop: Loop, probe: Json, reading: Reading, done: Done) -> None:
        self._reading = reading
        super().__init__(loop, probe, done)
        loop.after(0, self._read)

    def _read(self) -> None:
        if self._over:
            return
        wanted, failure, reading = self.probe["target"], self.probe["fail"], self._reading
        bad = ""
        for line in reading.lines():
            reading.found = reading.found or bool(wanted and re.search(wanted, line))
            bad = line.strip() if failure and re.search(failure, line) else bad
        if bad:
            self.finish(False, f"the log says: {bad}"[:_LONGEST_CAUSE])
        else:
            self.finish(reading.found or not wanted, f"no line of the log matches {wanted!r} yet")


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            with contextlib.suppress(ValueError):
                return int(value)
    return _MOST_ANSWER


def _version(body: bytes, key: str | None) -> str | None:
    if not key:
        return None
    try:
        value: Any = json.loads(body)
        for part in key.split("."):
            value = value[part]
    except (ValueError, KeyError, TypeError):
        return None
    return value if value is None else str(value)


def begin(  # noqa: PLR0917
    loop: Loop, probe: Json, probe_address: str | None, cwd: str, env: dict[str, str], log: int, done: Done
) -> Try:
    """Start one try of a probe; `done` is called once, later. A path as target means the probe socket."""
    kind, target = probe["type"], probe["target"]
    if kind == "command":
        return CommandTry(loop, probe, cwd, env, log, done)
    if kind == "tcp":
        return TcpTry(loop, probe, target, done)
    if target.startswith("http://"):
        address, slash, path = target[7:].partition("/")
        address = address if ":" in address.rpartition("]")[2] else f"{address}:80"
        return HttpTry(loop, probe, address, slash + path or "/", done)
    return HttpTry(loop, probe, probe_address or "", target.removeprefix("probe:"), done)
