"""The daemon as a process that `regrow up` starts: detached with its log in a file, or as a child in the foreground."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from regrow.errors import StoreError
from regrow.files import private_directory
from regrow.places import Places

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TAIL_BYTES = 65536


@dataclass(frozen=True)
class Log:
    """The daemon's log from the point at which this daemon began to write."""

    path: Path
    offset: int

    def last_line(self) -> str:
        """The last line that says something."""
        with self.path.open("rb") as file:
            file.seek(max(self.offset, self.path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it wrote nothing")


def argv(configs: list[Path]) -> list[str]:
    """The command that runs the daemon. -P: modules in the current directory are not the daemon's."""
    return [sys.executable, "-P", "-m", "regrow.daemon", *(part for one in configs for part in ("--config", str(one)))]


def environment(socket: Path) -> dict[str, str]:
    """The daemon's variables: this process's, and the socket it shall listen on."""
    return {**os.environ, "REGROW_SOCKET": str(socket)}


def start(configs: list[Path], socket: Path) -> tuple[subprocess.Popen[bytes], Log]:
    """Start the daemon in a session of its own, so that it outlives the terminal."""
    path = Places.of().daemon_log
    try:
        private_directory(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror}; mend that, or set REGROW_STATE_DIR to another directory"
        ) from error
    try:
        log = Log(path, os.fstat(descriptor).st_size)
        process = subprocess.Popen(
            argv(configs),
            env=environment(socket),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    return process, log


def in_foreground(configs: list[Path], socket: Path) -> int:
    """Run the daemon as a child, pass signals on, and return its exit code."""
    # A session of its own: the terminal's Ctrl-C reaches it once, by way of this process, and not twice.
    process = subprocess.Popen(argv(configs), env=environment(socket), stdin=subprocess.DEVNULL, start_new_session=True)

    def pass_on(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        return exit_status(process.wait())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_status(code: int) -> int:
    """A process's exit code as a shell gives it: 128 and the number for one ended by a signal."""
    return code if code >= 0 else 128 - code
