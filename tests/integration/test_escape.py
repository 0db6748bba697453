"""Getting out of the box (F39): the attacks of `regrow.testing.attacks`, each first shown to get out where the defence
is missing, and what only the process around a box can see of its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from regrow.errors import ProcessTimeout
from regrow.process import Completed
from regrow.sandboxes.base import Box
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing.attacks import ATTACKS, Attack, attempt, control, scene
from regrow.testing.attacks.base import CASES

PYTHON = "/usr/bin/python3"
DEADLINE_S = 20.0
PARTS = 6
PRELUDE = "import os, signal, sys, time\n"


@pytest.mark.parametrize("part", range(PARTS))
async def test_no_attack_gets_out(part: int, tmp_path: Path) -> None:
    """And each that has a control gets out of what has no such defence: a check that cannot fail proves nothing."""
    (tmp_path / "thrown").mkdir()
    (tmp_path / "here").mkdir()
    not_shown, escaped = [], []
    async with scene(tmp_path / "thrown", careless=True) as thrown:
        for attack in ATTACKS[part::PARTS]:
            result = await control(attack, thrown, attack.cases[0])
            if not isinstance(result, str) and not result.out:
                not_shown.append((attack.name, result.output))
    async with scene(tmp_path / "here") as here:
        for attack, case in itertools.product(ATTACKS[part::PARTS], CASES):
            if case in attack.cases and (result := await attempt(attack, here, case)).out:
                escaped.append((attack.name, case, result.output))
    assert escaped == []
    assert not_shown == []


def test_the_list_is_one_of_nouns_and_most_have_a_control() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names))
    assert len(names) >= 60
    assert all(attack.why for attack in ATTACKS if attack.control == "none")
    assert sum(attack.control == "none" for attack in ATTACKS) < len(ATTACKS) / 10


async def test_what_cannot_be_shown_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That root is missing is said only where it is."""
    shut = Attack("a door", "is shut everywhere", "raise OSError(1, 'the door is shut')", root=True, optional=True)
    async with scene(tmp_path, careless=True) as thrown:
        why = await control(shut, thrown, "test")
        assert isinstance(why, str)
        assert ("the door is shut" in why) if os.geteuid() == 0 else ("root" in why)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert await control(shut, thrown, "test") == "root alone can show it"
        assert await control(replace(shut, control="none", why="it ends the machine"), thrown, "test") == (
            "it ends the machine"
        )


class Prison:
    """A job's workspace, and a box with one directory of it to write."""

    def __init__(self, root: Path) -> None:
        self.workspace = root / "workspace"
        (self.workspace / "src").mkdir(parents=True)
        (self.workspace / ".env").write_text("VALUE=1\n")
        self.sandbox = BubblewrapSandbox()
        self.box = Box(
            workspace=self.workspace,
            writable=[self.workspace / "src"],
            masked=[self.workspace / ".env"],
            processes=50,
        )

    async def run(self, code: str, *arguments: object, timeout_s: float = DEADLINE_S) -> Completed:
        words = [PYTHON, "-c", PRELUDE + code, *map(str, arguments)]
        return await self.sandbox.run(words, self.box, timeout_s=timeout_s)


@pytest.fixture
def prison(tmp_path: Path) -> Prison:
    return Prison(tmp_path)


async def test_a_masked_file_is_an_empty_regular_file(prison: Prison) -> None:
    """And not a device: git reads it without an error."""
    done = await prison.run("import stat\nprint(repr(open('.env').read()), stat.S_ISREG(os.stat('.env').st_mode))")
    assert done.output == "'' True\n"
    assert (prison.workspace / ".env").read_text() == "VALUE=1\n"


async def test_what_is_writable_comes_back_as_the_daemons_own(prison: Prison) -> None:
    """Whoever made it in the box, whatever mode it has: the next step of the job must be able to use it (F15)."""
    done = await prison.run("os.makedirs('src/a/b', 0o700)\nopen('src/a/b/c', 'w').close()\nos.chmod('src/a', 0)")
    assert done.code == 0, done.output
    for path in (prison.workspace / "src").rglob("*"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (os.geteuid(), os.getegid())


async def test_two_boxes_write_one_directory_at_once(prison: Prison) -> None:
    """As two builds do with their cache: the end of the first takes nothing away from the second."""
    meet = "open('src/' + sys.argv[1], 'w').close()\nwhile not os.path.exists('src/' + sys.argv[2]): time.sleep(0.01)\n"
    slow = asyncio.create_task(prison.run(meet + "open('src/late', 'w').close()", "slow", "go"))
    await prison.run(meet, "fast", "slow")
    (prison.workspace / "src" / "go").touch()
    done = await slow
    assert done.code == 0, done.output
    assert (prison.workspace / "src" / "late").exists()


async def test_output_can_be_opened_by_its_name(prison: Prison) -> None:
    done = await prison.run("open('/dev/stdout', 'w').write('out\\n')\nopen('/dev/stderr', 'w').write('err\\n')")
    assert sorted(done.output.split()) == ["err", "out"]


def survivors(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if mark in process.cmdline():
                found.append(process)
    return found


async def none_left(mark: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while survivors(mark):
            await asyncio.sleep(0.02)


ESCAPEE = (
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        signal.signal(15, signal.SIG_IGN)\n"
    "        open('src/alive', 'w').close()\n"
    "        while True: time.sleep(1000)\n"
    "    os._exit(0)\n"
    "while not os.path.exists('src/alive'): time.sleep(0.01)\n"
    "print('begun', flush=True)\n"
)


async def test_a_process_that_left_the_session_dies_at_the_deadline(prison: Prison) -> None:
    mark = secrets.token_hex(8)
    with pytest.raises(ProcessTimeout):
        await prison.run(ESCAPEE + "time.sleep(1000)", mark, timeout_s=3)
    assert (prison.workspace / "src" / "alive").exists()
    await none_left(mark)


async def test_it_dies_when_the_caller_is_cancelled(prison: Prison) -> None:
    mark = secrets.token_hex(8)
    begun = asyncio.Event()
    task = asyncio.create_task(
        prison.sandbox.run(
            [PYTHON, "-c", PRELUDE + ESCAPEE + "time.sleep(1000)", mark],
            prison.box,
            timeout_s=1000,
            on_line=lambda line: begun.set(),
        )
    )
    async with asyncio.timeout(DEADLINE_S):
        await begun.wait()
    assert survivors(mark)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await none_left(mark)


async def test_it_dies_when_the_command_ends(prison: Prison) -> None:
    mark = secrets.token_hex(8)
    # The survivor lets go of the output, so that the command's end is the box's end.
    detached = ESCAPEE.replace("os.setsid()\n", "os.setsid()\n    os.close(1); os.close(2)\n", 1)
    done = await prison.run(detached, mark)
    assert done.output == "begun\n"
    await none_left(mark)


async def test_it_dies_with_the_daemon(prison: Prison) -> None:
    """--die-with-parent: a daemon that is killed leaves no agent behind."""
    mark = secrets.token_hex(8)
    program = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from regrow.sandboxes.base import Box\nfrom regrow.sandboxes.bubblewrap import BubblewrapSandbox\n"
        "box = Box(workspace=Path(sys.argv[1]), writable=[Path(sys.argv[1]) / 'src'])\n"
        "asyncio.run(BubblewrapSandbox().run(sys.argv[2:], box, timeout_s=1000,"
        " on_line=lambda line: print(line, flush=True)))\n"
    )
    words = [str(prison.workspace), PYTHON, "-c", PRELUDE + ESCAPEE + "time.sleep(1000)", mark]
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *words),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert daemon.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        assert await daemon.stdout.readline() == b"begun\n"
    daemon.kill()
    await daemon.wait()
    await none_left(mark)
