"""A real `systemd --user` with nothing else in its world: mounts, processes and control groups of its own. Needs root.

It needs no systemd on the machine but the program: `/run` is empty but for what a manager looks for, and the control
groups that it sees begin at one made for it. Killing its first process ends everything that ever ran in it.

The files are the machine's own. So it knows no unit but those that a test writes: what a distribution starts with a
manager may delete files (systemd-tmpfiles empties /tmp at a boot). For that reason there is no system manager here, and
must not be one: as process 1 it would do just that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RUNTIME = "/run/user/0"
UNITS = f"{RUNTIME}/config/systemd/user"
ENVIRONMENT = {
    "XDG_RUNTIME_DIR": RUNTIME,
    "XDG_CONFIG_HOME": f"{RUNTIME}/config",
    "HOME": f"{RUNTIME}/home",
    "SYSTEMD_UNIT_PATH": UNITS,
}
"""What a program inside must have to find the manager and its unit files, and no other ones."""

_PROGRAM = Path("/lib/systemd/systemd")
_START_S = 60.0
_POLL_S = 0.05
_WORLD = f"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system {UNITS} {RUNTIME}/home
for target in basic default shutdown exit; do
    printf '[Unit]\nDefaultDependencies=no\n' > {UNITS}/$target.target
done
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
{_PROGRAM} --user --unit=default.target &
wait
"""


def missing() -> str:
    """What keeps a manager from being started here, or nothing."""
    if os.getuid() != 0:
        return "needs root, for control groups of its own"
    if not _PROGRAM.exists() or shutil.which("systemctl") is None:
        return "needs systemd: apt install systemd"
    return "" if _cgroups() else "needs control groups, version 2"


@dataclass(frozen=True)
class UserManager:
    """A manager that runs.

    Attributes:
        pid: the first process of its world.
    """

    pid: int

    def argv(self, *words: str) -> list[str]:
        """A command that runs `words` in the manager's world and this directory, with `ENVIRONMENT`."""
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--pid",
            "--cgroup",
            "--",
            "env",
            f"--chdir={Path.cwd()}",
            *variables,
            *words,
        ]

    def answers(self) -> bool:
        """Whether it has started what it starts with."""
        words = self.argv("systemctl", "--user", "is-system-running")
        done = subprocess.run(words, capture_output=True, text=True, timeout=_START_S, check=False)
        return done.stdout.strip() in ("running", "degraded")


@contextmanager
def user_manager() -> Iterator[UserManager]:
    """Start one, and end it with all that it has started.

    Raises:
        RuntimeError: it does not start; its own words are in the text.
    """
    group = _cgroups() / f"regrow-test-{os.getpid()}"
    group.mkdir()
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup", "sh", "-c", _WORLD]
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")} | ENVIRONMENT
    world = subprocess.Popen(
        ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(group), *unshare],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + _START_S
        while not ((pids := _children(world.pid)) and (manager := UserManager(pids[0])).answers()):
            if world.poll() is not None or time.monotonic() > deadline:
                world.kill()
                raise RuntimeError(f"cannot start systemd --user: {world.communicate()[0]}")
            time.sleep(_POLL_S)
        yield manager
    finally:
        world.kill()
        world.communicate()
        _remove(group)


def _children(pid: int) -> Sequence[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _cgroups() -> Path:
    """Where control groups of version 2 are mounted; an empty path when they are nowhere."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return Path()


def _remove(group: Path) -> None:
    """Control groups can be removed once the kernel has buried the last process in them."""
    deadline = time.monotonic() + _START_S
    while group.exists() and time.monotonic() < deadline:
        for directory, _, _ in os.walk(group, topdown=False):
            try:
                Path(directory).rmdir()
            except OSError:
                time.sleep(_POLL_S)
