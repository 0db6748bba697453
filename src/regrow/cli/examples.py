"""What the help of each verb shows: command lines that people type, each with what it is for."""

from __future__ import annotations

from collections.abc import Mapping

import typer

Example = tuple[str, str]

EXAMPLES: Mapping[str, tuple[Example, ...]] = {
    "init": (
        ("regrow init", "of the checkout in this directory; shows, then asks"),
        ("regrow init --template go --dry-run", "what a template would write"),
    ),
    "up": (
        ("regrow up", "in the background, with ./regrow.toml"),
        ("regrow up -c bot.toml -c api.toml", "two services"),
        ("regrow up --live", "on this screen; Ctrl-C stops everything"),
    ),
    "down": (("regrow down", "the daemon and the services"),),
    "status": (
        ("regrow status", "what runs, what is under way"),
        ("regrow status --json | jq '.services[0].active.version'", "one value, for a script"),
    ),
    "watch": (
        ("regrow watch", "one screen of everything"),
        ("regrow watch --json", "a line for each change, for a program"),
    ),
    "doctor": (("regrow doctor", "what is missing, and how to mend it"),),
    "install": (
        ("regrow install --dry-run", "the units of systemd, without writing them"),
        ("sudo regrow install --system -c /etc/regrow/bot.toml", "for the whole machine"),
    ),
    "uninstall": (("regrow uninstall --dry-run", "what would be removed"),),
    "version": (("regrow version", ""),),
    "upgrade-self": (("regrow upgrade-self ./regrow-1.2-py3-none-any.whl", "from a file"),),
    "restart": (
        ("regrow restart", "a fresh process, without a refused connection"),
        ("regrow restart --when idle", "once nobody would be interrupted"),
    ),
    "build": (("regrow build feature-x", "tests and builds a branch; what runs stays"),),
    "deploy": (
        ("regrow deploy", "the newest commit of the configured branch"),
        ("regrow deploy v1.2 --when idle", "a tag, once nobody would be interrupted"),
        ("regrow deploy --no-wait --json", "prints the job and returns"),
    ),
    "repair": (
        ('regrow repair "the 7 am job did not run"', "in your words"),
        ('regrow repair "answers are cut" --reproduce "sh tests/long.sh"', "with a command that fails because of it"),
        ("regrow repair --incident 3", "what `regrow incidents` lists as 3"),
        ('regrow repair --continue 12 "not quite, also the weekly one"', "goes on with job 12"),
    ),
    "rollback": (
        ("regrow rollback", "to the release before"),
        ("regrow rollback r12 --with-data", "to a named one, and its data"),
    ),
    "freeze": (('regrow freeze "release window"', "nobody changes the service"),),
    "unfreeze": (("regrow unfreeze", "again they may"),),
    "releases": (("regrow releases", "what can be gone back to"),),
    "logs": (
        ("regrow logs -n 50 --follow", "as tail does"),
        ("regrow logs --release r12", "of a release that is gone"),
    ),
    "confine": (("regrow confine -- bash", "a shell that cannot stop the service"),),
    "snapshots": (("regrow snapshots", "copies of the data"),),
    "snapshots take": (("regrow snapshots take", "now"),),
    "snapshots restore": (("regrow snapshots restore 4", "shows the plan, then asks"),),
    "config show": (("regrow config show", ""),),
    "config get": (("regrow config get drain", ""),),
    "config set": (
        ("regrow config set drain=5s", "shows the difference, then asks"),
        ("regrow config set .env:LOG_LEVEL=debug --yes", "in a file of the service's own"),
    ),
    "config explain": (("regrow config explain switch.bake", "from the reference"),),
    "incidents": (("regrow incidents --lines", "with the lines that say why"),),
    "incidents ignore": (("regrow incidents ignore 3", "for some days"),),
    "jobs": (("regrow jobs -n 5", "the last five"),),
    "job": (
        ("regrow job 12", "its steps and what it said"),
        ("regrow job 12 --log", "all that was printed"),
        ("regrow job 12 --diff", "the change that waits or was made"),
    ),
    "approve": (("regrow approve 12", "shows the change, then asks"),),
    "reject": (("regrow reject 12", ""),),
    "cancel": (("regrow cancel 12", "what it did is undone"),),
    "keep": (("regrow keep 12", "the new version stays"),),
    "undo": (
        ("regrow undo", "what the last job changed"),
        ("regrow undo 12", "what job 12 changed"),
    ),
    "audit": (
        ("regrow audit --since 2h", "who did what"),
        ("regrow audit --verify", "that nothing was taken out"),
        ("regrow audit --export audit.jsonl", "all of it"),
    ),
    "permissions": (("regrow permissions", "the whole table"),),
    "chat": (
        ("regrow chat", "to talk"),
        ('echo "status" | regrow chat', "for a script"),
    ),
    "mcp": (("regrow mcp --chat feishu:oc_0123", "started by the bot, not by you"),),
    "people": (("regrow people", "who may, and who asks to"),),
    "people approve": (("regrow people approve K7M3QX --role operator", "the code that a stranger was given"),),
    "people reject": (("regrow people reject K7M3QX", ""),),
    "people remove": (("regrow people remove ada", ""),),
    "channels": (("regrow channels", "whether each hears and speaks"),),
    "channels add": (("regrow channels add feishu", "step by step"),),
    "channels check": (("regrow channels check feishu", "what is missing in its console"),),
    "backup": (("regrow backup", "takes one now"),),
    "backup now": (("regrow backup now", ""),),
    "backup list": (("regrow backup list", "also without a daemon"),),
    "backup restore": (("regrow backup restore regrow-20260131-090000.db", "while no daemon runs"),),
}
"""By the verb as it is typed."""


def shown(verb: str) -> str:
    """The examples of a verb as the end of its help; "" when it has none."""
    lines = [f"{line}   # {about}" if about else line for line, about in EXAMPLES.get(verb, ())]
    # A paragraph each: whoever renders the help joins the lines of one.
    return "\n\n".join(["Examples:", *lines]) if lines else ""


def add(app: typer.Typer, above: str = "") -> None:
    """Let the help of every verb of `app` end with its examples.

    Args:
        app: with all its verbs.
        above: the verb that it is below, with a space; "" for the whole command.
    """
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        command.epilog = command.epilog or shown(above + name) or None
    for group in app.registered_groups:
        assert group.typer_instance is not None
        name = str(group.typer_instance.info.name)
        group.epilog = shown(above + name) or None
        add(group.typer_instance, f"{above}{name} ")
