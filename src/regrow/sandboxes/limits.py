"""What a command inside or outside a box may use: kernel limits set by programs, since the daemon has threads and may
run nothing of its own between fork and exec."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from regrow.sandboxes.base import Box

OPEN_FILES = 4096
# By their full path: a toolchain's own directory comes first in the box's PATH.
PROGRAMS = (_PRLIMIT, _NICE) = ("/usr/bin/prlimit", "/usr/bin/nice")
_CGROUPS = Path("/sys/fs/cgroup")
_EMPTY_WAIT_S = 2.0


def limited(argv: tuple[str, ...], box: Box) -> tuple[str, ...]:
    """`argv` behind prlimit(1) and nice(1) with the figures of `box`; both end with 126 or 127 when it cannot start."""
    limits = ["--core=0", f"--nofile={OPEN_FILES}"]
    if box.memory_bytes:
        limits.append(f"--as={box.memory_bytes}")
    if box.file_bytes:
        limits.append(f"--fsize={box.file_bytes}")
    if box.processes:
        limits.append(f"--nproc={box.processes}")
    nice = (_NICE, "-n", str(box.nice)) if box.nice else ()
    return (_PRLIMIT, *limits, "--", *nice, *argv)


@asynccontextmanager
async def counted(processes: int) -> AsyncIterator[tuple[str, ...]]:
    """Words to put before a command so that it and all it starts are at most `processes`, where the kernel's limit
    per user is no limit: root is exempt from RLIMIT_NPROC. Empty words when not root, when `processes` is 0, and
    where no cgroup can be made (a container with a read-only cgroup tree: the time limit alone bounds it there).
    """
    group = _make_group(processes) if processes and os.geteuid() == 0 else None
    if group is None:
        yield ()
        return
    try:
        # The shell puts itself in, then becomes the command: nothing is ever started outside the group.
        yield ("sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / "cgroup.procs"))
    finally:
        await _remove_group(group)


def _make_group(processes: int) -> Path | None:
    for parent in (_CGROUPS / "pids", _CGROUPS):  # version 1, version 2
        group = parent / f"regrow-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / "pids.max").write_text(str(processes))
        except OSError:  # the controller is not on here
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


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
