"""A freeze, quiet hours and what would be interrupted, through a real daemon: kept over its death, told in the chat,
and asked again before each step up to the switch."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from regrow.api.types import Message
from regrow.cli import exits
from regrow.errors import RegrowError
from regrow.quiet import Quiet
from regrow.testing.world import World, eventually

HOUR_S = 3600.0
counter = iter(range(10_000))


def hours() -> dict[str, Any]:
    """Quiet hours that last now, and for an hour."""
    begin, end = (Quiet().clock(time.time() + seconds) for seconds in (-HOUR_S, HOUR_S))
    return {"hours": [f"{begin}-{end}"]}


def change(world: World) -> str:
    return world.commit({"src/count.txt": f"{next(counter)}\n"})


async def question(world: World, text: str, chat: str) -> Message:
    """Say something that is asked back with buttons."""
    said = await world.tell(text, chat)

    async def there() -> Message | None:
        return next((one for one in await world.heard(said) if one.buttons and one.job is None), None)

    return await eventually(there, f"a question about {text!r}")


async def press(world: World, shown: Message, label: str) -> None:
    action = next(button.action for button in shown.buttons if label in button.label)
    result = await asyncio.to_thread(lambda: world.client().press(shown.id, action))
    assert result.ok, result.text


async def newest_job(world: World, kind: str, after: int) -> int:
    async def there() -> int | None:
        return next((job.id for job in await world.jobs() if job.kind == kind and job.id > after), None)

    return await eventually(there, f"a {kind}")


async def test_a_deploy_waits_for_the_end_of_quiet_hours_over_a_kill_and_goes_by_a_press(make_world: Any) -> None:
    world = await make_world(quiet=hours())
    before, made = await world.pid(), change(world)
    shown = await question(world, "部署最新版本", "night")
    assert "🌙" in shown.text
    await press(world, shown, "等到")
    number = await newest_job(world, "deploy", 1)
    job = await world.step(number, "turn", "waiting")
    assert job.waiting_for == "quiet"
    await world.kill_daemon()
    await world.start_daemon()
    job = await world.step(number, "turn", "waiting")
    assert (job.waiting_for, await world.pid()) == ("quiet", before)
    await world.press(number, "now:")
    assert (await world.ended(number)).status == "done"
    assert await world.version() == world.short(made)
    # The way back does not wait.
    assert "已回滚" in await world.say("回滚")


async def test_a_restart_by_the_command_line_waits_and_now_does_not(make_world: Any) -> None:
    world = await make_world(quiet=hours())
    before = await world.pid()
    waiting = await world.cli("restart", "--no-wait", "--json")
    number = int(json.loads(waiting.stdout)["job"])
    assert (await world.step(number, "turn", "waiting")).waiting_for == "quiet"
    done = await world.cli("restart", "--when", "now", "--json")
    assert done.returncode == exits.DONE, done.stderr
    assert (await world.job(number)).status == "done", "the one that waited was hurried, and no second one made"
    assert await world.pid() != before


async def test_a_freeze_ends_a_deploy_before_its_switch_and_outlives_the_daemon(make_world: Any) -> None:
    world = await make_world()
    await world.say("build and restart")
    version, before = await world.version(), await world.pid()
    change(world)
    world.hold("build")
    number = await world.asked("build and restart")
    await world.step(number, "build", "doing")
    said = await world.answer("冻结 发版窗口关闭")
    assert "发版窗口关闭" in said
    assert f"#{number}" in said
    async with world.traffic() as seen:
        world.let_go("build")
        job = await world.ended(number)
    assert (job.status, job.error and job.error.kind, job.error and job.error.step) == ("failed", "frozen", "turn")
    assert "发版窗口关闭" in job.story
    assert (seen.refused, seen.cut) == (0, 0)
    assert (await world.version(), await world.pid()) == (version, before)

    await world.kill_daemon()
    await world.start_daemon()
    service = (await world.status()).services[0]
    assert service.freeze is not None
    assert (service.freeze.reason, service.freeze.by) == ("发版窗口关闭", "local")
    refused = await world.cli("deploy")
    assert (refused.returncode, "发版窗口关闭" in refused.stderr) == (exits.REFUSED, True), refused
    assert "发版窗口关闭" in (await world.cli("status")).stdout
    assert "发版窗口关闭" in await world.answer("restart")
    assert (await world.pid(), await world.version()) == (before, version)
    told = await world.tell("状态", "main")  # the console is told of a freeze, as the owners are
    notes = await asyncio.to_thread(lambda: world.client().messages("web", "main", 0))
    assert any("冻结了" in note.text for note in notes if note.id < told.id)

    assert (await world.cli("unfreeze")).returncode == exits.DONE
    assert "不再" not in await world.answer("状态")
    assert (await world.say("build and restart")).startswith("✅")


async def test_a_freeze_between_the_candidate_and_the_switch_takes_the_candidate_back(make_world: Any) -> None:
    world = await make_world()
    version = await world.version()
    change(world)
    world.hold("start")
    number = await world.asked("build and restart")
    await world.step(number, "candidate", "doing")
    assert (await world.cli("freeze", "audit")).returncode == exits.DONE
    world.let_go("start")
    job = await world.ended(number)
    assert (job.status, job.error and job.error.step) == ("failed", "switch")
    assert await world.version() == version
    assert (await world.status()).services[0].candidate is None


async def test_what_is_interrupted_is_said_and_when_idle_is_a_button(make_world: Any) -> None:
    state = [503]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        text = json.dumps({"conversations": 2, "due_in": [0.5, 600]} if state[0] != 200 else {})
        head = f"HTTP/1.1 {state[0]} X\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        writer.write(f"{head}{text}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        world = await make_world(service={"idle": f"http://127.0.0.1:{port}/idle"})
        made = change(world)
        shown = await question(world, "部署最新版本", "busy")
        assert "2 个正在进行的对话" in shown.text
        assert "1 秒内有 1 个提醒" in shown.text
        await press(world, shown, "空闲")
        number = await newest_job(world, "deploy", 1)
        assert (await world.step(number, "turn", "waiting")).waiting_for == "idle"
        state[0] = 200
        assert (await world.ended(number)).status == "done"
        assert await world.version() == world.short(made)
        state[0] = 503
        restart = await world.asked("重启一下", "busy")
        live, _ = await world.said(restart)
        assert restart, live.text


async def test_the_audit_log_shows_the_words_of_each_way_in(make_world: Any) -> None:
    world = await make_world()
    await world.say("请重启一下服务")
    await world.cli("restart", "--when", "now")
    number = await world.request("restart", when="force")
    await world.ended(number)
    rows = await asyncio.to_thread(lambda: world.client().audit())
    said = {row.detail.get("understood"): row.detail.get("words", "") for row in rows if row.what == "asked"}
    assert said["grammar"] == "请重启一下服务"
    assert said["cli"].startswith("regrow ")
    assert said["cli"].endswith("restart --when now")
    assert said["api"] == "restart when=force"
    assert "daemon" in said, "what Regrow asks for by itself"
    shown = (await world.cli("audit")).stdout
    assert "“请重启一下服务” (grammar)" in shown
    assert (await world.cli("audit", "--verify")).returncode == exits.DONE


async def test_rules_of_the_page_hold_for_the_page_and_its_calls_and_not_for_the_command_line(make_world: Any) -> None:
    world = await make_world(**{"permissions.channels.web": {"read_only": True}})
    assert "不行" in await world.answer("重启一下")
    assert "🟢" in await world.answer("状态")
    shown = json.loads((await world.cli("permissions", "--json", "--chat", "web:main")).stdout)
    assert {right["intent"]: right["role"] for right in shown["rights"]}["restart"] == "nobody"
    token = (world.state / "console.token").read_text()
    answer = await asyncio.to_thread(_post, world, token)
    assert answer == ("403", "forbidden_here")
    assert (await world.cli("restart")).returncode == exits.DONE


def _post(world: World, token: str) -> tuple[str, str]:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", world.console_port, timeout=30)
    try:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/requests", json.dumps({"intent": "restart"}), headers)
        answer = connection.getresponse()
        return str(answer.status), json.loads(answer.read())["kind"]
    except (OSError, RegrowError) as error:
        return "", str(error)
    finally:
        connection.close()
