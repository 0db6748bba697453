"""One process an app: a second one would silently get a random share of the events."""

from __future__ import annotations

import hashlib
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from regrow.errors import Refused


@contextmanager
def lease(base_url: str, app_id: str) -> Iterator[None]:
    """Hold the app's connection on this machine for the length of the block.

    The kernel keeps the name (an abstract unix socket) and gives it back when the process ends, however it ends. It
    holds between processes that share a network namespace, whatever their state directories and users.

    Args:
        base_url: the platform the app lives on.
        app_id: the app.

    Raises:
        Refused: kind "locked", with the process that holds it.
    """
    name = "\0regrow-feishu-" + hashlib.sha256(f"{base_url}\0{app_id}".encode()).hexdigest()[:32]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
        try:
            holder.bind(name)
            holder.listen()  # the credentials a second comer sees are those of this moment
        except OSError:
            raise Refused(
                f"cannot connect the app {app_id}: process {_owner(name)} of this machine holds its connection; "
                "stop that one, or use an app of its own",
                kind="locked",
            ) from None
        yield


def _owner(name: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(name)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return "unknown"
    pid: int = struct.unpack("3i", credentials)[0]
    return str(pid)
