"""Runs in the box, before the agent: gives it a port of 127.0.0.1 that leads to the door, a unix socket.

`python3 -I -S -c SOURCE SOCKET PROGRAM ARGUMENT ...`: listens, then becomes the program; a child process carries the
bytes. "{model}" in an argument or a variable of the environment becomes the port's address. The standard library only,
and its source is handed over as an argument, so that nothing of Regrow has to be seen in the box. For agents that know
no unix sockets, which is all of them but one.
"""

import contextlib
import os
import socket
import sys
import threading

_BYTES = 65536


def main(path: str, command: list[str]) -> None:
    """Relay to the socket `path`, and become `command`."""
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    if os.fork() == 0:
        try:
            # The agent's own streams are the agent's: an end of file must be one.
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=carry, args=(connection, path), daemon=True).start()
        finally:
            os._exit(1)
    listening.close()
    env = {name: value.replace("{model}", address) for name, value in os.environ.items()}
    try:
        os.execvpe(command[0], [word.replace("{model}", address) for word in command], env)  # noqa: S606
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def carry(connection: socket.socket, path: str) -> None:
    """Carry bytes both ways between a connection and the socket `path`, until both ways have ended."""
    with connection, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        try:
            door.connect(path)
        except OSError:
            return
        back = threading.Thread(target=_pump, args=(door, connection), daemon=True)
        back.start()
        _pump(connection, door)
        back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(_BYTES):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
