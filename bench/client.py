"""The closed-loop client of the switch bench, a process of its own: `python client.py PORT WORKERS RATE`.

Each worker asks on a new connection, waits for the answer, and asks again when its next turn has come; a late answer
delays the next request and never piles up more. It ends when its standard input is closed, and then prints one JSON
array per request: when it began and ended (CLOCK_MONOTONIC, seconds), the version that answered, and what went wrong.
Standard library only.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time

TIMEOUT_S = 5.0
REQUEST = b"GET / HTTP/1.0\r\n\r\n"
Row = tuple[float, float, str, str]


def ask(port: int) -> tuple[str, str]:
    """One request; the version that answered, and "" or refused, reset or timeout."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.sendall(REQUEST)
            data = b""
            while piece := connection.recv(65536):
                data += piece
        return str(json.loads(data.partition(b"\r\n\r\n")[2])["version"]), ""
    except ConnectionRefusedError:
        return "", "refused"
    except TimeoutError:
        return "", "timeout"
    except (OSError, ValueError, KeyError):  # cut after it was sent, or closed without an answer
        return "", "reset"


def work(port: int, first: float, period: float, over: threading.Event, rows: list[Row]) -> None:
    """One worker until `over`."""
    due = first
    while not over.is_set():
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        version, failure = ask(port)
        rows.append((began, time.monotonic(), version, failure))
        due = max(due + period, time.monotonic())


def main() -> None:
    """Run the workers, evenly spread over a period."""
    port, workers, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    period = workers / rate
    over = threading.Event()
    rows: list[Row] = []
    began = time.monotonic()
    threads = [
        threading.Thread(target=work, args=(port, began + number * period / workers, period, over, rows))
        for number in range(workers)
    ]
    for thread in threads:
        thread.start()
    print("asking", flush=True)
    select.select([sys.stdin], [], [])
    over.set()
    for thread in threads:
        thread.join()
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
