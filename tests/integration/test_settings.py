"""Settings as a transaction: shown, proved by a fresh process, watched, and exactly as before where that fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regrow.api.types import Job
from regrow.testing.world import World, eventually


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("settings")
    own = root / "own"
    own.mkdir()
    (own / "claw.toml").write_text('# mine\nname = "claw"  # stays\n\n[channels.a]\ntoken_name = "A"\n\n[channels.b]\n')
    (own / "claw.json").write_text('{\n  "model": "one",\n  "limits": {"turns": 3}\n}\n')
    (own / ".env").write_text("# remarks stay\nexport ZONE=Asia/Shanghai\nAPI_TOKEN_NAME=x\n")
    made = World(root, {"config": {"files": ["own/claw.toml", "own/claw.json", "own/.env"]}})
    asyncio.run(made.bring_up())
    yield made
    asyncio.run(made.close())


async def configured(world: World, *lines: str) -> Job:
    return await world.ended(await world.request("configure", set="\n".join(lines)))


async def spec(world: World) -> dict[str, object]:
    """How what serves was started, as the supervisor has it."""
    record = json.loads((world.directory / "supervisor.json").read_text())
    (active,) = [one for one in record["instances"].values() if one["state"] == "active"]
    found: dict[str, object] = active["spec"]
    return found


async def test_a_setting_of_the_service_takes_a_fresh_process(shared: World) -> None:
    before, pid = shared.config.read_text(), await shared.pid()
    async with shared.traffic() as seen:
        job = await configured(shared, "drain=1500ms")
    assert job.status == "done", job.error
    assert shared.config.read_text() == before.replace('drain = "1s"', 'drain = "1500ms"')
    assert await shared.pid() != pid
    assert (await spec(shared))["drain_timeout_s"] == 1.5
    assert (seen.refused, seen.cut) == (0, 0)
    assert job.result["changed"] == [
        {"file": "regrow.toml", "name": "service.drain", "before": '"1s"', "after": '"1500ms"'}
    ]


async def test_a_setting_of_regrows_own_needs_no_process(shared: World) -> None:
    pid = await shared.pid()
    job = await configured(shared, "chat.heartbeat=7s")
    assert job.status == "done", job.error
    assert [step.name for step in job.steps] == ["check", "turn", "configure"]
    assert await shared.pid() == pid
    values = {one.name: one.value for one in await asyncio.to_thread(lambda: shared.client().settings())}
    assert values["chat.heartbeat"] == 7.0


async def test_in_chat_the_difference_is_shown_first_and_a_yes_does_it(shared: World) -> None:
    chat = shared.new_chat()
    question = await shared.answer("把排空时间改成 2 秒", chat)
    assert '+drain = "2s"' in question
    assert 'drain = "2s"' not in shared.config.read_text()
    result = await shared.say("是", chat)
    assert "设置已修改并生效" in result
    assert "service.drain" in result
    assert (await spec(shared))["drain_timeout_s"] == 2.0
    again = await shared.answer("set drain to 2 seconds", shared.new_chat())
    assert "like that already" in again


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("set drain to soon", "cannot be set"),
        ("set sandbox.driver to unconfined", "not changed from here"),
        ("set repair.approve to never", "not changed from here"),
        ("set service.dran to 5s", "There is no setting"),
        ("set timeout to 5s", "Which of these"),
    ],
)
async def test_what_cannot_be_set_is_said_and_changes_nothing(shared: World, words: str, told: str) -> None:
    before, jobs = shared.config.read_bytes(), len(await shared.jobs())
    assert told in await shared.answer(words)
    assert (shared.config.read_bytes(), len(await shared.jobs())) == (before, jobs)


async def test_a_name_that_is_no_setting_is_not_meant_for_regrow(shared: World) -> None:
    assert "did nothing" in await shared.answer("set the alarm to 7am")


async def test_the_services_own_files_are_changed_in_the_same_way(shared: World) -> None:
    own = shared.root / "own"
    toml, text, env = ((own / name).read_text() for name in ("claw.toml", "claw.json", ".env"))
    job = await configured(shared, "claw.toml:name=paw", "claw.json:limits.turns=5", ".env:ZONE=UTC")
    assert job.status == "done", job.error
    assert (own / "claw.toml").read_text() == toml.replace('name = "claw"', 'name = "paw"')
    assert json.loads((own / "claw.json").read_text()) == json.loads(text) | {"limits": {"turns": 5}}
    assert (own / ".env").read_text() == env.replace("Asia/Shanghai", "UTC")
    undone = await shared.ended(await shared.request("undo", job=str(job.id)))
    assert undone.status == "done", undone.error
    assert (own / "claw.toml").read_text() == toml
    assert json.loads((own / "claw.json").read_text()) == json.loads(text)
    assert (own / ".env").read_text() == env


async def test_an_undo_leaves_what_somebody_changed_since(shared: World) -> None:
    job = await configured(shared, "bake=300ms", "restart_bake=40ms")
    assert job.status == "done", job.error
    shared.config.write_text(shared.config.read_text().replace('"300ms"', '"350ms"'))
    undone = await shared.ended(await shared.request("undo", job=str(job.id)))
    assert undone.status == "done", undone.error
    text = shared.config.read_text()
    assert 'bake = "350ms"' in text
    assert 'restart_bake = "50ms"' in text


async def test_f18_a_change_that_the_candidate_does_not_survive_is_as_if_it_never_was(shared: World) -> None:
    before, pid = shared.config.read_bytes(), await shared.pid()
    async with shared.traffic() as seen:
        job = await configured(shared, "service.env.TINY_DIE_AT_START=1")
    assert job.status == "failed", job.status
    assert shared.config.read_bytes() == before
    assert await shared.pid() == pid
    assert (seen.refused, seen.cut) == (0, 0)
    # And the daemon, too, has forgotten it: the next restart starts what was there.
    assert "已重新上线" in await shared.say("重启一下")


async def test_f18_a_change_that_fails_while_it_is_watched_goes_back_by_itself(shared: World) -> None:
    before = shared.config.read_bytes()
    job = await configured(shared, "service.env.TINY_DIE_AFTER=0.2", "bake=3s")
    assert job.status == "undone", job.status
    assert shared.config.read_bytes() == before
    assert "TINY_DIE_AFTER" not in json.dumps(await spec(shared))
    service = (await shared.status()).services[0]
    assert (service.state, service.pinned) == ("up", [])
    assert "as they were" in job.story


async def test_f18_a_file_broken_by_hand_blocks_a_restart_and_nothing_else(shared: World) -> None:
    for path, broken in ((shared.config, "[service\n"), (shared.root / "own" / "claw.json", "{")):
        good, pid = path.read_text(), await shared.pid()
        path.write_text(broken)
        try:
            text = await shared.say("重启一下")
            assert "设置文件有错" in text
            assert path.name in text
            assert await shared.pid() == pid
        finally:
            path.write_text(good)
    assert "已重新上线" in await shared.say("重启一下")


async def test_f19_only_what_the_job_changed_goes_back(shared: World) -> None:
    """The job changes A, a person B, the job is taken back: A is old, B is new, and the file as it was is kept."""
    shared.hold("start")
    try:
        number = await shared.request("configure", set="service.env.TINY_DIE_AT_START=1")
        await shared.step(number, "candidate", "doing")
        text = shared.config.read_text()
        assert "TINY_DIE_AT_START" in text
        shared.config.write_text(text.replace('stop_timeout = "2s"', 'stop_timeout = "3s"'))
    finally:
        shared.let_go("start")
    job = await shared.ended(number)
    assert job.status == "failed"
    after = shared.config.read_text()
    assert 'stop_timeout = "3s"' in after
    assert "TINY_DIE_AT_START" not in after
    displaced = list((shared.directory / "settings" / str(number)).glob("*.displaced"))
    assert len(displaced) == 1
    assert "TINY_DIE_AT_START" in displaced[0].read_text()
    assert '"3s"' in displaced[0].read_text()
    assert displaced[0].name in job.story
    assert "service.env.TINY_DIE_AT_START" in job.story


async def test_f20_a_version_that_drops_a_section_is_not_kept(shared: World) -> None:
    own = shared.root / "own"
    toml, env = (own / "claw.toml").read_text(), (own / ".env").read_text()
    version = await shared.version()
    serve = (
        "import pathlib\n"
        f"own = pathlib.Path({str(own)!r})\n"
        "(own / 'claw.toml').write_text('name = \"claw\"\\n[channels.a]\\ntoken_name = \"A\"\\n')\n"
        "(own / '.env').write_text('ZONE=UTC\\n')\n"
    )
    checkout = shared.checkout.path / "serve.py"
    good = checkout.read_text()
    shared.commit({"serve.py": serve + good})
    try:
        job = await shared.ended(await shared.request("deploy"))
        assert job.status == "undone", (job.status, job.error)
        assert await shared.version() == version
        assert "channels.b" in job.story
        assert "API_TOKEN_NAME" in job.story
        assert "=x" not in job.story
        for path, names in ((own / "claw.toml", ("channels.a", "channels.b")), (own / ".env", ("API_TOKEN_NAME=x",))):
            assert all(name in path.read_text() for name in names), path.read_text()
    finally:
        shared.commit({"serve.py": good})
        (own / "claw.toml").write_text(toml)
        (own / ".env").write_text(env)


async def test_an_undo_brings_back_code_and_settings_of_before_together(shared: World) -> None:
    """A version changes a setting by itself; a person changes another one since, which is kept."""
    own = shared.root / "own" / "claw.toml"
    before, version = own.read_text(), await shared.version()
    checkout = shared.checkout.path / "serve.py"
    good = checkout.read_text()
    migrate = f"import pathlib\nown = pathlib.Path({str(own)!r})\n"
    migrate += "own.write_text(own.read_text().replace('\"A\"', '\"AA\"'))\n"
    shared.commit({"serve.py": migrate + good})
    try:
        job = await shared.ended(await shared.request("deploy"))
        assert job.status == "done", job.error
        assert 'token_name = "AA"' in own.read_text()
        assert [one["name"] for one in job.result["migrated"]] == ["channels.a.token_name"]
        assert "AA" not in job.story  # a name that looks like a secret's has no value shown
        own.write_text(own.read_text().replace('name = "claw"', 'name = "mine"'))
        undone = await shared.ended(await shared.request("undo", job=str(job.id)))
        assert undone.status == "done", undone.error
        assert await shared.version() == version
        assert own.read_text() == before.replace('name = "claw"', 'name = "mine"')
        assert "channels.a.token_name" in undone.story
    finally:
        shared.commit({"serve.py": good})
        own.write_text(before)


async def test_an_undo_that_is_called_off_leaves_the_settings_of_the_version_that_serves(shared: World) -> None:
    own = shared.root / "own" / "claw.toml"
    before = own.read_text()
    checkout = shared.checkout.path / "serve.py"
    good = checkout.read_text()
    migrate = f"import pathlib\nown = pathlib.Path({str(own)!r})\n"
    migrate += "own.write_text(own.read_text().replace('\"A\"', '\"AAA\"'))\n"
    shared.commit({"serve.py": migrate + good})
    try:
        job = await shared.ended(await shared.request("deploy"))
        assert job.status == "done", job.error
        migrated = own.read_text()
        assert migrated != before
        shared.hold("start")
        undo = await shared.request("undo", job=str(job.id))
        await shared.step(undo, "candidate", "doing")
        assert own.read_text() == before
        await asyncio.to_thread(shared.client().cancel, undo)
        assert (await shared.ended(undo)).status == "cancelled"
        assert own.read_text() == migrated
    finally:
        shared.let_go("start")
        shared.commit({"serve.py": good})
        own.write_text(before)


async def test_what_only_an_editor_may_change_waits_for_the_next_daemon(shared: World) -> None:
    """A message that sets one thing does not put into force what somebody has edited beside it."""
    before, name = shared.config.read_text(), (await shared.status()).services[0].name
    shared.config.write_text(before.replace(f'name = "{name}"', 'name = "another"'))
    try:
        job = await configured(shared, "chat.heartbeat=8s")
        assert job.status == "done", job.error
        assert 'name = "another"' in shared.config.read_text()
        service = (await shared.status()).services[0]
        assert (service.name, service.state) == (name, "up")
    finally:
        shared.config.write_text(shared.config.read_text().replace('name = "another"', f'name = "{name}"'))
    rows = await asyncio.to_thread(lambda: shared.client().audit(job=job.id))
    asked = next(row for row in rows if row.what == "asked")
    assert asked.detail["settings"] == ["regrow.toml:chat.heartbeat"]
    assert "已重新上线" in await shared.say("重启一下")


async def test_confirm_within_holds_for_settings(tmp_path: Path) -> None:
    world = World(tmp_path, {"switch": {"bake": "100ms", "confirm_within": "2s"}})
    try:
        await world.bring_up()
        before = world.config.read_bytes()
        job = await world.ended(await world.request("configure", set="drain=3s"))
        assert job.status == "undone", job.status
        assert world.config.read_bytes() == before
        number = await world.request("configure", set="drain=3s")
        await world.step(number, "confirm", "waiting")
        await world.request_answer("keep", job=str(number)) if hasattr(world, "request_answer") else await world.answer(
            "保留"
        )
        assert (await world.ended(number)).status == "done"
        assert 'drain = "3s"' in world.config.read_text()
    finally:
        await world.close()


async def test_the_command_line_shows_and_asks(shared: World) -> None:
    shown = await shared.cli("config", "show", "--json")
    assert {one["name"] for one in json.loads(shown.stdout)} >= {"service.drain", "probe.health.strikes"}
    refused = await shared.cli("config", "set", "stop_timeout=4s")
    assert refused.returncode != 0
    assert '+stop_timeout = "4s"' in refused.stdout
    assert "--yes" in refused.stderr
    done = await shared.cli("config", "set", "stop_timeout=4s", "--yes")
    assert done.returncode == 0, done.stderr
    assert (await shared.cli("config", "get", "service.stop_timeout")).stdout.strip() == "4.0"
    explained = await shared.cli("config", "explain", "service.drain")
    assert "how long it may finish" in explained.stdout


async def test_a_daemon_started_later_has_the_settings(shared: World) -> None:
    job = await configured(shared, "chat.heartbeat=9s")
    assert job.status == "done", job.error
    await shared.kill_daemon()
    await shared.start_daemon()

    async def there() -> bool:
        values = {one.name: one.value for one in await asyncio.to_thread(lambda: shared.client().settings())}
        return values["chat.heartbeat"] == 9.0

    await eventually(there, "the settings of before")


async def test_settings_can_be_changed_while_nothing_serves(make_world: Any) -> None:
    world: World = await make_world(up=False)
    world.commit({"faults": "TINY_DIE_AT_START=1\n"})
    await world.start_daemon()
    (first,) = await world.settled()
    assert first.status == "failed"
    job = await configured(world, "drain=2500ms", "chat.heartbeat=11s")
    assert job.status == "done", job.error
    assert 'drain = "2500ms"' in world.config.read_text()
