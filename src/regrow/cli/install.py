"""`regrow install`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson
from regrow.cli.words import say
from regrow.errors import RegrowError

if TYPE_CHECKING:
    from regrow.installation import Plan

Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="A service's settings; may be given many times. [regrow.toml]"),
]
System = Annotated[
    bool | None, typer.Option("--system/--user", help="Whose units: the whole system's, or yours. [root: system]")
]
RunAs = Annotated[str, typer.Option("--run-as", metavar="USER", help="With --system: whose rights it has. [root]")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]

_NOTES = {"linger": "install_linger", "secret": "install_secret"}


def install(  # noqa: PLR0917
    config: Configs = None,
    system: System = None,
    run_as: RunAs = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Put the daemon and its services under systemd; shows every file and asks first."""
    import asyncio

    from regrow import installation

    configs = [one.absolute() for one in config or [Path("regrow.toml")]]
    plan = asyncio.run(installation.plan_install(configs, manager(system), run_as))
    done = carry_out(plan, yes=yes, dry_run=dry_run, as_json=as_json)
    if not as_json:
        for key, fields in plan.notes:
            terminal.note(say(_NOTES[key], **fields))
        if done:
            terminal.line(say("installed", systemctl="systemctl --user" if plan.manager == "user" else "systemctl"))
    return exits.DONE if done or dry_run else exits.CANCELLED


def manager(system: bool | None) -> Literal["user", "system"]:
    """Whose units are meant."""
    return "system" if (os.getuid() == 0 if system is None else system) else "user"


def carry_out(plan: Plan, *, yes: bool, dry_run: bool, as_json: bool) -> bool:
    """Show what a plan changes, ask, and do it; whether it was done."""
    import asyncio

    from regrow import installation

    if not as_json:
        for change in plan.changes:
            terminal.diff(change.diff)
        if not plan.changes:
            terminal.line(say("install_nothing"))
    done = not dry_run and (yes or not plan.changes or _agreed(as_json))
    if done:
        asyncio.run(installation.carry_out(plan))
    if as_json:
        files = [{"path": str(one.path), "action": "write" if one.after else "remove"} for one in plan.changes]
        notes = [{"kind": kind, **fields} for kind, fields in plan.notes]
        terminal.document({"manager": plan.manager, "files": files, "notes": notes, "done": done})
    return done


def _agreed(as_json: bool) -> bool:
    if as_json or not terminal.can_ask():
        raise RegrowError("cannot ask whether to do that: nobody is there; add --yes or --dry-run", kind="usage")
    terminal.write(say("install_ask"))
    return input().strip().lower() in ("y", "yes", "是", "好")
