"""`regrow init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli import exits, terminal, words
from regrow.cli.options import AsJson
from regrow.errors import RegrowError

if TYPE_CHECKING:
    from regrow.drafts import Draft

Folder = Annotated[Path, typer.Argument(metavar="[FOLDER]", help="The root of the service's checkout. [.]")]
Template = Annotated[
    str, typer.Option("--template", "-t", metavar="NAME", help="Write a template's files: python, node, go, rust ...")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Fill in a field of the template.")]
List = Annotated[bool, typer.Option("--list", help="Say which templates there are, and write nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there; their text stays as NAME.bak.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be written, and write nothing.")]


def init(  # noqa: PLR0917
    folder: Folder = Path(),
    template: Template = "",
    fields: Set = None,
    list_templates: List = False,
    force: Force = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Look at a repository and propose a regrow.toml, with a reason for each line; asks before it writes."""
    import asyncio

    from regrow import drafts

    if list_templates:
        return _templates(as_json)
    if fields and not template:
        raise RegrowError("cannot use --set without --template: edit the regrow.toml that is written", kind="usage")
    said = dict(_field(one) for one in fields or [])
    made = asyncio.run(drafts.draft(folder, words.language(), template=template, said=said, force=force))
    if not as_json:
        _show(made)
    done = not dry_run and (yes or not made.changes or _agreed(as_json))
    if done:
        drafts.write(made)
    if as_json:
        terminal.document(_document(made, done))
    elif done:
        _next(made)
    return exits.DONE if done or dry_run else exits.CANCELLED


def _templates(as_json: bool) -> int:
    from regrow import catalogue
    from regrow.templates.base import names

    known = catalogue.texts("en", "init")
    found = {
        name: catalogue.say(words.language(), f"init.template_{name}") if f"init.template_{name}" in known else ""
        for name in names()
    }
    if as_json:
        terminal.document([{"name": name, "text": text} for name, text in found.items()])
    else:
        for name, text in found.items():
            terminal.line(f"{name:<12}{text}")
    return exits.DONE


def _field(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RegrowError(f"cannot use --set {text}: say it as FIELD=VALUE", kind="usage")
    return name, value


def _agreed(as_json: bool) -> bool:
    if as_json or not terminal.can_ask():
        raise RegrowError("cannot ask whether to write that: nobody is there; add --yes or --dry-run", kind="usage")
    return terminal.yes(words.say("init_ask"))


def _show(made: Draft) -> None:
    for change in made.changes:
        if change.before is not None:
            terminal.diff(change.diff)
            continue
        terminal.line(str(change.path), "bold")
        for line in (change.after or "").splitlines():
            colour = "yellow" if (line.startswith("# ") and " # ?" in line) or line.startswith("# ?") else ""
            terminal.line(line, colour or ("dim" if line.startswith("#") else ""))
        terminal.line()
    if not made.changes:
        terminal.line(words.say("init_nothing", path=made.root))
    for name in made.defaults:
        terminal.note(words.say("init_default", name=name, value=(made.values or {})[name]))


def _next(made: Draft) -> None:
    from regrow import catalogue

    language = words.language()
    for change in made.changes:
        terminal.line(words.say("init_wrote", path=change.path), "green")
    if made.questions:
        terminal.line(words.say("init_questions", count=len(made.questions)), "yellow")
    key = f"init.next_{made.template}"
    if made.template and key in catalogue.texts("en", "init"):
        terminal.line(catalogue.say_fitting(language, key, **(made.values or {})))
    folder = "" if made.root == Path.cwd() else f"cd {made.root} && "
    terminal.line(words.say("init_next", cd=folder))


def _document(made: Draft, done: bool) -> dict[str, Any]:
    from regrow.surveys import rendering

    language = words.language()
    settings = [
        {
            "name": one.name,
            "value": one.value,
            "asked": one.asked,
            "reason": one.reason.key,
            "why": rendering.reason(one, language),
        }
        for one in made.survey.settings
    ]
    return {
        "folder": str(made.root),
        "language": made.survey.language,
        "template": made.template,
        "files": [
            {"path": str(one.path), "replaces": one.before is not None, "text": one.after} for one in made.changes
        ],
        "settings": [] if made.template else settings,
        "fields": dict(made.values or {}),
        "defaults": list(made.defaults),
        "done": done,
    }
