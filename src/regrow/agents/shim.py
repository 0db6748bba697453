"""What a library starts in the place of its agent's program: hands its arguments, its standard streams and a few named
variables to the daemon, which runs the program in the box with them, and ends as the program does.

`python3 -I -S shim.py SOCKET NAMES ARGUMENT ...`; see `regrow.agents.wrapper`. The standard library only: it starts in
some 15 ms. If it is killed, the daemon ends the box; if the daemon dies, it ends.
"""

import json
import os
import socket
import sys


def main(path: str, names: str, arguments: list[str]) -> int:
    """Ask for the program and return its exit code."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.connect(path)
        env = {name: os.environ[name] for name in names.split(",") if name in os.environ}
        told = json.dumps({"arguments": arguments, "env": env}).encode()
        socket.send_fds(daemon, [len(told).to_bytes(4, "big")], [0, 1])
        daemon.sendall(told)
        code = daemon.recv(4)
        return int.from_bytes(code, "big") if code else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
