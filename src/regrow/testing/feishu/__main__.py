"""The emulator by hand: `python -m regrow.testing.feishu --port 9700`. `help` says what can be typed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from regrow.testing.feishu.chats import Message
from regrow.testing.feishu.emulator import FeishuEmulator
from regrow.testing.feishu.settings import Settings

HELP = """\
say NAME TEXT           say something in the group; @bot calls the bot
tell NAME TEXT          say something to the bot alone
quote NAME N TEXT       answer message N
topic NAME N TEXT       say something in the topic of message N
click NAME N BUTTON [yes] [FIELD=VALUE ...]
                        press a button by text, name or id; yes confirms
react NAME N EMOJI      put an emoji on message N
drop | reset | freeze   end the connections, or leave them half-open
lose | ignore | twice   what happens to the next event
advance SECONDS         move the clock: retries come due
chat                    everything that was said in the group
journal                 the newest entries of the journal
verify                  check what must hold of a client
quit"""


class Shell:
    """What is typed, and what is shown.

    Args:
        feishu: the platform, running.
        people: names of those who are in the group.
        say: shows a line.
    """

    def __init__(self, feishu: FeishuEmulator, people: list[str], say: Callable[[str], None]) -> None:
        self._feishu = feishu
        self._say = say
        self._known: dict[Message, tuple[int, int]] = {}
        self.group = feishu.group("ops", [feishu.user(name) for name in people])
        self.ended = asyncio.Event()

    async def watch(self) -> None:
        """Show every message when it is new and when it changes."""
        while True:
            await self._feishu.journal.wait(self._changed, timeout=31_536_000.0)
            for message in self._changed():
                new = message not in self._known
                number = len(self._known) + 1 if new else self._known[message][0]
                self._known[message] = (number, len(message.versions))
                mark = "" if new else " (changed)"
                where = "" if message.chat is self.group else " (private)"
                text = message.text.replace("\n", "\n    ")
                self._say(f"#{number} {message.sender.name}{where}{mark}: {text}")

    def _changed(self) -> list[Message]:
        messages = dict.fromkeys(self._feishu.messages.messages.values())
        return [each for each in messages if self._known.get(each, (0, 0))[1] != len(each.versions)]

    async def do(self, line: str) -> None:
        """Do one line."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            self._say(f"cannot read this line: {error}")
            return
        if not words:
            return
        verbs: dict[str, Callable[[list[str]], Awaitable[None]]] = {
            "say": self._speak,
            "tell": self._speak,
            "quote": self._answer,
            "topic": self._answer,
            "click": self._click,
            "react": self._react,
        }
        try:
            if words[0] in verbs:
                await verbs[words[0]](words)
            else:
                await self._other(words)
        except (IndexError, LookupError, ValueError) as error:
            self._say(f"cannot do this: {error}; type help")

    async def _speak(self, words: list[str]) -> None:
        user = self._feishu.user(words[1])
        await user.say(self.group if words[0] == "say" else user.private(), " ".join(words[2:]))

    async def _answer(self, words: list[str]) -> None:
        message, text = self._numbered(words[2]), " ".join(words[3:])
        user = self._feishu.user(words[1])
        if words[0] == "quote":
            await user.say(message.chat, text, quote=message)
        else:
            await user.say(message.chat, text, thread=message)

    async def _click(self, words: list[str]) -> None:
        form = dict(word.split("=", 1) for word in words[4:] if "=" in word)
        click = await self._feishu.user(words[1]).click(
            self._numbered(words[2]), words[3], confirm="yes" in words[4:], form=form
        )
        shown = click.text or (click.dialog or {}).get("title", {}).get("content", "") or (click.code or "")
        self._say(f"{click.shown} {shown}".rstrip())

    async def _react(self, words: list[str]) -> None:
        await self._feishu.user(words[1]).react(self._numbered(words[2]), words[3])

    async def _other(self, words: list[str]) -> None:
        feishu, verb = self._feishu, words[0]
        if verb == "drop":
            self._say(f"{await feishu.drop_connections()} closed")
        elif verb == "reset":
            self._say(f"{feishu.reset()} reset")
        elif verb == "freeze":
            self._say(f"{feishu.freeze()} frozen")
        elif verb == "lose":
            feishu.lose_next()
        elif verb == "ignore":
            feishu.ignore_next_ack()
        elif verb == "twice":
            feishu.duplicate()
        elif verb == "advance":
            feishu.advance(float(words[1]))
        elif verb == "chat":
            self._say(feishu.transcript(self.group))
        elif verb == "journal":
            for entry in list(feishu.journal.entries)[-20:]:
                self._say(f"{entry.kind} {entry.what}")
        elif verb == "verify":
            try:
                feishu.verify()
                self._say("nothing is wrong")
            except AssertionError as error:
                self._say(str(error))
        elif verb == "quit":
            self.ended.set()
        else:
            self._say(HELP)

    def _numbered(self, number: str) -> Message:
        for message, (known, _) in self._known.items():
            if str(known) == number.lstrip("#"):
                return message
        raise LookupError(f"there is no message {number}")


def _lines(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
    """Read lines in a thread that nothing waits for, because reading a terminal cannot be cancelled. It reads the
    descriptor and not `sys.stdin`, whose lock would be held when the interpreter ends."""
    rest = b""
    while data := os.read(0, 4096):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            try:
                loop.call_soon_threadsafe(lines.put_nowait, line.decode(errors="replace"))
            except RuntimeError:
                return


def _credentials(feishu: FeishuEmulator, shell: Shell, people: list[str], path: Path) -> None:
    """Write what a client needs to a file that only its owner reads; the secret is not shown."""
    told = {
        "base_url": feishu.base_url,
        "app_id": feishu.app.app_id,
        "app_secret": feishu.app.secret,
        "chat_id": shell.group.id,
        "people": {
            name: {"open_id": feishu.user(name).open_id(), "union_id": feishu.user(name).union_id} for name in people
        },
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        os.fchmod(out.fileno(), 0o600)
        json.dump(told, out, indent=2, ensure_ascii=False)


async def _serve(options: argparse.Namespace, say: Callable[[str], None]) -> None:
    settings = Settings(speed=options.speed, ping_interval=options.ping, reconnect_interval=1, reconnect_nonce=0)
    loop = asyncio.get_running_loop()
    people = options.people.split(",")
    async with FeishuEmulator(settings, port=options.port) as feishu:
        shell = Shell(feishu, people, say)
        path = options.credentials or Path(tempfile.mkdtemp(prefix="feishu-")) / "credentials.json"
        _credentials(feishu, shell, people, path)
        say(f"Feishu is at {feishu.base_url}; credentials are in {path}; people are {', '.join(people)}")
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, shell.ended.set)
        lines: asyncio.Queue[str] = asyncio.Queue()
        threading.Thread(target=_lines, args=(loop, lines), daemon=True).start()

        async def obey() -> None:
            while True:
                await shell.do(await lines.get())

        tasks = [asyncio.create_task(obey()), asyncio.create_task(shell.watch())]
        for task in tasks:
            # A failure of either ends the program too, and is raised below.
            task.add_done_callback(lambda _: shell.ended.set())
        await shell.ended.wait()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def main() -> None:
    """Serve until `quit`, SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m regrow.testing.feishu", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of HTTP on the loopback; 0: a free one")
    parser.add_argument("--credentials", type=Path, help="where to write address, app and people as JSON")
    parser.add_argument("--people", default="alice,bob", help="names, separated by commas")
    parser.add_argument("--speed", type=float, default=1.0, help="how fast retries come due")
    parser.add_argument("--ping", type=int, default=10, help="seconds between pings")

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    asyncio.run(_serve(parser.parse_args(), say))


if __name__ == "__main__":
    main()
