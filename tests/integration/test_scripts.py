"""What the scripts say on machines that lack something: one line, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "dirname", "cat", "head", "cmp", "rm")
OLD = 'echo "$@" | grep -q version_info && exit 1; exit 0'
NO_ENSUREPIP = 'echo "$@" | grep -q ensurepip && exit 1; exit 0'


class Machine:
    """A checkout on a machine that has only the programs that are put there."""

    def __init__(self, root: Path) -> None:
        self.bin, self.checkout = root / "bin", root / "a checkout"
        self.bin.mkdir()
        for name in ("scripts", "requirements"):
            shutil.copytree(CHECKOUT / name, self.checkout / name)
        for tool in (*TOOLS, "grep", "git"):
            found = shutil.which(tool)
            assert found
            (self.bin / tool).symlink_to(found)
        self.program("id", "echo 1000")

    def program(self, name: str, script: str) -> None:
        """Put a program there."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(f"#!{shutil.which('bash')}\n{script}\n")
        (self.bin / name).chmod(0o755)

    def venv(self) -> None:
        """What an earlier setup left; its Python only says with what it was started."""
        made = self.checkout / ".venv"
        (made / "bin").mkdir(parents=True)
        for kind in ("runtime", "dev"):
            listed = (self.checkout / "requirements" / f"{kind}.txt").read_text()
            (made / f"made-for-{kind}").write_text(f"{self.checkout}\n{listed}")
        (made / "bin/python").write_text(f'#!{shutil.which("bash")}\n[ "$1" = -c ] || echo "started: $*"\n')
        (made / "bin/python").chmod(0o755)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """`scripts/run`, with these arguments."""
        done = subprocess.run(
            [str(self.bin / "bash"), str(self.checkout / "scripts/run"), *arguments],
            env={"PATH": str(self.bin), "HOME": os.environ["HOME"]},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_python(machine: Machine) -> None:
    code, _, errors = machine.run()
    assert (code, errors.splitlines()) == (
        1,
        ["cannot find Python 3.11 or newer: install it (Debian 12 and later have it: apt install python3)"],
    )


def test_with_an_old_python(machine: Machine) -> None:
    machine.program("python3", OLD)
    code, _, errors = machine.run()
    assert (code, len(errors.splitlines())) == (1, 1)
    assert errors.startswith("cannot find Python 3.11 or newer")


def test_without_what_makes_virtual_environments(machine: Machine) -> None:
    machine.program("python3.11", NO_ENSUREPIP)
    code, _, errors = machine.run()
    assert (code, errors.splitlines()) == (1, ["cannot make a virtual environment: run apt install python3-venv"])


def test_without_git(machine: Machine) -> None:
    (machine.bin / "git").unlink()
    code, _, errors = machine.run()
    assert (code, errors.splitlines()) == (1, ["cannot go on without git: run apt install git"])


def test_without_bubblewrap_it_says_so_and_goes_on(machine: Machine) -> None:
    machine.venv()
    code, output, errors = machine.run()
    assert (code, output) == (0, "started: examples/claw/tour/demo.py\n")
    assert (len(errors.splitlines()), "run apt install bubblewrap" in errors) == (1, True)


def test_root_on_debian_gets_bubblewrap(machine: Machine) -> None:
    machine.venv()
    machine.program("id", "echo 0")
    # The first call fails, as on a machine that has not fetched its lists yet.
    machine.program(
        "apt-get",
        f'echo "$*" >>"{machine.bin}/calls"\n'
        f'[ "$1" = update ] && >"{machine.bin}/lists" && exit\n'
        f'[ -e "{machine.bin}/lists" ] && >"{machine.bin}/bwrap" && {shutil.which("chmod")} +x "{machine.bin}/bwrap"',
    )
    code, output, errors = machine.run("--tour", "--json")
    assert (code, output) == (0, "started: examples/claw/tour --json\n")
    assert errors == "installing bubblewrap ...\n"
    calls = (machine.bin / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["install", "update", "install"]
    assert calls[-1].endswith(" bubblewrap")
    assert machine.run()[2] == ""


def test_an_unknown_option(machine: Machine) -> None:
    machine.venv()
    machine.program("bwrap", "")
    assert machine.run("--tuor") == (2, "", "usage: scripts/run [--tour [--json]]\n")
