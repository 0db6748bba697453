"""The service ends, for every reason there is, and comes back: told with its cause and how long it was away (F28, F29).

Real processes: it crashes, is killed or stopped by somebody else, runs out of memory in a control group, goes down with
its supervisor, and with the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from regrow.testing.world import World, eventually

V1 = Path("/sys/fs/cgroup/memory")
LIMIT = 96 * 2**20


@contextlib.contextmanager
def memory_group() -> Iterator[Path]:
    """A control group with little memory, of version 1 or 2."""
    if (V1 / "memory.limit_in_bytes").exists():
        group, limit, swap = V1 / f"regrow-test-{os.getpid()}", "memory.limit_in_bytes", "memory.swappiness"
    else:
        group, limit, swap = Path(f"/sys/fs/cgroup/regrow-test-{os.getpid()}"), "memory.max", "memory.swap.max"
        with contextlib.suppress(OSError):
            (group.parent / "cgroup.subtree_control").write_text("+memory")
    try:
        group.mkdir()
        (group / limit).write_text(str(LIMIT))
        with contextlib.suppress(OSError):
            (group / swap).write_text("0")
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group with a limit of memory can be made: {error}")
    try:
        yield group
    finally:
        group.rmdir()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, {"service.env": {"TINY_MOODS": "1"}, "daemon": {"language": "en"}, "heal": {"auto": "off"}})
    try:
        await made.bring_up()
        yield made
    finally:
        await made.close()


async def get(world: World, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    with contextlib.suppress(OSError):
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        await reader.read()
    writer.close()


async def told(world: World, *words: str) -> str:
    """The one message of the console that has these words in it; there is no second one about the service."""

    async def there() -> str | None:
        found = await asyncio.to_thread(lambda: world.client().messages("web", "main"))
        about = [message.text for message in found if "tiny" in message.text and message.job is None]
        assert len(about) <= 1, about
        return next((text for text in about if all(word in text for word in words)), None)

    return await eventually(there, f"a notice with {words}")


async def kinds(world: World) -> list[str]:
    return [one.kind for one in await asyncio.to_thread(lambda: world.client().incidents())]


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (signal.SIGKILL, "killed", "was ended from outside: killed by SIGKILL"),
        (signal.SIGINT, "killed", "was ended from outside: killed by SIGINT"),
        (signal.SIGTERM, "ended", "was stopped from outside: exit code 0"),
        (signal.SIGSEGV, "crash", "crashed: killed by SIGSEGV"),
    ],
)
async def test_f28_somebody_elses_signal(world: World, number: signal.Signals, kind: str, words: str) -> None:
    os.kill(await world.pid(), number)
    assert "running again" in await told(world, words, "is running again, after")
    assert await kinds(world) == [kind]


async def test_f28_a_crash_and_an_end_of_its_own(world: World) -> None:
    await get(world, "/crash/boom")
    await told(world, "crashed: exit code 1: RuntimeError: boom", "is running again, after")
    await get(world, "/quit")
    text = await told(world, "ended by itself, or was stopped from outside: exit code 0")
    assert "RuntimeError: boom" in text, "within the window it is the same message"


async def test_f28_out_of_memory(tmp_path: Path) -> None:
    with memory_group() as group:
        command = ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$0" -I -S serve.py', "{python}"]
        settings = {"service": {"command": command}, "service.env": {"TINY_MOODS": "1"}, "daemon": {"language": "en"}}
        world = World(tmp_path, settings)
        try:
            await world.bring_up()
            await get(world, "/eat")
            await told(world, "was ended because memory ran out: killed by SIGKILL", "is running again, after")
            assert await kinds(world) == ["memory"]
        finally:
            await world.close()


async def test_f28_the_machine_is_restarted(world: World) -> None:
    """As after a reboot: nothing runs, and the records are of another boot."""
    status = (await world.status()).services[0]
    assert status.active is not None
    assert status.supervisor_pid is not None
    await world.kill_daemon()
    for pid in (status.supervisor_pid, status.active.pid):
        os.kill(pid, signal.SIGKILL)
    record = world.directory / "supervisor.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"boot": "another"}))
    world.change("update lives set boot = 'another'")
    await world.start_daemon()
    await told(world, "tiny ended with the machine, which was restarted", "is running again, after")
    found = await asyncio.to_thread(lambda: world.client().messages("web", "main"))
    assert [message.text for message in found if "The machine was restarted; Regrow is back" in message.text]


async def test_f28_what_happened_while_no_daemon_ran_is_told_by_the_next_one(world: World) -> None:
    pid = await world.pid()
    await world.kill_daemon()
    os.kill(pid, signal.SIGKILL)

    async def back() -> bool:
        with contextlib.suppress(OSError, ValueError):
            return await world.pid() != pid
        return False

    await eventually(back, "the supervisor starts it again")
    for _ in range(2):
        await world.start_daemon()
        await told(world, "was ended from outside: killed by SIGKILL", "is running again, after")
    assert await kinds(world) == ["killed"]


async def test_f29_one_crash_after_the_other_is_one_message(world: World) -> None:
    for number in range(4):
        pid = await world.pid()
        await get(world, f"/crash/number {number}".replace(" ", "%20"))

        async def back(pid: int = pid) -> bool:
            with contextlib.suppress(OSError, ValueError):
                return await world.pid() != pid
            return False

        await eventually(back, "it is started again")

    async def all_of_it() -> bool:
        counted = dict(world.rows("select key, count(*) from notices where subject = 'service tiny' group by key"))
        return (counted.get("crashed"), counted.get("up")) == (4, 4)

    await eventually(all_of_it, "four ends and four come-backs are told")
    await told(world, "running again")  # and in one message
    assert await kinds(world) == ["crash"], "one incident, whatever number it dies with"
