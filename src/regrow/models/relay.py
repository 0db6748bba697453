"""For agents that cannot speak to a unix socket: listens on the loopback of the box, passes everything to the socket of
the gateway, and runs the agent meanwhile.

It runs inside of the box, where Regrow is not, so it is given to a Python of the box as text and imports the standard
library only. `socat` would do the same, where it is installed; a Python is needed for less.

    python3 -I -c TEXT SOCKET NAME=VALUE ... -- PROGRAM ARGUMENT ...

In each VALUE, and in each ARGUMENT, `{port}` becomes the port. The exit code is the program's, 128 and the number of
the signal where one ended it, 127 where it is not there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_CHUNK = 65536
_PORT = "{port}"


def command(
    door: str, argv: Sequence[str], environment: Mapping[str, str], *, python: str = "python3"
) -> tuple[str, ...]:
    """The command that runs `argv` in the box with a relay.

    Args:
        door: path of the gateway's socket, as the box sees it.
        argv: the agent; `{port}` in a word becomes the port.
        environment: variables that the agent gets, as {"ANTHROPIC_BASE_URL": "http://127.0.0.1:{port}"}.
        python: a Python 3.8 or later, as the box sees it.
    """
    pairs = [f"{name}={value}" for name, value in environment.items()]
    return (python, "-I", "-c", Path(__file__).read_text("utf-8"), door, *pairs, "--", *argv)


def main(words: Sequence[str]) -> int:
    """Listen, run the program, end with it; the result is its exit code."""
    at = words.index("--")
    listening = socket.create_server(("127.0.0.1", 0))
    port = str(listening.getsockname()[1])
    threading.Thread(target=_accept, args=(listening, words[0]), daemon=True).start()
    given = dict(word.replace(_PORT, port).split("=", 1) for word in words[1:at])
    try:
        program = subprocess.Popen([word.replace(_PORT, port) for word in words[at + 1 :]], env={**os.environ, **given})
    except OSError as error:
        sys.stderr.write("cannot run the agent: %s\n" % error)  # noqa: UP031
        return 127
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(one, lambda number, _: program.send_signal(number))
    code = program.wait()
    return code if code >= 0 else 128 - code


def _accept(listening: socket.socket, door: str) -> None:
    while True:
        near, _ = listening.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(door)
        except OSError:  # the job is over
            near.close()
            far.close()
            continue
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=_pass, args=(one, other), daemon=True).start()


def _pass(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            part = one.recv(_CHUNK)
            if not part:
                break
            other.sendall(part)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
