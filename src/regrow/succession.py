"""A daemon becomes another version of itself, and somebody watches whether that one lives.

The daemon stops cleanly, with its services running on under their supervisors, and executes the new version in its own
place: the process stays, so that whoever started it (a service manager, a terminal) sees one that goes on. Before that
it leaves behind this watcher, which is of the old version. A successor that dies, or answers nothing in time, is
replaced by the old version, and the store by its copy where the successor had changed its form.

`python -m regrow.succession --pid N --version V --ready-s S -- ARGV...` with ARGV as the old daemon was started.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from regrow import __version__, backups
from regrow.api.client import Client
from regrow.errors import Refused, RegrowError
from regrow.places import Places
from regrow.pool import in_thread
from regrow.process import run
from regrow.versions import STAY, Version, Versions

log = structlog.get_logger("daemon")

READY_S = 120.0
_CHECK_S = 60.0
_LOOK_S = 0.2
_STOP_S = 15.0
_COPY = ".before-upgrade"


async def begin(places: Places, arguments: Sequence[str]) -> list[str]:
    """Make ready to become the version in use: it has looked at what it will find, the store is copied, and a watcher
    is there. What remains is to stop and to execute it.

    Args:
        places: of this daemon.
        arguments: of this daemon, without the program.

    Returns:
        The command to execute.

    Raises:
        Refused: kind "unfit", with its own words, or "same_version"; nothing has changed.
    """
    version = Versions(places.state).in_use()
    if version is None or version.number == __version__:
        raise Refused(f"cannot upgrade: {__version__} is the version in use", kind="same_version")
    argv = [str(version.python), "-P", "-m", "regrow.daemon", *arguments]
    looked = await run([*argv, "--check"], timeout_s=_CHECK_S, env=os.environ | {STAY: "1"})
    if looked.code:
        last = next((line for line in reversed(looked.output.splitlines()) if line.strip()), "no word")
        raise Refused(f"cannot upgrade to {version.number}: {last}", kind="unfit")
    if places.database.exists():  # a store on a server has a form of its own, at which --check has looked
        await in_thread(copy_store, places.database)
    log.info("becoming another version", action="upgrade", version=version.number)
    watcher(version, arguments)
    return argv


def watcher(version: Version, arguments: Sequence[str], ready_s: float = READY_S) -> subprocess.Popen[bytes]:
    """Leave a watcher behind; to be called by the daemon that is about to become `version`.

    Args:
        version: the successor.
        arguments: of this daemon, without the program.
        ready_s: seconds in which the successor must answer.
    """
    argv = [sys.executable, "-P", "-m", "regrow.succession", "--pid", str(os.getpid())]
    argv += ["--version", version.number, "--ready-s", str(ready_s), "--", *arguments]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, env=os.environ | {STAY: "1"})


def copy_of(store: Path) -> Path:
    """Where the copy of a store lies during a succession."""
    return store.with_name(store.name + _COPY)


def copy_store(store: Path) -> None:
    """Copy a store as it is at one moment, also while it is written to."""
    backups.copy(store, copy_of(store))


def _lives(pidfd: int) -> bool:
    return not select.select([pidfd], [], [], 0)[0]


def _became(pidfd: int, places: Places, version: str, ready_s: float) -> str:
    """Wait for the successor; "" when it answers as `version`, else what is wrong with it."""
    client = Client(places.socket, patience_s=0)
    deadline = time.monotonic() + ready_s
    while time.monotonic() < deadline:
        with contextlib.suppress(RegrowError):
            if client.status().daemon.version == version:
                return ""
        if select.select([pidfd], [], [], _LOOK_S)[0]:
            return "it ended before it was ready"
    return f"it was not ready within {ready_s:g} s"


def _end(pidfd: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _lives(pidfd):
            signal.pidfd_send_signal(pidfd, number)
            select.select([pidfd], [], [], _STOP_S)


def _restore(places: Places) -> None:
    """Bring back the store where the successor has changed its form; what it had written stays beside it."""
    store, copy = places.database, copy_of(places.database)
    if not copy.exists() or backups.schema(store) == backups.schema(copy):
        return
    try:
        backups.restore(store, str(copy), aside="refused", by="regrow")
    except RegrowError as error:
        log.error("the store could not be brought back", action="upgrade", error=str(error))


def main(argv: Sequence[str] | None = None) -> int:
    """Watch one succession to its end.

    Returns:
        0 when the successor serves, 1 when the old version was brought back.
    """
    parser = argparse.ArgumentParser(prog="regrow.succession")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--ready-s", type=float, default=READY_S)
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args(argv)
    places = Places.of()
    versions = Versions(places.state)
    try:
        pidfd = os.pidfd_open(given.pid)
    except ProcessLookupError:
        wrong = "it ended before it was ready"
    else:
        wrong = _became(pidfd, places, given.version, given.ready_s)
        if wrong:
            _end(pidfd)
    if not wrong:
        copy_of(places.database).unlink(missing_ok=True)
        versions.prune()
        return 0
    versions.back()
    versions.refuse(given.version, wrong)
    _restore(places)
    if "INVOCATION_ID" not in os.environ:  # systemd starts its unit again by itself
        argv = [sys.executable, "-P", "-m", "regrow.daemon", *given.arguments]
        environment = {name: value for name, value in os.environ.items() if name != STAY}
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, env=environment)
    return 1


if __name__ == "__main__":
    sys.exit(main())
