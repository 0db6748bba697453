"""The chat in a pipe: lines in, each message once in its final form out (with --json: every message and edit)."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from regrow.cli import exits, terminal
from regrow.cli.talk import Talk, spoken

if TYPE_CHECKING:
    from regrow.api.types import Message

T = TypeVar("T")
TICK_S = 0.05
LOOK_S = 0.3
ANSWER_S = 15.0
"""How long the answer to a line may take before the next line is said."""
QUIET_S = 0.5
"""A message that may still be edited is final when its job has ended and nothing was edited for so long."""
OUTBOX_S = 10.0


def run(talk: Talk, as_json: bool) -> int:
    """Talk until standard input ends and the jobs that were started have ended."""
    pipe = Pipe(talk, as_json)
    while not pipe.step(time.monotonic()):
        pass
    return exits.DONE


class Pipe:
    """The state of a chat in a pipe.

    Args:
        talk: the chat.
        as_json: print every event as it comes.
    """

    def __init__(self, talk: Talk, as_json: bool) -> None:
        self._talk = talk
        self._as_json = as_json
        self._held: dict[int, Message] = {}
        self._edited: dict[int, float] = {}
        self._printed: set[int] = set()
        self._open: set[int] = set()
        self._ended: set[int] = set()
        self._answered = True
        self._said_at = self._changed_at = time.monotonic()
        self._looked_at = 0.0
        self._events: queue.Queue[Message | BaseException | None] = queue.Queue()
        self._lines: queue.Queue[str | BaseException | None] = queue.Queue()
        self._eof = False
        _pump(talk.events, self._events)
        _pump(lambda: sys.stdin, self._lines)

    def step(self, now: float) -> bool:
        """Do what is due; true when all is done."""
        try:
            event = self._events.get(timeout=TICK_S)
        except queue.Empty:
            pass
        else:
            if isinstance(event, BaseException):
                raise event
            if event is not None:
                self._hear(event, now)
        self._look(now)
        self._print_final(now)
        self._say_next(now)
        if not (self._eof and self._answered_by(now) and not self._open):
            return False
        quiet = now - self._changed_at
        return quiet > QUIET_S and (quiet > OUTBOX_S or not self._more_to_come()) and self._finish()

    def _hear(self, message: Message, now: float) -> None:
        self._changed_at = now
        if self._as_json:
            terminal.document(message.model_dump(mode="json"))
        if message.mine or message.id <= self._talk.after:
            return
        self._answered = True
        if message.job is not None and message.job not in self._ended:
            self._open.add(message.job)
        live = message.bar is not None or message.job is not None
        if message.buttons or not live:  # a question must be seen to be answered
            self._print(message)
        else:
            self._held[message.id] = message
            self._edited[message.id] = now

    def _look(self, now: float) -> None:
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        from regrow.api.types import ENDED

        for number in sorted(self._open):
            if self._talk.client.job(number).status in ENDED:
                self._open.discard(number)
                self._ended.add(number)
                self._changed_at = now

    def _print_final(self, now: float) -> None:
        for message in list(self._held.values()):
            if (message.job is None or message.job in self._ended) and now - self._edited[message.id] > QUIET_S:
                self._print(message)

    def _say_next(self, now: float) -> None:
        if self._eof or not self._answered_by(now):
            return
        try:
            line = self._lines.get_nowait()
        except queue.Empty:
            return
        if line is None or isinstance(line, BaseException):
            self._eof = True
        elif line.strip():
            said = self._talk.send(line.rstrip("\n"))
            self._said_at = self._changed_at = now
            self._answered = isinstance(said, str)
            if isinstance(said, str) and said and not self._as_json:
                terminal.line(said)

    def _answered_by(self, now: float) -> bool:
        return self._answered or now - self._said_at > ANSWER_S

    def _more_to_come(self) -> bool:
        return self._talk.client.status().outbox_waiting > 0

    def _finish(self) -> bool:
        for message in list(self._held.values()):
            self._print(message)
        return True

    def _print(self, message: Message) -> None:
        self._held.pop(message.id, None)
        if message.id not in self._printed and not self._as_json:
            terminal.line(spoken(message.model_copy(update={"bar": None})))
        self._printed.add(message.id)


def _pump(source: Callable[[], Iterable[T]], into: queue.Queue[T | BaseException | None]) -> None:
    def pump() -> None:
        try:
            for one in source():
                into.put(one)
            into.put(None)
        except BaseException as error:  # told to the thread that shows it
            into.put(error)

    threading.Thread(target=pump, daemon=True).start()
