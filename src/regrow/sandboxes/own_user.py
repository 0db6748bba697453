"""A user of the box's own, where the daemon is root.

A box that root makes is root's outside of it, and what protects is only what is mounted and filtered. So its command
runs as a user that owns nothing of this machine and that no account has. bubblewrap cannot do it alone: it waits while
two users are mapped into its namespace, root, who makes the mounts, and this one; setpriv(1) then changes over for good
(agents.md section 3: "as root, --uid 1000 still has root's file access outside"). bubblewrap itself stays root's, so
that directories which only root may enter can be shown.

The price: what the command may write is made this user's own before and given back afterwards, and a toolchain that
others may not read cannot be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from regrow import process
from regrow.errors import ProcessError, Refused

INSIDE = 1000
"""Its number in the box."""
OUTSIDE = 1_879_048_192
"""Its number on the machine: the first above those that systemd and containers give away, so that no account has it."""
SETPRIV = "/usr/bin/setpriv"
BECOME = (
    SETPRIV,
    *(f"--reuid={INSIDE}", f"--regid={INSIDE}", "--clear-groups"),
    *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
)
"""Words before the command: they need the three capabilities below, and none is left after them."""
CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")

_CHOWN = "/usr/bin/chown"
_CHOWN_S = 600.0
_MAP = f"0 0 1\n{INSIDE} {OUTSIDE} 1\n"
_READABLE, _PASSABLE = 0o005, 0o001
_SHOWN_BYTES = 65536


class Mapping:
    """The two users of one box, mapped as soon as bubblewrap has made its namespace.

    Use it as a context manager around the run.
    """

    def __init__(self) -> None:
        self.options: tuple[str, ...] = ()
        self.descriptors: tuple[int, ...] = ()
        self.failure: OSError | None = None
        self._told = b""

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """For as long as the block lasts, bubblewrap is answered."""
        loop = asyncio.get_running_loop()
        info, info_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        block_end, block = os.pipe2(os.O_CLOEXEC)
        self.options = ("--info-fd", str(info_end), "--userns-block-fd", str(block_end))
        self.descriptors = (info_end, block_end)
        loop.add_reader(info, self._hear, loop, info, block)
        try:
            yield
        finally:
            loop.remove_reader(info)
            for descriptor in (info, info_end, block_end, block):
                os.close(descriptor)

    def _hear(self, loop: asyncio.AbstractEventLoop, info: int, block: int) -> None:
        self._told += os.read(info, _SHOWN_BYTES)
        try:
            child = int(json.loads(self._told)["child-pid"])
        except ValueError:
            return  # more of it is to come
        loop.remove_reader(info)
        try:
            for name in ("uid_map", "gid_map"):
                Path("/proc", str(child), name).write_text(_MAP)
            for number in range(3):
                # Or the command could not open /dev/stdout and /dev/stderr, which lead to pipes of the daemon's user.
                stream = f"/proc/{child}/fd/{number}"
                if stat.S_ISFIFO(os.stat(stream).st_mode):  # noqa: PTH116
                    os.chown(stream, OUTSIDE, OUTSIDE)
        except OSError as error:
            self.failure = error
        os.write(block, b"\n")


class Loans:
    """Which directories are the box's user's own at the moment; several boxes may use one at once."""

    def __init__(self) -> None:
        self._lent: Counter[Path] = Counter()

    @contextlib.asynccontextmanager
    async def lent(self, paths: Sequence[Path]) -> AsyncIterator[None]:
        """Make directories, with all in them, the box's user's own for as long as the block lasts.

        A walk by chown(1), which follows no link and any depth: an agent may have left either.
        """
        for path in paths:
            self._lent[path] += 1
        try:
            if paths:
                await _give(f"{OUTSIDE}:{OUTSIDE}", paths, "make the files of a box its own user's")
            yield
        finally:
            for path in paths:
                self._lent[path] -= 1
            back = [path for path in paths if not self._lent[path]]
            if back:
                # Best effort: root can use what is not given back, and lends it again.
                with contextlib.suppress(ProcessError):
                    await _give(f"{os.geteuid()}:{os.getegid()}", back, "take back the files of a box")


def possible() -> bool:
    """Whether a box can have a user of its own here: root can map others, and this number is mapped for root."""
    if os.geteuid() != 0:
        return False
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(int(first) <= OUTSIDE < int(first) + int(count) for first, _, count in ranges)


def hidden(workspace: Path) -> bool:
    """Whether others than its owner may not look into a directory. It is opened so far that bubblewrap, which is not
    its owner any more when it is lent, can go there."""
    mode = stat.S_IMODE(workspace.stat().st_mode)
    if mode & _READABLE == _READABLE:
        return False
    workspace.chmod(mode | _PASSABLE)
    return True


def is_door(directory: Path) -> bool:
    """Whether a directory of the daemon's user holds nothing but sockets."""
    found = list(directory.iterdir()) if directory.stat().st_uid in (os.geteuid(), OUTSIDE) else []
    return bool(found) and all(path.is_socket() for path in found)


def not_mapped(error: OSError) -> Refused:
    """What to say when the users could not be mapped."""
    return Refused(
        f"cannot give the box a user of its own: {error}; set [sandbox] own_user = false, or do not run Regrow as root",
        kind="no_sandbox",
    )


async def _give(owner: str, paths: Sequence[Path], what: str) -> None:
    done = await process.run(
        (_CHOWN, "-R", "-P", "-h", owner, "--", *map(str, paths)), timeout_s=_CHOWN_S, env={"PATH": "/usr/bin:/bin"}
    )
    done.check(what)
