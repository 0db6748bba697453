"""The tour's side of a chat with Regrow: says things, hears what comes back, and shows both as they come."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from regrow.api.client import Client
from regrow.api.types import ENDED, ChatBody, Job, Message
from regrow.catalogue import LANGUAGES, say
from regrow.errors import RegrowError

HEARD_S = 15.0
JOB_S = 120.0
LOOK_S = 0.05

Channel = Literal["web", "terminal"]
Show = Callable[[str, str, bool], None]
"""Is given who spoke (and where), what they said, and whether it is an edit of an earlier message."""


class NotHeard(Exception):
    """What should have come did not come in time; the text says what."""


class Conversation:
    """One chat, as one person sees it.

    Args:
        socket: where the daemon listens.
        channel: through which the person speaks.
        show: told of each message and of its last edit.
    """

    def __init__(self, socket: Path, channel: Channel, show: Show) -> None:
        self.channel: Channel = channel
        self.client = Client(socket)
        self._listener = Client(socket, patience_s=0)
        self._show = show
        self._known: dict[int, Message] = {}
        self._shown: dict[int, str] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def say(self, text: str) -> Message:
        """Say something."""
        return self.client.say(ChatBody(channel=self.channel, text=text, key=uuid.uuid4().hex))

    def heard(self, what: str, is_it: Callable[[Message], bool], within_s: float = HEARD_S) -> Message:
        """The first message of Regrow's that is it, now or soon.

        Raises:
            NotHeard: none came within that many seconds.
        """
        with self._changed:
            found: list[Message] = []

            def look() -> bool:
                found[:] = [one for one in self._known.values() if not one.mine and is_it(one)]
                return bool(found)

            if not self._changed.wait_for(look, within_s):
                raise NotHeard(f"{what} did not come within {within_s:g} s")
            return found[0]

    def reply(self, said: Message) -> Message:
        """The first message after what was said."""
        return self.heard(f"an answer to {said.text.splitlines()[0]!r}", lambda one: one.id > said.id)

    def answers(self, said: Message, count: int, within_s: float = HEARD_S) -> list[str]:
        """What was said here, not of a job, since `said`, in order; by then it is as many as they should be, or more.

        Raises:
            NotHeard: it was fewer after that many seconds.
        """
        found: list[str] = []

        def look() -> bool:
            known = [one for _, one in sorted(self._known.items()) if one.id > said.id]
            found[:] = [one.text for one in known if not one.mine and one.job is None]
            return len(found) >= count

        with self._changed:
            if not self._changed.wait_for(look, within_s):
                raise NotHeard(f"{count} answers, not {len(found)}, did not come within {within_s:g} s")
            # One too many would come with the next ones, if it came.
            self._changed.wait_for(lambda: look() and len(found) > count, LOOK_S * 4)
            return list(found)

    def ended(self, job: int, within_s: float = JOB_S) -> Job:
        """The job once it has ended and its last edit and its result have been heard.

        Raises:
            NotHeard: it has not ended, or was not told of, in time.
        """
        deadline = time.monotonic() + within_s
        while (now := self.client.job(job)).status not in ENDED:
            if time.monotonic() > deadline:
                raise NotHeard(f"job {job} has not ended within {within_s:g} s: {now.status}, {now.waiting_for or '-'}")
            time.sleep(LOOK_S)
        first = self.heard(f"the story of job {job}", lambda one: one.job == job and is_final(one))
        self.heard(f"the result of job {job}", lambda one: one.job == job and one.id > first.id)
        return now

    def told(self, job: int) -> str:
        """All that was said of a job here, the result last."""
        with self._changed:
            return "\n".join(one.text for _, one in sorted(self._known.items()) if one.job == job and not one.mine)

    def _listen(self) -> None:
        for message in self._events():
            with self._changed:
                self._known[message.id] = message
                fresh = message.id not in self._shown
                # Of the many edits only those are shown that a person waits for: a question, and the last one.
                if fresh or (
                    (is_final(message) or is_question(message)) and self._shown.get(message.id) != message.text
                ):
                    self._shown[message.id] = message.text
                    author = "you" if message.mine else message.author
                    self._show(f"{author} ({self.channel})", message.text, not fresh)
                self._changed.notify_all()

    def _events(self) -> Iterator[Message]:
        try:
            yield from self._listener.chat_events(self.channel)
        except RegrowError:
            return  # the daemon has gone; whoever waits for a message says what is missing


def is_final(message: Message) -> bool:
    """Whether a job's live message says that it has ended."""
    job = message.job
    return job is not None and any(say(language, "live.ended", job=job) in message.text for language in LANGUAGES)


def is_question(message: Message) -> bool:
    """Whether a message asks for an approval."""
    return any(button.action.startswith("approve:") for button in message.buttons)
