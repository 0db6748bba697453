"""What the tests share: a bot without a process, and bots in processes of their own."""

import asyncio
import contextlib
import fcntl
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from claw import app
from claw.store import Store

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 20.0


@dataclass
class Response:
    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self):
        return self.content.decode()

    def json(self):
        return json.loads(self.content)


class Client:
    """Calls an ASGI application without a server."""

    def __init__(self, application):
        self._application = application

    def get(self, target):
        return self._request("GET", target, b"", {})

    def post(self, target, *, json=None, content=b"", headers=()):
        return self._request("POST", target, content if json is None else encode(json), dict(headers))

    def _request(self, method, target, content, headers):
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        events = []

        async def receive():
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(event):
            events.append(event)

        asyncio.run(self._application(scope, receive, send))
        headers = {name.decode(): value.decode() for name, value in events[0]["headers"]}
        return Response(events[0]["status"], headers, b"".join(event.get("body", b"") for event in events))


def encode(value):
    return json.dumps(value).encode()


class BotTest(unittest.TestCase):
    """A bot in this process, on a database of its own."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.state = Path(directory.name)
        self.open()

    def open(self):
        self.store = Store.open(self.state)
        self.addCleanup(self.store.close)
        self.client = Client(app.build(self.store))

    def say(self, text, *, chat="family", sender="ann", key=None):
        headers = {} if key is None else {"Idempotency-Key": key}
        response = self.client.post("/chat", json={"chat": chat, "sender": sender, "text": text}, headers=headers)
        self.assertEqual(response.status_code, 200, response.text)
        return response.json()["answer"]


def listening():
    """A listening socket on a free port, as a supervisor holds it."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    sock.settimeout(DEADLINE_S)
    return sock


def ask(address, path="/health"):
    """The JSON answer to a GET on a new connection."""
    connection = http.client.HTTPConnection(*address, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"{path} answered {response.status}")
        return json.loads(response.read())


# Descriptors and LISTEN_PID can only be set between fork and exec of the process they are for.
HAND_OVER = """
import os, sys
for target, source in enumerate(map(int, sys.argv[1].split(",")), start=3):
    os.dup2(source, target)
    os.close(source)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Bot:
    """A bot in a process of its own, started as a supervisor does; a context manager that leaves none behind."""

    def __init__(self, state, *arguments, sockets=None, **environment):
        self._directory = tempfile.TemporaryDirectory()
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"{self._directory.name}/notify"
        self._notices.bind(address)
        self._log = Path(self._directory.name) / "log"
        command = [*(f"-W{option}" for option in sys.warnoptions), "-m", "claw", "serve", *arguments]
        handed = {name: fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 30) for name, sock in (sockets or {}).items()}
        if handed:
            command = ["-ISc", HAND_OVER, ",".join(map(str, handed.values())), *command]
        known = {name: value for name, value in os.environ.items() if not name.startswith(("REGROW_", "LISTEN_"))}
        environment = (
            known
            | environment
            | {
                "NOTIFY_SOCKET": address,
                "REGROW_STATE": str(state),
                "LISTEN_FDS": str(len(handed)),
                "LISTEN_FDNAMES": ":".join(handed),
            }
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, pass_fds=handed.values(), stderr=log
            )
        for descriptor in handed.values():
            os.close(descriptor)
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(DEADLINE_S)
        self._notices.close()
        self._directory.cleanup()

    def wait(self, word):
        """Wait until the bot has said a word like STATUS=paused; the whole notice."""
        until = time.monotonic() + DEADLINE_S
        self._notices.settimeout(0.1)
        while time.monotonic() < until:
            try:
                notice = self._notices.recv(4096).decode().split("\n")
            except TimeoutError:
                if self._process.poll() is not None:
                    break
                continue
            if word in notice:
                return notice
        raise AssertionError(f"the bot never said {word}:\n{self.log}")

    def signal(self, number):
        os.kill(self.pid, number)

    def pause(self):
        self.signal(signal.SIGUSR1)

    def resume(self):
        self.signal(signal.SIGUSR2)

    def ended(self):
        """Wait for the end; the exit code."""
        return self._process.wait(DEADLINE_S)

    @property
    def log(self):
        return self._log.read_text()

    @property
    def address(self):
        """Where a bot listens that has bound its own socket."""
        host, port = re.search(r"listens on (\S+):(\d+)", self.log).groups()
        return host, int(port)


class Load(threading.Thread):
    """Asks again and again, each time on a new connection."""

    def __init__(self, address, count):
        super().__init__()
        self._address = address
        self._count = count
        self.asked = 0
        self.failures = []
        self.pids = set()

    def run(self):
        for _ in range(self._count):
            try:
                self.pids.add(ask(self._address)["pid"])
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            self.asked += 1
