"""In the box: a loopback port that leads to the daemon's egress proxy, for as long as one command runs.

Programs know proxies by host and port and not by a unix socket. Standard library only; `regrow.sandboxes.egress` gives
the text of this file to the box's Python, so it imports nothing of Regrow.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading

_PIECE_BYTES = 65536


def serve(listener: socket.socket, path: str) -> None:
    """Take connections for ever; each becomes one to the unix socket `path`."""
    while True:
        near, _ = listener.accept()
        try:
            far = socket.socket(socket.AF_UNIX)
            far.connect(path)
        except OSError:
            near.close()
            continue
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=copy, args=(source, sink), daemon=True).start()


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes, and then its end."""
    try:
        while piece := source.recv(_PIECE_BYTES):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """`relay SOCKET PROGRAM [ARGUMENT ...]`: run the program with the port in its environment; its code is ours."""
    path, *argv = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    child = os.fork()
    if child == 0:
        listener.close()
        names = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), proxy)
        names |= dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1")
        try:
            os.execvpe(argv[0], argv, {**os.environ, **names})  # noqa: S606
        except FileNotFoundError:
            os._exit(127)
        except OSError:
            os._exit(126)
    threading.Thread(target=serve, args=(listener, path), daemon=True).start()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
