"""Listening sockets: handed over by whoever starts the bot, or bound by itself."""

import os
import socket

BACKLOG = 2048
FIRST = 3


def inherited() -> dict[str, socket.socket]:
    """The sockets passed by LISTEN_FDS, by their names in LISTEN_FDNAMES.

    The convention of systemd: descriptors from 3 on, meant for the process LISTEN_PID only. A single socket
    without a name is "http". The variables are removed, because children must not read them.
    """
    pid, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found = {}
    for number, name in zip(range(int(count)), (names or "http").split(":"), strict=False):
        os.set_inheritable(FIRST + number, False)
        found[name] = socket.socket(fileno=FIRST + number)
        found[name].setblocking(False)
    return found


def bind(address: str) -> socket.socket:
    """A listening socket of our own on "host:port"; port 0 takes a free one."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise SystemExit(f"cannot listen on {address!r}: use host:port, as in 127.0.0.1:8700")
    host = host.strip("[]") or "127.0.0.1"
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise SystemExit(f"cannot listen on {address}: {error.strerror}; choose another with --bind") from None
    sock.setblocking(False)
    return sock
