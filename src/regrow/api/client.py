"""The API's client over the daemon's unix socket.

Light on purpose, because `regrow status` must answer before a person notices: HTTP is the standard library's (importing
httpx takes as long as all the rest of the command together), and the shapes of `types` are loaded when first needed.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from regrow.errors import ConfigError, NotFound, Refused, RegrowError, StoreError

if TYPE_CHECKING:
    from regrow.api import types

Shape = TypeVar("Shape", bound="types.Shape")
CONNECT_S = 5.0
ANSWER_S = 30.0
REPLACE_S = 120.0
QUIET_S = 30.0
"""A stream that says nothing this long is opened anew; the daemon answers at once with what is."""
STEADY_S = 5.0
"""A connection that held this long ended a wait, also when nothing was said on it."""
SOCKET_PATH_BYTES = 107
"""The kernel's limit (sun_path)."""
CHUNK_BYTES = 65536
PASSING_KINDS = frozenset({"starting", "stopping"})
"""What a daemon answers with 503 while it comes or goes: worth waiting for."""


class Client:
    """Every route of `regrow.api.types`, typed.

    A daemon that was reached once and goes away is waited for: it may be upgrading itself.

    Args:
        socket_path: where the daemon listens.
        patience_s: seconds to wait for a daemon that went away; 0 means not at all.
        on_wait: called once each time such a wait begins.
        language: in which the daemon answers a pressed button.
        principal: "mcp" speaks as the program of `[mcp]`; "" as this user.

    Raises (every method):
        RegrowError: with the daemon's `kind`; "no_daemon" when nobody listens, "no_answer" when it does not answer.
    """

    def __init__(
        self,
        socket_path: Path,
        *,
        patience_s: float = 60.0,
        on_wait: Callable[[], None] = lambda: None,
        language: str = "en",
        principal: str = "",
    ) -> None:
        if len(os.fsencode(socket_path)) > SOCKET_PATH_BYTES:
            raise ConfigError(
                f"cannot use the socket {socket_path}: its path has more than {SOCKET_PATH_BYTES} bytes; "
                "set REGROW_RUNTIME_DIR to a shorter directory"
            )
        self.socket_path = socket_path
        self._patience_s = patience_s
        self._on_wait = on_wait
        self._language = language
        self._principal = principal
        self._reached = False

    # At a glance

    def document(self, method: str, path: str, *, params: dict[str, Any] | None = None, body: Any = None) -> Any:
        """The JSON a route answers, as it is: also fields this version does not know."""
        return json.loads(self._ask(method, path, params=params, body=body))

    def status(self) -> types.Status:
        """Everything at a glance."""
        from regrow.api.types import Status

        return _one(Status, self._ask("GET", "/v1/status"))

    def doctor(self) -> list[types.Finding]:
        """What is well and what is not."""
        from regrow.api.types import Finding

        return _many(Finding, self._ask("GET", "/v1/doctor"))

    def people(self) -> types.People:
        """Who may ask for what, and who waits to be let in."""
        from regrow.api.types import People

        return _one(People, self._ask("GET", "/v1/people"))

    def audit(
        self, *, since: float = 0.0, who: str = "", job: int | None = None, after: int | None = None, limit: int = 100
    ) -> list[types.AuditRow]:
        """Rows of the audit log, oldest first: the newest `limit`, or with `after` the first ones above that number."""
        from regrow.api.types import AuditRow

        params = _only(since=int(since), who=who, limit=limit)
        params |= {name: value for name, value in (("job", job), ("after", after)) if value is not None}
        return _many(AuditRow, self._ask("GET", "/v1/audit", params=params))

    def audit_verify(self) -> types.AuditVerdict:
        """Whether the audit log's chain is whole."""
        from regrow.api.types import AuditVerdict

        return _one(AuditVerdict, self._ask("GET", "/v1/audit/verify", read_s=REPLACE_S))

    def backups(self) -> list[types.Backup]:
        """Copies of the store, newest first."""
        from regrow.api.types import Backup

        return _many(Backup, self._ask("GET", "/v1/backups"))

    def back_up(self) -> types.Backup:
        """Copy the store now."""
        from regrow.api.types import Backup

        return _one(Backup, self._ask("POST", "/v1/backups", body={}, read_s=REPLACE_S))

    def releases(self, service: str = "") -> list[types.Release]:
        """Releases of a service, newest first."""
        from regrow.api.types import Release

        return _many(Release, self._ask("GET", "/v1/releases", params=_only(service=service)))

    def snapshots(self, service: str = "") -> list[types.Snapshot]:
        """Snapshots of a service's data, newest first."""
        from regrow.api.types import Snapshot

        return _many(Snapshot, self._ask("GET", "/v1/snapshots", params=_only(service=service)))

    def restore_plan(self, number: int, service: str = "") -> types.RestorePlan:
        """What restoring a snapshot would do."""
        from regrow.api.types import RestorePlan

        return _one(RestorePlan, self._ask("GET", f"/v1/snapshots/{number}", params=_only(service=service)))

    # Jobs

    def request(self, body: types.RequestBody) -> types.Accepted | types.Answer:
        """Ask for something. Sent again after a lost answer when `body.key` makes that safe."""
        from regrow.api.types import Accepted, Answer

        answer = self._ask("POST", "/v1/requests", body=body.model_dump(mode="json"), again=bool(body.key))
        return _one(Accepted, answer) if "job" in json.loads(answer) else _one(Answer, answer)

    def jobs(self, limit: int = 20, service: str = "") -> list[types.Job]:
        """The last `limit` jobs, newest first."""
        from regrow.api.types import Job

        return _many(Job, self._ask("GET", "/v1/jobs", params=_only(limit=limit, service=service)))

    def job(self, number: int) -> types.Job:
        """One job as it is now."""
        from regrow.api.types import Job

        return _one(Job, self._ask("GET", f"/v1/jobs/{number}"))

    def job_log(self, number: int) -> str:
        """The log of a job, redacted."""
        return self._ask("GET", f"/v1/jobs/{number}/log").decode(errors="replace")

    def job_events(self, number: int) -> Iterator[types.Job]:
        """The job at once and at each change until it has ended, over restarts of the daemon."""
        from regrow.api.types import ENDED, Job

        for data in self._watch(f"/v1/jobs/{number}/events", {}, "job"):
            if data:
                job = Job.model_validate_json(data)
                yield job
                if job.status in ENDED:
                    return

    def approve(self, number: int, digest: str = "") -> types.Job:
        """Approve exactly the change with `digest`."""
        from regrow.api.types import Job

        return _one(Job, self._ask("POST", f"/v1/jobs/{number}/approve", body={"digest": digest}))

    def reject(self, number: int) -> types.Job:
        """Answer the job's question with no."""
        from regrow.api.types import Job

        return _one(Job, self._ask("POST", f"/v1/jobs/{number}/reject"))

    def cancel(self, number: int) -> types.Job:
        """Ask a job to stop and to undo what it did."""
        from regrow.api.types import Job

        return _one(Job, self._ask("POST", f"/v1/jobs/{number}/cancel"))

    # Logs

    def logs(self, lines: int = 100, release: str = "", follow: bool = False, service: str = "") -> Iterator[str]:
        """The service's last lines, then, with `follow`, each new one, over restarts of the daemon."""
        # No timeout while following: a quiet log is no fault, and a daemon that dies closes a unix socket.
        read_s = None if follow else ANSWER_S
        patience = Patience(self._patience_s, self._on_wait)
        while True:
            params = _only(lines=lines, release=release, service=service, follow=int(follow))
            try:
                with self._open("GET", "/v1/logs", params, read_s=read_s) as response:
                    for line in split_lines(_chunks(response)):
                        yield line.decode(errors="replace")
                if not follow:
                    return
                lost = self._gone()
            except RegrowError as error:
                if not (follow and self._passes(error, again=True)):
                    raise
                lost = error
            patience.wait(lost)
            lines = 0

    # Chat

    def say(self, body: types.ChatBody) -> types.Message:
        """Say something in a chat; sent again after a lost answer when `body.key` makes that safe."""
        from regrow.api.types import Message

        answer = self._ask("POST", "/v1/chat/messages", body=body.model_dump(mode="json"), again=bool(body.key))
        return _one(Message, answer)

    def messages(self, channel: str, chat: str = "main", after: int = 0) -> list[types.Message]:
        """Messages of a chat with an id above `after`, oldest first."""
        from regrow.api.types import Message

        params = {"channel": channel, "chat": chat, "after": after}
        return _many(Message, self._ask("GET", "/v1/chat/messages", params=params))

    def chat_events(self, channel: str, chat: str = "main", after: int = 0) -> Iterator[types.Message]:
        """Messages above `after` and every new or edited one, each revision once, over restarts of the daemon.

        After a break the messages that were still changing are read again, so that no last edit is missed.
        """
        from regrow.api.types import Message

        seen: dict[int, int] = {}
        for data in self._watch("/v1/chat/events", {"channel": channel, "chat": chat}, "message"):
            # "" marks a new connection: what happened before it is fetched, and the stream then repeats nothing.
            since = min(sorted(seen)[-20:], default=after + 1) - 1
            fresh = [Message.model_validate_json(data)] if data else self.messages(channel, chat, since)
            for message in fresh:
                if seen.get(message.id, -1) < message.revision:
                    seen[message.id] = message.revision
                    yield message

    def press(self, message: int, action: str) -> types.ActionResult:
        """Press a button under a message."""
        from regrow.api.types import ActionResult

        body = {"message": message, "action": action}
        return _one(ActionResult, self._ask("POST", "/v1/chat/actions", body=body))

    # The daemon itself

    def stop(self, *, services: bool) -> None:
        """Ask the daemon to end, and with `services` the services too. Returns before it has ended."""
        try:
            self._ask("POST", "/v1/daemon/stop", body={"services": services})
        except RegrowError as error:
            if error.kind != "lost":  # it may well end before it has answered
                raise

    def replace_daemon(self) -> None:
        """Ask the daemon to become the version of Regrow that is in use. Returns before it has.

        Raises:
            RegrowError: kind "unfit": that version cannot run with what is here; nothing has changed.
        """
        self._ask("POST", "/v1/daemon/upgrade", body={}, read_s=REPLACE_S)

    # How

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        again: bool = False,
        read_s: float = ANSWER_S,
    ) -> bytes:
        patience = Patience(self._patience_s, self._on_wait)
        while True:
            try:
                with self._open(method, path, params or {}, body, read_s) as response:
                    return response.read()
            except RegrowError as error:
                if not self._passes(error, again or method == "GET"):
                    raise
                lost = error
            patience.wait(lost)

    def _watch(self, path: str, params: dict[str, Any], name: str) -> Iterator[str]:
        """Data of the events called `name`, over as many connections as it takes; "" marks each new connection."""
        patience = Patience(self._patience_s, self._on_wait)
        while True:
            opened = False
            try:
                with self._open("GET", path, params, read_s=QUIET_S) as response:
                    opened = True
                    yield ""
                    for event, data in server_sent(_chunks(response)):
                        if event == name:
                            patience.reset()
                            yield data
                lost = self._gone()
            except RegrowError as error:
                if opened and error.kind == "no_answer":
                    continue
                if not self._passes(error, again=True):
                    raise
                lost = error
            patience.wait(lost)

    def _passes(self, error: RegrowError, again: bool) -> bool:
        """Whether to wait and try again: `again` says that asking twice does no harm."""
        if error.kind in PASSING_KINDS:
            return True
        return self._reached and (error.kind == "no_daemon" or (again and error.kind == "lost"))

    @contextmanager
    def _open(
        self, method: str, path: str, params: dict[str, Any], body: Any = None, read_s: float | None = ANSWER_S
    ) -> Iterator[http.client.HTTPResponse]:
        # One connection a request: on a unix socket it costs nothing, and threads need not share.
        connection = UnixConnection(self.socket_path, read_s)
        try:
            self._connect(connection)
            content = None if body is None else json.dumps(body).encode()
            headers = {"Accept-Language": self._language, "Content-Type": "application/json"}
            if self._principal:
                headers["Regrow-Principal"] = self._principal
            connection.request(method, f"{path}?{urlencode(params)}" if params else path, content, headers)
            response = connection.getresponse()
            self._reached = True
            _check(response)
            yield response
        except TimeoutError:
            raise self._no_answer() from None
        except (OSError, http.client.HTTPException):
            raise RegrowError(
                "cannot say whether the daemon heard this: it went away meanwhile; look with `regrow jobs`", kind="lost"
            ) from None
        finally:
            connection.close()

    def _connect(self, connection: UnixConnection) -> None:
        try:
            connection.connect()
        except PermissionError:
            raise RegrowError(
                f"cannot reach the daemon at {self.socket_path}: this user may not; ask as the user who runs it",
                kind="forbidden",
            ) from None
        except (TimeoutError, BlockingIOError):
            raise self._no_answer() from None
        except OSError:
            raise self._gone() from None

    def _gone(self) -> RegrowError:
        return RegrowError(
            f"cannot reach the daemon at {self.socket_path}: it is not running; start it with `regrow up`",
            kind="no_daemon",
        )

    def _no_answer(self) -> RegrowError:
        return RegrowError(
            f"cannot get an answer from the daemon at {self.socket_path} within {ANSWER_S:.0f} s; "
            "look at its log, then try again",
            kind="no_answer",
        )


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket.

    Args:
        path: the socket.
        read_s: seconds that a read may take; None waits as long as it takes.
    """

    def __init__(self, path: Path, read_s: float | None) -> None:
        super().__init__("daemon")
        self._path = path
        self._read_s = read_s

    def connect(self) -> None:
        """Connect within CONNECT_S seconds."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_S)
        self.sock.connect(os.fspath(self._path))
        self.sock.settimeout(self._read_s)


class Patience:
    """Waiting for a daemon that went away: a little longer each time, never past the deadline.

    Args:
        seconds: how long in all.
        on_wait: told once, when the wait begins.
    """

    def __init__(self, seconds: float, on_wait: Callable[[], None]) -> None:
        self._seconds = seconds
        self._on_wait = on_wait
        self.reset()

    def reset(self) -> None:
        """It is back: the next wait is a new one."""
        self._since: float | None = None
        self._last = 0.0
        self._pause = 0.05

    def wait(self, error: RegrowError) -> None:
        """Sleep before the next try, or raise `error` when the time is over."""
        now = time.monotonic()
        if self._since is not None and now - self._last > STEADY_S:
            self.reset()
        if self._since is None:
            self._since = now
            if self._seconds > 0:
                self._on_wait()
        left = self._since + self._seconds - now
        if left <= 0:
            raise error
        time.sleep(min(self._pause, left))
        self._last = time.monotonic()
        self._pause = min(self._pause * 2, 2.0)


def server_sent(chunks: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Name and data of each server-sent event in a stream of bytes."""
    name, data = "message", list[str]()
    for raw in split_lines(chunks):
        line = raw.decode(errors="replace")
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        if field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream, without their ends. Only a line feed ends one: JSON may hold U+2028 and its like."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read1(CHUNK_BYTES):
        yield chunk


def _check(response: http.client.HTTPResponse) -> None:
    if response.status < 400:
        return
    try:
        body = json.loads(response.read())
        kind, text = str(body["kind"]), str(body["error"])
    except (ValueError, KeyError, TypeError):
        kind = "protocol"
        text = f"cannot understand the daemon: it answered {response.status}; compare its version with this one's"
    if kind == "store":
        raise StoreError(text)
    if kind == "config":
        raise ConfigError(text)
    known: dict[int, type[RegrowError]] = {404: NotFound, 409: Refused}
    raise known.get(response.status, RegrowError)(text, kind=kind)


def _one(shape: type[Shape], content: bytes) -> Shape:
    return shape.model_validate_json(content)


def _many(shape: type[Shape], content: bytes) -> list[Shape]:
    return [shape.model_validate(one) for one in json.loads(content)]


def _only(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value != ""}
