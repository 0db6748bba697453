from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.api.client import Client, Patience, server_sent
from regrow.api.types import RequestBody
from regrow.errors import ConfigError, NotFound, Refused, RegrowError, StoreError


@pytest.fixture
def path() -> Iterator[Path]:
    with TemporaryDirectory(prefix="rg-") as name:
        yield Path(name, "d.sock")


class Replies:
    """A listener that gives one canned reply a connection, then is gone."""

    def __init__(self, path: Path, *replies: bytes) -> None:
        self.heard: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = Thread(target=self._serve, args=(replies,))
        self._thread.start()

    def _serve(self, replies: tuple[bytes, ...]) -> None:
        with self._listener:
            for reply in replies:
                connection, _ = self._listener.accept()
                with connection:
                    self.heard.append(self._request(connection))
                    connection.sendall(reply)

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += connection.recv(65536)
        _, _, length_on = heard.lower().partition(b"content-length: ")
        length = int(length_on.split(b"\r\n")[0] or b"0")
        while len(heard.split(b"\r\n\r\n", 1)[1]) < length:
            heard += connection.recv(65536)
        return heard

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def reply(status: int, body: str) -> bytes:
    content = body.encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(content)) + content


def body(kind: str) -> str:
    return f'{{"kind": "{kind}", "error": "cannot: {kind}"}}'


@pytest.mark.parametrize(
    ("status", "content", "error", "kind"),
    [
        (400, body("bad_request"), RegrowError, "bad_request"),
        (403, body("forbidden"), RegrowError, "forbidden"),
        (404, body("not_found"), NotFound, "not_found"),
        (409, body("pinned"), Refused, "pinned"),
        (503, body("store"), StoreError, "store"),
        (500, "<html>", RegrowError, "protocol"),
        (500, "[]", RegrowError, "protocol"),
    ],
)
def test_errors_keep_the_daemons_kind(path: Path, status: int, content: str, error: type, kind: str) -> None:
    replies = Replies(path, reply(status, content))
    with pytest.raises(error) as caught:
        Client(path).job(1)
    assert caught.value.kind == kind
    assert str(caught.value).startswith("cannot")
    replies.join()


def test_nobody_listens(path: Path) -> None:
    with pytest.raises(RegrowError, match="it is not running; start it with `regrow up`") as caught:
        Client(path).status()
    assert caught.value.kind == "no_daemon"


def test_a_socket_left_behind_is_no_daemon(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(RegrowError) as caught:
        Client(path).status()
    assert caught.value.kind == "no_daemon"


def test_a_path_too_long_for_the_kernel_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="REGROW_RUNTIME_DIR"):
        Client(tmp_path / ("x" * 200))


def test_a_lost_answer_is_asked_for_again_only_with_a_key(path: Path) -> None:
    replies = Replies(path, reply(200, "[]"), b"", reply(200, '{"job": 3}'), b"")
    waits: list[int] = []
    client = Client(path, on_wait=lambda: waits.append(1))
    client.jobs()
    accepted = client.request(RequestBody(intent="restart", key="k"))
    assert accepted.model_dump()["job"] == 3
    assert (replies.heard[1] == replies.heard[2], waits) == (True, [1])
    with pytest.raises(RegrowError) as caught:
        client.request(RequestBody(intent="restart"))
    assert caught.value.kind == "lost"
    replies.join()


def test_patience_ends(path: Path) -> None:
    replies = Replies(path, reply(200, "[]"))
    client = Client(path, patience_s=0.05)
    client.jobs()
    replies.join()
    path.unlink()
    with pytest.raises(RegrowError) as caught:
        client.jobs()
    assert caught.value.kind == "no_daemon"


def test_patience_of_zero_says_nothing() -> None:
    told: list[int] = []
    error = RegrowError("cannot", kind="no_daemon")
    with pytest.raises(RegrowError):
        Patience(0, lambda: told.append(1)).wait(error)
    assert told == []


def test_a_starting_daemon_is_waited_for(path: Path) -> None:
    replies = Replies(path, reply(503, body("starting")), reply(200, "[]"))
    assert Client(path).releases() == []
    replies.join()


def test_the_caller_says_what_is_sent(path: Path) -> None:
    replies = Replies(path, reply(200, "[]"))
    Client(path).messages("web", "a b&c", after=4)
    replies.join()
    assert replies.heard[0].startswith(b"GET /v1/chat/messages?channel=web&chat=a+b%26c&after=4 HTTP/1.1\r\n")


def test_a_socket_of_another_user_is_forbidden(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0)
        with an_ordinary_user(), pytest.raises(RegrowError) as caught:
            Client(path).status()
    assert caught.value.kind == "forbidden"


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root may connect to everything; be nobody for a moment."""
    import regrow.api.types  # noqa: F401  nobody may not read where it lies

    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


STREAM = b': hello\n\nevent: job\r\ndata: {"a": "x\xe2\x80\xa8y"}\r\n\r\ndata: one\ndata:two\n\nevent: end\n\n'


@given(st.lists(st.integers(min_value=1, max_value=9)))
def test_events_however_the_bytes_arrive(sizes: list[int]) -> None:
    chunks, rest = [], STREAM
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    assert list(server_sent([*chunks, rest])) == [("job", '{"a": "x\u2028y"}'), ("message", "one\ntwo")]
