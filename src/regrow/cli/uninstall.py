"""`regrow uninstall`."""

from __future__ import annotations

from regrow.cli import exits, terminal
from regrow.cli.install import DryRun, System, Yes, carry_out, manager
from regrow.cli.options import AsJson
from regrow.cli.words import say


def uninstall(system: System = None, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False) -> int:
    """Take the daemon and its services from systemd: removes what `regrow install` wrote, and nothing else."""
    import asyncio

    from regrow import installation

    plan = asyncio.run(installation.plan_uninstall(manager(system)))
    done = carry_out(plan, yes=yes, dry_run=dry_run, as_json=as_json)
    if done and plan.changes and not as_json:
        terminal.line(say("uninstalled"))
    return exits.DONE if done or dry_run else exits.CANCELLED
