"""Starts a program in an empty box and asks its probes. Run as a script there; standard library only.

Not a part of the daemon: `probes.reproduction` and `rehearsals` hand its text to an interpreter inside the box.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def main(trial: dict[str, Any]) -> int:
    """Return 0 when the program is ready and every probe passes, 1 when not, 125 when that cannot be told.

    The trial: `argv`, `env`, `listen` (addresses by name), `probes` (type, target, timeout_s), `ready` (notify: it must
    say READY=1), `start_s` (how long it may take), `stands_s` (how long it must run), `stop` (a signal that asks it to
    end before this program does; None: killed) and `stop_s` (how long that may take).
    """
    env = dict(os.environ, **trial["env"])
    Path(env["REGROW_STATE"]).mkdir(parents=True, exist_ok=True)
    sockets: list[socket.socket] = []
    try:
        sockets.extend(listen(address) for address in trial["listen"].values())
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot listen: {error}\n")
        return 125
    # The descriptors must be 3, 4, ...: the shell in between sets LISTEN_PID to the pid that the program keeps.
    for number, listening in enumerate(sockets, 3):
        os.dup2(listening.fileno(), number, inheritable=True)
    env.update(LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=":".join(trial["listen"]))
    argv = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *trial["argv"]]
    kept = range(3, 3 + len(sockets))
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(os.path.join(tempfile.mkdtemp(), "notify"))  # noqa: PTH118
    notices.setblocking(False)
    env["NOTIFY_SOCKET"] = notices.getsockname()
    program = subprocess.Popen(argv, env=env, pass_fds=list(kept), stdin=subprocess.DEVNULL)
    try:
        return judge(trial, program, notices)
    finally:
        program.kill()


def listen(address: str) -> socket.socket:
    """A socket as the service is given it; one with a path gets another path, where nobody asks for it."""
    if address.startswith("unix:"):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(os.path.join(tempfile.mkdtemp(), "socket"))  # noqa: PTH118
        listening.listen()
        return listening
    host, _, port = address.rpartition(":")
    return socket.create_server((host.strip("[]"), int(port)))


def judge(trial: dict[str, Any], program: "subprocess.Popen[bytes]", notices: socket.socket) -> int:
    """Watch it until it is proved, has ended, or is late."""
    began = time.monotonic()
    ready, waiting = trial["ready"] != "notify", list(trial["probes"])
    while time.monotonic() < began + trial["start_s"]:
        if program.poll() is not None:
            sys.stderr.write(f"the program ended with {program.returncode}\n")
            return 1
        ready = ready or says_ready(notices)
        waiting = [probe for probe in waiting if not passes(probe)]
        if ready and not waiting and time.monotonic() >= began + trial["stands_s"]:
            return 0 if trial["stop"] is None else end(trial, program)
        time.sleep(0.1)
    sys.stderr.write("the probe never passed\n" if waiting else "it never said READY=1\n")
    return 1


def says_ready(notices: socket.socket) -> bool:
    """Whether READY=1 is among what it has said since the last look."""
    while True:
        try:
            if b"READY=1" in notices.recv(65536).split(b"\n"):
                return True
        except BlockingIOError:
            return False


def end(trial: dict[str, Any], program: "subprocess.Popen[bytes]") -> int:
    """Let it end as it would, so that all it does to its data is done."""
    program.send_signal(trial["stop"])
    try:
        program.wait(trial["stop_s"])
    except subprocess.TimeoutExpired:
        sys.stderr.write("it was killed: it did not end when asked to\n")
    return 0


def passes(probe: dict[str, Any]) -> bool:
    """One look."""
    try:
        if probe["type"] == "command":
            done = subprocess.run(probe["target"], timeout=probe["timeout_s"], check=False, capture_output=True)
            return done.returncode == 0
        if probe["type"] == "tcp":
            host, _, port = probe["target"].rpartition(":")
            socket.create_connection((host, int(port)), probe["timeout_s"]).close()
            return True
        with urllib.request.urlopen(probe["target"], timeout=probe["timeout_s"]) as answer:  # noqa: S310
            return bool(200 <= answer.status < 400)
    except (OSError, urllib.error.URLError, ValueError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
