"""Who calls the API, and where a job that they ask for is told of.

The unix socket and the console's token stand for this machine's own user. A caller that names itself a program speaks
as that program: with its role, on few routes, and to the chats that the settings allow it. So naming itself can only
take rights away.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote

from starlette.requests import Request

from regrow.api import types
from regrow.asking import Asked
from regrow.catalogue import Language
from regrow.channels.base import Address
from regrow.config import McpSection
from regrow.errors import NotFound, Refused
from regrow.permissions import LOCAL, Person, Role

HEADER = "regrow-principal"
WORDS = "regrow-words"
"""The header in which the command line says how it was called, percent-encoded."""
MEANS = "regrow.means"
"""Set in the scope by the guards of the console's port; see web/guards.py."""
MCP = "mcp"


def program(settings: McpSection) -> Person:
    """The program of `[mcp]`, as it stands on the list of people."""
    return Person(id=MCP, name=MCP, role=Role[settings.role], program=True)


class Callers:
    """Tells callers apart.

    Args:
        mcp: the settings of the program; None: there is none.
        channels: names of the channels on which people can be told.
        language: in which people hear of what a program asks for, where it does not say.
    """

    def __init__(self, mcp: McpSection | None, channels: Collection[str], language: Language = "en") -> None:
        self._mcp = mcp
        self._channels = channels
        self._language = language

    def is_program(self, request: Request) -> bool:
        """Whether the caller names itself a program.

        Raises:
            Refused: kind "forbidden": another name, or the settings know no program.
        """
        named = request.headers.get(HEADER)
        if named is None:
            return False
        if named != MCP or self._mcp is None:
            raise Refused(
                "cannot let a program ask: regrow.toml has no section [mcp]; add it with the role it may have",
                kind="forbidden",
            )
        return True

    def asked(
        self,
        request: Request,
        language: Language = "",
        key: str = "",
        notify: types.Notify | None = None,
        *,
        said: str = "",
    ) -> Asked:
        """Who asks, and where the answer goes.

        Args:
            request: the call.
            language: of the answer; "": that of the daemon for a program, whose words nobody has read, else English.
            key: the same for repeated calls; "" when each counts.
            notify: the chat that hears of a job.
            said: what was asked for, as the audit log keeps it; the command line sends its own words.

        Raises:
            NotFound: kind "no_such_channel".
            Refused: kind "forbidden": the program may not tell that chat.
        """
        is_program = self.is_program(request)
        # What comes over the console's port is of the channel web, and under its rules.
        near = "web" if MEANS in request.scope else "api"
        person, via = (program(self._mcp), MCP) if is_program and self._mcp is not None else (LOCAL, near)
        address = self._address(via, notify, is_program)
        words = "" if is_program else unquote(request.headers.get(WORDS, ""))
        understood = "cli" if words else MCP if is_program else "api"
        return Asked(
            person,
            person.name,
            address,
            language or (self._language if is_program else "en"),
            f"{via}:{key}" if key else "",
            via=via,
            words=words or said,
            understood=understood,
        )

    def _address(self, via: str, notify: types.Notify | None, is_program: bool) -> Address:
        if notify is None and is_program and self._mcp is not None and self._mcp.default:
            channel, _, chat = self._mcp.default.partition(":")
            return Address(channel, chat)
        if notify is None:
            return Address(via, "")
        if notify.channel not in self._channels or not notify.chat:
            known = ", ".join(sorted(self._channels))
            raise NotFound(
                f"cannot tell anybody on {notify.channel}:{notify.chat}; name a chat of one of: {known}",
                kind="no_such_channel",
            )
        # Whatever a message made the program's model believe, it can tell nobody whom the settings do not name (F27).
        if is_program and self._mcp is not None and not self._mcp.may_notify(notify.channel, notify.chat):
            raise Refused(
                f"cannot tell {notify.channel}:{notify.chat}: it is not among the chats of [mcp] notify in regrow.toml",
                kind="forbidden",
            )
        return Address(notify.channel, notify.chat, notify.message)
