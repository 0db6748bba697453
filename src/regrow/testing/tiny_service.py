"""A real HTTP service of one file, run as a script, that misbehaves on request. Standard library only.

It speaks the whole contract: LISTEN_FDS (sockets "http" and "probe"), READY=1 on NOTIFY_SOCKET, REGROW_START=paused,
SIGUSR1 to pause, SIGUSR2 to resume, SIGTERM to finish what it has and end, and X_STATE armed, connected, draining and
drained after each of these, as a service with an outbound connection does. Its environment says what goes wrong:

    TINY_VERSION        what it reports, by notify and as JSON
    TINY_INIT           seconds that it needs before READY
    TINY_DIE_AT_START   raise before READY
    TINY_HANG           never say READY
    TINY_DIE_AFTER      seconds of taking traffic after which it raises
    TINY_FAIL_FILE      /health answers 500 while this file exists
    TINY_DEAF_FILE      /chat is taken and never answered while this file exists
    TINY_ANSWER         what it answers to every message
    TINY_IGNORE_TERM    go on through SIGTERM
    TINY_SILENT         never say WATCHDOG=1, which it says where WATCHDOG_USEC asks for it
    TINY_WATCHDOG       say it until the file named here exists
    TINY_MUTE           words of X_STATE that it does not say: "draining drained"
    TINY_WORK           seconds that each answer takes, nothing else meanwhile
    TINY_WORDS          file that gets a line "VERSION WORD" for each word of X_STATE, said or not
    TINY_PORT           bind this port itself (an exclusive service)
    TINY_CHAT           file that gets a line "KEY<tab>TEXT" for each message posted to /chat; the answer is "re TEXT"
    TINY_DB             a database below REGROW_STATE, opened at its start; each GET /note/TEXT writes a row
    TINY_MIGRATION      the schema (user_version) that it brings the database to at its start; 1
    TINY_REFUSES        raise when the database has a newer schema, and else write into it all the same
    TINY_MOODS          GET /error/TEXT prints a traceback of a RuntimeError with that text and goes on, GET /crash/TEXT
                        raises it, GET /eat takes memory until there is none, GET /quit ends with code 0
    TINY_DEATH_NOTE     file into which the last instruction of an unhandled exception writes the monotonic time
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from types import TracebackType


class TinyService:
    """The listening sockets, the open connections and the clock of its death."""

    def __init__(self) -> None:
        self.version = os.environ.get("TINY_VERSION", "1")
        self.notes = Notes() if "TINY_DB" in os.environ else None
        self.selector = selectors.DefaultSelector()
        self.listening = passed_sockets()
        if port := os.environ.get("TINY_PORT"):
            self.listening["http"] = socket.create_server(("127.0.0.1", int(port)), backlog=2048)
        for entry in self.listening.values():
            entry.setblocking(False)
        self.paused = True
        self.ending = self.draining = False
        self.open: dict[socket.socket, bytes] = {}
        self.dies_at: float | None = None
        asked = "TINY_SILENT" not in os.environ and os.environ.get("WATCHDOG_USEC")
        self.watchdog_s = int(asked) / 4e6 if asked else None

    def run(self) -> None:
        """Serve until SIGTERM and the last open connection."""
        wake, wake_writing = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_writing)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        self.selector.register(wake, selectors.EVENT_READ)
        if "probe" in self.listening:
            self.selector.register(self.listening["probe"], selectors.EVENT_READ)
        if os.environ.get("REGROW_START") == "paused":
            self.say("armed")
        else:
            self.resume()
        notify(f"X_VERSION={self.version}\nSTATUS=serving {self.version}\nREADY=1")
        while not (self.ending and not self.open):
            timeout = None if self.dies_at is None else max(0.0, self.dies_at - time.monotonic())
            if self.watchdog_s is not None:
                if not Path(os.environ.get("TINY_WATCHDOG", "/-")).exists():
                    notify("WATCHDOG=1")
                timeout = self.watchdog_s if timeout is None else min(timeout, self.watchdog_s)
            for key, _ in self.selector.select(timeout):
                if key.fd == wake:
                    for byte in os.read(wake, 64):
                        self.signalled(byte)
                elif key.fileobj in self.open:
                    self.answer(key.fileobj)
                else:
                    self.accept(key.fileobj)
            if self.dies_at is not None and time.monotonic() >= self.dies_at:
                raise RuntimeError(f"version {self.version} was told to die")

    def say(self, word: str) -> None:
        """Tell where it stands."""
        self.draining = word == "draining"
        if path := os.environ.get("TINY_WORDS"):
            append(path, f"{self.version} {word}\n")
        if word not in os.environ.get("TINY_MUTE", "").split():
            notify(f"X_STATE={word}")

    def signalled(self, number: int) -> None:
        """Pause, resume or end."""
        if number == signal.SIGUSR1:
            self.pause()
        elif number == signal.SIGUSR2:
            self.resume()
        elif number == signal.SIGTERM and "TINY_IGNORE_TERM" not in os.environ:
            notify("STOPPING=1")
            self.pause()
            self.ending = True

    def resume(self) -> None:
        """Take traffic."""
        if self.paused and "http" in self.listening:
            self.selector.register(self.listening["http"], selectors.EVENT_READ)
        self.paused = False
        if (after := os.environ.get("TINY_DIE_AFTER")) and self.dies_at is None:
            self.dies_at = time.monotonic() + float(after)
        self.say("connected")

    def pause(self) -> None:
        """Leave new connections to the other release; go on with those already taken."""
        if not self.paused and "http" in self.listening:
            self.selector.unregister(self.listening["http"])
        self.paused = True
        self.say("draining")
        if not self.open:
            self.say("drained")

    def accept(self, listening: object) -> None:
        """Take one connection, unless the other release was faster."""
        assert isinstance(listening, socket.socket)
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        self.open[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ)

    def answer(self, connection: object) -> None:
        """One small request, one answer, and goodbye."""
        assert isinstance(connection, socket.socket)
        try:
            received = connection.recv(65536)
            request = self.open[connection] + received
            if received and not is_whole(request):
                self.open[connection] = request
                return
            if received:
                time.sleep(float(os.environ.get("TINY_WORK", "0")))
                bad = request.startswith(b"GET /health") and Path(os.environ.get("TINY_FAIL_FILE", "/-")).exists()
                if self.notes is not None and request.startswith(b"GET /note/"):
                    self.notes.write(request.split(b" ", 2)[1].removeprefix(b"/note/").decode())
                if "TINY_MOODS" in os.environ:
                    mood(request.split(b" ", 2)[1].decode())
                said = request.startswith(b"POST /chat")
                if said and Path(os.environ.get("TINY_DEAF_FILE", "/-")).exists():
                    return
                value = chat(request) if said else {"version": self.version, "pid": os.getpid()}
                body = json.dumps(value).encode()
                head = f"HTTP/1.1 {500 if bad else 200} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + body)
        except OSError:
            pass
        self.selector.unregister(connection)
        del self.open[connection]
        connection.close()
        if self.draining and not self.open:
            self.say("drained")


def mood(path: str) -> None:
    """Go wrong as asked."""
    _, what, *text = path.split("/", 2)
    if what == "error":
        try:
            raise RuntimeError(text[0])
        except RuntimeError:
            import traceback  # only who goes wrong needs it

            sys.stderr.write(f"ERROR request {time.time_ns()} failed\n")
            traceback.print_exc()
    elif what == "crash":
        raise RuntimeError(text[0])
    elif what == "quit":
        os._exit(0)
    elif what == "eat":
        eaten = [bytearray(b"x" * 2**20)]
        while True:
            eaten.append(bytearray(b"x" * 2**20))


class Notes:
    """A database that newer versions migrate: each row says which schema its writer knew, and which one it found."""

    def __init__(self) -> None:
        import sqlite3  # only a service with data needs it

        path = Path(os.environ["REGROW_STATE"], os.environ["TINY_DB"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self.known = int(os.environ.get("TINY_MIGRATION", "1"))
        self.connection = sqlite3.connect(path, timeout=10, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("create table if not exists notes (text, known integer, found integer)")
        if self.found() > self.known and "TINY_REFUSES" in os.environ:
            raise RuntimeError(f"the database has schema {self.found()}, this version knows {self.known}")
        for schema in range(max(self.found(), 0) + 1, self.known + 1):
            if schema > 1:
                self.connection.execute(f"alter table notes add column added_{schema}")
            self.connection.execute(f"PRAGMA user_version={schema}")
        self.write(f"start {os.environ.get('TINY_VERSION', '1')}")

    def found(self) -> int:
        """The schema of the database."""
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def write(self, text: str) -> None:
        """Commit a row."""
        self.connection.execute(
            "insert into notes (text, known, found) values (?, ?, ?)", (text, self.known, self.found())
        )


def header(request: bytes, name: bytes) -> bytes:
    """A header's value, or nothing."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    found = [value.strip() for line in lines for key, _, value in [line.partition(b":")] if key.lower() == name]
    return found[0] if found else b""


def is_whole(request: bytes) -> bool:
    """Whether a request has come to its end."""
    _, end, body = request.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= int(header(request, b"content-length") or b"0")


def chat(request: bytes) -> dict[str, str]:
    """Write a message down and answer it; the same message gets the same answer."""
    text = str(json.loads(request.partition(b"\r\n\r\n")[2])["text"])
    line = f"{header(request, b'idempotency-key').decode()}\t{text}\n"
    append(os.environ["TINY_CHAT"], line)
    return {"answer": os.environ.get("TINY_ANSWER", f"re {text}")}


def append(path: str, line: str) -> None:
    """One write to the end of a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def passed_sockets() -> dict[str, socket.socket]:
    """Listening sockets by the name that the supervisor gave them."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ["LISTEN_FDNAMES"].split(":")
    return {name: socket.socket(fileno=3 + number) for number, name in enumerate(names)}


def notify(text: str) -> None:
    """One datagram to the supervisor; nobody there is no error."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(text.encode(), path)
            except OSError:
                return


def die_with_note(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The usual traceback, then the note, then the end without an interpreter's farewell."""
    sys.__excepthook__(kind, error, trace)
    sys.stderr.flush()
    Path(os.environ["TINY_DEATH_NOTE"]).write_text(repr(time.monotonic()))
    os._exit(1)


def main() -> None:
    """Run it, with the faults that come before READY."""
    if "TINY_DEATH_NOTE" in os.environ:
        sys.excepthook = die_with_note
    if "TINY_DIE_AT_START" in os.environ:
        raise RuntimeError("no such table: users")
    if "TINY_HANG" in os.environ:
        signal.pause()
    time.sleep(float(os.environ.get("TINY_INIT", "0")))
    TinyService().run()


if __name__ == "__main__":
    main()
