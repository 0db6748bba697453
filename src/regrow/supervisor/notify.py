"""The notify socket of one instance: READY=1 and its companions, believed only from the instance's own session."""

import array
import contextlib
import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")
_MOST_FDS = 16


class NotifySocket:
    """A datagram socket at a short path; the same path is opened again after the supervisor was killed."""

    def __init__(self, path: str) -> None:
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self, leader: int) -> dict[str, str] | None:
        """Next message from the session of `leader`; {} for one that is not, None when none is left."""
        try:
            data, ancillary, _, _ = self.socket.recvmsg(
                8192, socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _MOST_FDS)
            )
        except BlockingIOError:
            return None
        sender = 0
        passed = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                sender = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                passed.frombytes(content[: len(content) - len(content) % passed.itemsize])
        try:
            trusted = sender == leader or (sender > 0 and os.getsid(sender) == leader)
        except ProcessLookupError:
            trusted = False
        for fd in passed:  # systemd-notify waits for this close (BARRIER=1), so its pid is alive at the check above
            os.close(fd)
        if not trusted:
            return {}
        lines = data.decode("utf-8", "replace").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def close(self, unlink: bool = True) -> None:
        self.socket.close()
        if unlink:
            with contextlib.suppress(OSError):
                os.unlink(self.path)  # noqa: PTH108
