"""A small daemon that speaks the API's contract over a unix socket with scripted jobs, and the real CLI against it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import regrow

ENDED = ("done", "failed", "undone", "cancelled")
DEADLINE_S = 30.0


@dataclass
class Scripted:
    """What the daemon will say. `jobs` maps a number to its snapshots; a text among them waits for `open(text)`."""

    jobs: dict[int, list[dict[str, Any] | str]] = field(default_factory=dict)
    next_job: dict[str, int] = field(default_factory=dict)
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    releases: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    drops: int = 0
    gates: set[str] = field(default_factory=set)
    now: dict[int, dict[str, Any]] = field(default_factory=dict)
    listeners: int = 0
    service: dict[str, Any] = field(default_factory=lambda: {"name": "claw", "state": "up", "probes": []})
    channels: list[dict[str, Any]] = field(default_factory=list)

    def open(self, name: str) -> None:
        """Let scripts go past the gate."""
        self.gates.add(name)


def job(number: int = 1, kind: str = "restart", status: str = "doing", **fields: Any) -> dict[str, Any]:
    """A Job as JSON."""
    steps = [
        {"name": name, "title": name.title(), "status": state, "started_at": 1.0, "seconds": 0.5, "detail": detail}
        for name, state, detail in fields.pop("steps", [])
    ]
    return {
        "id": number, "service": "claw", "kind": kind, "status": status, "title": f"{kind} claw", "asked_by": "root",
        "channel": "terminal", "chat": "main", "created_at": 1.0, "started_at": 2.0, "steps": steps, **fields,
    }  # fmt: skip


def message(number: int, text: str, **fields: Any) -> dict[str, Any]:
    """A Message as JSON."""
    return {
        "id": number, "channel": "terminal", "chat": "main", "author": "regrow", "mine": False, "text": text, "at": 1.0,
        **fields,
    }  # fmt: skip


class Daemon:
    """The scripted daemon, on a socket, in a thread."""

    def __init__(self, root: Path) -> None:
        self.socket = root / "d.sock"
        self.script = Scripted()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; returns once it does."""
        config = uvicorn.Config(self._app(), uds=str(self.socket), log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server is not None and self._server.started, "the scripted daemon")

    def stop(self) -> None:
        """End, as an upgrade would end it."""
        assert self._server is not None and self._thread is not None
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)
        self.socket.unlink(missing_ok=True)

    def _app(self) -> Starlette:
        routes = [
            Route("/v1/status", self._status),
            Route("/v1/requests", self._request, methods=["POST"]),
            Route("/v1/jobs", self._jobs),
            Route("/v1/jobs/{n:int}", self._job),
            Route("/v1/jobs/{n:int}/events", self._events),
            Route("/v1/jobs/{n:int}/log", self._log),
            Route("/v1/jobs/{n:int}/{verb}", self._answer, methods=["POST"]),
            Route("/v1/releases", self._releases),
            Route("/v1/logs", self._log),
            Route("/v1/doctor", self._doctor),
            Route("/v1/chat/messages", self._messages, methods=["GET"]),
            Route("/v1/chat/messages", self._say, methods=["POST"]),
            Route("/v1/chat/events", self._chat),
            Route("/v1/chat/actions", self._press, methods=["POST"]),
            Route("/v1/daemon/stop", self._stop, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def _status(self, _: Request) -> Response:
        daemon = {"version": "9.9", "pid": 0, "started_at": 1.0, "ready_ms": 1.0, "rss_bytes": 1}
        return JSONResponse(
            {
                "daemon": daemon,
                "services": [self.script.service],
                "channels": self.script.channels,
                "new_field": 1,
            }
        )

    async def _request(self, request: Request) -> Response:
        body = await request.json()
        self.script.requests.append(body)
        if refused := self.script.refuse.get(body["intent"]):
            return _error(*refused)
        return JSONResponse({"job": self.script.next_job.get(body["intent"], 1)})

    async def _jobs(self, _: Request) -> Response:
        return JSONResponse([self._now(n) for n in sorted(self.script.jobs, reverse=True)])

    def _now(self, number: int) -> dict[str, Any]:
        first = next(one for one in self.script.jobs[number] if isinstance(one, dict))
        return self.script.now.get(number, first)

    async def _job(self, request: Request) -> Response:
        number = request.path_params["n"]
        if number not in self.script.jobs:
            return _error(404, "not_found", f"cannot find job {number}; list them with `regrow jobs`")
        return JSONResponse(self._now(number))

    async def _events(self, request: Request) -> Response:
        number = request.path_params["n"]

        async def events() -> AsyncIterator[bytes]:
            self.script.listeners += 1
            for one in self.script.jobs[number]:
                if isinstance(one, str):
                    while one not in self.script.gates:
                        await asyncio.sleep(0.01)
                    if one.startswith("drop") and self.script.drops > 0:
                        self.script.drops -= 1
                        return
                    continue
                self.script.now[number] = one
                yield b": still here\n\n" + _event("job", one)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _log(self, _: Request) -> Response:
        return PlainTextResponse(self.script.log)

    async def _answer(self, request: Request) -> Response:
        number, verb = request.path_params["n"], request.path_params["verb"]
        body = await request.body()
        self.script.calls.append(f"{verb} {number} {body.decode()}")
        self.script.open(verb)
        if refused := self.script.refuse.get(verb):
            return _error(*refused)
        return JSONResponse(self._now(number))

    async def _releases(self, _: Request) -> Response:
        return JSONResponse(self.script.releases)

    async def _doctor(self, _: Request) -> Response:
        return JSONResponse(self.script.findings)

    async def _messages(self, request: Request) -> Response:
        after = int(request.query_params.get("after", 0))
        return JSONResponse([one for one in self.script.messages if one["id"] > after])

    async def _say(self, request: Request) -> Response:
        body = await request.json()
        said = message(len(self.script.messages) + 1, body["text"], mine=True, author="you")
        self.script.messages.append(said)
        for answer in self.script.answers.get(body["text"], []):
            self.script.messages.append({**answer, "id": len(self.script.messages) + 1})
        return JSONResponse(said)

    async def _chat(self, request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            self.script.listeners += 1
            sent: dict[int, dict[str, Any]] = {}
            while not await request.is_disconnected() and self._server and not self._server.should_exit:
                for one in list(self.script.messages):
                    if sent.get(one["id"]) != one:
                        sent[one["id"]] = dict(one)
                        yield _event("message", one)
                await asyncio.sleep(0.01)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _press(self, request: Request) -> Response:
        body = await request.json()
        self.script.calls.append(f"press {body['message']} {body['action']}")
        self.script.open("press")
        for one in self.script.messages:
            if one["id"] == body["message"]:
                one |= {"buttons": [], "text": "pressed", "revision": one.get("revision", 0) + 1}
        return JSONResponse({"ok": True, "text": ""})

    async def _stop(self, request: Request) -> Response:
        body = await request.json()
        self.script.calls.append(f"stop {body['services']}")
        assert self._server is not None
        self._server.should_exit = True
        return Response(status_code=202)


def _event(name: str, document: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(document, ensure_ascii=False)}\n\n".encode()


def _error(status: int, kind: str, text: str) -> JSONResponse:
    return JSONResponse({"kind": kind, "error": text}, status_code=status)


def wait_for(true: Any, what: str) -> None:
    """Wait until `true()`; fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.005)


@pytest.fixture
def root() -> Iterator[Path]:
    # Not tmp_path: a socket's path must stay below the kernel's limit.
    with tempfile.TemporaryDirectory(prefix="rg-") as name:
        yield Path(name)


@pytest.fixture
def daemon(root: Path) -> Iterator[Daemon]:
    """The scripted daemon, listening."""
    one = Daemon(root)
    one.start()
    yield one
    one.stop()


class Command:
    """The real command as a subprocess, with its files under `root`."""

    def __init__(self, root: Path) -> None:
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("REGROW", "XDG", "LC_", "LANG", "NO_COLOR", "FORCE_COLOR"))
        } | {
            "HOME": str(root),
            "REGROW_STATE_DIR": str(root / "state"),
            "REGROW_RUNTIME_DIR": str(root),
            "REGROW_SOCKET": str(root / "d.sock"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(regrow.__file__).parent.parent),
            "COLUMNS": "100",
        }

    def argv(self, *arguments: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "regrow.cli", *arguments]

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            self.argv(*arguments), env=self.environment | environment, input=stdin, text=True, capture_output=True,
            timeout=DEADLINE_S, check=False,
        )  # fmt: skip

    def start(self, *arguments: str, **fields: Any) -> subprocess.Popen[str]:
        """Run in the background."""
        environment = self.environment | fields.pop("environment", {})
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.argv(*arguments), env=environment, text=True, **(options | fields))


@pytest.fixture
def command(root: Path) -> Command:
    """The real command."""
    return Command(root)


class Terminal:
    """A process on a pseudo terminal."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._near, far = pty.openpty()
        self.seen = ""
        self._at = 0
        self.process = subprocess.Popen(
            argv,
            env=environment | {"TERM": "xterm-256color"},
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
        )
        os.close(far)

    def expect(self, pattern: str) -> None:
        """Read until `pattern` appears after what was expected before."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := re.search(pattern, self.seen[self._at :])):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.seen!r}"
            if select.select([self._near], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._near, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"ended without {pattern!r}: {self.seen!r}") from None
        self._at += found.end()

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._near, text.encode())

    def end(self) -> int:
        """Read the rest and return the exit code."""
        while True:
            try:
                more = os.read(self._near, 65536)
            except OSError:
                break
            if not more:
                break
            self.seen += more.decode(errors="replace")
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        """End whatever is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        os.close(self._near)


@pytest.fixture
def terminal(command: Any) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, **environment: str) -> Terminal:
        opened.append(Terminal(command.argv(*arguments), command.environment | environment))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture
def scripted() -> Any:
    """The makers of snapshots: `scripted.job`, `scripted.message`, `scripted.wait_for`."""

    class Makers:
        job = staticmethod(job)
        message = staticmethod(message)
        wait_for = staticmethod(wait_for)

    return Makers


FAKE_DAEMON = """
import json, os, signal, socket, sys

if code := os.environ.get("FAKE_DAEMON_ENDS"):
    print("cannot read regrow.toml: the last line\\n", file=sys.stderr)
    sys.exit(int(code))


def ended(number, _):
    print(f"ended by signal {number}", flush=True)
    sys.exit(7)


signal.signal(signal.SIGTERM, ended)
path = os.environ["REGROW_SOCKET"]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
daemon = {"version": "9.9", "pid": os.getpid(), "started_at": 1, "ready_ms": 1, "rss_bytes": 1,
          "console": "http://127.0.0.1:1"}
status = {"daemon": daemon, "services": [{"name": "claw", "state": "up"}]}
stopped = False
while not stopped:
    connection, _ = listener.accept()
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += connection.recv(65536)
    target = head.split()[1].decode()
    answer = status if target == "/v1/status" else []
    if target == "/v1/daemon/stop":
        length = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
        body = head.split(b"\\r\\n\\r\\n", 1)[1]
        while len(body) < length:
            body += connection.recv(65536)
        print("stop services=" + str(json.loads(body)["services"]), flush=True)
        stopped = True
    content = json.dumps(answer).encode()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(content) + content)
    connection.close()
os.unlink(path)
"""


@pytest.fixture
def fake_daemon(root: Path) -> Iterator[dict[str, str]]:
    """Variables with which `python -m regrow.daemon` runs a small program that speaks enough of the contract."""
    (root / "fake").mkdir()
    (root / "fake/daemon.py").write_text(FAKE_DAEMON)
    (root / "site").mkdir()
    (root / "site/sitecustomize.py").write_text(f"import regrow\nregrow.__path__.insert(0, {str(root / 'fake')!r})\n")
    package = Path(regrow.__file__).parent.parent
    yield {"PYTHONPATH": f"{root / 'site'}{os.pathsep}{package}"}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = str(root).encode() in (process / "environ").read_bytes()
            if mine and b"regrow.daemon" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), 9)
        except (OSError, ValueError):
            continue
