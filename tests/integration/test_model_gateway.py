"""The gateway between a client on its socket and an upstream on the loopback: what goes up, what comes back, what it
counts, and everything that is refused or goes wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
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
from regrow.models import relay
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


# What is refused


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v1/messages", "model_path"),
        ("POST", "/v1/files", "model_path"),
        ("POST", "/v1/messages/batches", "model_path"),
        ("POST", "/v1/messages/../files", "model_path"),
        ("POST", "/v1/messages/count_tokens/", "model_path"),
        ("POST", "//v1/messages", "model_path"),
        ("GET", "/v1/models", "model_path"),
        ("POST", "/v1/chat/completions", "model_path"),
    ],
)
async def test_other_paths(tmp_path: Path, method: str, path: str, kind: str) -> None:
    async with rig(tmp_path) as r:
        request = httpx.Request(method, "http://box/", json=ASK)
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = await r.http.send(request)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (403, kind)
    assert r.api.received == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "model_request"),
        (b"[1]", "model_request"),
        (b"[" * 100_000, "model_request"),
        (json.dumps({**ASK, "temperature": 1e999}).encode(), "model_request"),
        (json.dumps({**ASK, "model": "m-2"}).encode(), "model_model"),
        (json.dumps({**ASK, "model": ["m-1"]}).encode(), "model_model"),
        (json.dumps({"messages": []}).encode(), "model_model"),
        (b'{"model": "m-1", "model": "m-2"}', "model_model"),
    ],
)
async def test_what_cannot_be_read_and_other_models(tmp_path: Path, body: bytes, kind: str) -> None:
    async with rig(tmp_path) as r:
        answer = await r.http.post("http://box/v1/messages", content=body)
        assert r.door.trouble is not None
        assert r.door.trouble.kind == kind
        assert r.door.usage.refused == 1
    assert (answer.status_code, answer.headers["x-should-retry"]) == (400, "false")
    assert answer.json()["error"]["message"].startswith("cannot ")
    assert r.api.received == []


async def test_a_compressed_request_is_not_read(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        answer = await r.ask(headers={"content-encoding": "gzip"})
    assert answer.status_code == 400
    assert r.api.received == []


async def test_a_request_that_is_too_large(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:

        async def much() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield b" " * 1024 * 1024

        with contextlib.suppress(httpx.WriteError):  # it may hear the answer, or the end of the connection
            assert (await r.http.post("http://box/v1/messages", content=much())).status_code == 400
        assert r.door.trouble is not None
        assert "32 MiB" in str(r.door.trouble)
    assert r.api.received == []


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/?leak"}}
FEATURES: list[tuple[str, dict[str, Any]]] = [
    ("anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    ("anthropic", {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}),
    ("anthropic", {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}),
    ("anthropic", {"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}),
    ("anthropic", {"container": "c"}),
    ("anthropic", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [IMAGE]}]}]}),
    ("anthropic", {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]}),
    ("openai", {"tools": [{"type": "web_search"}]}),
    ("openai", {"web_search_options": {}}),
    (
        "openai",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.com/"}}]}]},
    ),
    ("openai", {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
]


@pytest.mark.parametrize(("kind", "more"), FEATURES)
async def test_the_provider_is_no_way_into_the_network(tmp_path: Path, kind: str, more: dict[str, Any]) -> None:
    async with rig(tmp_path, kind=kind) as r:
        answer = await r.ask({**ASK, **more}, "/v1/messages" if kind == "anthropic" else "/v1/chat/completions")
        assert r.door.trouble is not None
        assert r.door.trouble.kind == "model_feature"
    assert answer.status_code == 400
    assert r.api.received == []


async def test_the_agents_own_tools_and_data_are_no_features(tmp_path: Path) -> None:
    called = {"type": "tool_use", "id": "t", "name": "x", "input": {"source": {"type": "url", "url": "https://e.com"}}}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    tools = [
        {"name": "Edit", "input_schema": {}},
        {"type": "custom", "name": "a"},
        {"type": "bash_20250124", "name": "b"},
    ]
    talk = [
        {"role": "user", "content": [{"type": "text", "text": "see"}, image]},
        {"role": "assistant", "content": [called]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]},
    ]
    async with rig(tmp_path) as r:
        assert (await r.ask({**ASK, "tools": tools, "messages": talk, "service_tier": "priority"})).status_code == 200
    assert r.api.asked[0].body == {**ASK, "tools": tools, "messages": talk}


# Known secrets


def forms(value: str) -> Iterator[tuple[str, str]]:
    """A value as an agent may come to send it: what of it, and the text."""
    raw = value.encode()
    yield "plain", f"KEY={value}\n"
    yield "base64", base64.b64encode(raw).decode()
    yield "base64 inside", base64.b64encode(b"a=" + raw + b"\n").decode()
    yield (
        "base64 over lines",
        "\n".join(base64.b64encode(b"x" * 60 + raw).decode()[n : n + 19] for n in range(0, 200, 19)),
    )
    yield "url", quote(value, safe="")
    yield "every byte in per cent", "".join(f"%{byte:02x}" for byte in raw)
    yield "json in json in json", json.dumps(json.dumps(json.dumps(value)))
    yield "unicode escapes", "".join(f"\\u{ord(one):04x}" for one in value)
    yield "hex escapes", "".join(f"\\x{byte:02x}" for byte in raw)
    yield "octal escapes", "".join(f"\\{byte:03o}" for byte in raw)
    yield "html", "".join(f"&#{ord(one)};" for one in value)
    yield "hex", raw.hex()
    yield "hex in capitals with blanks", " ".join(f"{byte:02X}" for byte in raw)
    yield "one character a line", "\n".join(value)
    yield "put together from two", f'"{value[:9]}" + "{value[9:]}"'
    yield "wrapped and escaped", json.dumps("\n".join(value[n : n + 5] for n in range(0, len(value), 5)))
    yield "backwards", value[::-1]
    yield "repr", repr(raw)


def told(kind: str, text: str) -> list[dict[str, Any]]:
    """Requests that carry a text in the places in which agents carry any."""
    half = len(text) // 2
    if kind == "openai":
        call = {"id": "c", "type": "function", "function": {"name": "a", "arguments": json.dumps({"cmd": text})}}
        return [
            {**ASK, "messages": [{"role": "system", "content": text}]},
            {**ASK, "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]},
            {**ASK, "messages": [{"role": "tool", "tool_call_id": "c", "content": text}]},
        ]
    pieces = [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}]
    return [
        {**ASK, "system": text},
        {**ASK, "system": [{"type": "text", "text": text}]},
        {**ASK, "messages": [{"role": "user", "content": pieces}]},
        {**ASK, "messages": [{"role": "user", "content": [{"type": "tool_result", "content": [*pieces]}]}]},
        {**ASK, "messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"command": text}}]}]},
        {**ASK, "tools": [{"name": "a", "description": text, "input_schema": {}}]},
        {**ASK, "metadata": {text: 1}},
    ]


@pytest.mark.parametrize("setting", ["refuse", "redact"])
@pytest.mark.parametrize(("kind", "path"), [("anthropic", "/v1/messages"), ("openai", "/v1/chat/completions")])
async def test_a_known_secret_never_reaches_the_upstream(tmp_path: Path, kind: str, path: str, setting: str) -> None:
    value = f'k{secrets.token_urlsafe(9)}/+ü"{secrets.token_urlsafe(9)}'
    async with rig(tmp_path, known={"env:CLAW_API_KEY": Secret(value)}, kind=kind, secrets=setting) as r:
        for name, text in forms(value):
            for number, body in enumerate(told(kind, text)):
                before = len(r.api.received)
                answer = await r.ask(body, path)
                if answer.status_code == 200:
                    assert setting == "redact", (name, number)
                else:
                    assert answer.json()["error"]["message"].startswith(
                        "cannot send this to the model: it holds the value of env:CLAW_API_KEY"
                    )
                    assert len(r.api.received) == before, (name, number)
                # What went up is looked through for every form, whatever form it came in.
                sent = bytes(r.api.raw).decode()
                assert not [form for form, one in forms(value) if one in sent], (name, number)
                assert value not in answer.text
        plain = await r.ask({**ASK, "system": f"the key is {value}, it says"}, path)
        if setting == "redact":
            assert plain.status_code == 200
            assert r.api.asked[-1].body["system"] == "the key is [redacted], it says"
        assert (await r.ask(path=path)).status_code == 200


async def test_secrets_in_bytes_that_json_hides(tmp_path: Path) -> None:
    value = f"k{secrets.token_hex(12)}"
    twice = b'{"model":"m-1","max_tokens":9,"system":"%s","messages":[],"system":"a"}' % value.encode()
    split = json.dumps({**ASK, "system": f"<{value}>"}).encode()
    escaped = json.dumps({**ASK, "system": ""}).replace('""', '"' + "".join(f"\\u{ord(c):04x}" for c in value) + '"')
    async with rig(tmp_path, known={"file": Secret(value)}) as r:
        assert (await r.http.post("http://box/v1/messages", content=twice)).status_code == 200
        assert (await r.http.post("http://box/v1/messages", content=escaped.encode())).status_code == 400

        async def byte_by_byte() -> AsyncIterator[bytes]:
            for at in range(len(split)):
                yield split[at : at + 1]

        assert (await r.http.post("http://box/v1/messages", content=byte_by_byte())).status_code == 400
        headers = {"anthropic-beta": value}
        assert (await r.ask(headers=headers)).status_code == 400
        assert (await r.ask(path=f"/v1/messages?beta={value}")).status_code == 200
        assert (await r.ask({**ASK, "system": r.key})).status_code == 400
        assert not r.api.holds(value)
    assert r.api.asked[0].body["system"] == "a"


async def test_a_secret_of_digits_as_a_number(tmp_path: Path) -> None:
    value = str(secrets.randbelow(10**15) + 10**15)
    async with rig(tmp_path, known={"env:PIN": Secret(value)}) as r:
        assert (await r.ask({**ASK, "metadata": {"a": int(value)}})).status_code == 400
        assert not r.api.holds(value)


# Budgets and pace


async def test_the_budget_in_money_ends_a_job(tmp_path: Path) -> None:
    async with rig(tmp_path, [TURN] * 9, budget=2.5 * COST) as r:
        for _ in range(3):
            assert (await r.ask()).status_code == 200
        refused = await r.ask()
        assert r.door.trouble is not None
        assert r.door.trouble.kind == "model_budget"
    assert (refused.status_code, refused.headers["x-should-retry"]) == (400, "false")
    assert "are spent" in refused.json()["error"]["message"]
    assert len(r.api.received) == 3


async def test_budgets_in_tokens_and_requests(tmp_path: Path) -> None:
    async with rig(tmp_path, [TURN] * 9, budget_tokens=7000) as r:
        assert [(await r.ask()).status_code for _ in range(3)] == [200, 200, 400]
    (tmp_path / "models" / "job-1.usage.json").unlink()
    async with rig(tmp_path, budget_requests=2) as r:
        assert [(await r.ask()).status_code for _ in range(3)] == [200, 200, 400]
        counted = await r.ask(path="/v1/messages/count_tokens")
        assert counted.json()["input_tokens"] > 1  # this costs nothing


async def test_a_request_that_costs_more_than_is_left_is_not_sent(tmp_path: Path) -> None:
    async with rig(tmp_path, budget=0.001) as r:
        answer = await r.ask({**ASK, "system": "x " * 100_000})
    assert "costs more than the rest" in answer.json()["error"]["message"]
    assert r.api.received == []


@pytest.mark.parametrize(("kind", "path"), [("anthropic", "/v1/messages"), ("openai", "/v1/chat/completions")])
async def test_an_answer_is_cut_in_the_middle_when_the_money_is_gone(tmp_path: Path, kind: str, path: str) -> None:
    # 1.88 USD in all; the upstream would still be at it.
    long = Turn("word " * 100_000, tokens=Tokens(input=100, output=125_000), piece=50, hang=True, cut=900_000)
    async with rig(tmp_path, [long], kind=kind, budget=0.2) as r:
        answer = await r.ask(STREAM, path)
        assert r.door.trouble is not None
        assert r.door.trouble.kind == "model_budget"
        assert 0.2 <= r.door.usage.cost < 0.25
        assert r.door.usage.estimated
        await r.api.until(lambda: not r.api.busy)
    last = events(answer.content)[-1]
    assert last["error"]["message"].startswith("cannot go on with the model: 0.20 of 0.20 USD are spent")


async def test_an_answer_in_one_piece_is_kept_as_small_as_the_rest_of_the_money(tmp_path: Path) -> None:
    async with rig(tmp_path, budget=0.003) as r:
        await r.ask({**ASK, "max_tokens": 32_000})
    assert 1 <= r.api.asked[0].body["max_tokens"] <= 200


async def test_the_account_outlives_its_door_and_a_kill(tmp_path: Path) -> None:
    async with rig(tmp_path, [TURN]) as r:
        await r.ask()
        # A daemon that is killed while an answer is being written leaves this behind.
        hangs = asyncio.create_task(r.ask(STREAM))
        r.api.script = [Turn(hang=True, repeat=9)]
        await r.api.until(lambda: len(r.api.asked) == 2)
        left_behind = (tmp_path / "models" / "job-1.usage.json").read_bytes()
        hangs.cancel()
        await asyncio.gather(hangs, return_exceptions=True)
    (tmp_path / "models" / "job-1.usage.json").write_bytes(left_behind)
    async with rig(tmp_path, [TURN]) as r:
        assert r.door.usage.requests == 2
        assert r.door.usage.cost > COST
        assert r.door.usage.estimated
        assert await r.gateway.usage("job-1") == r.door.usage
    await r.gateway.forget("job-1")
    assert await r.gateway.usage("job-1") == Usage()
    (tmp_path / "models" / "job-1.usage.json").write_text("{")
    with pytest.raises(Refused, match="cannot tell what this job has used"):
        async with rig(tmp_path):
            pass


async def test_what_is_too_fast_waits_and_then_is_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    async with rig(tmp_path, per_minute=2, clock=clock) as r:
        for _ in range(2):
            assert (await r.ask()).status_code == 200
        waiting = [asyncio.create_task(r.ask()) for _ in range(2)]
        await clock.asleep(2)
        assert len(r.api.received) == 2
        late = await r.ask()
        clock.advance(60)
        assert [one.status_code for one in await asyncio.gather(*waiting)] == [200, 200]
    assert (late.status_code, late.headers["retry-after"]) == (429, "121")
    assert late.json()["error"]["type"] == "rate_limit_error"


async def test_the_usage_is_told_while_it_grows(tmp_path: Path) -> None:
    heard: list[Usage] = []
    clock = ManualClock()
    async with rig(tmp_path, [Turn("a " * 900, hang=True, cut=4000)], tell=heard.append, clock=clock) as r:
        async with r.http.stream("POST", "http://box/v1/messages", json=STREAM) as answer:
            async for _ in answer.aiter_raw():
                if heard:
                    break
        assert heard[0].requests == 1
        assert heard[0].cost > 0
        assert heard[0].estimated


# An upstream that fails


@pytest.mark.parametrize(
    ("turn", "status", "kind"),
    [
        (Turn(status=401, message="bad"), 400, "model_key"),
        (Turn(status=403), 400, "model_key"),
        (Turn(status=402), 400, "model_credit"),
        (Turn(status=400, message="Your credit balance is too low"), 400, "model_credit"),
        (Turn(status=400, message="max_tokens: too large"), 400, "model_rejected"),
        (Turn(status=404, message="model: m-1"), 400, "model_rejected"),
        (Turn(status=429, retry_after=7), 429, "model_limited"),
        (Turn(status=500), 529, "model_busy"),
        (Turn(status=529), 529, "model_busy"),
        (Turn(status=301, headers={"location": "https://example.com/"}), 400, "model_rejected"),
        (Turn("x" * 900, cut=100), 502, "model_cut"),
    ],
)
async def test_what_the_upstream_says_is_told(tmp_path: Path, turn: Turn, status: int, kind: str) -> None:
    async with rig(tmp_path, [turn]) as r:
        answer = await r.ask()
        assert r.door.trouble is not None
        assert r.door.trouble.kind == kind
        assert kind == "model_cut" or r.door.usage.cost == 0
        assert (await r.ask()).status_code == 200
        assert r.door.trouble is None
    said = answer.json()["error"]
    assert (answer.status_code, said["kind"]) == (status, kind)
    assert answer.headers.get("retry-after") == (str(turn.retry_after) if turn.retry_after else None)
    assert answer.headers.get("x-should-retry") == ("false" if status == 400 else None)
    if turn.message and kind != "model_key":
        assert turn.message in said["message"]


async def test_an_error_that_repeats_a_secret(tmp_path: Path) -> None:
    value = secrets.token_hex(12)
    async with rig(tmp_path, [Turn(status=400, message=f"bad: {value}")], known={"a": Secret(value)}) as r:
        assert value not in (await r.ask()).text
        assert value not in str(r.door.trouble)


async def test_nobody_is_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with rig(tmp_path, base_url=url) as r:
            answer = await r.ask()
            assert r.door.usage.cost == 0
    assert (answer.status_code, answer.json()["error"]["kind"]) == (503, "model_unreachable")
    assert url.removeprefix("http://") in answer.json()["error"]["message"]


async def test_a_silent_upstream_is_given_up(tmp_path: Path) -> None:
    script = [Turn(hang=True), Turn("x" * 900, hang=True, cut=900), Turn("x", delay_s=9, repeat=2)]
    async with rig(tmp_path, script, silence="100ms") as r:
        before = await r.ask()
        during = await r.ask(STREAM)
    async with rig(tmp_path, script[2:], timeout="100ms") as r:
        whole = await r.ask()
    assert (before.status_code, before.json()["error"]["kind"]) == (504, "model_slow")
    assert events(during.content)[-1]["error"]["kind"] == "model_slow"
    assert (whole.status_code, whole.json()["error"]["kind"]) == (504, "model_slow")


@pytest.mark.parametrize(("kind", "path"), [("anthropic", "/v1/messages"), ("openai", "/v1/chat/completions")])
async def test_a_stream_that_is_cut_is_told_and_counted(tmp_path: Path, kind: str, path: str) -> None:
    async with rig(tmp_path, [Turn("word " * 2000, cut=9000)], kind=kind) as r:
        answer = await r.ask(STREAM, path)
        assert r.door.trouble is not None
        assert r.door.trouble.kind == "model_cut"
        assert r.door.usage.output > 50
        assert r.door.usage.estimated
    assert events(answer.content)[-1]["error"]["message"].startswith("cannot finish the answer")


async def test_something_else_answers(tmp_path: Path) -> None:
    async def portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 9\r\n\r\n<html>.\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(portal, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with rig(tmp_path, base_url=f"http://127.0.0.1:{port}") as r:
            answers = [await r.ask(), await r.ask(STREAM)]
            assert r.door.trouble is not None
            assert r.door.trouble.kind == "model_rejected"
    assert [(one.status_code, "text/html" in one.text) for one in answers] == [(400, True)] * 2


async def test_ten_megabytes_and_invalid_bytes_pass(tmp_path: Path) -> None:
    bad = b"a\xffb".decode(errors="surrogateescape")
    async with rig(tmp_path, [Turn("x" * 10_000_000), Turn(bad)], budget=0) as r:
        much = await r.ask(STREAM)
        invalid = await r.ask(STREAM)
        assert r.door.trouble is None
        assert r.door.usage.output > 2_000_000
    assert len(much.content) > 10_000_000
    assert b'"a\xffb"' in invalid.content


async def test_without_usage_the_text_is_counted(tmp_path: Path) -> None:
    turn = Turn("word " * 400, without_usage=True)
    async with rig(tmp_path, [turn, turn], kind="openai") as r:
        await r.ask(STREAM, "/v1/chat/completions")
        once = r.door.usage
        await r.ask(path="/v1/chat/completions")
        twice = r.door.usage
    assert once.output == 500
    assert once.estimated
    assert twice.output == 1000
    assert once.cost > 0


# An agent that goes, and a job that ends


async def test_an_agent_that_hangs_up_ends_the_answer(tmp_path: Path) -> None:
    async with rig(tmp_path, [Turn("word " * 2000, hang=True, cut=9000)]) as r:
        async with r.http.stream("POST", "http://box/v1/messages", json=STREAM) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_raw():
                break
        await r.api.until(lambda: not r.api.busy)
        assert r.door.usage.requests == 1
        assert (await r.ask()).status_code == 200


async def test_a_door_that_closes_ends_its_answers(tmp_path: Path) -> None:
    async with rig(tmp_path, [Turn(hang=True), Turn("x" * 900, hang=True, cut=900)]) as r:
        silent = asyncio.create_task(r.ask())
        await r.api.until(lambda: len(r.api.asked) == 1)
        begun = asyncio.create_task(r.ask(STREAM))
        await r.api.until(lambda: len(r.api.asked) == 2)
        r.door.close()
        answers = await asyncio.gather(silent, begun)
        assert r.door.trouble is None
        path = r.door.socket
    assert answers[0].status_code == 503
    assert not path.exists()


async def test_the_socket_is_this_users_and_its_path_may_be_long(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    async with rig(deep) as r:
        assert len(str(r.door.socket)) > 120
        assert r.door.socket.stat().st_mode & 0o777 == 0o600
        assert r.door.socket.parent.stat().st_mode & 0o777 == 0o700
        stale = r.door.socket
    stale.parent.mkdir(exist_ok=True)
    left = socket.socket(socket.AF_UNIX)
    with socket_address(stale) as address:
        left.bind(address)
    left.close()
    async with rig(deep) as r:
        assert r.door.socket == stale
        # A path this long is reached through its directory, as the box's own short one is.
        with socket_address(stale) as address:
            async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=address)) as http:
                assert (await http.head("http://box/")).status_code == 200


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    descriptor = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


async def test_one_door_a_job(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        with pytest.raises(Refused, match="second door"):
            async with r.gateway.serve("job-1"):
                pass
        async with r.gateway.serve("job-2") as other:
            assert other.socket != r.door.socket
        with pytest.raises(ValueError, match="name"):
            async with r.gateway.serve("../job"):
                pass


async def test_an_agent_cannot_take_every_connection(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        streams = [await asyncio.open_unix_connection(str(r.door.socket)) for _ in range(100)]
        # Those beyond the limit hear the end at once; the others hear nothing.
        ends = {asyncio.create_task(reader.read()) for reader, _ in streams}
        while sum(one.done() for one in ends) < 36:
            await asyncio.wait({one for one in ends if not one.done()}, return_when=asyncio.FIRST_COMPLETED)
        for _, writer in streams:
            writer.close()
        await asyncio.gather(*ends, return_exceptions=True)
        assert (await r.ask()).status_code == 200


async def test_without_its_key_no_door_opens(tmp_path: Path) -> None:
    gateway = ModelGateway(settings("http://127.0.0.1:9", tmp_path / "none"), {}, tmp_path / "models")
    with pytest.raises(ConfigError, match="no such file"):
        async with gateway.serve("job-1"):
            pass
    assert not (tmp_path / "models").exists()


# The doctor's question


async def test_the_upstream_is_tried_for_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path) as r:
        assert await r.gateway.check() == f"{httpx.URL(r.api.base_url).netloc.decode()} answers and takes the key"
        assert [one.path for one in r.api.received] == ["/v1/messages/count_tokens"]
        (tmp_path / "key").write_text("another")
        with pytest.raises(RegrowError, match="refuses the key"):
            await r.gateway.check()
        assert r.door.usage.requests == 0
    async with rig(tmp_path, kind="openai") as r:
        assert "takes the key" in await r.gateway.check()
        r.api.models = ["other"]
        with pytest.raises(RegrowError, match=r"cannot find m-1 at .*, which lists other"):
            await r.gateway.check()
    with pytest.raises(RegrowError, match="cannot reach"):
        await r.gateway.check()


# The relay


CLIENT = """
import json, os, sys, urllib.request
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
request = urllib.request.Request(url, sys.argv[1].encode(), {"content-type": "application/json"})
print(urllib.request.urlopen(request).read().decode(), sys.argv[2])
sys.exit(7)
"""


async def test_the_relay_takes_an_agent_to_the_socket(tmp_path: Path) -> None:
    async with rig(tmp_path, [Turn("x" * 300_000), Turn("again")]) as r:
        argv = [sys.executable, "-c", CLIENT, json.dumps(STREAM), "port={port}"]
        words = relay.command(str(r.door.socket), argv, {"ANTHROPIC_BASE_URL": "http://127.0.0.1:{port}"})
        program = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        said, _ = await program.communicate()
        assert program.returncode == 7
        assert said.count(b"x") > 300_000
        assert re.search(rb" port=\d+\n", said)
        missing = await asyncio.create_subprocess_exec(
            *relay.command(str(r.door.socket), ["/no/such/agent"], {}), stderr=asyncio.subprocess.PIPE
        )
        assert b"cannot run the agent" in (await missing.communicate())[1]
        assert missing.returncode == 127


async def test_the_relay_hands_signals_on(tmp_path: Path) -> None:
    script = "import signal, sys; print('here', flush=True); signal.pause()"
    program = await asyncio.create_subprocess_exec(
        *relay.command("/nowhere", [sys.executable, "-c", script], {}), stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    assert await program.stdout.readline() == b"here\n"
    program.send_signal(signal.SIGTERM)
    assert await program.wait() == 128 + signal.SIGTERM
