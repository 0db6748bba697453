"""`regrow doctor`."""

from __future__ import annotations

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Session, Socket


def doctor(socket: Socket = None, as_json: AsJson = False) -> int:
    """Check what Regrow needs; exit 1 when something is wrong, with the way to mend it."""
    client = Session(socket, as_json).client()
    findings = client.doctor()
    if as_json:
        terminal.document([one.model_dump(mode="json") for one in findings])
    else:
        width = max((len(one.name) for one in findings), default=0)
        for one in findings:
            mark = terminal.paint("✓", "green") if one.ok else terminal.paint("✗", "red")
            terminal.write(f"{mark} {terminal.clean(f'{one.name:<{width}}  {one.detail}')}\n")
            if one.mend and not one.ok:
                terminal.line(f"  {'':<{width}}  → {one.mend}", "yellow")
    return exits.DONE if all(one.ok for one in findings) else exits.UNWELL
