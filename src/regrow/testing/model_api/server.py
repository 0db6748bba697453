"""The API: listens on the loopback, keeps every byte that comes, answers as the script says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from regrow.testing.model_api import anthropic, openai
from regrow.testing.model_api.turns import Asked, Received, Script, Tokens, Turn

HOST = "127.0.0.1"
_UVICORN = logging.getLogger("uvicorn.error")
_PATHS = {
    "/v1/messages": "anthropic",
    "/v1/chat/completions": "chat",
    "/chat/completions": "chat",
    "/v1/responses": "responses",
    "/responses": "responses",
}


class ModelApi:
    """Speaks Anthropic Messages and the OpenAI-compatible protocols: `async with ModelApi([...]) as api:`.

    An agent is pointed at it by its base URL: `api.base_url` for Anthropic, `api.base_url + "/v1"` for OpenAI. The
    turns are said in order, whatever the protocol; a script that is used up says "Done.".

    Args:
        script: the turns in order, or a function that chooses the turn for a request (see `by_conversation`).
        aside: the answer to requests that offer no tools, as agents make them for a title or a summary; None: they
            take a turn of the script like any other.
        key: what `x-api-key` or the bearer token must be; "": any, or none.
        port: 0 for a free one.
        on_received: told of each request when it was answered.

    Attributes:
        received: every request, in the order of arrival; one that is being answered has the status 0.
        asked: of these, the requests for an answer.
        busy: how many requests are being answered.
        models: what the list of models says.
        raw: every byte that any client sent, in the order of arrival. Tests look for canaries in it.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        aside: Turn | None = None,
        key: str = "",
        port: int = 0,
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        self.script = script
        self.aside = aside
        self.key = key
        self.received: list[Received] = []
        self.asked: list[Asked] = []
        self.busy = 0
        self.models: list[str] = []
        self.raw = bytearray()
        self._said = 0
        self._port = port
        self._on_received = on_received
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._level = logging.NOTSET

    async def __aenter__(self) -> Self:
        """Listen; `base_url` is known afterwards."""
        listening = socket.create_server((HOST, self._port))
        # asyncio sets this only on sockets made with IPPROTO_TCP; without it every answer waits 40 ms for an ACK.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port = listening.getsockname()[1]
        raw = self.raw

        class Recording(H11Protocol):
            """Keeps what comes in before anybody has read it."""

            def data_received(self, data: bytes) -> None:
                raw.extend(data)
                super().data_received(data)

        config = uvicorn.Config(
            self,
            http=Recording,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        # A cut answer is a fault that was asked for; uvicorn would tell it as an error of the application.
        self._level = _UVICORN.level
        _UVICORN.setLevel(logging.CRITICAL)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; connections that hang are closed."""
        self._closing.set()
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task
        _UVICORN.setLevel(self._level)

    @property
    def base_url(self) -> str:
        """What an agent takes for `https://api.anthropic.com`."""
        return f"http://{HOST}:{self._port}"

    def holds(self, text: str | bytes) -> bool:
        """Whether these bytes came in anywhere: in an address, a header or a body."""
        return (text.encode() if isinstance(text, str) else text) in self.raw

    async def until(self, true: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait for something to become true by what came in or was answered.

        Raises:
            TimeoutError: it did not within `within_s` seconds.
        """
        async with asyncio.timeout(within_s):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    # One request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        query = f"?{request.url.query}" if request.url.query else ""
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        at = len(self.received)
        got = Received(request.method, f"{request.url.path}{query}", dict(request.headers), body)
        self.received.append(got)
        self.busy += 1
        answer = _Answer(send, request.method == "HEAD")
        waiting = asyncio.create_task(self._answer(request, body, answer))
        gone = asyncio.create_task(_disconnected(receive))
        closing = asyncio.create_task(self._closing.wait())
        tasks = (waiting, gone, closing)
        try:
            self._changed.set()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.busy -= 1
            self.received[at] = replace(got, status=answer.status if answer.complete else 0)
            self._changed.set()
            if self._on_received is not None:
                self._on_received(self.received[at])

    async def _answer(self, request: Request, body: bytes, answer: _Answer) -> None:
        path = request.url.path.removesuffix("/") or "/"
        if request.method == "HEAD" or (request.method, path) in {("GET", "/"), ("GET", "/api/hello")}:
            await answer.json(200, {"message": "hello"})
            return
        errors = anthropic.error if path.startswith(("/v1/messages", "/api")) else openai.error
        if self.key and self.key not in {
            request.headers.get("x-api-key"),
            request.headers.get("authorization", "").removeprefix("Bearer "),
        }:
            await answer.json(401, errors(401, "", "invalid x-api-key"))
        elif (request.method, path) == ("GET", "/v1/models"):
            listed = [{"id": name, "object": "model", "type": "model"} for name in self.models]
            await answer.json(200, {"object": "list", "data": listed, "has_more": False})
        elif request.method == "POST" and (path in _PATHS or path == "/v1/messages/count_tokens"):
            try:
                read = json.loads(body)
            except ValueError:
                read = None
            if not isinstance(read, dict):
                await answer.json(400, errors(400, "", "the body is no JSON object"))
            elif path in _PATHS:
                asked = Asked(_PATHS[path], read, len(body), dict(request.headers))
                self.asked.append(asked)
                await self._say(asked, self._turn(asked), answer)
            else:
                await answer.json(200, {"input_tokens": _tokens(len(body))})
        else:
            await answer.json(404, errors(404, "", f"there is no {request.method} {path}"))

    def _turn(self, asked: Asked) -> Turn:
        if self.aside is not None and not asked.tools:
            return self.aside
        if callable(self.script):
            return self.script(asked)
        self._said += 1
        left = self._said
        for turn in self.script:
            left -= turn.repeat
            if left <= 0:
                return turn
        return Turn("Done.")

    async def _say(self, asked: Asked, turn: Turn, answer: _Answer) -> None:
        if turn.delay_s:
            await asyncio.sleep(turn.delay_s)
        answer.cut, answer.hang, answer.more = turn.cut, turn.hang, dict(turn.headers)
        if turn.hang and turn.cut is None:
            await asyncio.get_running_loop().create_future()
        if turn.status != 200:
            errors = anthropic.error if asked.protocol == "anthropic" else openai.error
            if turn.retry_after:
                answer.more["retry-after"] = str(turn.retry_after)
            await answer.json(turn.status, errors(turn.status, turn.error, turn.message or "as the script says"))
            return
        tokens = _counted(asked, turn)
        if asked.stream:
            await answer.stream(_events(asked, turn, tokens), turn.pause_s)
        else:
            whole = {"anthropic": anthropic.whole, "chat": openai.chat, "responses": openai.response}[asked.protocol]
            await answer.json(200, whole(asked, turn, tokens))


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers: whoever uses the API has their own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Answer:
    """Sends one answer, and stops where it is to be cut."""

    def __init__(self, send: Send, head: bool) -> None:
        self._send = send
        self._head = head
        self.status = 0
        self.complete = False
        self.cut: int | None = None
        self.hang = False
        self.more: dict[str, str] = {}

    async def json(self, status: int, body: dict[str, Any]) -> None:
        """An answer in one piece."""
        content = _bytes(body)
        await self._begin(status, {"content-type": "application/json", "content-length": str(len(content))})
        await self._write([b"" if self._head else content])

    async def stream(self, events: Iterator[bytes], pause_s: float) -> None:
        """An answer as events."""
        await self._begin(200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"})
        await self._write(events, pause_s)

    async def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        named = {"request-id": "req_loopback", **headers, **self.more}
        pairs = [(name.encode(), value.encode()) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _write(self, parts: Iterator[bytes] | list[bytes], pause_s: float = 0.0) -> None:
        left = self.cut
        for part in parts:
            sent = part if left is None else part[:left]
            await self._send({"type": "http.response.body", "body": sent, "more_body": True})
            if left is not None:
                left -= len(sent)
                if not left:
                    if self.hang:
                        await asyncio.get_running_loop().create_future()
                    return  # uvicorn closes the connection of an answer without an end
            if pause_s:
                await asyncio.sleep(pause_s)
        self.complete = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _events(asked: Asked, turn: Turn, tokens: Tokens) -> Iterator[bytes]:
    if asked.protocol == "chat":
        for data in openai.chat_events(asked, turn, tokens):
            yield b"data: " + _bytes(data) + b"\n\n"
        yield b"data: [DONE]\n\n"
        return
    named = anthropic.events if asked.protocol == "anthropic" else openai.response_events
    for number, (name, data) in enumerate(named(asked, turn, tokens)):
        if asked.protocol == "responses":
            data = {"type": name, "sequence_number": number, **data}  # noqa: PLW2901
        yield b"event: " + name.encode() + b"\ndata: " + _bytes(data) + b"\n\n"


def _bytes(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


def _counted(asked: Asked, turn: Turn) -> Tokens:
    said = len(turn.thinking) + len(turn.text) + sum(len(json.dumps(dict(call.input))) for call in turn.calls)
    tokens = turn.tokens
    return replace(
        tokens,
        input=_tokens(asked.size) if tokens.input < 0 else tokens.input,
        output=_tokens(said) if tokens.output < 0 else tokens.output,
    )


def _tokens(size: int) -> int:
    return size // 4 + 1


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
