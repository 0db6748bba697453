"""The gateway between a client on its socket and an upstream on the loopback: what goes up, what comes back, what it
counts, and everything that is refused or goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from structlog.testing import capture_logs

from regrow.config import ModelSection
from regrow.errors import ConfigError, Refused, RegrowError
from regrow.models.door import Door
from regrow.models.gateway import ModelGateway
from regrow.models.usage import Usage
from regrow.secret import Secret
from regrow.testing.manual_clock import ManualClock
from regrow.testing.model_api import Call, ModelApi, Tokens, Turn

PRICES = {"m-1": {"input": 3.0, "output": 15.0, "cache_read": 0.3, "cache_write": 3.75}}
ASK: dict[str, Any] = {"model": "m-1", "max_tokens": 900, "messages": [{"role": "user", "content": "fix"}]}
STREAM = {**ASK, "stream": True}
TURN = Turn("Hello.", tokens=Tokens(input=1000, output=200, cache_read=5000, cache_write=100))
COST = (1000 * 3 + 200 * 15 + 5000 * 0.3 + 100 * 3.75) / 1e6


class Rig:
    """A gateway before a scripted upstream.

    Attributes:
        api: the upstream.
        door: the open door.
        http: the agent's side of its socket.
        key: what the upstream wants.
    """

    def __init__(self, api: ModelApi, gateway: ModelGateway, door: Door, http: httpx.AsyncClient, key: str) -> None:
        self.api, self.gateway, self.door, self.http, self.key = api, gateway, door, http, key

    async def ask(self, body: dict[str, Any] = ASK, path: str = "/v1/messages", **more: Any) -> httpx.Response:
        return await self.http.post(f"http://box{path}", json=body, **more)


def settings(base_url: str, key_file: Path | None = None, **more: Any) -> ModelSection:
    return ModelSection.model_validate(
        {
            "kind": "anthropic",
            "models": ["m-1"],
            "base_url": base_url,
            "key": f"file:{key_file}" if key_file else "",
            "prices": PRICES,
            **more,
        }
    )


@asynccontextmanager
async def rig(
    tmp_path: Path,
    script: Any = (),
    *,
    known: dict[str, Secret] | None = None,
    clock: ManualClock | None = None,
    tell: Any = None,
    **more: Any,
) -> AsyncIterator[Rig]:
    key = secrets.token_urlsafe(24)
    key_file = tmp_path / "key"
    key_file.write_text(key)
    async with ModelApi(script, key=key) as api:
        if more.get("kind") == "openai":
            more.setdefault("base_url", f"{api.base_url}/v1")
        given = settings(**{"base_url": api.base_url, "key_file": key_file, **more})
        gateway = ModelGateway(given, known or {}, tmp_path / "models", clock=clock)
        async with gateway.serve("job-1", tell=tell) as door:
            transport = httpx.AsyncHTTPTransport(uds=str(door.socket))
            async with httpx.AsyncClient(transport=transport, timeout=30) as http:
                yield Rig(api, gateway, door, http, key)


def events(body: bytes) -> list[Any]:
    found = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in found]


async def test_an_answer_in_one_piece_and_as_events(tmp_path: Path) -> None:
    async with rig(tmp_path, [TURN, TURN]) as r:
        whole = await r.ask()
        assert whole.json()["content"][0]["text"] == "Hello."
        assert r.door.usage.cost == pytest.approx(COST)
        streamed = await r.ask(STREAM, "/v1/messages?beta=true", headers={"anthropic-beta": "a-1,b-2"})
    seen = events(streamed.content)
    assert "".join(one["delta"]["text"] for one in seen if one["type"] == "content_block_delta") == "Hello."
    assert [one.path for one in r.api.received] == ["/v1/messages", "/v1/messages?beta=true"]
    assert r.api.received[1].headers["anthropic-beta"] == "a-1,b-2"
    assert r.door.usage == Usage(
        requests=2, input=2000, output=400, cache_read=10_000, cache_write=200, cost=pytest.approx(2 * COST)
    )
    assert r.door.trouble is None


async def test_chat_completions(tmp_path: Path) -> None:
    turn = Turn("Hi.", calls=(Call("write", {"a": 1}),), tokens=Tokens(100, 20, cache_read=50))
    async with rig(tmp_path, [turn, turn, turn], kind="openai") as r:
        whole = await r.ask(path="/v1/chat/completions")
        assert whole.json()["usage"]["prompt_tokens"] == 150
        plain = await r.ask(STREAM, "/v1/chat/completions")
        asked = {**STREAM, "stream_options": {"include_usage": True}}
        with_usage = await r.ask(asked, "/v1/chat/completions")
    # The gateway asks for the usage; the agent sees it only when it asked, too.
    assert all(one == "[DONE]" or one["choices"] for one in events(plain.content))
    assert events(with_usage.content)[-2]["usage"]["completion_tokens"] == 20
    assert [one.body.get("stream_options") for one in r.api.asked] == [None, *[{"include_usage": True}] * 2]
    assert r.door.usage == Usage(
        requests=3, input=300, output=60, cache_read=150, cost=pytest.approx(3 * (100 * 3 + 20 * 15 + 50 * 0.3) / 1e6)
    )


async def test_the_key_and_few_headers_go_up(tmp_path: Path) -> None:
    mine = {"x-api-key": "the-agents-own", "authorization": "Bearer x", "cookie": "a=b", "x-stainless-os": "Linux"}
    for kind, path in (("anthropic", "/v1/messages"), ("openai", "/v1/chat/completions")):
        async with rig(tmp_path, kind=kind) as r:
            assert (await r.ask(path=path, headers=mine)).status_code == 200
            got = r.api.received[0].headers
            names = {"host", "connection", "content-length", "content-type", "accept", "accept-encoding", "user-agent"}
            own = {"anthropic-version", "x-api-key"} if kind == "anthropic" else {"authorization"}
            assert set(got) == names | own
            assert not r.api.holds("the-agents-own")
            assert r.api.holds(r.key)


async def test_the_key_is_nowhere_else(tmp_path: Path) -> None:
    with capture_logs() as logged:
        async with rig(tmp_path, [TURN, Turn(status=401), Turn(status=500)]) as r:
            answers = [await r.ask() for _ in range(3)]
            trouble = str(r.door.trouble)
    kept = (tmp_path / "models" / "job-1.usage.json").read_text()
    for text in (*(answer.text for answer in answers), trouble, repr(logged), kept):
        assert r.key not in text
        assert "Hello." not in text or text == answers[0].text


async def test_a_head_is_answered_here(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        assert (await r.http.head("http://box/api/hello")).status_code == 200
    assert r.api.received == []
