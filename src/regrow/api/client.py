"""The API's client over the daemon's unix socket.

Not the shapes: those are in `types` and are loaded when first needed, because `regrow status` must answer before a
person notices, and the models alone cost a third of that.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from regrow.errors import ConfigError, NotFound, Refused, RegrowError, StoreError

if TYPE_CHECKING:
    from regrow.api import types


Shape = TypeVar("Shape", bound="types.Shape")
CONNECT_S = 5.0
ANSWER_S = 30.0
QUIET_S = 30.0
"""A stream that says nothing this long is opened anew; the daemon answers at once with what is."""
STEADY_S = 5.0
"""A connection that held this long ended a wait, also when nothing was said on it."""
SOCKET_PATH_BYTES = 107
"""The kernel's limit (sun_path)."""
GONE = "cannot reach the daemon at {path}: it is not running; start it with `regrow up`"
PASSING_KINDS = frozenset({"starting", "stopping"})
"""What a daemon answers with 503 while it comes or goes: worth waiting for."""


class Client:
    """Every route of `regrow.api.types`, typed.

    A daemon that was reached once and goes away is waited for: it may be upgrading itself.

    Args:
        socket_path: where the daemon listens.
        patience_s: seconds to wait for a daemon that went away; 0 means not at all.
        on_wait: told once, in one sentence, each time such a wait begins.

    Raises (every method):
        RegrowError: with the daemon's `kind`; "no_daemon" when nobody listens, "no_answer" when it does not answer.
    """

    def __init__(
        self, socket_path: Path, *, patience_s: float = 60.0, on_wait: Callable[[], None] = lambda: None
    ) -> None:
        if len(os.fsencode(socket_path)) > SOCKET_PATH_BYTES:
            raise ConfigError(
                f"cannot use the socket {socket_path}: its path has more than {SOCKET_PATH_BYTES} bytes; "
                "set REGROW_RUNTIME_DIR to a shorter directory"
            )
        self.socket_path = socket_path
        self._patience_s = patience_s
        self._on_wait = on_wait
        self._reached = False
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket_path), verify=False),
            base_url="http://daemon",
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            trust_env=False,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # At a glance

    def document(self, method: str, path: str, *, params: dict[str, Any] | None = None, body: Any = None) -> Any:
        """The JSON a route answers, as it is: also fields this version does not know."""
        return self._ask(method, path, params=params, body=body).json()

    def status(self) -> types.Status:
        """Everything at a glance."""
        from regrow.api.types import Status

        return _one(Status, self._ask("GET", "/v1/status"))

    def doctor(self) -> list[types.Finding]:
        """What is well and what is not."""
        from regrow.api.types import Finding

        return _many(Finding, self._ask("GET", "/v1/doctor"))

    def releases(self, service: str = "") -> list[types.Release]:
        """Releases of a service, newest first."""
        from regrow.api.types import Release

        return _many(Release, self._ask("GET", "/v1/releases", params=_only(service=service)))

    # Jobs

    def request(self, body: types.RequestBody) -> types.Accepted | types.Answer:
        """Ask for something. Sent again after a lost answer when `body.key` makes that safe."""
        from regrow.api.types import Accepted, Answer

        answer = self._ask("POST", "/v1/requests", body=body.model_dump(mode="json"), again=bool(body.key))
        return _one(Accepted, answer) if "job" in answer.json() else _one(Answer, answer)

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
        return self._ask("GET", f"/v1/jobs/{number}/log").text

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
        patience = self._patience()
        while True:
            params = _only(lines=lines, release=release, service=service, follow=int(follow))
            # No read timeout while following: a quiet log is no fault, and a daemon that dies closes a unix socket.
            timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S, read=None if follow else ANSWER_S)
            try:
                with self._http.stream("GET", "/v1/logs", params=params, timeout=timeout) as response:
                    self._check(response)
                    for line in _lines(response.iter_bytes()):
                        patience.reset()
                        yield line.decode(errors="replace")
                if not follow:
                    return
                lost = self._gone()
            except httpx.TransportError as error:
                lost = self._failure(error)
                if not (self._reached and follow):
                    raise lost from None
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

    # How

    def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        again: bool = False,
    ) -> httpx.Response:
        patience = self._patience()
        while True:
            try:
                response = self._http.request(method, path, params=params, json=body)
                self._check(response)
                return response
            except httpx.TransportError as error:
                failure = self._failure(error)
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if not self._reached or not (never_sent or again or method == "GET"):
                    raise failure from None
            except RegrowError as error:
                if error.kind not in PASSING_KINDS:
                    raise
                failure = error
            patience.wait(failure)

    def _watch(self, path: str, params: dict[str, Any], name: str) -> Iterator[str]:
        """Data of the events called `name`, over as many connections as it takes; "" marks each new connection."""
        patience = self._patience()
        while True:
            opened = False
            lost = self._gone()
            try:
                timeout = httpx.Timeout(QUIET_S, connect=CONNECT_S)
                with self._http.stream("GET", path, params=params, timeout=timeout) as response:
                    self._check(response)
                    opened = True
                    yield ""
                    for event, data in server_sent(response.iter_bytes()):
                        if event == name:
                            patience.reset()
                            yield data
            except httpx.ReadTimeout as error:
                if opened:
                    continue
                lost = self._failure(error)
            except httpx.TransportError as error:
                lost = self._failure(error)
                if not self._reached:
                    raise lost from None
            except RegrowError as error:
                if error.kind not in PASSING_KINDS:
                    raise
                lost = error
            patience.wait(lost)

    def _check(self, response: httpx.Response) -> None:
        self._reached = True
        if response.is_success:
            return
        try:
            body = json.loads(response.read())
            kind, text = str(body["kind"]), str(body["error"])
        except (ValueError, KeyError, TypeError):
            kind = "protocol"
            text = f"cannot understand the daemon: it answered {response.status_code}; is it of another version?"
        if kind == "store":
            raise StoreError(text)
        if kind == "config":
            raise ConfigError(text)
        known: dict[int, type[RegrowError]] = {404: NotFound, 409: Refused}
        raise known.get(response.status_code, RegrowError)(text, kind=kind)

    def _failure(self, error: httpx.TransportError) -> RegrowError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            if self.socket_path.exists() and not os.access(self.socket_path, os.W_OK):
                return RegrowError(
                    f"cannot reach the daemon at {self.socket_path}: this user may not; ask as the user who runs it",
                    kind="forbidden",
                )
            return self._gone()
        if isinstance(error, httpx.TimeoutException):
            return RegrowError(
                f"cannot get an answer from the daemon at {self.socket_path} within {ANSWER_S:.0f} s; "
                "look at its log, then try again",
                kind="no_answer",
            )
        return RegrowError(
            "cannot say whether the daemon heard this: it went away meanwhile; look with `regrow jobs`", kind="lost"
        )

    def _gone(self) -> RegrowError:
        return RegrowError(GONE.format(path=self.socket_path), kind="no_daemon")

    def _patience(self) -> Patience:
        return Patience(self._patience_s, self._on_wait)


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
    for raw in _lines(chunks):
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


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    # Not httpx's iter_lines: it also breaks at U+2028 and its like, which JSON may hold.
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest


def _one(shape: type[Shape], response: httpx.Response) -> Shape:
    return shape.model_validate_json(response.content)


def _many(shape: type[Shape], response: httpx.Response) -> list[Shape]:
    return [shape.model_validate(one) for one in response.json()]


def _only(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value != ""}
