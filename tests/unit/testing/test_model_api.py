"""The scripted model API: both protocols, whole and as events, and everything that can go wrong."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from regrow.testing.model_api import Asked, Call, ModelApi, Tokens, Turn, by_conversation

WORK = Turn("I look.", calls=(Call("Read", {"path": "src/你.py"}),), thinking="Hm.", tokens=Tokens(100, 20, 7, 3))
TOOLS = [{"name": "Read", "input_schema": {}}]
ASK: dict[str, Any] = {"model": "m-1", "max_tokens": 9, "messages": [{"role": "user", "content": "fix"}]}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        yield client


def events(body: bytes) -> list[Any]:
    """The data of each event; the end mark as it is."""
    found = [line.removeprefix("data: ") for line in body.decode().split("\n") if line.startswith("data: ")]
    return [one if one == "[DONE]" else json.loads(one) for one in found]


def joined(parts: list[Any]) -> str:
    return "".join(part for part in parts if part)


async def test_anthropic_whole(http: httpx.AsyncClient) -> None:
    async with ModelApi([WORK]) as api:
        said = (await http.post(f"{api.base_url}/v1/messages?beta=true", json=ASK)).json()
        after = (await http.post(f"{api.base_url}/v1/messages", json=ASK)).json()
    assert [block["type"] for block in said["content"]] == ["thinking", "text", "tool_use"]
    assert said["content"][2]["input"] == {"path": "src/你.py"}
    assert said["stop_reason"] == "tool_use"
    assert said["usage"] == {
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 3,
    }
    assert (after["content"][0]["text"], after["stop_reason"]) == ("Done.", "end_turn")
    assert [(one.path, one.status) for one in api.received] == [("/v1/messages?beta=true", 200), ("/v1/messages", 200)]


async def test_anthropic_as_events(http: httpx.AsyncClient) -> None:
    async with ModelApi([WORK]) as api:
        answer = await http.post(f"{api.base_url}/v1/messages", json={**ASK, "stream": True})
    seen = events(answer.content)
    deltas = [one["delta"] for one in seen if one["type"] == "content_block_delta"]
    assert joined([one.get("text") for one in deltas]) == "I look."
    assert joined([one.get("thinking") for one in deltas]) == "Hm."
    assert json.loads(joined([one.get("partial_json") for one in deltas])) == {"path": "src/你.py"}
    assert seen[0]["message"]["usage"]["input_tokens"] == 100
    assert seen[-2]["usage"] == {"output_tokens": 20}
    assert seen[-1] == {"type": "message_stop"}
    assert f"event: {seen[-1]['type']}\n".encode() in answer.content


async def test_chat_completions(http: httpx.AsyncClient) -> None:
    async with ModelApi([WORK, WORK, WORK]) as api:
        url = f"{api.base_url}/v1/chat/completions"
        whole = (await http.post(url, json=ASK)).json()
        streamed = events((await http.post(url, json={**ASK, "stream": True})).content)
        counted = {**ASK, "stream": True, "stream_options": {"include_usage": True}}
        with_usage = events((await http.post(url, json=counted)).content)
    usage = {"prompt_tokens": 107, "completion_tokens": 20, "total_tokens": 127}
    assert whole["usage"] == {**usage, "prompt_tokens_details": {"cached_tokens": 7}}
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert json.loads(whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == {"path": "src/你.py"}
    assert streamed[-1] == "[DONE]"
    deltas = [one["choices"][0]["delta"] for one in streamed[:-1]]
    assert joined([one.get("content") for one in deltas]) == "I look."
    calls = [one["tool_calls"][0]["function"] for one in deltas if "tool_calls" in one]
    assert calls[0]["name"] == "Read"
    assert json.loads(joined([one["arguments"] for one in calls])) == {"path": "src/你.py"}
    assert with_usage[-2]["usage"]["total_tokens"] == 127
    assert with_usage[-2]["choices"] == []


async def test_responses(http: httpx.AsyncClient) -> None:
    asked = {"model": "m-1", "input": [{"role": "user", "content": "fix"}]}
    async with ModelApi([WORK, WORK]) as api:
        whole = (await http.post(f"{api.base_url}/v1/responses", json=asked)).json()
        streamed = events((await http.post(f"{api.base_url}/v1/responses", json={**asked, "stream": True})).content)
    assert [item["type"] for item in whole["output"]] == ["message", "function_call"]
    assert whole["usage"]["total_tokens"] == 127
    assert joined([one["delta"] for one in streamed if one["type"] == "response.output_text.delta"]) == "I look."
    assert [one["sequence_number"] for one in streamed] == list(range(len(streamed)))
    assert streamed[-1]["response"]["output"][1]["name"] == "Read"


async def test_it_answers_what_agents_ask_besides(http: httpx.AsyncClient) -> None:
    async with ModelApi() as api:
        assert (await http.head(f"{api.base_url}/")).status_code == 200
        assert (await http.get(f"{api.base_url}/v1/models")).json()["data"] == []
        counted = (await http.post(f"{api.base_url}/v1/messages/count_tokens", json=ASK)).json()
        assert counted["input_tokens"] > 10
        assert (await http.post(f"{api.base_url}/v1/files", json={})).status_code == 404
        assert (await http.post(f"{api.base_url}/v1/messages", content=b"{")).status_code == 400


async def test_errors_in_the_words_of_each_protocol(http: httpx.AsyncClient) -> None:
    key = secrets.token_urlsafe(12)
    script = [Turn(status=429, retry_after=3, repeat=2), Turn(status=529, message="busy")]
    async with ModelApi(script, key=key) as api:
        refused = await http.post(f"{api.base_url}/v1/messages", json=ASK)
        mine = {"x-api-key": key}
        limited = await http.post(f"{api.base_url}/v1/messages", json=ASK, headers=mine)
        bearer = {"authorization": f"Bearer {key}"}
        chat = await http.post(f"{api.base_url}/v1/chat/completions", json=ASK, headers=bearer)
        busy = await http.post(f"{api.base_url}/v1/messages", json=ASK, headers=mine)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "3")
    assert limited.json()["error"]["type"] == "rate_limit_error"
    assert (chat.status_code, chat.json()["error"]["type"]) == (429, "rate_limit_exceeded")
    assert (busy.status_code, busy.json()["error"]["message"]) == (529, "busy")


async def test_a_cut_stream_ends_the_connection(http: httpx.AsyncClient) -> None:
    async with ModelApi([Turn("x" * 5000, cut=900)]) as api:
        got = b""
        with pytest.raises(httpx.RemoteProtocolError):
            async with http.stream("POST", f"{api.base_url}/v1/messages", json={**ASK, "stream": True}) as answer:
                async for part in answer.aiter_raw():
                    got += part
        assert len(got) == 900
        await api.until(lambda: api.received[0].status == 0 and len(api.received) == 1)


async def test_a_model_that_hangs_ends_with_the_client_or_the_api() -> None:
    async with ModelApi([Turn(hang=True), Turn("x" * 500, hang=True, cut=300)]) as api:
        async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
            silent = asyncio.create_task(client.post(f"{api.base_url}/v1/messages", json=ASK))
            await api.until(lambda: len(api.asked) == 1)
            silent.cancel()
            await asyncio.gather(silent, return_exceptions=True)
        client = httpx.AsyncClient(timeout=None, trust_env=False)
        begun = client.stream("POST", f"{api.base_url}/v1/messages", json={**ASK, "stream": True})
        answer = await begun.__aenter__()
        parts = answer.aiter_raw()
        got = b""
        while len(got) < 300:
            got += await anext(parts)
    assert len(got) == 300
    with pytest.raises(httpx.HTTPError):
        await anext(parts)
    await client.aclose()


async def test_much_output_and_invalid_bytes(http: httpx.AsyncClient) -> None:
    bad = b"a\xffb".decode(errors="surrogateescape")
    async with ModelApi([Turn("x" * 10_000_000), Turn(bad)]) as api:
        much = await http.post(f"{api.base_url}/v1/messages", json={**ASK, "stream": True})
        invalid = await http.post(f"{api.base_url}/v1/chat/completions", json={**ASK, "stream": True})
    assert len(joined([one["delta"].get("text") for one in events(much.content) if "delta" in one])) == 10_000_000
    assert b'"a\xffb"' in invalid.content


async def test_every_byte_is_kept(http: httpx.AsyncClient) -> None:
    canaries = [secrets.token_hex(12) for _ in range(3)]
    async with ModelApi() as api:
        url = f"{api.base_url}/v1/messages?at={canaries[0]}"
        await http.post(url, json={**ASK, "system": canaries[1]}, headers={"x-more": canaries[2]})
        assert all(api.holds(one) for one in canaries)
        assert not api.holds(secrets.token_hex(12))
        # Also of a request that never ends.
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(api.base_url).port)
        unfinished = secrets.token_hex(12)
        writer.write(f"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 999\r\n\r\n{unfinished}".encode())
        await writer.drain()
        writer.write_eof()
        await reader.read()
        writer.close()
        assert api.holds(unfinished)


async def test_a_conversation_is_answered_from_its_beginning(http: httpx.AsyncClient) -> None:
    script = by_conversation([Turn("one"), Turn("two")], Turn("over"))
    async with ModelApi(script, aside=Turn("a title")) as api:

        async def say(answers: int, tools: list[Any]) -> str:
            talk = [{"role": ("user", "assistant")[n % 2], "content": "w"} for n in range(2 * answers + 1)]
            body = {**ASK, "messages": talk, "tools": tools}
            return str((await http.post(f"{api.base_url}/v1/messages", json=body)).json()["content"][0]["text"])

        assert [await say(n, TOOLS) for n in (0, 1, 0, 2)] == ["one", "two", "one", "over"]
        assert await say(1, []) == "a title"
    assert api.asked[0].tools == ["Read"]


async def test_a_function_chooses_the_turn(http: httpx.AsyncClient) -> None:
    def choose(asked: Asked) -> Turn:
        return Turn(f"{asked.protocol} {asked.model} {asked.stream} {asked.headers['x-who']}")

    async with ModelApi(choose) as api:
        answer = await http.post(f"{api.base_url}/v1/messages", json=ASK, headers={"x-who": "ada"})
    assert answer.json()["content"][0]["text"] == "anthropic m-1 False ada"


async def test_as_a_program(tmp_path: Path, http: httpx.AsyncClient) -> None:
    script, record = tmp_path / "turns.json", tmp_path / "raw"
    script.write_text(json.dumps([{"calls": [{"name": "Bash", "input": {"command": "true"}}]}, {"status": 529}]))
    words = ["-m", "regrow.testing.model_api", "--script", str(script), "--record", str(record)]
    program = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    assert program.stdout is not None
    url = json.loads(await program.stdout.readline())["base_url"]
    called = await http.post(f"{url}/v1/messages", json=ASK)
    assert called.json()["content"][0]["name"] == "Bash"
    assert (await http.post(f"{url}/v1/messages", json=ASK)).status_code == 529
    program.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in (await program.stdout.read()).splitlines()]
    assert await program.wait() == 0
    assert [one["status"] for one in lines] == [200, 529]
    assert record.read_bytes().startswith(b"POST /v1/messages HTTP/1.1\r\n")


async def test_a_script_with_an_unknown_word_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "turns.json"
    script.write_text(json.dumps([{"txt": "hello"}]))
    words = ["-m", "regrow.testing.model_api", "--script", str(script)]
    program = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.PIPE)
    _, said = await program.communicate()
    assert program.returncode == 2
    assert b"cannot use the script" in said
    assert b"txt" in said
