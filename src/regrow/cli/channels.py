"""`regrow channels`: which there are, whether they are well, and setting one up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Session, Socket
from regrow.cli.words import say
from regrow.errors import RegrowError

Name = Annotated[str, typer.Argument(metavar="CHANNEL", help="feishu (Lark is the same channel).")]
ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The settings that have, or shall have, the channel.")
]
AppId = Annotated[str, typer.Option("--app-id", metavar="CLI_...", help="App ID, from the app's page in the console.")]
SecretFile = Annotated[
    str, typer.Option("--secret-file", metavar="PATH", help="Read the App Secret from a file, or with - from a pipe.")
]
SecretEnv = Annotated[
    str,
    typer.Option("--secret-env", metavar="NAME", help="The variable that has the App Secret, here and in the daemon."),
]
Domain = Annotated[
    str, typer.Option("--domain", metavar="feishu|lark", help="Where the app lives; found out where not given.")
]
BaseUrl = Annotated[str, typer.Option("--base-url", metavar="URL", help="Another address than the domain's.")]
Proxy = Annotated[
    str, typer.Option("--proxy", metavar="URL", help="A proxy for all of it; the environment is not asked.")
]
Owner = Annotated[str, typer.Option("--owner-open-id", metavar="OU_...", help="Who shall own: their open_id.")]
Contact = Annotated[
    str, typer.Option("--owner-contact", metavar="TEXT", help="Who shall own: their e-mail or mobile number in Feishu.")
]
OwnerName = Annotated[str, typer.Option("--owner-name", metavar="NAME", help="What the owner is called.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for a message.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the section that is there; its people are kept.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Write also while something is still red.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")]


def listed(context: typer.Context, socket: Socket = None, as_json: AsJson = False) -> int:
    """Show the channels, and whether each can hear and speak; exit 1 when one cannot."""
    if context.invoked_subcommand is not None:
        return exits.DONE
    rows = Session(socket, as_json).client().document("GET", "/v1/status").get("channels") or []
    if as_json:
        terminal.document(rows)
    else:
        width = max((len(one["name"]) for one in rows), default=0)
        for one in rows:
            mark = terminal.paint("✓", "green") if one["healthy"] else terminal.paint("✗", "red")
            text = terminal.clean(f"{one['name']:<{width}}  {one.get('detail', '')}")
            terminal.write(f"{mark} {text.rstrip()}\n")
        if not rows:
            terminal.line(say("nothing_yet"))
    return exits.DONE if all(one["healthy"] for one in rows) else exits.UNWELL


def check(
    channel: Name,
    config: ConfigPath = Path("regrow.toml"),
    wait: Wait = 0.0,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Look at a channel's app as `add` does, and change nothing; exit 1 when something is wrong."""
    _known(channel)
    from regrow.cli import feishu_meeting

    return feishu_meeting.check(Session(socket, as_json), config, wait)


def add(
    channel: Name,
    *,
    config: ConfigPath = Path("regrow.toml"),
    app_id: AppId = "",
    secret_file: SecretFile = "",
    secret_env: SecretEnv = "",
    domain: Domain = "",
    base_url: BaseUrl = "",
    proxy: Proxy = "",
    owner: Owner = "",
    contact: Contact = "",
    owner_name: OwnerName = "",
    wait: Wait = 600.0,
    replace: Replace = False,
    anyway: Anyway = False,
    yes: Yes = False,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Set up a channel: check the app, hear its owner, write the settings. Asks for what no option says."""
    _known(channel)
    from regrow.cli.feishu_setup import Answers, Setup

    answers = Answers(
        config=config,
        app_id=app_id,
        secret_file=secret_file,
        secret_env=secret_env,
        domain=domain or ("lark" if channel == "lark" else ""),
        base_url=base_url,
        proxy=proxy,
        owner=owner,
        contact=contact,
        owner_name=owner_name,
        wait=wait,
        replace=replace,
        anyway=anyway,
        yes=yes,
    )
    return Setup(Session(socket, as_json), answers).run()


def application() -> typer.Typer:
    """The verb with its own verbs."""
    app = typer.Typer(
        name="channels", help="The channels: list them, check one, set one up.", invoke_without_command=True
    )
    app.callback()(listed)
    app.command()(add)
    app.command()(check)
    return app


def _known(channel: str) -> None:
    if channel not in {"feishu", "lark"}:
        raise RegrowError(f"cannot set up {channel}: the channels that can be set up are feishu and lark", kind="usage")
