"""What people get wrong (issue 2, "Bad input"): one line that says what and what to do, the documented exit code,
nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from regrow.cli import exits
from regrow.testing.repositories import Checkout
from regrow.testing.world import World

Make = Callable[..., Awaitable[World]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world in which nothing was started yet."""
    made = World(tmp_path)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose first release serves."""
    made = World(tmp_path_factory.mktemp("bad-input"))
    asyncio.run(made.bring_up())
    yield made
    asyncio.run(made.close())


def said(done: CompletedProcess[str]) -> str:
    """The one line of an error, without the name of the program."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    line = lines[0].removeprefix("regrow: ")
    assert line.startswith("cannot "), line
    return line


def lines_of(config: Path, start: str) -> int:
    """The number of the line that begins so."""
    return next(n for n, line in enumerate(config.read_text().splitlines(), 1) if line.startswith(start))


# Settings


@pytest.mark.parametrize(
    ("changes", "start", "text"),
    [
        ({"service": {"comand": ["x"]}}, "comand", 'unknown setting "service.comand"; did you mean "command"?'),
        ({"swich": {"bake": "1s"}}, "[swich]", 'unknown setting "swich"; did you mean "switch"?'),
        ({"probe.health": {"intervall": "1s"}}, "intervall", 'unknown setting "probe.health.intervall"; did you mean'),
        ({"switch": {"bake": "soon"}}, "bake", '"switch.bake": a duration looks like "500ms"'),
        ({"retention": {"releases": 1}}, "releases", '"retention.releases": '),
        ({"service": {"name": "Claw!"}}, "name", '"service.name": '),
        ({"daemon": {"console": "0.0.0.0:1"}}, "console", '"daemon.console": the console listens on loopback only'),
        ({"repair": {"agent": "command"}}, "[repair]", '"repair": the agent `command` needs `command`'),
    ],
)
async def test_a_wrong_setting(world: World, changes: dict[str, Any], start: str, text: str) -> None:
    world.configure(changes)
    done = await world.cli("up", "--config", str(world.config))
    assert done.returncode == exits.CONFIG
    line = said(done)
    assert f"{world.config}:{lines_of(world.config, start)}: " in line
    assert text in line
    assert not world.places.database.exists(), "something was begun"


async def test_settings_that_are_no_toml_or_not_there(world: World) -> None:
    world.config.write_text("[service\n")
    done = await world.cli("up", "--config", str(world.config))
    assert (done.returncode, str(world.config) in said(done), "line 1" in said(done)) == (exits.CONFIG, True, True)
    done = await world.cli("up", "--config", "nowhere.toml")
    assert (done.returncode, "nowhere.toml" in said(done)) == (exits.CONFIG, True)
    world.config.write_bytes(b"\xff\xfe")
    assert (await world.cli("up")).returncode == exits.CONFIG


async def test_a_setting_that_is_missing(world: World) -> None:
    del world.settings["service"]["command"]
    world.configure({})
    done = await world.cli("up")
    assert done.returncode == exits.CONFIG
    assert 'the setting "service.command" is missing; add it' in said(done)


async def test_an_unknown_place_in_a_command_is_found_before_anything_is_built(world: World) -> None:
    world.configure({"build": {"command": ["make", "DEST={output}"]}})
    done = await world.cli("up")
    assert done.returncode == exits.CONFIG
    assert "{output}" in said(done)
    assert "{out}" in said(done)


# Repositories


async def test_a_repository_without_commits(world: World, tmp_path: Path) -> None:
    empty = Checkout(tmp_path / "empty")
    world.configure({"source": {"repository": str(empty.path)}})
    done = await world.cli("up")
    assert done.returncode == exits.CONFIG
    assert "no commit" in said(done)
    assert str(empty.path) in said(done)


async def test_a_repository_that_is_none(world: World, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    world.configure({"source": {"repository": str(tmp_path / "plain")}})
    assert (await world.cli("up")).returncode == exits.CONFIG
    world.configure({"source": {"repository": str(tmp_path / "nowhere")}})
    done = await world.cli("up")
    assert done.returncode == exits.CONFIG
    assert str(tmp_path / "nowhere") in said(done)


async def test_a_branch_or_release_or_job_that_is_not_there(shared: World) -> None:
    for words in (("deploy", "no-such-branch"), ("rollback", "r999"), ("job", "999"), ("cancel", "999")):
        done = await shared.cli(*words)
        assert done.returncode == exits.REFUSED, (words, done.stderr)
        said(done)
    assert await shared.version() == shared.short(shared.first)


def everything(checkout: Checkout) -> dict[str, str]:
    """What a person has in a checkout: files, index, stash, refs and what HEAD is."""
    files = {
        str(path.relative_to(checkout.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(checkout.path.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(checkout.path).parts
    }
    asked = {
        "status": ("status", "--porcelain=v1", "--branch"),
        "index": ("ls-files", "--stage"),
        "stash": ("stash", "list"),
        "head": ("rev-parse", "--symbolic-full-name", "HEAD"),
        "main": ("rev-parse", "refs/heads/main"),
        "worktrees": ("worktree", "list"),
        "config": ("config", "--local", "--list"),
    }
    return files | {name: checkout.git(*words) for name, words in asked.items()}


async def test_a_dirty_live_checkout_is_never_touched(world: World) -> None:
    """The service's repository is the checkout a person works in (F17)."""
    checkout = world.checkout
    world.configure({"source": {"repository": str(checkout.path)}})
    await world.bring_up()
    checkout.commit("Break it", {"src/answer.txt": "bad\n"})
    checkout.write({"src/answer.txt": "stashed\n"})
    checkout.git("stash")
    checkout.write({"src/answer.txt": "half an idea\n", "notes.txt": "untracked\n"})
    checkout.git("add", "notes.txt")
    checkout.write({"notes.txt": "staged, then changed\n"})
    before = everything(checkout)
    assert "✅" in await world.say("build and restart")
    text = await world.say("重启一下")
    number = await world.asked("fix this bug: the answer is wrong\n```sh\ngrep -q good src/answer.txt\n```")
    await world.step(number, "approve", "waiting")
    await world.approve(number)
    text = (await world.said(number))[-1].text
    assert "✅ Bug fixed and deployed!" in text
    assert f"regrow/job-{number}: the branch is checked out, and a checkout is never touched" in text
    assert everything(checkout) == before


# Commands


async def test_a_command_that_does_not_exist(world: World) -> None:
    await world.bring_up()
    before = await world.pid()
    for section, code in (("build", exits.NOT_BUILT), ("test", exits.NOT_BUILT), ("service", exits.NOT_STARTED)):
        kept = world.settings[section]["command"]
        world.configure({section: {"command": ["no-such-program", "{python}"]}})
        await world.start_daemon()
        world.commit({"src/count.txt": section})
        done = await world.cli("deploy")
        assert done.returncode == code, (section, done.stdout, done.stderr)
        assert "no-such-program" in done.stdout
        job = (await world.jobs())[0]
        assert job.error is not None
        assert job.error.text.startswith("cannot ")
        assert await world.pid() == before
        doctor = await world.cli("doctor")
        assert doctor.returncode == exits.UNWELL
        assert "no-such-program" in doctor.stdout
        world.configure({section: {"command": kept}})
    await world.start_daemon()
    assert (await world.cli("deploy")).returncode == 0, "nothing was lost"


@pytest.mark.parametrize(("gate", "kind"), [("build", "build_timeout"), ("test", "test_timeout")])
async def test_a_command_that_hangs(world: World, gate: str, kind: str) -> None:
    await world.bring_up()
    before = await world.pid()
    world.configure({gate: {"timeout": "500ms"}})
    await world.start_daemon()
    world.commit({"src/count.txt": gate})
    world.hold(gate)
    done = await world.cli("deploy")
    assert done.returncode == exits.NOT_BUILT
    job = (await world.jobs())[0]
    assert job.error is not None
    assert job.error.kind == kind
    assert f"raise [{gate}] timeout" in job.error.text
    assert await world.pid() == before


# Ports


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    """Somebody else's listening socket."""
    with socket.create_server(("127.0.0.1", port)):
        yield


async def test_the_console_port_is_in_use(world: World) -> None:
    with taken(world.console_port):
        done = await world.cli("up")
        assert done.returncode == exits.CONFIG
        assert f"cannot open the console on 127.0.0.1:{world.console_port}: Address already in use" in said(done)
        assert "[daemon] console" in said(done)
    assert (await world.cli("up")).returncode == 0


async def test_the_port_of_the_service_is_in_use(world: World) -> None:
    with taken(world.port):
        assert (await world.cli("up")).returncode == 0, "the daemon can be talked to all the same"
        (job,) = await world.settled()
        assert job.status == "failed"
        assert job.error is not None
        assert job.error.text.startswith("cannot ")
        assert str(world.port) in job.error.text
        done = await world.cli("deploy")
        assert done.returncode == exits.NOT_STARTED
        assert str(world.port) in done.stdout
        assert "No version is running right now" in done.stdout
        status = await world.cli("status")
        assert world.settings["service"]["name"] in status.stdout
    done = await world.cli("deploy")
    assert done.returncode == 0, done.stdout
    assert await world.version() == world.short(world.first)


# State


async def test_a_second_daemon(shared: World) -> None:
    before = await shared.pid()
    assert (await shared.cli("up")).returncode == 0, "it is up already, and that is what was asked for"
    done = await shared.cli("up", "--socket", str(shared.runtime / "other.sock"))
    assert done.returncode == exits.REFUSED
    assert "cannot start a second daemon" in said(done)
    assert await shared.pid() == before
    assert (await shared.cli("status")).returncode == 0


async def test_a_state_directory_of_a_newer_version(world: World) -> None:
    await world.bring_up()
    await world.kill_daemon(15)
    with contextlib.closing(sqlite3.connect(world.places.database)) as store:
        store.execute("update alembic_version set version_num = '9999'")
        store.commit()
        store.execute("pragma wal_checkpoint(truncate)")
    before = world.places.database.read_bytes()
    done = await world.cli("up")
    assert done.returncode == exits.STORE
    assert "a newer Regrow wrote it (schema 9999" in said(done)
    assert world.places.database.read_bytes() == before
    assert await world.version() == world.short(world.first), "the service goes on"


async def test_a_supervisor_record_of_a_newer_version(world: World) -> None:
    directory = world.directory
    directory.mkdir(parents=True)
    record = directory / "supervisor.json"
    record.write_text('{"format": 99, "instances": {}}')
    done = await world.cli("up")
    assert done.returncode == exits.STORE
    assert "format 99" in said(done)
    assert record.read_text() == '{"format": 99, "instances": {}}'
    record.unlink()


async def test_a_store_that_is_no_database(world: World) -> None:
    world.state.mkdir()
    world.places.database.write_bytes(b"this is no database\n" * 500)
    done = await world.cli("up")
    assert done.returncode == exits.STORE
    assert "restore it from a backup or move it away" in said(done)


async def test_a_state_directory_that_is_a_file(world: World) -> None:
    world.state.write_text("")
    done = await world.cli("up")
    assert done.returncode == exits.STORE
    assert str(world.state) in said(done)
    done = await world.run("-m", "regrow.daemon", "--config", str(world.config))
    assert done.returncode == exits.STORE
    assert str(world.state) in said(done)
    world.state.unlink()


# Requests


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("deploy", "a", "b"), exits.USAGE),
        (("nonsense",), exits.USAGE),
        (("logs", "--lines", "many"), exits.USAGE),
        (("repair", ""), exits.USAGE),
        (("approve", "1"), exits.REFUSED),
    ],
)
async def test_a_wrong_request(shared: World, words: tuple[str, ...], code: int) -> None:
    done = await shared.cli(*words)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr


async def test_without_a_daemon(world: World) -> None:
    for words in (("status",), ("deploy",), ("logs",), ("doctor",), ("down",)):
        done = await world.cli(*words)
        assert done.returncode == exits.NO_DAEMON, words
        assert "start it with `regrow up`" in said(done)
