"""Starts a program in an empty box and asks one probe. Run as a script there; standard library only.

Not a part of the daemon: `probes.reproduction` hands its text to an interpreter inside the box.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def main(trial: dict[str, Any]) -> int:
    """Return 0 when the probe passes, 1 when it does not, 125 when that cannot be told."""
    env = dict(os.environ, **trial["env"])
    Path(env["REGROW_STATE"]).mkdir(parents=True, exist_ok=True)
    sockets = []
    try:
        for address in trial["listen"].values():
            host, _, port = address.rpartition(":")
            sockets.append(socket.create_server((host.strip("[]"), int(port))))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot listen: {error}\n")
        return 125
    # The descriptors must be 3, 4, ...: the shell in between sets LISTEN_PID to the pid that the program keeps.
    for number, listening in enumerate(sockets, 3):
        os.dup2(listening.fileno(), number, inheritable=True)
    env.update(LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=":".join(trial["listen"]))
    argv = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *trial["argv"]]
    kept = range(3, 3 + len(sockets))
    program = subprocess.Popen(argv, env=env, pass_fds=list(kept), stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + trial["start_s"]
        while time.monotonic() < deadline:
            if program.poll() is not None:
                sys.stderr.write(f"the program ended with {program.returncode}\n")
                return 1
            if passes(trial):
                return 0
            time.sleep(0.1)
        sys.stderr.write("the probe never passed\n")
        return 1
    finally:
        program.kill()


def passes(trial: dict[str, Any]) -> bool:
    """One look."""
    try:
        if trial["type"] == "tcp":
            host, _, port = trial["target"].rpartition(":")
            socket.create_connection((host, int(port)), trial["timeout_s"]).close()
            return True
        with urllib.request.urlopen(trial["target"], timeout=trial["timeout_s"]) as answer:  # noqa: S310
            return bool(200 <= answer.status < 400)
    except (OSError, urllib.error.URLError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
