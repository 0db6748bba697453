"""`regrow audit`."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Session, Socket
from regrow.cli.words import say
from regrow.errors import Refused

if TYPE_CHECKING:
    from regrow.api.client import Client
    from regrow.api.types import AuditRow

Since = Annotated[
    str, typer.Option("--since", metavar="WHEN", help='"2h", "3d", or a time: 2026-01-31, 2026-01-31T09:00.')
]
Who = Annotated[str, typer.Option("--who", help="A person's name or id.")]
Job = Annotated[int | None, typer.Option("--job", help="Of one job alone.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="The newest that many.")]
Export = Annotated[
    str, typer.Option("--export", metavar="FILE", help='Write every row as JSON lines; "-": to the terminal.')
]
Verify = Annotated[bool, typer.Option("--verify", help="Walk along the chain; exit code 1 when a row does not fit.")]
_AT_ONCE = 1000
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def audit(  # noqa: PLR0917  options, which nobody gives by place
    since: Since = "",
    who: Who = "",
    job: Job = None,
    limit: Limit = 100,
    export: Export = "",
    verify: Verify = False,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Show who asked for what, from where, on whose word, and how it ended."""
    session = Session(socket, as_json)
    client, begin = session.client(), moment(since)
    if verify:
        return _verify(session, client)
    if export:
        return _export(client, export, begin, who, job)
    rows = client.audit(since=begin, who=who, job=job, limit=limit)
    if as_json:
        terminal.document([row.model_dump(mode="json") for row in rows])
        return exits.DONE
    for row in rows:
        terminal.line(_line(row))
    if not rows:
        terminal.line(say("nothing_yet"))
    return exits.DONE


def moment(text: str) -> float:
    """What a person means by a time: so long ago, or a date of this machine's clock; seconds since 1970.

    Raises:
        Refused: kind "usage".
    """
    if not text:
        return 0.0
    if found := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return max(0.0, time.time() - int(found[1]) * _UNIT_S[found[2]])
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise Refused(
            f'cannot use --since {text}: it looks like "2h", "3d" or "2026-01-31T09:00"', kind="usage"
        ) from None


def _line(row: AuditRow) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.at))
    who = f"{row.who} ({row.person})" if row.person and row.person != row.who else row.who
    job = f"#{row.job}" if row.job is not None else ""
    shown = {name: value for name, value in row.detail.items() if value not in ("", None, {})}
    words, how = shown.pop("words", ""), shown.pop("understood", "")
    detail = " ".join(f"{name}={_short(value)}" for name, value in shown.items())
    said = f"“{words}” ({how})" if words else f"({how})" if how else ""
    line = f"{row.id:>6}  {at}  {row.what:<10} {job:>6}  {who} via {row.via}  {detail}".rstrip()
    return f"{line}  {said}".rstrip()


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _verify(session: Session, client: Client) -> int:
    verdict = client.audit_verify()
    if session.as_json:
        terminal.document(verdict.model_dump(mode="json"))
    elif verdict.broken is None:
        terminal.line(say("audit_whole", rows=verdict.rows))
    else:
        terminal.line(say("audit_broken", row=verdict.broken, reason=verdict.reason), "red")
    return exits.DONE if verdict.broken is None else exits.UNWELL


def _export(client: Client, target: str, since: float, who: str, job: int | None) -> int:
    rows = _all(client, since, who, job)
    if target == "-":
        for row in rows:
            terminal.document(row.model_dump(mode="json"))
        return exits.DONE
    count = 0
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row.model_dump(mode="json"), ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise Refused(f"cannot write {target}: {error.strerror}; name another file", kind="usage") from None
    terminal.note(say("audit_exported", rows=count, path=target))
    return exits.DONE


def _all(client: Client, since: float, who: str, job: int | None) -> Iterator[AuditRow]:
    after = 0
    while rows := client.audit(since=since, who=who, job=job, after=after, limit=_AT_ONCE):
        yield from rows
        after = rows[-1].id
