"""One screen of everything: services, probes, the job and the last messages. `regrow up --live` shows it until Ctrl-C
stops everything, `regrow watch` until Ctrl-C stops the watching."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from regrow.cli import daemon_process, exits, terminal, views
from regrow.cli.down import stop
from regrow.cli.options import Session
from regrow.cli.status import service_lines
from regrow.cli.words import say
from regrow.errors import RegrowError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from regrow.api.client import Client
    from regrow.api.types import Job, Message

REFRESH_S = 0.5
IDLE_S = 1.0
"""Between two looks while no job is under way: each look costs the daemon as much as all the rest of its idling."""
POLL_S = 0.05
MESSAGES = 6
CHANNELS = ("terminal", "web")
STOP_S = 30.0
AWAY = frozenset({"no_daemon", "no_answer", "lost", "starting", "stopping"})


def watch(session: Session, process: subprocess.Popen[bytes]) -> int:
    """Show everything until the daemon ends or Ctrl-C stops it.

    Args:
        session: the daemon's.
        process: the daemon, a child of this process.

    Returns:
        0 when all was stopped from here, else the daemon's exit code.
    """
    client = session.client(patience_s=0)
    try:
        _show(Glance(client), lambda: process.poll() is not None)
    except KeyboardInterrupt:
        return stop_all(session, process)
    return daemon_process.exit_status(process.wait(STOP_S))


def look_on(session: Session) -> int:
    """Show everything until Ctrl-C, whatever becomes of the daemon meanwhile. Nothing is stopped by it.

    Raises:
        RegrowError: kind "no_daemon": there is none to begin with.
    """
    glance = Glance(session.client(patience_s=0))
    glance.look()
    try:
        _show(glance, lambda: False)
    except KeyboardInterrupt:
        terminal.write("\n")
    return exits.DONE


def look_on_as_json(session: Session) -> int:
    """Print the whole state, as `regrow status --json` does, one line at once and after each change."""
    client, last = session.client(patience_s=0), dict[str, Any]()
    client.document("GET", "/v1/status")  # that there is a daemon at all
    try:
        while True:
            try:
                document = client.document("GET", "/v1/status")
            except RegrowError as error:
                if error.kind not in AWAY:
                    raise
            else:
                if (lasting := _lasting(document)) != last:
                    last = lasting
                    terminal.write(json.dumps(document, ensure_ascii=False) + "\n")
            time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        return exits.DONE


def _lasting(document: dict[str, Any]) -> dict[str, Any]:
    """A state without what is another figure at every look."""
    daemon = {name: value for name, value in document["daemon"].items() if name != "rss_bytes"}
    services = [
        one | {"probes": [probe | {"at": None} for probe in one.get("probes", ())]} for one in document["services"]
    ]
    return document | {"daemon": daemon, "services": services}


def end_alike() -> None:
    """From now on TERM and HUP end it as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def stop_all(session: Session, process: subprocess.Popen[bytes]) -> int:
    """Stop the daemon and the services, also a daemon that has only begun to start: it may have started a service."""
    terminal.write("\n")
    client, deadline = session.client(patience_s=0), time.monotonic() + STOP_S
    while process.poll() is None:
        try:
            stop(client, services=True)
            break
        except RegrowError as error:
            if error.kind not in AWAY:
                raise
        if time.monotonic() > deadline:
            process.terminate()
            break
        time.sleep(POLL_S)
    process.wait(STOP_S)
    terminal.line(say("stopped"))
    return exits.DONE


def _show(glance: Glance, over: Callable[[], bool]) -> None:
    from rich.live import Live

    plain, away = terminal.plain(), False
    with nullcontext() if plain else Live(refresh_per_second=8) as live:
        while not over():
            try:
                glance.look()
            except RegrowError as error:
                if error.kind not in AWAY:
                    raise
                if not away and glance.document:
                    away = True
                    said = say("daemon_away")
                    terminal.line(said, "yellow") if live is None else live.update(said)
            else:
                away = False
                if live is None:
                    glance.tell()
                else:
                    live.update(screen(glance.document, glance.job, glance.said))
            time.sleep(REFRESH_S if glance.busy else IDLE_S)


class Glance:
    """What the screen shows, fetched again and again."""

    def __init__(self, client: Client) -> None:
        self.document: dict[str, Any] = {}
        self.job: Job | None = None
        self._client = client
        self._told = ""
        self._plain = views.PlainView()
        self._over: set[int] = set()
        self._messages: dict[str, dict[int, Message]] = {channel: {} for channel in CHANNELS}

    def look(self) -> None:
        """Fetch what is now: the running job, or the last one; the last messages, in case they were edited."""
        self.document = self._client.document("GET", "/v1/status")
        number = next((one["job"] for one in self.document["services"] if one.get("job")), None)
        self.job = self._client.job(number) if number else next(iter(self._client.jobs(1)), None)
        for channel, known in self._messages.items():
            fresh = self._client.messages(channel, after=min(known, default=1) - 1)
            last = (known | {one.id: one for one in fresh}).items()
            self._messages[channel] = dict(sorted(last)[-MESSAGES:])

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return any(one.get("job") for one in self.document.get("services", ()))

    @property
    def said(self) -> list[Message]:
        """The last messages of all chats that Regrow hosts, oldest first."""
        everything = [one for known in self._messages.values() for one in known.values()]
        return sorted(everything, key=lambda one: one.at)[-MESSAGES:]

    def tell(self) -> None:
        """Print what has changed, one line each."""
        states = ", ".join(f"{one['name']} {one['state']}" for one in self.document["services"])
        if states != self._told:
            self._told = states
            terminal.line(states)
        job = self.job
        # What ended before this daemon began is no news.
        ended = (job.ended_at if job else 0.0) or time.time()
        if job and job.id not in self._over and ended >= self.document["daemon"]["started_at"]:
            from regrow.api.types import ENDED

            self._plain.show(job)
            if job.status in ENDED:
                self._over.add(job.id)
                views.story(job)


def screen(document: dict[str, Any], job: Job | None, said: list[Message]) -> RenderableType:
    """Everything on one screen."""
    from rich.console import Group
    from rich.text import Text

    now = time.time()
    parts: list[RenderableType] = []
    for one in document["services"]:
        parts += [Text.from_ansi(line) for line in service_lines(one, now)]
    daemon = document["daemon"]
    parts.append(
        Text(terminal.clean(f"daemon {daemon['version']} · pid {daemon['pid']} {daemon.get('console', '')}"), "dim")
    )
    if job:
        parts += [Text(""), views.job_table(job)]
        if job.story:
            parts.append(Text(terminal.clean(job.story)))
    if said:
        parts += [Text(""), *(Text(terminal.clean(f"{one.author}: {one.text}")) for one in said)]
    return Group(*parts)
