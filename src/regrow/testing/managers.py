"""A real systemd with nothing else in its world: mounts, processes and control groups of its own. Needs root.

A person's manager, `systemd --user`, or the system's, which is process 1 of its world. It needs no systemd on the
machine but the program: `/run` is empty but for what a manager looks for, and the control groups that it sees begin at
one made for it. Killing the world's first process ends everything that ever ran in it.

The files are the machine's own. So it knows no unit but those that a test writes: what a distribution starts with a
manager may delete files (systemd-tmpfiles empties /tmp at a boot). For the system's manager the distribution's units,
generators and rules are hidden as well, should it ever look beyond the path it is given, and the kernel's settings,
some of which it raises as process 1, cannot be written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["user", "system"]

RUNTIME = "/run/user/0"
UNITS: Mapping[Kind, str] = {"user": f"{RUNTIME}/config/systemd/user", "system": "/etc/systemd/system"}
"""Where each finds its unit files, and nowhere else."""

ENVIRONMENT: Mapping[Kind, Mapping[str, str]] = {
    "user": {
        "XDG_RUNTIME_DIR": RUNTIME,
        "XDG_CONFIG_HOME": f"{RUNTIME}/config",
        "HOME": f"{RUNTIME}/home",
        "SYSTEMD_UNIT_PATH": UNITS["user"],
    },
    "system": {"SYSTEMD_UNIT_PATH": UNITS["system"]},
}
"""What a program inside must have to find the manager and its unit files, and no other ones."""

_PROGRAM = Path("/lib/systemd/systemd")
_START_S = 60.0
_POLL_S = 0.05
_TARGETS = """
for target in basic multi-user default sysinit shutdown exit; do
    printf '[Unit]\nDefaultDependencies=no\n' > "$1/$target.target"
done
"""
_WORLD = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
"""
_WORLDS: Mapping[Kind, str] = {
    "user": f"""{_WORLD}
mkdir -p /run/systemd/system "$1" {RUNTIME}/home
{_TARGETS}
{_PROGRAM} --user --unit=default.target &
wait
""",
    "system": f"""{_WORLD}
for hidden in /etc/systemd /etc/tmpfiles.d /etc/sysctl.d /usr/local/lib/systemd \
    /usr/lib/systemd/system /usr/lib/systemd/system-generators /usr/lib/tmpfiles.d /usr/lib/sysctl.d; do
    [ ! -d $hidden ] || mount -t tmpfs tmpfs $hidden
done
for settings in /proc/sys/fs /proc/sys/kernel /proc/sys/net /proc/sys/vm; do
    mount --bind $settings $settings
    mount -o remount,bind,ro $settings
done
# The kernel lets a box make a /proc of its own only where one is seen whole.
mkdir /run/proc
mount -t proc proc /run/proc
mkdir -p "$1"
{_TARGETS}
exec env container=regrow {_PROGRAM} --system --unit=multi-user.target --log-target=null --show-status=no
""",
}


def missing() -> str:
    """What keeps a manager from being started here, or nothing."""
    if os.getuid() != 0:
        return "needs root, for control groups of its own"
    if not _PROGRAM.exists() or shutil.which("systemctl") is None:
        return "needs systemd: apt install systemd"
    return "" if _cgroups() else "needs control groups, version 2"


@dataclass(frozen=True)
class Manager:
    """A manager that runs.

    Attributes:
        kind: whose units it has.
        pid: the first process of its world.
    """

    kind: Kind
    pid: int

    def argv(self, *words: str) -> list[str]:
        """A command that runs `words` in the manager's world and this directory, with `ENVIRONMENT`."""
        variables = [f"{name}={value}" for name, value in ENVIRONMENT[self.kind].items()]
        return [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--pid",
            "--cgroup",
            "--uts",
            "--ipc",
            "--",
            "env",
            f"--chdir={Path.cwd()}",
            *variables,
            *words,
        ]

    def answers(self) -> bool:
        """Whether it has started what it starts with."""
        words = self.argv("systemctl", f"--{self.kind}", "is-system-running")
        done = subprocess.run(words, capture_output=True, text=True, timeout=_START_S, check=False)
        return done.stdout.strip() in ("running", "degraded")


@contextmanager
def manager(kind: Kind) -> Iterator[Manager]:
    """Start one, and end it with all that it has started.

    Raises:
        RuntimeError: it does not start; its own words are in the text.
    """
    group = _cgroups() / f"regrow-test-{kind}-{os.getpid()}"
    group.mkdir()
    apart = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup", "--uts", "--ipc"]
    unshare = ["unshare", *apart, "sh", "-c", _WORLDS[kind], "sh", UNITS[kind]]
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    environment = {**kept, **ENVIRONMENT[kind]}
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
        while not ((pids := _children(world.pid)) and (running := Manager(kind, pids[0])).answers()):
            if world.poll() is not None or time.monotonic() > deadline:
                world.kill()
                raise RuntimeError(f"cannot start systemd --{kind}: {world.communicate()[0]}")
            time.sleep(_POLL_S)
        yield running
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
