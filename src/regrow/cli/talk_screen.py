"""The chat on a terminal: messages above the prompt, the last one edited in place."""

from __future__ import annotations

import os
import readline
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING

from regrow.cli import exits, terminal
from regrow.cli.talk import Talk, spoken

if TYPE_CHECKING:
    from regrow.api.types import Message

PROMPT = "> "
HISTORY = 10


def run(talk: Talk, as_json: bool = False) -> int:
    """Talk until the person ends the input (Ctrl-D)."""
    screen = Screen()
    for message in talk.history[-HISTORY:]:
        talk.notice(message)
        screen.show(message, with_mine=True)
    thread = threading.Thread(target=_listen, args=(talk, screen), daemon=True)
    thread.start()
    try:
        while True:
            line = input(PROMPT)
            screen.entered()
            if line.strip():
                said = talk.send(line)
                if isinstance(said, str) and said:
                    terminal.line(said)
    except EOFError:
        terminal.line()
        return exits.DONE
    except KeyboardInterrupt:
        if screen.failure is not None:
            raise screen.failure from None
        return exits.INTERRUPTED


def _listen(talk: Talk, screen: Screen) -> None:
    try:
        for message in talk.events():
            screen.show(message)
    except BaseException as error:  # raised by the thread that reads the keys, which only a signal wakes
        screen.failure = error
        os.kill(os.getpid(), signal.SIGINT)


class Screen:
    """What is on the terminal above the prompt."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._lock = threading.Lock()
        self._last = 0
        self._rows = 0
        self._texts: dict[int, str] = {}

    def entered(self) -> None:
        """A line was typed below the last message, which can be reached no more."""
        with self._lock:
            self._last = 0

    def show(self, message: Message, with_mine: bool = False) -> None:
        """Print a message, or put its new revision in the place of the old one."""
        if message.mine and not with_mine:
            return
        with self._lock:
            size = shutil.get_terminal_size()
            rows = wrapped(spoken(message), size.columns - 1)
            in_place = message.id == self._last and self._rows < size.lines - 1
            known = self._texts.get(message.id)
            self._texts[message.id] = message.text
            if known == message.text and not in_place and not message.buttons:
                return  # only its bar moved, out of reach
            up = f"\x1b[{self._rows}A\x1b[J" if in_place else ""
            typed = terminal.clean(readline.get_line_buffer())
            sys.stdout.write(f"\r\x1b[K{up}" + "".join(f"{row}\n" for row in rows) + PROMPT + typed)
            sys.stdout.flush()
            self._last, self._rows = message.id, len(rows)


def wrapped(text: str, columns: int) -> list[str]:
    """`text` in rows of at most `columns` cells; a Chinese character takes two."""
    from rich.cells import chop_cells

    rows = []
    for one in text.expandtabs(4).split("\n"):
        rows += chop_cells(one, max(columns, 10)) or [""]
    return rows
