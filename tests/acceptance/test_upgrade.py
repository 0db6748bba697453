"""Regrow becomes another version of itself while a bake, a build and an approval are under way; nothing is lost.

The versions are real wheels, installed by pip into environments of their own, as an installed Regrow does it.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from regrow import __version__
from regrow.cli import exits
from regrow.succession import copy_of
from regrow.testing.world import World, eventually

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD_S = 120.0
REPRODUCE = "```sh\ngrep -q good src/answer.txt\n```"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Later versions of this very code: one that works, and one for each way in which one can fail."""
    changes = {
        "99.1.0": ("", ""),
        "99.2.0": ("daemon.py", "raise RuntimeError('this version is broken')\n"),
        # Fit to look at, and dead when it matters; after it has given the store a form of its own.
        "99.3.0": (
            "lookout.py",
            "import os, sqlite3\n"
            "if not os.environ.get('REGROW_STAY'):\n"
            "    from regrow.places import Places\n"
            "    with sqlite3.connect(Places.of().database) as c:\n"
            "        c.execute(\"update alembic_version set version_num = '9999'\")\n"
            "    os._exit(1)\n",
        ),
    }
    made = {}
    for number, (module, code) in changes.items():
        tree = tmp_path_factory.mktemp("source")
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(CHECKOUT / name, tree)
        shutil.copytree(CHECKOUT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
        package = tree / "src" / "regrow"
        head = package / "__init__.py"
        head.write_text(head.read_text().replace(f'"{__version__}"', f'"{number}"'))
        if module:
            path, first = package / module, "from __future__ import annotations\n"
            path.write_text(path.read_text().replace(first, first + code))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index"]
        build = [*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(tree), str(tree)]
        subprocess.run(build, check=True, timeout=BUILD_S)
        (made[number],) = tree.glob("*.whl")
    return made


class Installed(World):
    """A world in which a new environment finds the packages that Regrow needs without asking an index."""

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        packages = {"PYTHONPATH": sysconfig.get_paths()["purelib"], "PIP_NO_INDEX": "1"}
        return super().environment({**packages, **(extra or {})})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = Installed(tmp_path, {"switch": {"bake": "15s"}})
    await made.bring_up()
    yield made
    await made.close()


def change(world: World, answer: str, count: str) -> str:
    return world.commit({"src/answer.txt": f"{answer}\n", "src/count.txt": f"{count}\n"})


async def upgrade(world: World, wheel: Path) -> subprocess.CompletedProcess[str]:
    return await world.cli("upgrade-self", str(wheel), "--yes")


async def version(world: World) -> str:
    return (await world.status()).daemon.version


async def test_an_upgrade_in_a_bake_a_build_and_an_approval_loses_nothing(
    world: World, wheels: dict[str, Path]
) -> None:
    pid = (await world.status()).daemon.pid
    supervisor = (await world.status()).services[0].supervisor_pid
    change(world, "bad", "1")
    baking = await world.asked("build and restart")
    await world.step(baking, "bake", "doing")
    repair = await world.asked(f"修一下这个 bug: 答案不对\n{REPRODUCE}")
    await world.step(repair, "approve", "waiting")
    change(world, "bad", "2")
    world.hold("build")
    building = await world.asked("编译一下")
    await world.step(building, "build", "doing")
    async with world.traffic() as seen:
        assert [(await world.job(number)).status for number in (baking, repair, building)] == [
            *("doing", "waiting", "doing")
        ]
        done = await upgrade(world, wheels["99.1.0"])
        assert done.returncode == exits.DONE, done.stderr
        assert await version(world) == "99.1.0"
        world.let_go("build")
        assert (await world.ended(building)).status == "done"
        assert (await world.ended(baking)).status == "done"
        await world.approve(repair)
        assert (await world.ended(repair)).status == "done"
    assert (seen.refused, seen.cut) == (0, 0)
    status = await world.status()
    assert status.daemon.pid == pid, "whoever started it sees a process that goes on"
    assert status.services[0].supervisor_pid == supervisor
    assert await world.version() == world.short((await world.job(repair)).result["commit"])
    # The command of the old version hands over to the one in use.
    shown = await world.cli("--version")
    assert "99.1.0" in shown.stdout
    assert not copy_of(world.state / "regrow.db").exists(), "the watcher has seen it live"


async def test_a_version_that_is_not_fit_is_refused_before_anything_happens(
    world: World, wheels: dict[str, Path]
) -> None:
    before = (await world.status()).daemon
    done = await upgrade(world, wheels["99.2.0"])
    assert done.returncode == exits.REFUSED
    assert "cannot upgrade to 99.2.0" in done.stderr
    assert "this version is broken" in done.stderr
    assert (await world.status()).daemon.started_at == before.started_at
    assert __version__ in (await world.cli("--version")).stdout


async def test_a_version_that_dies_is_taken_back_with_the_store_and_the_job(
    world: World, wheels: dict[str, Path]
) -> None:
    served = await world.pid()
    change(world, "good", "3")
    world.hold("build")
    number = await world.asked("build and restart")
    await world.step(number, "build", "doing")
    done = await upgrade(world, wheels["99.3.0"])
    assert done.returncode == exits.WENT_BACK, done.stderr
    assert "did not come up" in done.stderr
    assert await version(world) == __version__
    assert await world.pid() == served, "the service was never touched"
    world.let_go("build")
    assert (await world.ended(number)).status == "done"
    told = await asyncio.to_thread(lambda: world.client().messages("web", "main"))
    assert any("99.3.0" in message.text for message in told)
    assert (world.state / "regrow.db.refused").exists(), "what the successor wrote is kept for a look"


async def test_nothing_to_install_is_one_line(world: World, tmp_path: Path) -> None:
    done = await world.cli("upgrade-self", str(tmp_path / "nowhere.whl"), "--yes")
    assert done.returncode == exits.REFUSED
    assert done.stderr.splitlines()[-1].startswith("regrow: cannot install it: ")
    unasked = await world.cli("upgrade-self", "regrow")
    assert unasked.returncode == exits.USAGE
    assert list((world.state / "versions").iterdir()) == []


async def test_with_no_daemon_the_next_start_is_of_the_new_version(world: World, wheels: dict[str, Path]) -> None:
    await world.kill_daemon()
    done = await upgrade(world, wheels["99.1.0"])
    assert done.returncode == exits.DONE, done.stderr
    await world.start_daemon()

    async def new() -> bool:
        return await version(world) == "99.1.0"

    await eventually(new, "the new version answers")
