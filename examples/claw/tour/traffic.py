"""People who use the service all the time: a steady stream of requests, each on a connection of its own."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from dataclasses import dataclass

PER_SECOND = 20
WORKERS = 4
"""One request that is kept waiting must not hold up the others: they would hide how long nobody was answered."""
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """How one request ended.

    Attributes:
        began, ended: seconds of the monotonic clock.
        version: what the service called itself; "" when it did not answer.
        pid: the process that answered; 0 when none did.
        failure: why there was no answer; "" when there was.
    """

    began: float
    ended: float
    version: str = ""
    pid: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Figures:
    """What people saw during some time.

    Attributes:
        requests, failed: how many; the failed ones are among the requests.
        longest_gap_ms: the longest time in which nobody was answered.
        versions: which versions answered, in the order of their first answer.
        failures: the failed ones.
    """

    requests: int
    failed: int
    longest_gap_ms: int
    versions: tuple[str, ...]
    failures: tuple[Answer, ...]


class Traffic:
    """Requests from the time it is started until it is stopped.

    Args:
        address: host:port of the service.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._answers: list[Answer] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(WORKERS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, when what has begun has ended."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(TIMEOUT_S * 2)

    def figures(self, since: float) -> Figures:
        """What people have seen since then (monotonic clock)."""
        with self._lock:
            answers = sorted((each for each in self._answers if each.ended >= since), key=lambda each: each.ended)
        answered = [each for each in answers if not each.failure]
        moments = [since, *(each.ended for each in answered), time.monotonic()]
        gap = max(later - earlier for earlier, later in itertools.pairwise(moments))
        failures = tuple(each for each in answers if each.failure)
        versions = tuple(dict.fromkeys(each.version for each in answered))
        return Figures(len(answers), len(failures), round(gap * 1000), versions, failures)

    def _run(self, number: int) -> None:
        due = time.monotonic() + number / PER_SECOND
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            answer = ask(self._address)
            with self._lock:
                self._answers.append(answer)
            due = max(due + WORKERS / PER_SECOND, time.monotonic())


def ask(address: str) -> Answer:
    """Ask the service how it is, once."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health", headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            return Answer(began, time.monotonic(), failure=f"status {response.status}: {body[:200]!r}")
        said = json.loads(body)
        return Answer(began, time.monotonic(), said["version"], said["pid"])
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return Answer(began, time.monotonic(), failure=repr(error))
    finally:
        connection.close()


def chat(address: str, text: str) -> str:
    """Say something to the service itself; its answer."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        body = json.dumps({"chat": "tour", "sender": "ann", "text": text})
        connection.request("POST", "/chat", body, {"Connection": "close"})
        return str(json.loads(connection.getresponse().read())["answer"])
    finally:
        connection.close()
