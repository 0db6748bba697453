"""Listening sockets: bound once, held for ever, passed to every release, taken back after the supervisor was killed."""

import contextlib
import os
import socket
import stat
from collections.abc import Callable

from .processes import Process, sockets_of

BACKLOG = 2048
LONGEST_PATH = 100  # of the 107 bytes that the kernel takes


def short_path(path: str) -> tuple[str, int | None]:
    """A name for a unix socket that fits the kernel's limit, and a directory fd to close after its use."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path, None
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{fd}/{name}", fd


def parse(address: str) -> tuple[int, object]:
    """Family and kernel address of "127.0.0.1:8700", "[::1]:8700" or "unix:/path". Names are not looked up: a
    look-up would block the loop. Raises ValueError."""
    if address.startswith("unix:"):
        return socket.AF_UNIX, address[5:]
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"cannot use address {address!r}: write HOST:PORT with a numeric host, or unix:/path")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]") or "0.0.0.0"  # noqa: S104
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError as error:
        raise ValueError(f"cannot use address {address!r}: the host must be numeric or localhost") from error
    return family, (host, int(port))


def bound_name(held: socket.socket) -> str:
    return repr(held.getsockname())


class Sockets:
    """The sockets by the address that was asked for; `store` keeps a copy of each where a kill does not reach."""

    def __init__(self, store: Callable[[int], None]) -> None:
        self.held: dict[str, socket.socket] = {}
        self.names: dict[str, str] = {}
        self._store = store

    def bind(self, name: str, address: str) -> None:
        """Make sure that `address` is held. Raises OSError (EADDRINUSE, EACCES) and ValueError."""
        self.names[address] = name
        if address in self.held:
            return
        family, target = parse(address)
        listening = socket.socket(family, socket.SOCK_STREAM)  # blocking for the service, as systemd's are
        directory = None
        try:
            if family == socket.AF_UNIX:
                target, directory = short_path(str(target))
                self._remove_stale(target)
            else:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(target)  # type: ignore[arg-type]
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
        finally:
            if directory is not None:
                os.close(directory)
        self.held[address] = listening
        self._store(listening.fileno())

    def let_go(self, kept: set[str]) -> None:
        """Listen no more on any address but these, nor in the copy that lies in escrow: whoever comes next can bind."""
        for address in self.held.keys() - kept:
            with self.held.pop(address) as held, contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
            del self.names[address]

    @staticmethod
    def _remove_stale(path: str) -> None:
        """Unlink a socket file on which nobody listens any more."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
                return
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                try:
                    client.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)  # noqa: PTH108

    def describe(self) -> dict[str, dict[str, str]]:
        return {
            address: {"name": self.names[address], "bound": bound_name(held)} for address, held in self.held.items()
        }

    def take_back(self, wanted: dict[str, dict[str, str]], escrow: list[int], living: list[Process]) -> list[str]:
        """Find the recorded sockets again: in escrow, then in the running service. Returns the addresses not found."""
        missing = {entry["bound"]: (address, entry["name"]) for address, entry in wanted.items()}
        self._keep_matching(escrow, missing)
        for process in living:
            if missing:
                self._keep_matching(sockets_of(process), missing)
        return [address for address, _ in missing.values()]

    def _keep_matching(self, fds: list[int], missing: dict[str, tuple[str, str]]) -> None:
        for fd in fds:
            try:
                found = socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
                continue
            try:
                listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                entry = missing.pop(bound_name(found), None) if listening else None
            except OSError:
                entry = None
            if entry is None:
                found.close()
                continue
            found.set_inheritable(False)
            self.held[entry[0]], self.names[entry[0]] = found, entry[1]
