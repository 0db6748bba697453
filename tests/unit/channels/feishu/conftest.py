"""A small HTTP server with scripted answers, and a clock whose sleeps take no time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """`status` 0 closes the connection without a word."""

    body: Any = field(default_factory=lambda: {"code": 0, "data": {}})
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Scripted:
    """Tokens are given out by themselves and counted; everything else is asked of `answer`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.tokens = 0
        self.token_reply: Callable[[int], Reply] = lambda n: Reply(
            {"code": 0, "tenant_access_token": f"t-number-{n}", "expire": 7200}
        )
        self.answer: Callable[[Call], Reply] = lambda call: Reply()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split()
                headers: dict[str, str] = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                data = await reader.readexactly(int(headers.get("content-length", "0")))
                call = Call(method, target.partition("?")[0], headers, json.loads(data) if data else {})
                if call.path.endswith("/tenant_access_token/internal"):
                    self.tokens += 1
                    reply = self.token_reply(self.tokens)
                else:
                    self.calls.append(call)
                    reply = self.answer(call)
                if reply.status == 0:
                    return
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                lines = [f"HTTP/1.1 {reply.status} X", f"Content-Length: {len(content)}"]
                lines += [f"{name}: {value}" for name, value in reply.headers.items()]
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def platform() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield scripted
    server.close()


class QuickClock:
    """Sleeping moves it and takes no time."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> QuickClock:
    return QuickClock()
