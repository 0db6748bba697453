"""`regrow people`: who may ask for what, and who waits to be let in."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from regrow.cli import exits, terminal, words
from regrow.cli.follow import ask
from regrow.cli.options import AsJson, Session, Socket

Code = Annotated[str, typer.Argument(metavar="CODE", help="The code that the stranger was told.")]
Who = Annotated[str, typer.Argument(metavar="ID", help="The person's id, as `regrow people` lists it.")]
RoleName = Annotated[str, typer.Option("--role", help="viewer, operator, maintainer or owner.")]
Name = Annotated[str, typer.Option("--name", help="What to call them.")]


def people(ctx: typer.Context, socket: Socket = None, as_json: AsJson = False) -> int:
    """List people and their roles, and who waits to be let in."""
    if ctx.invoked_subcommand:
        return exits.DONE
    found = Session(socket, as_json).client().people()
    if as_json:
        terminal.document(found.model_dump(mode="json"))
        return exits.DONE
    if not found.people and not found.waiting:
        terminal.line(words.say("nothing_yet"))
    for person in found.people:
        where = " ".join(person.identities)
        terminal.write(terminal.clean(f"{person.role:<10}  {person.id:<16}  {person.name}  {where}") + "\n")
    for one in found.waiting:
        left = terminal.spell(one.expires_at - time.time())
        who = {"name": one.name, "identity": f"{one.channel}:{one.identity}"}
        line = words.say("people_waits", code=one.code, left=left, **who)
        terminal.line(line, "yellow")
    return exits.DONE


def approve(code: Code, role: RoleName, name: Name = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Let the person behind a code in, with a role."""
    return ask(Session(socket, as_json), "admit", {"target": code, "role": role, "name": name})


def reject(code: Code, socket: Socket = None, as_json: AsJson = False) -> int:
    """Answer a code with no."""
    return ask(Session(socket, as_json), "dismiss", {"target": code})


def remove(who: Who, socket: Socket = None, as_json: AsJson = False) -> int:
    """End a person's rights at once, whoever gave them."""
    return ask(Session(socket, as_json), "remove", {"target": who})


def application() -> typer.Typer:
    """The verb with its own verbs."""
    app = typer.Typer(name="people", help="Who may ask for what; let people in.", invoke_without_command=True)
    app.callback()(people)
    for verb in (approve, reject, remove):
        app.command()(verb)
    return app
