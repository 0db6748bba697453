"""Who calls the API, and where a job that they ask for is told of.

The unix socket and the console's token stand for this machine's own user. A caller that names itself a program, or
shows a program's token, speaks as that program: with its role, on few routes, and to the chats that the settings allow
it. So naming itself can only take rights away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import unquote

from starlette.requests import Request

from regrow.api import types
from regrow.asking import Asked
from regrow.catalogue import Language
from regrow.channels.base import Address
from regrow.config import ProgramSection
from regrow.errors import NotFound, Refused
from regrow.permissions import LOCAL, Person, Role

HEADER = "regrow-principal"
WORDS = "regrow-words"
"""The header in which the command line says how it was called, percent-encoded."""
MEANS = "regrow.means"
"""Set in the scope by the guards of the console's port; see web/guards.py."""
PROGRAM = "regrow.program"
"""Set there too: the program whose token was shown."""
MCP = "mcp"


def program(name: str, settings: ProgramSection) -> Person:
    """A program, as it stands on the list of people: that of `[mcp]` by this name, others as `token-NAME`."""
    return Person(id=name, name=name, role=Role[settings.role], program=True)


def of_token(name: str) -> str:
    """The name of the program of `[token.NAME]`; no person is called so."""
    return f"token-{name}"


class Callers:
    """Tells callers apart.

    Args:
        programs: the settings of each program, by its name.
        channels: names of the channels on which people can be told.
    """

    def __init__(self, programs: Mapping[str, ProgramSection], channels: Collection[str]) -> None:
        self._programs = programs
        self._channels = channels

    def program(self, request: Request) -> str:
        """The program that calls; "" for a person.

        Raises:
            Refused: kind "forbidden": it names itself one that the settings do not know.
        """
        shown: str = request.scope.get(PROGRAM, "")
        if shown:
            return shown
        named = request.headers.get(HEADER)
        if named is None:
            return ""
        if named != MCP or MCP not in self._programs:
            raise Refused(
                "cannot let a program ask: regrow.toml has no section [mcp]; add it with the role it may have",
                kind="forbidden",
            )
        return named

    def asked(
        self,
        request: Request,
        language: Language = "en",
        key: str = "",
        notify: types.Notify | None = None,
        *,
        said: str = "",
    ) -> Asked:
        """Who asks, and where the answer goes.

        Args:
            request: the call.
            language: of the answer.
            key: the same for repeated calls; "" when each counts.
            notify: the chat that hears of a job.
            said: what was asked for, as the audit log keeps it; the command line sends its own words.

        Raises:
            NotFound: kind "no_such_channel".
            Refused: kind "forbidden": the program may not tell that chat.
        """
        name = self.program(request)
        # What comes over the console's port is of the channel web, and under its rules.
        via = name or ("web" if MEANS in request.scope else "api")
        person = program(name, self._programs[name]) if name else LOCAL
        address = self._address(via, notify, self._programs.get(name))
        words = "" if name else unquote(request.headers.get(WORDS, ""))
        understood = "cli" if words else MCP if name == MCP else "api"
        return Asked(
            person,
            person.name,
            address,
            language,
            f"{via}:{key}" if key else "",
            via=via,
            words=words or said,
            understood=understood,
        )

    def _address(self, via: str, notify: types.Notify | None, program: ProgramSection | None) -> Address:
        if notify is None:
            if program is not None and program.default:
                channel, _, chat = program.default.partition(":")
                return Address(channel, chat)
            return Address(via, "")
        if notify.channel not in self._channels or not notify.chat:
            known = ", ".join(sorted(self._channels))
            raise NotFound(
                f"cannot tell anybody on {notify.channel}:{notify.chat}; name a chat of one of: {known}",
                kind="no_such_channel",
            )
        # Whatever a message made the program's model believe, it can tell nobody whom the settings do not name (F27).
        if program is not None and not program.may_notify(notify.channel, notify.chat):
            section = "[mcp]" if via == MCP else f"[token.{via.removeprefix(of_token(''))}]"
            raise Refused(
                f"cannot tell {notify.channel}:{notify.chat}: it is not among the chats of {section} notify in "
                "regrow.toml",
                kind="forbidden",
            )
        return Address(notify.channel, notify.chat, notify.message)
