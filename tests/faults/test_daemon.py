"""The daemon dies, by SIGKILL and by SIGTERM, wherever it can; the service and the job do not (F1, F4, F10, F26, F42).

A killed daemon is started again, and then: the job has ended, the service answered throughout, there is one release,
one commit and one confirmation.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from regrow.api.types import ENDED, Job
from regrow.jobs.plans import plan
from regrow.testing import mortal
from regrow.testing.daemon_runs import through_kills
from regrow.testing.postgres import Server
from regrow.testing.world import World, eventually

REPRODUCE = "```sh\ngrep -q good src/answer.txt\n```"
# Where what a step does outlives the daemon, dying after the deed and before the record is another case.
LASTING = ("workspace", "build", "release", "candidate", "switch", "promote", "tidy")
LASTING_IN_REPAIR = ("agent", "approve", "commit", "merge")
counter = iter(range(10_000))


@pytest.fixture
async def world(tmp_path: Path, new_database: Callable[[], str]) -> AsyncIterator[World]:
    """A world of the test's own, up."""
    made = World(tmp_path, {"switch": {"bake": "2s"}}, new_database())
    try:
        await made.bring_up()
        yield made
    finally:
        await made.close()


def change(world: World, message: str = "Change", **files: str) -> str:
    """A new commit without faults, different from every other."""
    new = {"src/count.txt": f"{next(counter)}\n", "src/answer.txt": "good\n", "faults": ""}
    return world.commit({**new, **files}, message)


async def whole(world: World, job: Job, commit: str) -> None:
    """The job went well, and all it did it did once."""
    assert job.status == "done", job.error
    assert await world.version() == world.short(commit)
    one_of_each(world, job)
    _, result = await world.said(job.id)
    assert "✅" in result.text
    if job.kind == "deploy":
        assert world.short(commit) in result.text
    service = (await world.status()).services[0]
    assert (service.candidate, service.standby, service.queue, service.job) == (None, None, [], None)
    assert service.state == "up"


def one_of_each(world: World, job: Job) -> None:
    """One release and one commit of the job, and nothing half-made."""
    assert len(world.rows(f"select * from releases where job = {job.id}")) == 1
    commits = world.checkout.git(
        "--git-dir", str(world.bare), "log", "--all", "--format=%H", f"--grep=Regrow-Job: {job.id}$"
    )
    assert len(commits.split()) == (1 if job.kind == "repair" else 0)
    assert not list((world.directory / "releases").glob(".building-*"))
    assert not (world.directory / "workspaces" / str(job.id)).exists()


async def test_jobs_go_on_after_a_kill_at_every_step(tmp_path: Path) -> None:
    """Each in a world of its own and all at once: most of this is waiting for daemons to start."""
    async with asyncio.TaskGroup() as group:
        for kind in (killed_deploy, killed_repair, killed_undo):
            group.create_task(in_a_world(tmp_path / kind.__name__, kind), name=kind.__name__)


async def test_a_change_lands_once_over_others_commits_after_kills(tmp_path: Path) -> None:
    await in_a_world(tmp_path / "landing", killed_landing)


async def test_jobs_on_postgres_go_on_after_kills(tmp_path: Path, postgres: Server) -> None:
    """The same story on the other kind of store; at fewer points, because the steps are the same."""
    await in_a_world(tmp_path / "postgres", killed_deploy_on_a_server, postgres.database())


async def killed_deploy_on_a_server(world: World) -> None:
    made = change(world)
    points = [f"deploy:{step}:begin" for step in ("check", "build", "switch", "conclude")]
    points += [f"deploy:{step}:end" for step in ("release", "candidate", "switch", "promote", "conclude")]
    async with world.traffic() as seen:
        job = await through_kills(world, "build and restart", points)
        await whole(world, job, made)
    assert (seen.refused, seen.cut) == (0, 0)


async def test_f21_data_and_code_stay_together_through_a_kill_at_every_step(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for kind in (killed_restore, killed_restore_undone):
            group.create_task(in_a_world(tmp_path / kind.__name__, kind), name=kind.__name__)


async def test_f18_settings_and_code_stay_together_through_a_kill_at_every_step(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for kind in (killed_configure, killed_configure_undone, killed_undo_of_settings):
            group.create_task(in_a_world(tmp_path / kind.__name__, kind), name=kind.__name__)


async def in_a_world(root: Path, story: Callable[[World], Awaitable[None]], database: str = "") -> None:
    root.mkdir()
    world = World(root, database=database)
    try:
        await world.bring_up()
        await story(world)
    finally:
        await world.close()


async def killed_deploy(world: World) -> None:
    """Begun at every step, and where what a step does outlives the daemon also between the deed and the record."""
    made = change(world)
    points = [f"deploy:{step}:begin" for step in (*plan("deploy", data=False), "conclude")]
    points += [f"deploy:{step}:end" for step in (*LASTING, "conclude")]
    async with world.traffic() as seen:
        job = await through_kills(world, "build and restart", points)
        await whole(world, job, made)
    assert (seen.refused, seen.cut) == (0, 0)


async def killed_repair(world: World) -> None:
    change(world, "Break it", **{"src/answer.txt": "bad\n"})
    await world.say("build and restart")
    points = [f"repair:{step}:begin" for step in (*plan("repair", data=False), "conclude")]
    points += [f"repair:{step}:end" for step in LASTING_IN_REPAIR]
    async with world.traffic() as seen:
        job = await through_kills(world, f"fix this bug: the answer is wrong\n{REPRODUCE}", points)
        await whole(world, job, world.head())
    assert (seen.refused, seen.cut) == (0, 0)
    assert job.result["merged"] is True


async def killed_landing(world: World) -> None:
    """The branch has gone on: the change is asked about again, and lands on top of that once."""
    world.commit({"src/answer.txt": "good\n" + "more\n" * 20}, "Answer at length")
    await world.say("build and restart")
    world.commit({"src/answer.txt": "bad\n" + "more\n" * 20}, "Break it")
    await world.say("build and restart")
    theirs = world.commit({"src/answer.txt": "bad\n" + "more\n" * 19 + "theirs\n"}, "Nearby")
    points = [f"repair:{step}:{when}" for step in ("commit", "recheck", "merge", "tidy") for when in ("begin", "end")]
    fix = "fix this bug: the answer is wrong\n```sh\nhead -n 1 src/answer.txt | grep -q good\n```"
    async with world.traffic() as seen:
        job = await through_kills(world, fix, points)
    assert (seen.refused, seen.cut) == (0, 0)
    assert (job.status, job.result["merged"], job.result["landing"]) == ("done", True, "rebased")
    git = ("--git-dir", str(world.bare))
    assert world.checkout.git(*git, "log", "--format=%P", f"{theirs}..main") == theirs
    assert world.head() == job.result["landed"]
    assert world.checkout.git(*git, "show", "main:src/answer.txt") == "good\n" + "more\n" * 19 + "theirs"
    assert await world.version() == world.short(job.result["commit"])
    assert world.checkout.git(*git, "for-each-ref", "refs/regrow/") == ""


async def killed_undo(world: World) -> None:
    change(world, faults="TINY_DIE_AT_START=1\n")
    before, version = await world.pid(), await world.version()
    points = [f"deploy:{step}:{when}" for step in ("candidate", "build", "workspace") for when in ("undo", "undone")]
    async with world.traffic() as seen:
        job = await through_kills(world, "build and restart", [*points, "deploy:conclude:begin"])
        _, result = await world.said(job.id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.kind == "candidate_failed"
    assert f"The old version {version} never stopped." in result.text
    assert (seen.refused, seen.cut) == (0, 0)
    assert await world.pid() == before
    assert not (world.directory / "workspaces" / str(job.id)).exists()


def own_settings(world: World) -> Path:
    """A file of the service's own, under care."""
    own = world.root / "own.toml"
    own.write_text('# mine\nname = "claw"\n')
    world.configure({"config": {"files": ["own.toml"]}})
    return own


async def killed_configure(world: World) -> None:
    """Written, proved and promoted once, whatever is killed."""
    own_settings(world)
    await world.start_daemon()
    before = world.config.read_text()
    steps = plan("configure", data=False, settings=True)
    points = [f"configure:{step}:begin" for step in (*steps, "conclude")]
    points += [
        f"configure:{step}:end" for step in ("settings", "configure", "candidate", "switch", "promote", "conclude")
    ]
    async with world.traffic() as seen:
        job = await through_kills(world, "set drain to 1500ms", points, "yes")
    assert job.status == "done", job.error
    assert (seen.refused, seen.cut) == (0, 0)
    assert world.config.read_text() == before.replace('drain = "1s"', 'drain = "1500ms"')
    assert len(await world.said(job.id)) >= 2


async def killed_configure_undone(world: World) -> None:
    """Taken back exactly, whatever is killed meanwhile."""
    own = own_settings(world)
    await world.start_daemon()
    before, pid = (world.config.read_bytes(), own.read_bytes()), await world.pid()
    points = [
        f"configure:{step}:{when}" for step in ("candidate", "configure", "settings") for when in ("undo", "undone")
    ]
    async with world.traffic() as seen:
        job = await through_kills(
            world, "set service.env.TINY_DIE_AT_START to 1", ["configure:configure:end", *points], "yes"
        )
    assert job.status == "failed", job.status
    assert (world.config.read_bytes(), own.read_bytes()) == before
    assert await world.pid() == pid
    assert (seen.refused, seen.cut) == (0, 0)


async def killed_undo_of_settings(world: World) -> None:
    """A version changed a setting by itself; the undo brings both back, each once, whatever is killed."""
    own = own_settings(world)
    await world.start_daemon()
    before, version = own.read_text(), await world.version()
    good = (world.checkout.path / "serve.py").read_text()
    migrate = f"import pathlib\nown = pathlib.Path({str(own)!r})\n"
    migrate += "own.write_text(own.read_text().replace('claw', 'paw'))\n"
    world.commit({"serve.py": migrate + good})
    deployed = await world.ended(await world.request("deploy"))
    assert deployed.status == "done", deployed.error
    assert own.read_text() != before
    points = [f"rollback:settings:{when}" for when in ("begin", "end")]
    points += ["rollback:candidate:end", "rollback:compare:begin", "rollback:compare:end", "rollback:conclude:begin"]
    async with world.traffic() as seen:
        job = await through_kills(world, "撤销", points, "是")
    assert job.status == "done", job.error
    assert (own.read_text(), await world.version()) == (before, version)
    assert [one["name"] for one in job.result["changed"]] == ["name"]
    assert (seen.refused, seen.cut) == (0, 0)


def never_mixed(world: World) -> set[tuple[int, int]]:
    """Which schema each writer knew, and which one it found: older code never wrote into newer data (F21)."""
    with closing(sqlite3.connect(world.directory / "data" / "tiny.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = set(connection.execute("select known, found from notes"))
    assert all(known >= schema for known, schema in found), found
    return found


async def killed_restore(world: World) -> None:
    """Code and data go back together, whatever is killed; with a deploy that migrates before it."""
    world.configure({"state": {"sqlite": ["tiny.db"]}, "service.env": {"TINY_DB": "tiny.db"}})
    await world.start_daemon()
    await world.say("重启一下")
    points = [f"deploy:{step}:{when}" for step in ("rehearse", "switch", "promote") for when in ("begin", "end")]
    made = change(world, faults="TINY_MIGRATION=2\nTINY_REFUSES=1\n")
    old = await world.version()
    job = await through_kills(world, "build and restart", points)
    assert job.status == "done", job.error
    assert await world.version() == world.short(made)
    points = [f"rollback:{step}:begin" for step in (*plan("rollback", data=True), "conclude")]
    points += [f"rollback:{step}:end" for step in ("snapshot", "restore", "candidate", "switch", "promote", "conclude")]
    async with world.traffic() as seen:
        job = await through_kills(world, "roll back with data", points)
    assert job.status == "done", job.error
    assert await world.version() == old
    assert never_mixed(world) == {(1, 1)}
    assert seen.refused == 0
    assert "displaced" in job.result
    assert not list((world.directory / "data" / "displaced").iterdir())


async def killed_restore_undone(world: World) -> None:
    """The older release dies on the restored data: the newer data comes back with the newer release."""
    world.configure({"state": {"sqlite": ["tiny.db"]}, "service.env": {"TINY_DB": "tiny.db"}})
    await world.start_daemon()
    change(world, faults="TINY_DIE_AFTER=3\n")
    bad = await world.ended(await world.request("build"))
    assert bad.status == "done", bad.error
    await world.say("重启一下")
    made = change(world, faults="TINY_MIGRATION=2\nTINY_REFUSES=1\n")
    await world.say("build and restart")
    new = world.short(made)
    assert await world.version() == new
    world.configure({"switch": {"restart_bake": "60s"}})
    points = [f"rollback:{step}:{when}" for step in ("switch", "restore", "snapshot") for when in ("undo", "undone")]
    job = await through_kills(world, f"roll back to {bad.result['release']} with data", points)
    assert (job.status, job.error.kind if job.error else "") == ("undone", "fell_back")
    assert await world.version() == new
    assert (2, 2) in never_mixed(world)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_daemon_stops_in_the_middle_of_a_build(world: World, number: signal.Signals) -> None:
    made = change(world)
    world.hold("build")
    async with world.traffic() as seen:
        job = await world.asked("build and restart")
        await world.step(job, "build", "doing")
        assert await world.kill_daemon(number) == (0 if number == signal.SIGTERM else -number)
        world.let_go("build")
        await world.start_daemon()
        await whole(world, await world.ended(job), made)
    assert (seen.refused, seen.cut) == (0, 0)


async def test_the_daemon_stops_while_a_change_waits_for_approval(world: World) -> None:
    change(world, "Break it", **{"src/answer.txt": "bad\n"})
    await world.say("build and restart")
    job = await world.asked(f"fix this bug: the answer is wrong\n{REPRODUCE}")
    asked = await world.step(job, "approve", "waiting")
    assert await world.kill_daemon(signal.SIGTERM) == 0
    await world.start_daemon()
    again = await world.step(job, "approve", "waiting")
    assert again.approval == asked.approval, "the question is another one after the restart (F35)"
    await world.press(job, "approve")
    await whole(world, await world.ended(job), world.head())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_daemon_stops_in_a_bake(world: World, number: signal.Signals) -> None:
    made = change(world)
    async with world.traffic() as seen:
        job = await world.asked("build and restart")
        await world.step(job, "bake", "doing")
        await world.kill_daemon(number)
        await world.start_daemon()
        await whole(world, await world.ended(job), made)
    assert (seen.refused, seen.cut) == (0, 0)


async def test_the_release_dies_in_its_bake_while_the_daemon_is_stopped(world: World) -> None:
    """The supervisor goes back by itself; the daemon, once it runs again, tells of it."""
    before, version = await world.pid(), await world.version()
    bad = change(world)
    job = await world.asked("build and restart")
    await world.step(job, "bake", "doing")
    assert world.process is not None
    world.process.send_signal(signal.SIGSTOP)
    os.kill(await world.pid(), signal.SIGKILL)

    async def back() -> bool:
        return await world.pid() == before

    await eventually(back, "the supervisor goes back alone")
    assert await world.version() == version
    world.process.send_signal(signal.SIGCONT)
    ended = await world.ended(job)
    assert ended.status == "undone"
    _, result = await world.said(job)
    assert result.text.startswith(f"↩️ The new version {world.short(bad)} went wrong; {version} is back.")


async def test_a_second_daemon_is_refused_and_changes_nothing(world: World) -> None:
    before, state = await world.pid(), sorted(p.name for p in world.state.iterdir())
    assert world.process is not None
    done = await world.run("-m", "regrow.daemon", "--config", str(world.config))
    assert done.returncode == 5
    assert done.stderr.startswith(f"cannot start a second daemon: process {world.process.pid} holds ")
    assert len(done.stderr.splitlines()) == 1
    assert await world.pid() == before
    assert (await world.status()).daemon.pid == world.process.pid, "the first one's socket is gone"
    assert sorted(p.name for p in world.state.iterdir()) == state


async def test_two_daemons_at_once_are_one(world: World) -> None:
    await world.kill_daemon()
    both = [world.launch() for _ in range(2)]

    async def one_left() -> Any:
        return next((one for one in both if one.poll() is not None), None)

    ended = await eventually(one_left, "one of two daemons is refused")
    assert ended.returncode == 5
    world.process = next(one for one in both if one is not ended)
    await world.say("重启一下")


async def test_a_message_said_to_a_daemon_that_dies_is_one_job(world: World) -> None:
    """Killed as soon as the message is taken: it is handled in the next life, once (F5, F33)."""
    made = change(world)
    said = await world.tell("build and restart")
    await world.kill_daemon()
    await world.start_daemon()

    async def job() -> int | None:
        return next((m.job for m in await world.heard(said) if m.job is not None), None)

    number = await eventually(job, "the message is handled")
    await whole(world, await world.ended(number), made)
    assert len([job for job in await world.jobs() if job.chat == said.chat]) == 1


async def test_the_first_deploy_goes_on_after_a_kill(tmp_path: Path) -> None:
    world = World(tmp_path)
    points = [f"deploy:{step}:end" for step in ("candidate", "promote")]
    env = {mortal.POINTS: ",".join(points), mortal.DIED: str(tmp_path)}
    try:
        for _ in points:
            await world.start_daemon(env, "regrow.testing.mortal")
            assert await world.daemon_ended() == -signal.SIGKILL
        await world.start_daemon(env, "regrow.testing.mortal")
        (job,) = await world.settled()
        assert job.status == "done"
        assert job.result["first"] is True, "a second try took its own process for an earlier release"
        assert await world.version() == world.short(world.first)
        assert world.log.read_text().count("could not") == 0
    finally:
        await world.close()


async def test_a_machine_that_dies_before_the_switch_proves_the_release_once_more(world: World, tmp_path: Path) -> None:
    """The proved candidate is gone, and nothing speaks against it: what killed it killed everything."""
    before = await world.pid()
    env = {mortal.POINTS: "restart:switch:begin", mortal.DIED: str(tmp_path)}
    await world.start_daemon(env, "regrow.testing.mortal")
    number = await world.asked_of_the_dying("重启一下")
    assert await world.daemon_ended() == -signal.SIGKILL
    await world.kill_everything()
    await world.start_daemon()
    job = await world.ended(number)
    assert job.status == "done", job.error
    assert await world.pid() != before
    assert await world.version() == job.result["version"]
    journal = [json.loads(line) for line in (world.directory / "events.jsonl").read_text().splitlines() if line.strip()]
    starts = [one for one in journal if one["event"] == "starting" and one.get("token") == f"job-{number}"]
    assert len(starts) == 2


async def test_the_daemon_stops_while_a_job_is_taken_back(tmp_path: Path) -> None:
    """An exclusive service: the release on trial must have ended before the old one can start again, and takes its
    time."""
    world = World(tmp_path, {"switch": {"bake": "60s"}, "service.listen": None})
    address = f"127.0.0.1:{world.port}"
    world.configure(
        {
            "service": {"handover": "exclusive", "standby": "none", "probe_socket": False},
            "service.env": {"TINY_PORT": str(world.port)},
            "probe.health": {"target": f"http://{address}/health"},
        }
    )
    try:
        await world.bring_up()
        change(world, faults="TINY_IGNORE_TERM=1\n")
        number = await world.asked("build and restart")
        await world.step(number, "bake", "doing")
        await world.answer("cancel")
        await world.step(number, "switch", "undoing")
        assert await world.kill_daemon(signal.SIGTERM) == 0
        await world.start_daemon()
        job = await world.ended(number)
        assert job.status == "cancelled"
        assert await world.version() == world.short(world.first)
        assert len(await world.said(number)) == 2
    finally:
        await world.close()


async def test_a_job_waits_while_its_service_is_not_cared_for(world: World) -> None:
    """The configuration names another service for one life of the daemon (F42)."""
    change(world, "Break it", **{"src/answer.txt": "bad\n"})
    await world.say("build and restart")
    job = await world.asked(f"fix this bug: the answer is wrong\n{REPRODUCE}")
    await world.step(job, "approve", "waiting")
    await world.kill_daemon(signal.SIGTERM)
    name, listen = world.settings["service"]["name"], world.settings["service.listen"]["http"]
    world.configure({"service": {"name": "other"}, "service.listen": {"http": f"127.0.0.1:{world.spare_port}"}})
    await world.start_daemon()
    other = (await world.settled_of("other"))[0]
    assert other.status == "done"
    assert (await world.job(job)).status not in ENDED
    assert (await world.cli("down")).returncode == 0
    await world.daemon_ended()
    world.configure({"service": {"name": name}, "service.listen": {"http": listen}})
    await world.start_daemon()
    await world.press(job, "approve")
    await whole(world, await world.ended(job), world.head())


async def test_f28_the_machine_was_restarted_in_a_bake(world: World) -> None:
    """Everything is gone at once and the next boot has another id: the last good release comes up, the job ends, and
    the come-back is told once, with its cause."""
    before = await world.version()
    change(world)
    job = await world.asked("build and restart")
    await world.step(job, "bake", "doing")
    record = world.directory / "supervisor.json"
    status = (await world.status()).services[0]
    pids = [copy.pid for copy in (status.active, status.standby) if copy]
    assert world.process is not None
    for pid in (world.process.pid, status.supervisor_pid, *pids):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    await world.daemon_ended()
    # What a boot changes: the id of the boot, in the record and in the store.
    state = json.loads(record.read_text())
    record.write_text(json.dumps(state | {"boot": "another"}))
    world.change("update lives set boot = 'another'")
    await world.start_daemon()
    ended = await world.ended(job)
    assert ended.status == "undone"
    assert await world.version() == before

    async def told() -> list[str]:
        messages = await asyncio.to_thread(lambda: world.client().messages("web", "main"))
        return [message.text for message in messages if "机器重启过" in message.text]

    assert len(await eventually(told, "the come-back is told")) == 1
