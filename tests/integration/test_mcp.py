"""The tools of a program's own model, through the official SDK's client: over standard input and output, and HTTP."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from regrow.api.client import Client as Api
from regrow.api.types import Notify, RequestBody
from regrow.errors import RegrowError
from regrow.testing.world import World, eventually

TOKEN = secrets.token_urlsafe(24)
SETTINGS = {
    "service": {"command": ["/bin/sh", "-c", "echo begins; exec {python} -I -S serve.py"]},
    "mcp": {"role": "maintainer", "notify": ["web:team", "terminal:*"], "token": "env:MCP_TOKEN"},
}
TOOLS = {"status", "logs", "releases", "job", "restart", "build", "deploy", "repair", "rollback", "cancel"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("mcp"), SETTINGS)

    async def begin() -> None:
        await made.start_daemon({"MCP_TOKEN": TOKEN})
        await made.settled()

    asyncio.run(begin())
    yield made
    asyncio.run(made.close())


@asynccontextmanager
async def over_stdio(world: World, *words: str) -> AsyncIterator[Client]:
    """The way a bot takes: `regrow mcp` is its child."""
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "regrow.cli", "mcp", *words],
        env=world.environment(),
        cwd=str(world.root),
    )
    async with Client(stdio_client(program)) as client:
        yield client


@asynccontextmanager
async def over_http(world: World, token: str = TOKEN) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as http:
        url = f"http://127.0.0.1:{world.console_port}/mcp"
        async with Client(streamable_http_client(url, http_client=http)) as client:
            yield client


@pytest.fixture(params=["stdio", "http"])
def reach(request: pytest.FixtureRequest) -> Any:
    return {"stdio": over_stdio, "http": over_http}[request.param]


async def told(world: World, channel: str, chat: str, number: int) -> list[str]:
    """The two messages of a job, once both are there."""

    async def both() -> list[str] | None:
        messages = await asyncio.to_thread(lambda: world.client().messages(channel, chat))
        found = [message.text for message in messages if message.job == number]
        return found if len(found) == 2 else None

    return await eventually(both, f"job {number} is told of in {channel}:{chat}")


async def test_a_program_restarts_its_service_and_the_chat_hears_of_it(world: World, reach: Any) -> None:
    before = await world.pid()
    async with world.traffic() as seen, reach(world) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
        started = (await client.call_tool("restart", {})).structured_content
        job = await world.ended(started["job"])
    assert (job.status, job.asked_by, job.channel, job.chat) == ("done", "mcp", "web", "team")
    assert started["told_in"] == "web:team"
    assert await world.pid() != before
    assert (seen.refused, seen.cut) == (0, 0)
    _, result = await told(world, "web", "team", job.id)
    assert (await world.version()) in result


async def test_what_a_tool_says_has_a_shape(world: World, reach: Any) -> None:
    async with reach(world) as client:
        status = (await client.call_tool("status", {})).structured_content
        releases = (await client.call_tool("releases", {})).structured_content["result"]
        logs = (await client.call_tool("logs", {"lines": 5})).structured_content["lines"]
        log = (await client.read_resource("regrow://log")).contents[0].text
    assert status["services"][0]["active"]["version"] == await world.version()
    assert releases[0]["state"] == "active"
    assert 0 < len(logs) <= 5
    assert logs[-1].endswith("begins")
    assert logs[-1] in log


async def test_waiting_for_a_job_tells_its_steps(world: World, reach: Any) -> None:
    world.commit({"src/count.txt": secrets.token_hex(4)})
    world.hold("build")
    steps: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, of: float | None, what: str | None) -> None:
        steps.append((done, of, what))
        world.let_go("build")

    try:
        async with reach(world) as client:
            number = (await client.call_tool("build", {})).structured_content["job"]
            found = await client.call_tool("job", {"number": number, "wait": 60}, progress_callback=progress)
            log = (await client.read_resource(f"regrow://jobs/{number}/log")).contents[0].text
    finally:
        world.let_go("build")
    assert found.structured_content["status"] == "done"
    assert "[2/2] copied" in log
    assert steps
    assert all(total for _, total, _ in steps)


async def test_a_wait_ends_where_the_service_may_wait_for_the_caller(world: World) -> None:
    """F3: a turn of the service that waits for its own restart would hold it up until the drain is over."""
    world.hold("start")
    try:
        async with over_stdio(world) as client:
            number = (await client.call_tool("restart", {})).structured_content["job"]
            found = (await client.call_tool("job", {"number": number, "wait": 60})).structured_content
    finally:
        world.let_go("start")
    assert found["status"] == "doing"
    assert (await world.ended(number)).status == "done"


async def test_a_repair_is_never_approved_by_who_asked_for_it(world: World) -> None:
    world.commit({"src/answer.txt": "good\n", "src/count.txt": secrets.token_hex(4)})
    assert (await world.ended(await world.request("deploy"))).status == "done"
    world.commit({"src/answer.txt": "bad\n"})
    assert (await world.ended(await world.request("deploy"))).status == "done"
    async with over_stdio(world, "--chat", "terminal:ops") as client:
        asked = {"bug": "the answer is wrong", "reproduction": "grep -q good src/answer.txt"}
        number = (await client.call_tool("repair", asked)).structured_content["job"]
        found = (await client.call_tool("job", {"number": number, "wait": 60})).structured_content
        diff = (await client.read_resource(f"regrow://jobs/{number}/diff")).contents[0].text
        assert found["approval"]["state"] == "open"
        assert "+good" in diff
        program = Api(world.places.socket, patience_s=0.0, principal="mcp")
        for ask in (
            lambda: program.approve(number, found["approval"]["digest"]),
            lambda: program.request(RequestBody(intent="approve", args={"job": str(number)})),
            lambda: program.reject(number),
            lambda: program.stop(services=True),
            program.people,
            program.audit,
        ):
            with pytest.raises(RegrowError) as refused:
                await asyncio.to_thread(ask)
            assert refused.value.kind == "forbidden"
        assert (await world.job(number)).approval.state == "open"  # type: ignore[union-attr]
        cancelled = await client.call_tool("cancel", {"number": number})
        assert not cancelled.is_error
    assert (await world.ended(number)).status == "cancelled"
    assert await told(world, "terminal", "ops", number)


@pytest.mark.parametrize("chat", ["web:main", "feishu:oc_1", "nowhere:x", "web:"])
async def test_only_the_chats_of_the_settings_can_be_told(world: World, chat: str) -> None:
    before = [job.id for job in await world.jobs()]
    async with over_stdio(world) as client:
        answer = await client.call_tool("restart", {"chat": chat})
    assert answer.is_error
    assert "cannot tell" in answer.content[0].text
    assert [job.id for job in await world.jobs()] == before


async def test_a_person_may_have_any_chat_of_a_channel_told(world: World) -> None:
    body = RequestBody(intent="restart", notify=Notify(channel="web", chat="main"))
    accepted = await asyncio.to_thread(lambda: world.client().request(body))
    job = await world.ended(accepted.job)  # type: ignore[union-attr]
    assert (job.status, job.channel, job.chat) == ("done", "web", "main")


@pytest.mark.parametrize("token", ["x", "wrong-token-of-some-length", "console"])
async def test_http_is_open_to_its_own_token_alone(world: World, token: str) -> None:
    console = (world.state / "console.token").read_text().strip()
    shown = console if token == "console" else token
    url = f"http://127.0.0.1:{world.console_port}"
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{url}/mcp", json={}, headers={"Authorization": f"Bearer {shown}"})
        assert answer.status_code == 401
        # And the token of the tools opens nothing else.
        status = await http.get(f"{url}/v1/status", headers={"Authorization": f"Bearer {TOKEN}"})
        assert status.status_code == 401
        foreign = {"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}
        assert (await http.post(f"{url}/mcp", json={}, headers=foreign)).status_code == 403


async def test_without_the_section_no_program_may_ask(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        await world.bring_up()
        program = Api(world.places.socket, patience_s=0.0, principal="mcp")
        with pytest.raises(RegrowError, match=r"no section \[mcp\]"):
            await asyncio.to_thread(program.status)
    finally:
        await world.close()


async def test_a_daemon_that_is_away_is_said_to_be(world: World, tmp_path: Path) -> None:
    async with over_stdio(world, "--socket", str(tmp_path / "none.sock")) as client:
        answer = await client.call_tool("status", {})
    assert answer.is_error
    assert "regrow up" in answer.content[0].text
