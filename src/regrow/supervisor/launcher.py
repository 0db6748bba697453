"""What a release's unit runs: `launcher.py CONTROL-SOCKET TOKEN`. It asks the supervisor what it is to become, takes
the sockets, and executes the program in this very process, which systemd holds already."""

import array
import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
from typing import Any

Json = dict[str, Any]
_PATIENCE_S = 20.0  # a supervisor that was killed is back after a moment
_TEXT_BUSY_S = 2.0  # a passing "text file busy" is waited for this long (F13)
_PAUSE_S = 0.05
_MOST_FDS = 64
_NOT_RUN = 127
# Of what systemd sets, what belongs to this unit and not to the manager.
_KEPT = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "INVOCATION_ID",
    "CREDENTIALS_DIRECTORY",
    "RUNTIME_DIRECTORY",
)


class NotLaunched(Exception):
    """The supervisor will not have it; the text is its own."""


def ask(path: str, token: str) -> tuple[Json, list[int]]:
    """What to run, and the sockets. Raises NotLaunched, OSError."""
    directory, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
    parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE_S)
        connection.connect(f"/proc/self/fd/{parent}/{name}")  # however long the path is
        connection.sendall(json.dumps({"id": 0, "verb": "launch", "token": token}).encode() + b"\n")
        data, fds = b"", array.array("i")
        while not data.endswith(b"\n"):
            part, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(_MOST_FDS * fds.itemsize))
            if not part:
                raise ConnectionResetError("the supervisor went away")
            data += part
            for _, _, content in ancillary:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    answer: Json = json.loads(data)
    if not answer["ok"]:
        raise NotLaunched(answer["error"])
    return answer, list(fds)


def place(fds: list[int], log: str) -> None:
    """The sockets as 3, 4, ..., the log as standard output and error, and nothing else open."""
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # First out of the way, then into place: a source may have the number that another one goes to.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64 + len(fds)) for fd in (written, *fds)]
    for number in (1, 2):
        os.dup2(moved[0], number)
    for position, fd in enumerate(moved[1:]):
        os.dup2(fd, 3 + position, inheritable=True)
    os.closerange(3 + len(fds), os.sysconf("SC_OPEN_MAX"))


def become(answer: Json, fds: list[int]) -> None:
    """Execute the program; returns only by an exception."""
    env = answer["env"] | {name: os.environ[name] for name in _KEPT if name in os.environ}
    if fds:
        env["LISTEN_PID"] = str(os.getpid())
    if answer["nice"]:
        with contextlib.suppress(OSError):
            os.nice(int(answer["nice"]))
    place(fds, answer["log"])
    os.chdir(answer["cwd"])
    if answer["ready"] != "notify" and "NOTIFY_SOCKET" in env:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:  # it runs: the probes say the rest
            sender.sendto(b"READY=1", env.pop("NOTIFY_SOCKET").replace("@", "\0", 1))
    until = time.monotonic() + _TEXT_BUSY_S
    while True:
        try:
            os.execvpe(answer["argv"][0], answer["argv"], env)  # noqa: S606
        except OSError as error:
            if error.errno != errno.ETXTBSY or time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)


def main(words: list[str]) -> int:
    path, token = words
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            answer, fds = ask(path, token)
            break
        except NotLaunched as error:
            sys.stderr.write(f"{error}\n")
            return _NOT_RUN
        except OSError as error:
            if time.monotonic() > until:
                sys.stderr.write(f"cannot reach the supervisor at {path}: {error}\n")
                return _NOT_RUN
            time.sleep(_PAUSE_S)
    try:
        become(answer, fds)
    except OSError as error:
        sys.stderr.write(f"cannot run {answer['argv'][0]}: {error.strerror}: {error.filename}\n")
    return _NOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
