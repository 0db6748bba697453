"""`regrow`: the table of verbs, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Sequence

import typer

from regrow import confinement
from regrow.cli import backup, channels, config, examples, exits, incidents, people, snapshots, terminal
from regrow.cli.approve import approve
from regrow.cli.audit import audit
from regrow.cli.build import build
from regrow.cli.cancel import cancel
from regrow.cli.chat import chat
from regrow.cli.confine import confine
from regrow.cli.deploy import deploy
from regrow.cli.doctor import doctor
from regrow.cli.down import down
from regrow.cli.freeze import freeze
from regrow.cli.init import init
from regrow.cli.install import install
from regrow.cli.job import job
from regrow.cli.jobs import jobs
from regrow.cli.keep import keep
from regrow.cli.logs import logs
from regrow.cli.mcp import mcp
from regrow.cli.permissions import permissions
from regrow.cli.reject import reject
from regrow.cli.releases import releases
from regrow.cli.repair import repair
from regrow.cli.restart import restart
from regrow.cli.rollback import rollback
from regrow.cli.status import status
from regrow.cli.undo import undo
from regrow.cli.unfreeze import unfreeze
from regrow.cli.uninstall import uninstall
from regrow.cli.up import up
from regrow.cli.upgrade_self import upgrade_self
from regrow.cli.version import version
from regrow.cli.watch import watch
from regrow.cli.words import say
from regrow.errors import RegrowError
from regrow.files import private_directory, write_atomic
from regrow.places import Places
from regrow.versions import Versions

VERBS: dict[str, tuple[Callable[..., int], ...]] = {
    "The daemon": (init, up, down, status, watch, doctor, install, uninstall, version, upgrade_self),
    "The service": (restart, build, deploy, repair, rollback, freeze, unfreeze, releases, logs, confine),
    "Jobs": (jobs, job, approve, reject, cancel, keep, undo, audit, permissions),
    "Talk": (chat, mcp),
}
GROUPS = {
    "The service": (snapshots.application, config.application, incidents.application),
    "The daemon": (backup.application,),
    "Talk": (people.application, channels.application),
}
"""Verbs with verbs of their own, each made by a function."""


def application() -> typer.Typer:
    """The command with all its verbs."""
    app = typer.Typer(
        name="regrow",
        help="Repair, rebuild, redeploy and roll back a long-running service.",
        epilog="Exit codes: docs/reference/exit-codes.md",
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for panel, verbs in VERBS.items():
        for verb in verbs:
            app.command(rich_help_panel=panel)(verb)
    for panel, groups in GROUPS.items():
        for group in groups:
            app.add_typer(group(), rich_help_panel=panel)
    examples.add(app)
    return app


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a locale without ✓ must not end a verb
    arguments = sys.argv[1:]
    Versions(Places.of().state).hand_over("regrow.cli", arguments)
    sys.exit(run(["version"] if arguments == ["--version"] else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; expected errors are one line on standard error."""
    try:
        code = application()(args=list(arguments), prog_name="regrow", standalone_mode=False)
        return code if isinstance(code, int) else exits.DONE
    except RegrowError as error:
        return _expected(error, "--json" in arguments)
    except (KeyboardInterrupt, typer.Abort):
        return exits.INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # nobody reads: nothing to flush at exit either
        return exits.DONE
    except Exception as error:
        # Typer has moved its copy of click between releases; what its usage errors can do has stayed.
        if hasattr(error, "format_message") and hasattr(error, "show"):
            error.show()
            return exits.USAGE
        return _bug(error, arguments)


def _expected(error: RegrowError, as_json: bool) -> int:
    if error.kind == "no_daemon" and os.environ.get(confinement.CONFINED):
        text = "cannot do this from the service's own shell: ask for it in the chat, or with the service's own tool"
        error = RegrowError(text, kind="confined")
    if as_json:
        import json

        terminal.note(json.dumps({"kind": error.kind, "error": str(error)}, ensure_ascii=False))
    else:
        terminal.note(f"regrow: {error}")
    return exits.error_code(error)


def _bug(error: Exception, arguments: Sequence[str]) -> int:
    import platform
    import traceback

    from regrow import __version__

    # Only the verb: what follows it may hold anything a person typed.
    verb = next((one for one in arguments if not one.startswith("-")), "")
    head = f"regrow {__version__} {verb}\nPython {platform.python_version()} on {platform.platform()}\n\n"
    report = head + "".join(traceback.format_exception(error))
    path = Places.of().reports / f"bug-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    try:
        private_directory(path.parent)
        write_atomic(path, report.encode())
    except OSError:
        terminal.note(report)
        return exits.BUG
    terminal.note(f"regrow: {type(error).__name__}: {error}\n" + say("bug", path=path))
    return exits.BUG
