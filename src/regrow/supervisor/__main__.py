"""Run one supervisor: `python -I -S PATH/supervisor/__main__.py --dir DIR --socket PATH --name NAME`.

By path and not with -m, so that the packages of the daemon are neither found nor needed: the folder's parent goes to
the end of the search path, where it can shadow nothing, and this file makes itself part of the package `supervisor`.
"""

import contextlib
import fcntl
import gc
import hashlib
import os
import signal
import stat
import sys

if not __package__:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    __package__ = "supervisor"
    __import__("supervisor")

from .loop import Loop
from .record import RecordError
from .sockets import LONGEST_PATH
from .supervisor import Supervisor
from .units import store, stored, tell

_USAGE = (
    "cannot start: use --dir DIR --socket PATH --name NAME [--listen-fd NAME=FD]... [--trap-fd TOKEN=FD]..."
    " [--ready-fd FD] [--detach] [--in-unit] [--units user|system], or --can-trap alone"
)
EXIT_USAGE, EXIT_LOCKED, EXIT_RECORD, EXIT_NO_TRAP = 2, 3, 4, 5


def _arguments(words: list[str]) -> tuple[dict[str, str], list[int], dict[str, int], set[str]]:
    options: dict[str, str] = {}
    escrow: list[int] = []
    traps: dict[str, int] = {}
    flags: set[str] = set()
    rest = iter(words)
    for word in rest:
        if word in ("--detach", "--in-unit"):
            flags.add(word[2:])
        elif word == "--listen-fd":
            escrow.append(int(next(rest, "").rpartition("=")[2]))
        elif word == "--trap-fd":
            token, _, fd = next(rest, "").rpartition("=")
            traps[token] = int(fd)
        elif word in ("--dir", "--socket", "--name", "--ready-fd", "--units"):
            options[word[2:]] = next(rest, "")
        else:
            raise ValueError(word)
    if not all(options.get(key) for key in ("dir", "socket", "name")):
        raise ValueError("missing")
    if options.get("units", "user") not in ("user", "system"):
        raise ValueError("units")
    return options, escrow, traps, flags


def _can_trap() -> int:
    """For `regrow doctor`: say why this machine cannot trap a bind, if it cannot."""
    from .trap import supported

    reason = supported()
    sys.stdout.write(reason or "")
    return 0 if reason is None else EXIT_NO_TRAP


def _say(ready: int | None, text: str) -> None:
    """Tell whoever started us, once, how it went."""
    if ready is not None:
        os.write(ready, text.encode())
        os.close(ready)


def _runtime(directory: str, control_path: str) -> str:
    """A directory whose paths are short enough for notify sockets, which a service opens by name.

    The next supervisor of this state directory finds the same one, for the service that it adopts knows no other.

    Raises:
        OSError: it cannot be made, or is somebody else's.
    """
    beside = os.path.dirname(control_path)  # noqa: PTH120
    if _fits(beside):
        return beside
    name = f"regrow-{os.getuid()}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"
    places = [os.path.join(place, name) for place in (os.environ.get("TMPDIR", ""), "/tmp") if place]  # noqa: PTH118, S108
    place = next(filter(_fits, places), places[-1])
    with contextlib.suppress(FileExistsError):
        os.mkdir(place, 0o700)  # noqa: PTH102
    found = os.lstat(place)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise OSError(f"cannot use {place}: it is not a directory of this user alone; move it away")
    return place


def _fits(directory: str) -> bool:
    return len(os.fsencode(directory)) + 16 <= LONGEST_PATH


def main(words: list[str]) -> int:
    if words == ["--can-trap"]:
        return _can_trap()
    try:
        options, escrow, traps, flags = _arguments(words)
    except ValueError:
        sys.stderr.write(_USAGE + "\n")
        return EXIT_USAGE
    ready = int(options["ready-fd"]) if "ready-fd" in options else None
    for fd in [*escrow, *traps.values(), *([ready] if ready is not None else [])]:
        os.set_inheritable(fd, False)
    in_unit = "in-unit" in flags  # systemd runs us, and keeps our sockets when we are killed
    if in_unit:
        escrow += stored()
    if "detach" in flags:
        # The parent ends at once: the supervisor is nobody's child and outlives whoever asked for it.
        if os.fork():
            os._exit(0)
        os.setsid()
    directory, control_path = os.path.abspath(options["dir"]), os.path.abspath(options["socket"])  # noqa: PTH100
    os.makedirs(directory, mode=0o700, exist_ok=True)  # noqa: PTH103
    os.makedirs(os.path.dirname(control_path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
    lock = os.open(os.path.join(directory, "supervisor.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # noqa: PTH118
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when we die (F42)
    except BlockingIOError:
        text = f"cannot start: another supervisor holds {directory}/supervisor.lock; talk to that one\n"
        sys.stderr.write(text)
        _say(ready, text)
        return EXIT_LOCKED
    loop = Loop()
    try:
        supervisor = Supervisor(
            loop,
            options["name"],
            directory,
            control_path,
            runtime := _runtime(directory, control_path),
            options.get("units", ""),
            store if in_unit else lambda _: None,
        )
    except (RecordError, OSError) as error:
        text = str(error) if str(error).startswith("cannot") else f"cannot start: {error}"
        sys.stderr.write(text + "\n")
        _say(ready, text + "\n")
        return EXIT_RECORD
    loop.on_signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), supervisor.quit)
    supervisor.adopt(escrow, traps)
    _say(ready, "ok\n")
    if in_unit:
        tell("READY=1")
    gc.freeze()  # the modules are never collected; forks share their pages
    loop.run()
    supervisor.control.close()
    if runtime != os.path.dirname(control_path):  # noqa: PTH120
        with contextlib.suppress(OSError):  # a service that goes on talks to the next supervisor there
            os.rmdir(runtime)  # noqa: PTH106
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
