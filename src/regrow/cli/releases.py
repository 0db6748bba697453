"""`regrow releases`."""

from __future__ import annotations

import time

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Service, Session, Socket
from regrow.cli.words import say

COLOURS = {"active": "green", "candidate": "yellow", "standby": "cyan", "fallback": "cyan", "pinned": "red"}


def releases(service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """List releases, newest first."""
    client = Session(socket, as_json, service).client()
    found = client.releases(service)
    if as_json:
        terminal.document([one.model_dump(mode="json") for one in found])
        return exits.DONE
    if not found:
        terminal.line(say("nothing_yet"))
    for one in found:
        state = terminal.paint(f"{one.state:<9}", COLOURS.get(one.state, ""))
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.built_at))
        size = f"{terminal.spell_bytes(one.bytes)}, {terminal.spell(one.build_seconds)}"
        reason = f"  ({one.pinned_reason})" if one.pinned_reason else ""
        rest = f"{one.id}  {one.version}  {one.commit[:10]}  {when}  {size:<16}  {one.subject}{reason}"
        terminal.write(f"{state}  {terminal.clean(rest)}\n")
    return exits.DONE
