"""A person, a chat, and the whole of Regrow behind it: every kind of job to every kind of end.

Most tests share one world, and each begins by saying what it needs of it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regrow.testing.service_system import Traffic
from regrow.testing.world import World, eventually

REPRODUCE = "```sh\ngrep -q good src/answer.txt\n```"
counter = iter(range(10_000))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("shared"), database=new_database())
    asyncio.run(world.bring_up())
    yield world
    asyncio.run(world.close())


def change(world: World, message: str = "Change", **files: str) -> str:
    """A new commit: without faults unless `faults` says so, and different from every other."""
    new = {"src/count.txt": f"{next(counter)}\n", "src/answer.txt": "good\n", "faults": ""}
    return world.commit({**new, **files}, message)


async def deployed(world: World, commit: str) -> str:
    """Deploy a commit that works; returns its version."""
    text = await world.say("build and restart")
    assert world.short(commit) in text, text
    assert await world.version() == world.short(commit)
    return world.short(commit)


def unharmed(seen: Traffic) -> bool:
    """Whether every request was answered."""
    return (seen.refused, seen.cut) == (0, 0)


async def live_and_result(world: World, number: int) -> tuple[str, str]:
    """The two messages of a job: never fewer, never more (F28)."""
    live, result = await world.said(number)
    return live.text, result.text


# What goes well


async def test_restart(shared: World) -> None:
    before, version = await shared.pid(), await shared.version()
    async with shared.traffic() as seen:
        text = await shared.say("重启一下")
    assert text.startswith("✅ 已重新上线，运行正常")
    assert f"- 当前版本: {version}" in text
    assert await shared.pid() != before, "the same process still runs (F12)"
    assert await shared.version() == version
    assert unharmed(seen)


async def test_deploy(shared: World) -> None:
    before = await shared.version()
    made = change(shared, "Say it better")
    async with shared.traffic() as seen:
        text = await shared.say("build and restart")
    assert text.startswith(f"✅ Back online, version: {shared.short(made)}")
    assert unharmed(seen)
    assert set(seen.answers) == {before, shared.short(made)}


async def test_a_deploy_with_nothing_newer_serves_the_same_version_from_a_new_process(shared: World) -> None:
    version = await deployed(shared, change(shared))
    before = await shared.pid()
    text = await shared.say("编译重启")
    assert text.startswith(f"✅ 已重新上线，版本: {version}")
    assert await shared.version() == version
    assert await shared.pid() != before


async def test_a_build_alone_changes_nothing_that_runs(shared: World) -> None:
    before = await shared.pid()
    made = change(shared)
    text = await shared.say("编译一下")
    assert text.startswith("✅ 编译完成 (")
    assert shared.short(made) in text
    assert await shared.pid() == before


async def test_rollback(shared: World) -> None:
    older = await deployed(shared, change(shared))
    newer = await deployed(shared, change(shared))
    async with shared.traffic() as seen:
        text = await shared.say("回滚")
    assert text.startswith(f"✅ 已回滚并上线，版本: {older}")
    assert await shared.version() == older
    assert newer not in text
    assert unharmed(seen)


async def test_a_rollback_names_its_target_also_forward(shared: World) -> None:
    older = await deployed(shared, change(shared))
    newer = await deployed(shared, change(shared))
    assert older in await shared.say("rollback")
    release = next(r for r in await asyncio.to_thread(lambda: shared.client().releases()) if r.version == newer)
    assert newer in await shared.say(f"回滚到 {release.id}")
    assert await shared.version() == newer


async def test_repair_by_taking_a_commit_back(shared: World) -> None:
    await buggy(shared)
    bug = shared.head()
    async with shared.traffic() as seen:
        number = await shared.asked(f"修一下这个 bug: 答案不对\n{REPRODUCE}")
        job = await shared.step(number, "approve", "waiting")
        assert job.approval is not None
        assert set(job.approval.files) == {"src/answer.txt", "src/count.txt"}
        assert await shared.press(number, "approve") == f"👍 Job #{number} is approved"
        live, text = await live_and_result(shared, number)
    assert text.startswith("✅ Bug 已修复并部署！")
    assert "- 验证: 修复前能复现，修复后不再出现；测试通过" in text
    assert "- 已合并到 main" in text
    assert "Break it" in text
    assert "local 已批准" in live
    job = await shared.job(number)
    assert job.result["culprit"] == bug
    assert shared.head() == job.result["commit"]
    assert await shared.version() == shared.short(shared.head())
    assert unharmed(seen)
    for trailer in (f"Regrow-Job: {number}", "Requested-by: local", "Approved-by: local", f"Reverts: {bug}"):
        assert trailer in shared.checkout.git("--git-dir", str(shared.bare), "log", "-1", "--format=%B", "main")


# What is refused or taken back by a person


async def buggy(world: World) -> str:
    """A deployed bug after a good release; returns the version that serves."""
    serving = await world.version()
    if world.checkout.git("--git-dir", str(world.bare), "show", f"{serving}:src/answer.txt") != "good":
        await deployed(world, change(world))
    return await deployed(world, change(world, "Break it", **{"src/answer.txt": "bad\n"}))


async def test_a_rejected_repair_changes_nothing(shared: World) -> None:
    version, before, head = await buggy(shared), await shared.pid(), shared.head()
    number = await shared.asked(f"fix this bug: the answer is wrong\n{REPRODUCE}")
    await shared.step(number, "approve", "waiting")
    assert await shared.answer("reject") == f"👎 Job #{number} is rejected and will not be deployed"
    _, text = await live_and_result(shared, number)
    assert "Cause: the change was rejected" in text
    assert f"The old version {version} never stopped." in text
    assert (await shared.pid(), shared.head()) == (before, head)
    assert (await shared.job(number)).status == "failed"


async def test_a_job_is_cancelled_while_it_waits_for_approval(shared: World) -> None:
    version, before, head = await buggy(shared), await shared.pid(), shared.head()
    number = await shared.asked(f"修一下这个 bug: 答案不对\n{REPRODUCE}")
    await shared.step(number, "approve", "waiting")
    await shared.answer(f"取消任务 {number}")
    job = await shared.ended(number)
    assert job.status == "cancelled"
    assert job.approval is not None
    assert job.approval.state == "expired", "the question outlived its job"
    _, text = await live_and_result(shared, number)
    assert text.startswith(f"🚫 任务 #{number} 已被 local 取消。")
    assert (await shared.version(), await shared.pid(), shared.head()) == (version, before, head)


async def test_a_job_is_cancelled_in_the_middle_of_its_build(shared: World) -> None:
    before = await shared.pid()
    change(shared)
    shared.hold("build")
    try:
        number = await shared.asked("build and restart")
        await shared.step(number, "build", "doing")
        await shared.press(number, "cancel")
        job = await shared.ended(number)
    finally:
        shared.let_go("build")
    assert job.status == "cancelled"
    _, text = await live_and_result(shared, number)
    assert text.startswith(f"🚫 Job #{number} was cancelled by local.")
    assert f"The old version {await shared.version()} never stopped." in text
    assert await shared.pid() == before
    assert not list((shared.directory / "releases").glob(".building-*")), "half a build was left"


async def test_a_job_is_cancelled_in_its_bake(make_world: Any) -> None:
    world = await make_world(switch={"bake": "60s"})
    before = await world.pid()
    change(world)
    async with world.traffic() as seen:
        number = await world.asked("build and restart")
        await world.step(number, "bake", "doing")
        await world.answer("cancel")
        job = await world.ended(number)
    assert job.status == "cancelled"
    assert await world.pid() == before, "the standby was not what came back"
    _, text = await live_and_result(world, number)
    assert f"Version now: {world.short(world.first)}" in text
    assert unharmed(seen)
    service = (await world.status()).services[0]
    assert (service.candidate, service.standby) == (None, None)


# What fails, and harms nobody


async def harmless(world: World, text: str = "build and restart") -> tuple[str, Any]:
    """A job that fails while the service is used; the same process goes on serving."""
    before, version = await world.pid(), await world.version()
    async with world.traffic() as seen:
        number = await world.asked(text)
        job = await world.ended(number)
    assert unharmed(seen)
    assert set(seen.answers) == {version}
    assert await world.pid() == before
    _, told = await live_and_result(world, number)
    return told, job


async def test_a_failed_build(shared: World) -> None:
    change(shared, **{"build.sh": "echo compiling; echo 'tiny.c:3: no such thing' >&2; exit 3\n"})
    text, job = await harmless(shared)
    shared.commit({"build.sh": shared.checkout.git("show", f"{shared.first}:build.sh") + "\n"})
    assert job.error.kind == "build_failed"
    assert "Cause: the build failed: " in text
    assert "tiny.c:3: no such thing" in text
    assert f"The old version {await shared.version()} never stopped." in text
    assert f"Full log: job #{job.id}" in text


async def test_failed_tests(shared: World) -> None:
    change(shared, **{"src/answer.txt": ""})
    text, job = await harmless(shared, "编译重启")
    assert job.error.kind == "tests_failed"
    assert "原因: 测试没有通过" in text
    assert f"旧版本 {await shared.version()} 一直在运行，没有中断。" in text


async def test_a_candidate_that_dies_at_its_start(shared: World) -> None:
    change(shared, faults="TINY_DIE_AT_START=1\n")
    text, job = await harmless(shared)
    assert job.error.kind == "candidate_failed"
    assert "the new version does not start" in text
    assert "no such table: users" in text


async def test_a_release_that_dies_in_its_bake(shared: World) -> None:
    good = await deployed(shared, change(shared))
    before = await shared.pid()
    bad = change(shared, faults="TINY_DIE_AFTER=0.1\n")
    async with shared.traffic() as seen:
        number = await shared.asked("build and restart")
        job = await shared.ended(number)
    _, text = await live_and_result(shared, number)
    assert job.status == "undone"
    assert text.startswith(f"↩️ The new version {shared.short(bad)} went wrong; {good} is back.")
    assert f"Version {shared.short(bad)} is marked bad" in text
    assert "was told to die" in text
    assert await shared.pid() == before
    assert seen.refused == 0

    assert "marked bad" in await shared.answer("build and restart"), "a pinned commit was deployed again unasked (F9)"
    named = await shared.say(f"deploy {bad[:10]}")
    assert named.startswith("↩️"), "by name it is tried again"
    assert await deployed(shared, change(shared)), "a newer commit was held up by the pin"


async def test_an_exclusive_service_comes_back_before_its_end_is_told(make_world: Any) -> None:
    """The port is the service's own, so only one process can run: there is a gap, and it is told."""
    world: World = await make_world(up=False, service__listen=None)
    world.configure(
        {
            "service": {"handover": "exclusive", "standby": "none", "probe_socket": False},
            "service.env": {"TINY_PORT": str(world.port)},
            "probe.health": {"target": f"http://127.0.0.1:{world.port}/health"},
        }
    )
    await world.bring_up()
    good = await deployed(world, change(world))
    bad = change(world, faults="TINY_DIE_AFTER=0.1\n")
    number = await world.asked("build and restart")
    _, text = await live_and_result(world, number)
    assert await world.version() == good
    assert text.startswith(f"↩️ The new version {world.short(bad)} went wrong; {good} is back.")
    dead = change(world, faults="TINY_DIE_AT_START=1\n")
    _, text = await live_and_result(world, await world.asked("build and restart"))
    assert await world.version() == good
    assert world.short(dead) not in text.splitlines()[0]
    assert f"Version now: {good}" in text


async def test_an_unknown_branch_is_no_job(shared: World) -> None:
    last = (await shared.jobs())[0].id
    assert "There is no such branch, tag or commit" in await shared.answer("deploy no-such-branch")
    assert (await shared.jobs())[0].id == last


async def test_a_reproduction_that_does_not_reproduce(shared: World) -> None:
    await deployed(shared, change(shared))
    head = shared.head()
    text, job = await harmless(shared, f"修一下这个 bug: 答案不对\n{REPRODUCE}")
    assert "在当前版本上没有复现这个问题" in text
    assert shared.head() == head
    assert job.status == "failed"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[World]:
    """A world with short time limits, once its first release serves."""
    world = World(tmp_path_factory.mktemp("hasty"), database=new_database())

    async def begin() -> None:
        await world.bring_up()
        await world.kill_daemon(15)
        world.configure({"build": {"timeout": "1s"}, "test": {"timeout": "1s"}})
        await world.start_daemon()

    asyncio.run(begin())
    yield world
    asyncio.run(world.close())


@pytest.mark.parametrize(
    ("gate", "cause"), [("build", "the build took too long"), ("test", "the tests took too long (they may hang)")]
)
async def test_a_command_that_fills_its_time_limit(hasty: World, gate: str, cause: str) -> None:
    change(hasty)
    hasty.hold(gate)
    try:
        text, job = await harmless(hasty)
    finally:
        hasty.let_go(gate)
    assert job.error.kind == f"{gate}_timeout"
    assert f"Cause: {cause}" in text
    assert not list((hasty.directory / "releases").glob(".building-*"))


async def test_f30_a_long_step_names_what_it_hangs_on_and_the_message_goes_on(make_world: Any) -> None:
    world = await make_world(chat={"heartbeat": "200ms"})
    change(world)
    world.hold("build")
    number = await world.asked("编译重启")
    try:
        job = await world.step(number, "build", "doing")

        async def live() -> str:
            found = await asyncio.to_thread(lambda: world.client().messages(job.channel, job.chat))
            return next(message.text for message in found if message.job == number)

        async def hangs() -> str | None:
            text = await live()
            return text if re.search(r"^… 编译 [\d.]+s · copying$", text, re.MULTILINE) else None

        first = await eventually(hangs, "the step is told with its time and what it does")

        async def goes_on() -> bool:
            text = await hangs()
            return text is not None and text != first

        await eventually(goes_on, "the message is edited though nothing happens")
    finally:
        world.let_go("build")
    await world.ended(number)


# Keep, or go back


async def test_a_new_version_waits_for_keep_and_stays_with_that_word(make_world: Any) -> None:
    world = await make_world(switch={"bake": "100ms", "confirm_within": "10m"})
    version = world.short(change(world))
    number = await world.asked("build and restart")
    job = await world.step(number, "confirm", "waiting")
    assert job.waiting_for == "keep"
    assert await world.press(number, "keep") == f"👍 Kept (job #{number})"
    _, text = await live_and_result(world, number)
    assert "- Kept by local" in text
    assert await world.version() == version


async def test_a_new_version_that_nobody_keeps_is_taken_back_and_pinned(make_world: Any) -> None:
    world = await make_world(switch={"bake": "100ms", "confirm_within": "2s"})
    before = await world.version()
    made = world.short(change(world))
    async with world.traffic() as seen:
        text = await world.say("build and restart")
    assert text.startswith(f"↩️ Nobody said keep for {made}; {before} is back.")
    assert "Cause: nobody said keep in time" in text
    assert f"Next: to try it again, say “deploy {made}”." in text
    assert (await world.answer("keep")).startswith(
        f"⛔ Too late: nobody said “keep” for {made} in time, and {before} is"
    )
    assert await world.version() == before
    assert unharmed(seen)
    assert (await world.status()).services[0].pinned


async def test_f04_nobody_keeps_it_while_the_daemon_is_dead(make_world: Any) -> None:
    """The word is missing and so is the daemon: the supervisor alone takes the new version back."""
    world = await make_world(switch={"bake": "100ms", "confirm_within": "2s"})
    before = await world.version()
    change(world)
    number = await world.asked("build and restart")
    await world.step(number, "confirm", "waiting")
    await world.kill_daemon()

    async def back() -> bool:
        return bool(await world.version() == before)

    await eventually(back, "the old version serves")
    await world.start_daemon()
    job = await world.ended(number)
    assert (job.status, job.error.kind) == ("undone", "unconfirmed"), "it told another story than what happened"
    assert await world.version() == before
    assert (await world.answer("保留")).startswith("⛔ 晚了: ")


async def test_a_daemon_killed_while_it_waits_still_takes_the_word(make_world: Any) -> None:
    world = await make_world(switch={"bake": "100ms", "confirm_within": "10m"})
    made = world.short(change(world))
    number = await world.asked("编译重启")
    await world.step(number, "confirm", "waiting")
    await world.kill_daemon()
    await world.start_daemon()
    await world.step(number, "confirm", "waiting")
    assert await world.answer("保留") == f"👍 已确认保留（任务 #{number}）"
    _, text = await live_and_result(world, number)
    assert text.startswith(f"✅ 已重新上线，版本: {made}")
    assert "- 由 local 确认保留" in text


async def test_undo_brings_back_what_served_before(shared: World) -> None:
    older = await deployed(shared, change(shared))
    change(shared)
    number = await shared.asked("build and restart")
    await live_and_result(shared, number)
    newer = await shared.version()
    assert newer != older
    async with shared.traffic() as seen:
        await shared.press(number, "undo")
        await shared.settled()
    assert await shared.version() == older
    assert unharmed(seen)


# More than one at once


async def test_a_restart_when_idle_waits_and_says_for_what_and_holds_nobody_up(make_world: Any) -> None:
    state = [503]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        text = "2 conversations under way"
        writer.write(
            f"HTTP/1.1 {state[0]} X\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode()
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        world = await make_world(service={"idle": f"http://127.0.0.1:{port}/idle"})
        before = await world.pid()
        number = await world.asked("restart when idle")
        job = await world.step(number, "turn", "waiting")
        assert job.waiting_for == "idle"

        async def told() -> bool:
            heard = await asyncio.to_thread(lambda: world.client().messages(job.channel, job.chat))
            return any("2 conversations under way" in message.text for message in heard)

        await eventually(told, "what it waits for is told")
        change(world)
        assert (await world.ended(await world.request("deploy"))).status == "done"
        between = await world.pid()
        assert between != before
        state[0] = 200
        assert (await world.ended(number)).status == "done"
        assert await world.pid() != between


async def test_the_same_request_twice_is_one_job(shared: World) -> None:
    change(shared)
    shared.hold("build")
    try:
        number = await shared.asked("build and restart")
        await shared.step(number, "build", "doing")
        assert await shared.answer("编译重启") == f"同样的任务已经在进行: #{number}"
    finally:
        shared.let_go("build")
    await live_and_result(shared, number)
    assert (await shared.jobs())[0].id == number


async def test_force_calls_off_the_job_in_its_way_and_says_what_was_undone(shared: World) -> None:
    version = await shared.version()
    change(shared)
    shared.hold("start")
    slow = await shared.asked("编译重启")
    await shared.step(slow, "candidate", "doing")
    restart = await shared.asked("强制重启")
    shared.let_go("start")
    _, text = await live_and_result(shared, slow)
    assert text.startswith(f"🚫 任务 #{slow} 已被 local 取消。")
    assert "- 已撤回: " in text
    assert (await shared.ended(restart)).status == "done"
    assert await shared.version() == version


async def test_jobs_change_a_service_one_after_the_other_in_order(make_world: Any) -> None:
    world = await make_world()
    numbers, commits = [], []
    world.hold("start")
    async with world.traffic() as seen:
        for _ in range(3):
            commits.append(change(world))
            numbers.append(await world.asked("build and restart"))
            await world.step(numbers[-1], "turn", "done" if len(numbers) == 1 else "waiting")
        waiting = [(await world.job(number)).waiting_for for number in numbers[1:]]
        status = (await world.status()).services[0]
        world.let_go("start")
        jobs = [await world.ended(number) for number in numbers]
    assert waiting == ["turn", "turn"]
    assert (status.job, status.queue) == (numbers[0], numbers[1:])
    assert [job.status for job in jobs] == ["done"] * 3
    assert [job.ended_at for job in jobs] == sorted(job.ended_at for job in jobs)
    assert await world.version() == world.short(commits[-1])
    assert unharmed(seen)


async def test_a_restart_in_the_queue_restarts_what_serves_at_its_turn(make_world: Any) -> None:
    world = await make_world(service={"start_timeout": "120s"})
    change(world)
    world.hold("start")
    numbers = [await world.asked("build and restart")]
    await world.step(numbers[0], "candidate", "doing")
    newest = change(world)
    numbers.append(await world.asked("build and restart"))
    await world.step(numbers[1], "turn", "waiting")
    numbers.append(await world.asked("重启一下"))
    await world.step(numbers[2], "turn", "waiting")
    world.let_go("start")
    texts = [(await live_and_result(world, number))[1] for number in numbers]
    assert await world.version() == world.short(newest), "the restart brought an older version back"
    assert f"- 当前版本: {world.short(newest)}" in texts[2]


async def test_a_repair_does_not_bring_back_what_was_overtaken(shared: World) -> None:
    await buggy(shared)
    number = await shared.asked(f"修一下这个 bug: 答案不对\n{REPRODUCE}")
    await shared.step(number, "approve", "waiting")
    newer = await deployed(shared, change(shared, **{"src/answer.txt": "bad too\n"}))
    await shared.press(number, "approve")
    _, text = await live_and_result(shared, number)
    assert await shared.version() == newer, "the repair deployed an older version with a fix"
    assert f"原因: 期间已上线 {newer}" in text


async def test_a_repair_is_deployed_over_what_was_rolled_back_meanwhile(shared: World) -> None:
    await buggy(shared)
    number = await shared.asked(f"修一下这个 bug: 答案不对\n{REPRODUCE}")
    await shared.step(number, "approve", "waiting")
    await shared.say("rollback")
    await shared.press(number, "approve")
    assert (await live_and_result(shared, number))[1].startswith("✅ Bug 已修复并部署！")
    assert await shared.version() == (await shared.job(number)).result["version"]


async def test_the_checkout_of_a_person_is_never_touched(shared: World) -> None:
    made = change(shared)
    (shared.checkout.path / "src" / "answer.txt").write_text("work in progress\n")
    (shared.checkout.path / "notes.txt").write_text("untracked\n")
    before = shared.checkout.git("status", "--porcelain"), _content(shared.checkout.path)
    await deployed(shared, made)
    assert (shared.checkout.git("status", "--porcelain"), _content(shared.checkout.path)) == before
    shared.checkout.git("reset", "--hard", "--quiet")
    (shared.checkout.path / "notes.txt").unlink()


def _content(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file() and ".git" not in p.parts}
