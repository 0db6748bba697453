"""What a command inside or outside a box may use: kernel limits set by programs, since the daemon has threads and may
run nothing of its own between fork and exec; and control groups, where this user may make some."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from regrow.sandboxes.base import Box

OPEN_FILES = 4096
# By their full path: a toolchain's own directory comes first in the box's PATH.
PROGRAMS = (_PRLIMIT, _NICE) = ("/usr/bin/prlimit", "/usr/bin/nice")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_EMPTY_WAIT_S = 2.0
_CPU_PERIOD_US = 100_000

# The shell puts itself into each group, then becomes the command: nothing is ever started outside of them.
_ENTER = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 125; shift; n=$((n - 1)); done; exec "$@"'


def limited(argv: tuple[str, ...], box: Box, *, grouped: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """`argv` behind prlimit(1) and nice(1) with the figures of `box`; both end with 126 or 127 when it cannot start.

    Args:
        argv: program and arguments.
        box: the figures.
        grouped: what a control group holds already, of "pids", "memory" and "cpu".
    """
    return (*rlimits(box, grouped), *niced(box), *argv)


def rlimits(box: Box, grouped: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The words of prlimit(1) before a command."""
    limits = ["--core=0", f"--nofile={OPEN_FILES}"]
    if box.memory_bytes and "memory" not in grouped:
        # Not the address space: node, Go and Java reserve many times what they use.
        limits.append(f"--data={box.memory_bytes}")
    if box.file_bytes:
        limits.append(f"--fsize={box.file_bytes}")
    if box.processes:
        limits.append(f"--nproc={box.processes}")
    return (_PRLIMIT, *limits, "--")


def niced(box: Box) -> tuple[str, ...]:
    """The words of nice(1) before a command."""
    return (_NICE, "-n", str(box.nice)) if box.nice else ()


@dataclass(frozen=True)
class Group:
    """The control groups of one command.

    Attributes:
        prefix: words to put before the command, so that it and all it starts are in them; empty when there is none.
        held: what they limit: "pids", "memory", "cpu".
    """

    prefix: tuple[str, ...] = ()
    held: frozenset[str] = frozenset()


@asynccontextmanager
async def grouped(box: Box) -> AsyncIterator[Group]:
    """Control groups (version 2 or 1) with the figures of `box`, for as long as the block lasts.

    Best effort: they can be made by root, and by a user to whom systemd delegated a group below which the daemon has
    one of its own; elsewhere there are fewer or none, and `Group.held` says which. What holds everywhere are the limits
    of `limited`.
    """
    wanted = {
        name: figure
        for name, figure in (
            ("pids", str(box.processes) if box.processes else ""),
            ("memory", str(box.memory_bytes) if box.memory_bytes else ""),
            ("cpu", str(int(box.cpus * _CPU_PERIOD_US)) if box.cpus else ""),
        )
        if figure
    }
    groups, held = _make(wanted)
    try:
        if not groups:
            yield Group()
            return
        members = [str(group / "cgroup.procs") for group in groups]
        yield Group(("/bin/sh", "-c", _ENTER, "sh", str(len(members)), *members), frozenset(held))
    finally:
        for group in groups:
            await _remove_group(group)


def _make(wanted: dict[str, str]) -> tuple[list[Path], set[str]]:
    groups: list[Path] = []
    held: set[str] = set()
    name = f"regrow-{os.getpid()}-{secrets.token_hex(4)}"
    for parent, files in _places():
        left = {what: figure for what, figure in wanted.items() if what in files and what not in held}
        if not left:
            continue
        group = parent / name
        try:
            group.mkdir()
        except OSError:
            continue
        done = {what for what, figure in left.items() if _set(group, files[what], figure)}
        if not done or not os.access(group / "cgroup.procs", os.W_OK):
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        held |= done
        groups.append(group)
    return groups, held


def _places() -> list[tuple[Path, dict[str, str]]]:
    """Where a group may be tried, with the file of each limit: one tree of version 2, or a tree each of version 1."""
    version_2 = {"pids": "pids.max", "memory": "memory.max", "cpu": "cpu.max"}
    if (_CGROUPS / "cgroup.controllers").exists():
        own = next((line[3:] for line in _OWN_CGROUPS.read_text().splitlines() if line.startswith("0::")), "/")
        beside = (_CGROUPS / own.lstrip("/")).parent
        tried = [beside, *([_CGROUPS] if os.geteuid() == 0 else [])]
        return [(place, version_2) for place in dict.fromkeys(tried) if _CGROUPS in (place, *place.parents)]
    return [
        (_CGROUPS / "pids", {"pids": "pids.max"}),
        (_CGROUPS / "memory", {"memory": "memory.limit_in_bytes"}),
        (_CGROUPS / "cpu", {"cpu": "cpu.cfs_quota_us"}),
    ]


def _set(group: Path, name: str, figure: str) -> bool:
    """Write one limit; False when the controller is not on here."""
    try:
        if name == "cpu.max":
            figure = f"{figure} {_CPU_PERIOD_US}"
        elif name == "cpu.cfs_quota_us":
            (group / "cpu.cfs_period_us").write_text(str(_CPU_PERIOD_US))
        (group / name).write_text(figure)
    except OSError:
        return False
    # What is swapped out is used as well.
    for swap, all_of_it in (("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", figure)):
        if name.startswith("memory.") and (group / swap).exists():
            with contextlib.suppress(OSError):
                (group / swap).write_text(all_of_it)
    return True


async def _remove_group(group: Path) -> None:
    # The box's processes are killed already, but the kernel may still be burying them.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_EMPTY_WAIT_S):
            while True:
                try:
                    os.rmdir(group)  # noqa: PTH106  the kernel's own file system does not block
                except FileNotFoundError:
                    return
                except OSError:
                    await asyncio.sleep(0.005)
                else:
                    return
