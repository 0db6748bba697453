"""`regrow config`: the settings of a service, and changing them."""

from __future__ import annotations

import re
import sys
from importlib import resources
from typing import Annotated

import typer

from regrow.cli import exits, terminal, words
from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket
from regrow.errors import RegrowError

Name = Annotated[str, typer.Argument(metavar="NAME", help="A setting, such as service.drain or drain.")]
Changes = Annotated[
    list[str], typer.Argument(metavar="NAME=VALUE...", help="FILE:NAME=VALUE for a file of the service's own.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, once the difference was shown.")]


def show(service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """List the settings that can be changed without an editor, with their values."""
    found = Session(socket, as_json, service).client().settings(service)
    if as_json:
        terminal.document([one.model_dump(mode="json") for one in found])
        return exits.DONE
    for one in found:
        changed = "" if one.value == one.default else words.say("config_default", value=one.default)
        terminal.write(terminal.clean(f"{one.name} = {one.value}  {one.title}{changed}") + "\n")
    return exits.DONE


def get(name: Name, service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Print one value."""
    found = Session(socket, as_json, service).client().settings(service)
    fitting = [one for one in found if one.name == name or one.name.rpartition(".")[2] == name]
    if len(fitting) != 1:
        known = ", ".join(one.name for one in fitting)
        raise RegrowError(
            f"cannot tell which setting {name} is: {known or 'none is called that; see `regrow config show`'}",
            kind="usage",
        )
    if as_json:
        terminal.document(fitting[0].model_dump(mode="json"))
    else:
        terminal.write(f"{terminal.clean(str(fitting[0].value))}\n")
    return exits.DONE


def change(
    *,
    changes: Changes,
    yes: Yes = False,
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
) -> int:
    """Show what a change of settings would do, then do it: proved by a fresh process, and put back if it fails."""
    from regrow.api.types import RequestBody

    session = Session(socket, as_json, service)
    lines = "\n".join(changes)
    preview = session.client().preview(RequestBody(intent="configure", args={"set": lines}, service=service))
    if not as_json:
        terminal.diff(preview.diff)
        terminal.line(words.say("config_starts" if preview.restarts else "config_live"))
    if not yes:
        if not sys.stdin.isatty():
            raise RegrowError("cannot ask whether to change that: there is no terminal; say --yes", kind="usage")
        terminal.write(words.say("config_ask"))
        if sys.stdin.readline().strip().lower() not in {"y", "yes", "是", "好"}:
            terminal.line(words.say("config_left"))
            return exits.DONE
    return ask(session, "configure", {"set": lines}, no_wait)


def explain(name: Name) -> int:
    """Print what the reference says of a setting or a section."""
    section, _, last = name.rpartition(".")
    text = resources.files("regrow").joinpath("reference.toml").read_text("utf-8")
    here, shown, table = False, list[str](), ""
    for line in text.splitlines():
        if header := re.match(r"\[([^\]]+)\]", line):
            table = header[1]
            here = table == name
        elif found := re.match(r"([A-Za-z0-9_]+) *=", line):
            here = table == name or (found[1] == last and _fits(table, section))
        elif not line.strip():
            here = False
        if here:
            shown.append(line)
    if not shown:
        raise RegrowError(f"cannot explain {name}: the reference has no such setting", kind="usage")
    terminal.write("\n".join(shown) + "\n")
    return exits.DONE


def _fits(table: str, section: str) -> bool:
    """Whether the table of the reference is the one that is meant; names of probes and agents are anybody's."""
    return not section or table == section or table.split(".", maxsplit=1)[0] == section.split(".", maxsplit=1)[0] != ""


def application() -> typer.Typer:
    """The verb with its own verbs."""
    app = typer.Typer(name="config", help="Look at settings and change them.", no_args_is_help=True)
    app.command("show")(show)
    app.command("get")(get)
    app.command("set")(change)
    app.command("explain")(explain)
    return app
