"""What goes wrong in a real service is known again, offered for repair, and repaired on a press or by Regrow itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from regrow.api.types import Incident, Message
from regrow.testing import scripted_agent
from regrow.testing.world import World, eventually

from .conftest import Make

MEND = {"write": "src/answer.txt", "text": "better\n"}


def settings(root: Path, **heal: Any) -> dict[str, dict[str, Any]]:
    """A service that goes wrong when it is asked to, and an agent that mends whatever it is told."""
    agent = root / "agent"
    agent.mkdir()
    shutil.copy(scripted_agent.__file__, agent / "agent.py")
    (agent / "script.json").write_text(json.dumps({"fix 1": [MEND]}))
    return {
        "service__env": {"TINY_MOODS": "1"},
        "incidents": {"settle": "100ms", "window": "20s", "baseline": "60s"},
        "heal": heal or {"auto": "propose"},
        "repair": {
            "agent": "command",
            "command": ["/usr/bin/python3", str(agent / "agent.py"), str(agent / "script.json")],
            "reproduce": "off",
        },
        "sandbox": {"readable": ["{python}", "gates", str(agent)]},
        "daemon": {"language": "en", "notice_window": "1h"},
    }


async def get(world: World, path: str) -> None:
    """Ask the service for something, whatever it answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    with contextlib.suppress(OSError):
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        await reader.read()
    writer.close()


async def crash(world: World, text: str = "boom") -> None:
    """Let the service crash, and wait until it is back."""
    pid = await world.pid()
    await get(world, f"/crash/{text}")

    async def back() -> bool:
        with contextlib.suppress(OSError, ValueError):
            return await world.pid() != pid
        return False

    await eventually(back, "the service is started again")


async def incidents(world: World) -> list[Incident]:
    return await asyncio.to_thread(lambda: world.client().incidents())


async def seen(world: World, kind: str, count: int = 1) -> Incident:
    async def there() -> Incident | None:
        found = [one for one in await incidents(world) if one.kind == kind and one.count >= count]
        return found[0] if found else None

    return await eventually(there, f"{count} of {kind}")


async def notices(world: World) -> list[Message]:
    found = await asyncio.to_thread(lambda: world.client().messages("web", "main"))
    return [message for message in found if not message.mine and message.job is None]


async def offered(world: World, number: int) -> tuple[Message, dict[str, str]]:
    """The message that offers a repair, and its buttons by their first word."""

    async def there() -> tuple[Message, dict[str, str]] | None:
        for message in await notices(world):
            buttons = {button.action.partition(":")[0]: button.action for button in message.buttons}
            if f"fix:{number}" in buttons.values():
                return message, buttons
        return None

    return await eventually(there, f"an offer to repair incident {number}")


async def press(world: World, message: Message, action: str) -> str:
    result = await asyncio.to_thread(lambda: world.client().press(message.id, action))
    assert result.ok, result.text
    return result.text


async def repair_of(world: World, number: int) -> int:
    async def there() -> int | None:
        return next((one.job for one in await incidents(world) if one.id == number), None)

    return await eventually(there, f"a job that repairs incident {number}")


@pytest.fixture
async def moody(make_world: Make, tmp_path: Path) -> World:
    return await make_world(**settings(tmp_path))


async def test_a_crash_is_told_offered_repaired_on_a_press_and_then_mended(moody: World) -> None:
    for _ in range(2):
        await crash(moody)
    found = await seen(moody, "crash", 2)
    assert (found.state, found.count, len(await incidents(moody))) == ("open", 2, 1)
    assert found.cause.endswith("RuntimeError: boom")
    assert "Traceback (most recent call last):" in found.lines
    assert (await moody.status()).services[0].incidents == 1
    message, buttons = await offered(moody, found.id)
    assert "RuntimeError: boom" in message.text
    assert [button.label for button in message.buttons] == [f"Repair #I{found.id}", f"Ignore #I{found.id} for 7 days"]

    await press(moody, message, buttons["fix"])
    job = await repair_of(moody, found.id)
    args = json.loads(moody.rows(f"select args from jobs where id = {job}")[0][0])
    assert args["bug"].startswith(f"it crashed: {found.cause}")
    assert "RuntimeError: boom" in args["evidence"]
    assert args["incident"] == str(found.id)
    assert (await seen(moody, "crash")).state == "repairing"
    await moody.approve(job)
    ended = await moody.ended(job)
    assert ended.status == "done", ended.error
    assert (await seen(moody, "crash")).state == "mended"
    assert not any(message.buttons for message in await notices(moody)), "what is settled is offered no more"

    await crash(moody)
    back = await seen(moody, "crash", 3)
    assert (back.state, back.id) == ("came_back", found.id)
    await offered(moody, found.id)


async def test_it_is_repaired_and_ignored_by_words_and_by_the_command_line(moody: World) -> None:
    await crash(moody, "one")
    await crash(moody, "two")
    one, two = sorted(await incidents(moody), key=lambda one: one.id)
    heard = await moody.answer(f"忽略 #I{one.id}")
    assert f"#I{one.id}" in heard
    listed = await moody.answer("最近的故障")
    assert "已忽略" in listed
    assert "RuntimeError: two" in listed
    job = await moody.asked(f"repair incident {two.id}")
    assert await repair_of(moody, two.id) == job
    joined = await moody.cli("repair", "--incident", str(two.id), "--no-wait", "--json")
    assert json.loads(joined.stdout)["job"] == job
    await moody.approve(job)
    assert (await moody.ended(job)).status == "done"
    shown = json.loads((await moody.cli("incidents", "--json")).stdout)
    assert {entry["id"]: entry["state"] for entry in shown} == {one.id: "ignored", two.id: "mended"}
    assert "#I" in (await moody.cli("incidents", "--lines")).stdout


async def test_errors_in_the_log_are_an_incident_when_they_become_many(moody: World) -> None:
    await get(moody, "/error/spilt")
    for _ in range(8):
        await get(moody, "/error/milk")
    found = await seen(moody, "errors", 8)
    assert found.cause == "RuntimeError: milk"
    assert found.lines[0].startswith("ERROR request")
    assert [one.kind for one in await incidents(moody)] == ["errors"], "one error alone is no incident"
    await offered(moody, found.id)
    await moody.kill_daemon()
    for _ in range(3):
        await get(moody, "/error/milk")
    await moody.start_daemon()
    again = await seen(moody, "errors", 11)
    assert (again.id, again.count) == (found.id, 11), "counted once, those too that nobody was there to see"


async def test_f27_the_button_outlives_the_daemon(moody: World) -> None:
    await crash(moody)
    found = await seen(moody, "crash")
    message, buttons = await offered(moody, found.id)
    await moody.kill_daemon()
    await moody.start_daemon()
    assert [one.id for one in await notices(moody) if one.buttons] == [message.id], "offered once"
    await press(moody, message, buttons["fix"])
    job = await repair_of(moody, found.id)
    await moody.approve(job)
    assert (await moody.ended(job)).status == "done"


async def test_regrow_repairs_by_itself_once_and_only_proposes_what_comes_back(
    make_world: Make, tmp_path: Path
) -> None:
    world = await make_world(**settings(tmp_path, auto="repair", cool_down="0s"))
    await crash(world)
    found = await seen(world, "crash")
    job = await repair_of(world, found.id)
    record = await world.job(job)
    assert (record.asked_by, record.channel, record.chat) == ("regrow", "web", "main")
    await world.approve(job)  # by a person: [repair] approve is "always"
    assert (await world.ended(job)).status == "done"
    await crash(world)
    message, _ = await offered(world, found.id)
    assert "it came back after a repair" in message.text
    assert [one.id for one in await world.jobs() if one.kind == "repair"] == [job]
