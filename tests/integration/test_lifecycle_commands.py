"""Who runs, and restarts, a service: not its own agent's shell (F2), and not whoever says the same thing again (F6)."""

from __future__ import annotations

import asyncio
import shutil
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from regrow.api.types import RequestBody
from regrow.errors import Refused
from regrow.supervisor.processes import start_time
from regrow.testing.world import World

MakeWorld = Callable[..., Awaitable[World]]

ATTEMPTS = """
kill -9 "$1"; kill -TERM "$1"; kill -STOP "$1"; "$2" -9 "$1"; kill -9 "$3"
test ! -e "/proc/$3" || exit 99  # what follows is not for a machine that could be seen
pkill -9 python; kill -9 -1
systemctl --user stop 'regrow*'; systemctl stop 'regrow*'
for verb in "restart --yes" restart down up; do "$4" -m regrow.cli $verb; done
rm -rf "$5"/supervisor.json "$5"/supervisor.lock "$5"/releases "$6"/*
echo changed > "$5"/supervisor.json
"$4" -c '
import glob, os, socket, sys
for path in glob.glob(sys.argv[1] + "/*") + glob.glob(sys.argv[2] + "/*.sock"):
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(path)
            print("reached", path)
    except OSError:
        pass
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{pid}/cmdline", "rb").read().split(bytes(1))
    if any(word.endswith(b"/__main__.py") for word in words):
        print("sees", pid)
' "$6" "$5"
echo "the end of it"
"""


async def in_the_shell_of_the_service(world: World, *words: str, confined: bool = True) -> tuple[int, str]:
    """Run something as the service's own agent does, in the service's environment."""
    env = world.environment({"REGROW_STATE": str(world.directory / "data")})
    prefix = (sys.executable, "-m", "regrow.cli", "confine", "--") if confined else ()
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *words,
        env=env,
        cwd=world.root,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_f02_the_agents_shell_cannot_end_the_service_and_is_told_what_can(make_world: MakeWorld) -> None:
    world = await make_world()
    renamed = world.root / "harmless"
    shutil.copy(shutil.which("kill") or "/bin/kill", renamed)
    pid, supervisor = await world.pid(), (await world.status()).services[0].supervisor_pid
    assert supervisor is not None
    before = {one: start_time(one) for one in (pid, supervisor, (await world.status()).daemon.pid)}
    jobs = len(await world.jobs())

    words = (str(pid), str(renamed), str(supervisor), sys.executable, str(world.directory), str(world.runtime))
    _, output = await in_the_shell_of_the_service(world, "/bin/sh", "-c", ATTEMPTS, "sh", *words)
    assert output.endswith("the end of it\n"), output
    assert "reached" not in output
    assert "sees" not in output
    assert "ask for it in the chat, or with the service's own tool" in output
    assert {one: start_time(one) for one in before} == before
    assert await world.pid() == pid
    assert len(await world.jobs()) == jobs

    # Outside of it the very same words do reach them: it is the confinement that kept them off.
    code, _ = await in_the_shell_of_the_service(world, str(renamed), "-0", str(pid), confined=False)
    assert code == 0

    body = RequestBody(intent="restart", args={}, key=uuid.uuid4().hex)
    first = await asyncio.to_thread(lambda: world.client().request(body))
    again = await asyncio.to_thread(lambda: world.client().request(body))
    assert first.job == again.job  # type: ignore[union-attr]
    assert (await world.ended(first.job)).status == "done"  # type: ignore[union-attr]
    assert len(await world.jobs()) == jobs + 1
    assert await world.pid() != pid


async def test_a_confined_shell_has_the_services_data_and_what_it_says_is_what_it_ended_with(
    make_world: MakeWorld,
) -> None:
    world = await make_world()
    data = world.directory / "data"
    script = 'echo kept > "$REGROW_STATE/note" && ls "$1" && exit 7'
    code, output = await in_the_shell_of_the_service(
        world, "/bin/sh", "-c", script, "sh", str(world.directory / "releases")
    )
    assert (code, (data / "note").read_text()) == (7, "kept\n"), output
    assert output.strip(), "the releases are to be seen"


async def test_f06_the_same_call_again_is_the_same_restart_and_many_are_refused(make_world: MakeWorld) -> None:
    """A model repeats its last unanswered call each time that it resumes; another one calls anew, again and again."""
    world = await make_world(service={"restart_limit": 3, "restart_window": "1h"})
    call = RequestBody(intent="restart", args={}, key="call-1")
    numbers = set()
    for _ in range(3):  # the boots that follow each restart
        accepted = await asyncio.to_thread(lambda: world.client().request(call))
        numbers.add(accepted.job)  # type: ignore[union-attr]
        await world.ended(accepted.job)  # type: ignore[union-attr]
    assert len(numbers) == 1

    for _ in range(2):
        await world.ended(await world.request("restart"))
    pid = await world.pid()
    with pytest.raises(Refused) as refused:
        await world.request("restart")
    assert refused.value.kind == "too_often"
    assert await world.pid() == pid
    again = await asyncio.to_thread(lambda: world.client().request(call))
    assert again.job in numbers, "what was answered before is answered the same"  # type: ignore[union-attr]
    forced = await world.ended(await world.request("restart", when="force"))
    assert forced.status == "done"
    assert await world.pid() != pid


async def test_f06_the_conversation_has_its_result_and_the_turn_is_never_the_services(make_world: MakeWorld) -> None:
    """The receipt is there before anything stops; the words that asked reach no service, however often it starts."""
    world = await make_world(up=False)
    told: Path = world.forward()
    await world.bring_up()
    chat = world.new_chat()
    world.hold("start")
    number = await world.asked("restart", chat)  # returns when the receipt was sent, and the old process still serves
    served = await world.pid()
    world.let_go("start")
    messages = await world.said(number)
    assert [message.job for message in messages] == [number, number]
    assert await world.pid() != served
    assert not told.exists() or "restart" not in told.read_text()
    assert len([job for job in await world.jobs() if job.kind == "restart"]) == 1
