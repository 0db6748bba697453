"""Notes keeps short notes in SQLite and answers over HTTP, with nothing but the standard library.

    GET  /health        {"status": "ok", "version": "..."}, after a look at the database
    GET  /notes         all notes, the newest first
    POST /notes         the body is a note; answers its number

It takes its listening sockets from LISTEN_FDS where there are any: "http", which two releases of it share at a switch,
and "probe", at which a new one is asked in private before anybody else meets it. It says READY=1 when it can serve, and
leaves in good order.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS = ("127.0.0.1", 8730)
LONGEST = 10_000
FIRST_PASSED = 3


class Notes:
    """The database; a connection a call, because each request has a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as database, database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("create table if not exists note (id integer primary key, text text not null)")

    def add(self, text: str) -> int:
        """Keep a note and give its number."""
        with closing(self._open()) as database, database:
            return int(database.execute("insert into note (text) values (?)", (text,)).lastrowid or 0)

    def all(self) -> list[dict[str, object]]:
        """The notes, the newest first."""
        with closing(self._open()) as database:
            rows = database.execute("select id, text from note order by id desc").fetchall()
        return [{"id": number, "text": text} for number, text in rows]

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=10)


class Server(ThreadingHTTPServer):
    """The HTTP server, on a socket that was handed over or on one of its own."""

    daemon_threads = False  # what was accepted is answered before the process ends

    def __init__(self, notes: Notes, passed: socket.socket | None, address: tuple[str, int] = ADDRESS) -> None:
        super().__init__(address, Handler, bind_and_activate=passed is None)
        self.notes = notes
        self.version = version()
        if passed is not None:
            self.socket.close()
            self.socket = passed
            self.server_address = passed.getsockname()


class Handler(BaseHTTPRequestHandler):
    """The answers."""

    server: Server
    timeout = 10

    def do_GET(self) -> None:
        if self.path == "/health":
            self.server.notes.all()
            self._answer(200, {"status": "ok", "version": self.server.version})
        elif self.path == "/notes":
            self._answer(200, self.server.notes.all())
        else:
            self._answer(404, {"error": "GET /health, GET /notes, POST /notes"})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/notes" or not 0 < length <= LONGEST:
            self._answer(400, {"error": "POST /notes with a note"})
            return
        self._answer(200, {"id": self.server.notes.add(self.rfile.read(length).decode(errors="replace"))})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the library
        """Nothing: a line a request is not a log that anybody reads."""

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def version() -> str:
    """What the build wrote beside this file, or "dev"."""
    path = Path(__file__).with_name("VERSION")
    return path.read_text().strip() if path.exists() else "dev"


def inherited() -> dict[str, socket.socket]:
    """The sockets that were handed over by the convention of systemd, by name."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")[: int(os.environ.get("LISTEN_FDS", "0"))]
    return {name: socket.socket(fileno=FIRST_PASSED + number) for number, name in enumerate(names)}


def notify(text: str) -> None:
    """A word to whoever started it; nothing where nobody listens."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


def main() -> None:
    """Serve until SIGTERM."""
    notes = Notes(Path(os.environ.get("REGROW_STATE", "."), "notes.db"))
    passed = inherited()
    servers = [Server(notes, passed[name]) for name in ("http", "probe") if name in passed] or [Server(notes, None)]

    def stop(*_: object) -> None:
        for server in servers:  # `shutdown` waits for the loop, which may run in this very thread
            threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    beside = [threading.Thread(target=server.serve_forever, args=(0.1,)) for server in servers[1:]]
    for thread in beside:
        thread.start()
    notify(f"READY=1\nX_VERSION={version()}")
    print(f"notes {version()} listens on {servers[0].server_address}", flush=True)
    servers[0].serve_forever(poll_interval=0.1)
    for thread in beside:
        thread.join()
    for server in servers:
        server.server_close()


if __name__ == "__main__":
    main()
