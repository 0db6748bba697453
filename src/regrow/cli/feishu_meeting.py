"""The network's part of setting up and checking the Feishu channel: look at the app, open its connection, meet people.

It talks to the platform itself and not to the daemon, because there may be none yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from regrow import catalogue
from regrow.channels.feishu.api import DOMAINS, Api, App
from regrow.channels.feishu.checks import Check, Checks, State
from regrow.channels.feishu.greeting import Greeting
from regrow.channels.feishu.refusals import FeishuError
from regrow.cli import exits, terminal, words
from regrow.cli.options import Session
from regrow.config_file import ConfigFile
from regrow.errors import ConfigError, Refused, RegrowError
from regrow.secret import resolve

_OPEN_S = 20.0
_PRESS_S = 120.0
_PROVED = {"connection", "events", "callbacks"}
"""What a message and a press tell better than the platform does."""
_MARKS: dict[State, tuple[str, str]] = {"ok": ("✓", "green"), "bad": ("✗", "red"), "unknown": ("?", "yellow")}


def say(key: str, **values: object) -> str:
    """A text of the setup in the terminal's language."""
    return catalogue.say(words.language(), f"setup.{key}", **values)


def hush() -> None:
    """Let the channel's log lines go nowhere: what they say, the checks say to the person."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@dataclass
class Found:
    """What has become known; a later check of a name takes the place of an earlier one.

    Attributes:
        checks: by name.
        bot: what the bot is called.
        open_id, union_id: the owner.
        chat: where the owner wrote the code; "" when no code was needed.
        held: why the app's connection was not opened here, "" when it was.
    """

    checks: dict[str, Check] = field(default_factory=dict)
    bot: str = ""
    open_id: str = ""
    union_id: str = ""
    chat: str = ""
    held: str = ""

    @property
    def red(self) -> bool:
        """Whether something is wrong."""
        return any(one.state == "bad" for one in self.checks.values())


class Report:
    """What is shown on the way; nothing where one JSON document is asked for."""

    def __init__(self, as_json: bool) -> None:
        self._quiet = as_json

    def say(self, key: str, **values: object) -> None:
        """A text of the setup."""
        if not self._quiet:
            terminal.line(say(key, **values))

    def show(self, checks: Iterable[Check]) -> None:
        """Checks, with what to do where one is not green."""
        for one in () if self._quiet else checks:
            mark, colour = _MARKS[one.state]
            text = terminal.clean(f"{say(f'names.{one.name}')}: {one.detail}")
            terminal.write(f"{terminal.paint(mark, colour)} {text}\n")
            if one.mend:
                terminal.line(f"    → {one.mend}", "yellow" if one.state == "bad" else "dim")


async def look(app: App, found: Found, contact: str = "") -> list[Check]:
    """All that can be seen without connecting.

    Args:
        app: which.
        found: takes what is found, unless the platform does not know the app.
        contact: an e-mail address or mobile number by which the owner is found; "" to find nobody.
    """
    api = Api(app)
    try:
        checks = Checks(api, app, words.language())
        seen = await checks.look()
        if seen[0].state == "ok":
            found.checks |= {one.name: one for one in seen}
            found.bot = checks.bot
            if contact:
                found.open_id = await _person(api, contact)
        return seen
    finally:
        await api.close()


async def _person(api: Api, contact: str) -> str:
    """The open_id behind an address or number.

    Raises:
        RegrowError: kind "not_found": the app sees no such person, or may not look.
    """
    try:
        found = await api.person(contact)
    except FeishuError as error:
        why = "the app lacks the permission contact:user.id:readonly" if error.meaning == "scope" else str(error)
        raise RegrowError(f"cannot find the owner: {why}; give --owner-open-id", kind="not_found") from None
    if not found:
        raise RegrowError(
            "cannot find the owner: the app sees nobody with this address or number; give --owner-open-id",
            kind="not_found",
        )
    return found


async def meet(app: App, found: Found, report: Report, session: Session, *, wait: float, greet: bool) -> None:
    """Open the app's connection and let a person use it.

    Where another process of this machine has the connection it is left alone: that process would lose events.

    Args:
        app: which.
        found: with the owner, where they are known; takes what is found.
        report: shows it on the way.
        session: the daemon that may have the connection.
        wait: seconds to wait for the owner's message and press; 0 to wait for nobody.
        greet: whether a test message is sent to the owner.
    """
    api = Api(app)
    checks = Checks(api, app, words.language())

    def saw(one: Check) -> Check:
        found.checks[one.name] = one
        report.show([one])
        return one

    try:
        async with Greeting(app, api, words.language()) as greeting:
            report.say("tell.opening")
            if saw(checks.connected(await greeting.opened(_OPEN_S))).state != "ok":
                return
            if wait and not found.open_id:
                report.say("tell.steps", console=checks.console)
                report.say("tell.say_code", bot=found.bot, code=greeting.code, seconds=f"{wait:.0f}")
                said = await greeting.hear(wait)
                saw(checks.heard(said is not None))
                if said is not None:
                    found.open_id, found.union_id, found.chat = said.sender_open, said.sender_union, said.chat
            sent = greet and found.open_id and saw(await _test(checks, greeting, found)).state == "ok"
            if sent and wait:
                seconds = min(wait, _PRESS_S)
                report.say("tell.press", seconds=f"{seconds:.0f}")
                saw(checks.pressed(await greeting.pressed(seconds)))
            if found.chat:
                # What was red at first has perhaps been mended in the console meanwhile.
                for one in await checks.look():
                    if one.name not in _PROVED and one.state != found.checks[one.name].state:
                        saw(one)
    except Refused as refused:
        if refused.kind != "locked":
            raise
        found.held = str(refused)
        saw(_by_its_holder(checks, session, refused))
        if greet and found.open_id:
            saw(await _test(checks, Greeting(app, api, words.language()), found))
    finally:
        await api.close()


async def _test(checks: Checks, greeting: Greeting, found: Found) -> Check:
    """Send the test message where the owner wrote, else to them."""
    try:
        if found.chat:
            await greeting.test(found.chat)
        else:
            await greeting.test(found.open_id)
    except FeishuError as error:
        return checks.sent(error)
    return checks.sent(None)


def _by_its_holder(checks: Checks, session: Session, refused: Refused) -> Check:
    """What the daemon says of the connection it holds; of another process nothing can be said."""
    status = daemon(session)
    rows = (one for one in status.get("channels") or () if one["name"] == "feishu")
    if f"process {status.get('daemon', {}).get('pid')} " in str(refused) and (own := next(rows, None)):
        return checks.by_daemon(own)
    return checks.held(str(refused).removeprefix("cannot connect "))


def daemon(session: Session) -> dict[str, Any]:
    """The status of the daemon; empty when none answers."""
    try:
        found: dict[str, Any] = session.client(patience_s=0).document("GET", "/v1/status")
    except RegrowError:
        return {}
    return found


def check(session: Session, config: Path, wait: float) -> int:
    """One run of `regrow channels check feishu`.

    Args:
        session: the daemon that may be running, and how to answer.
        config: the settings that have the channel.
        wait: seconds to wait for a message with the code; 0 to wait for none.

    Returns:
        0, or 1 when something is wrong.

    Raises:
        ConfigError: there are no such settings, or their secret cannot be read.
        RegrowError: kind "usage": nobody would see the code.
    """
    if wait and session.as_json:
        raise RegrowError("cannot show the code with --json: leave out --json or --wait", kind="usage")
    hush()
    report, found = Report(session.as_json), Found()
    file = ConfigFile(config)
    settings = file.config.channels.feishu if file.config.channels else None
    if settings is None:
        raise ConfigError(f"cannot check feishu: {file.path} has no [channels.feishu]; run regrow channels add feishu")
    base = settings.base_url or DOMAINS[settings.domain]
    app = App(settings.app_id, resolve(settings.app_secret), base, settings.proxy)
    seen = asyncio.run(look(app, found))
    report.show(seen)
    if seen[0].state == "ok":
        asyncio.run(meet(app, found, report, session, wait=wait, greet=wait > 0))
    else:
        found.checks = {one.name: one for one in seen}
    if session.as_json:
        terminal.document([asdict(one) for one in found.checks.values()])
    return exits.UNWELL if found.red else exits.DONE
