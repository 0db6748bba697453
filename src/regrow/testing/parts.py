"""The parts of a daemon around one service, wired as the daemon wires them, without a process of their own.

The store, the git repository and the releases are real; the service stands still and shows what a test says, and jobs
are written down and not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from regrow import rights
from regrow.admissions import Admissions
from regrow.agents import agent_of
from regrow.api import types
from regrow.approvals import Approvals
from regrow.asking import Asked
from regrow.audit import Audit
from regrow.care import Care
from regrow.catalogue import Language
from regrow.channels.base import Address, Incoming, Outgoing
from regrow.channels.hosted import HostedChannel
from regrow.clock import Clock
from regrow.config import load
from regrow.conversations import Conversations
from regrow.events import Events
from regrow.freezes import Freezes
from regrow.gate import Gate
from regrow.git import Repository
from regrow.idle import Idle
from regrow.inbox import Inbox
from regrow.incidents import Incidents
from regrow.jobs.estimates import Estimates
from regrow.jobs.ledger import Ledger, Record
from regrow.jobs.runner import Runner
from regrow.jobs.work import Progress
from regrow.notices import Notices
from regrow.outbox import Outbox, message_of
from regrow.people import People
from regrow.permissions import Person, Role
from regrow.quiet import Quiet
from regrow.rates import Rates
from regrow.redact import Redactor
from regrow.releases import Release, Releases
from regrow.requests import Requests
from regrow.sandboxes.unconfined import UnconfinedSandbox
from regrow.services.base import Instance, Service, ServiceStatus
from regrow.snapshots import Snapshots
from regrow.store import Store
from regrow.store import outbox as outbox_table
from regrow.store import releases as releases_table
from regrow.testing.repositories import Checkout
from regrow.views import Views
from regrow.workspaces import Workspaces

PEOPLE = tuple(
    Person(role.name, role.name.title(), role, frozenset({f"memory:{role.name}"}))
    for role in sorted(Role, reverse=True)
)
_LAST = sa.select(sa.func.max(releases_table.c.number).label("last"))
_SENT = sa.select(outbox_table).order_by(outbox_table.c.id)
_CONFIG = """\
[service]
name = "tiny"
command = ["{python}", "serve.py"]
[service.listen]
http = "127.0.0.1:8700"
[source]
repository = "checkout"
[probe.health]
target = "/health"
[daemon]
language = "zh"
"""


class StillService:
    """A service that is as it is told to be."""

    def __init__(self) -> None:
        self.now = ServiceStatus("tiny", "stopped", None, None, None, None, None, None, (), (), 0, 4000)

    async def status(self) -> ServiceStatus:
        """What the test said."""
        return self.now

    def shows(self, **changes: Any) -> None:
        """Change the status."""
        self.now = ServiceStatus(**{**vars(self.now), **changes})


class PaperRunner:
    """Writes down which jobs it was given, and how far one says it is."""

    def __init__(self) -> None:
        self.submitted: list[int] = []
        self.progresses: dict[int, Progress] = {}

    async def submit(self, record: Record) -> None:
        """Remember it."""
        self.submitted.append(record.id)

    def progress(self, job: int) -> Progress | None:
        """As the test set it."""
        return self.progresses.get(job)


class Parts:
    """See the head of this file; use `make`.

    Args:
        root: an empty directory.
        store, events, clock: of the test.
        repository: of `checkout`.
        checkout: where commits are made.
        language: of the settings.
        settings: more of regrow.toml.
    """

    def __init__(
        self,
        root: Path,
        store: Store,
        events: Events,
        clock: Clock,
        *,
        repository: Repository,
        checkout: Checkout,
        language: Language = "",
        settings: str = "",
    ) -> None:
        self.root, self.store, self.events, self.clock, self.checkout = root, store, events, clock, checkout
        self.service, self.runner = StillService(), PaperRunner()
        (root / "regrow.toml").write_text(_CONFIG + settings)
        config = load(root / "regrow.toml")
        directory = root / "state"
        directory.mkdir()
        self.workspaces = Workspaces(directory / "workspaces", repository)
        self.care = Care(
            config=config,
            directory=directory,
            service=cast(Service, self.service),
            repository=repository,
            releases=Releases(store, directory / "releases", "tiny", clock),
            workspaces=self.workspaces,
            snapshots=Snapshots(store, directory / "snapshots", "tiny", clock),
            sandbox=UnconfinedSandbox(),
            agents=lambda name: agent_of(config, name, repository, self.workspaces),
            idle=Idle(store, "tiny", ""),
            freezes=Freezes(store, events, clock),
            quiet=Quiet(config.quiet.hours, config.quiet.zone),
            gate=Gate(config.repair.allowed, config.repair.denied),
            redactor=Redactor([], home=Path.home(), roots={"<state>": directory}),
        )
        cares = {"tiny": self.care}
        self.ledger, self.approvals = Ledger(store, events, clock), Approvals(store, events, clock)
        self.outbox, self.inbox, self.audit = Outbox(store, events, clock), Inbox(store, events, clock), Audit(store)
        self.hosted = {name: HostedChannel(name, store, events, clock) for name in ("web", "terminal")}
        self.found: list[types.Finding] = []

        async def findings() -> list[types.Finding]:
            return self.found

        self.findings = findings
        self.estimates = Estimates(store, clock)
        self.table = rights.section([config])
        self.permissions = rights.permissions(self.table, PEOPLE)
        self.incidents = Incidents(store, events, clock=clock)
        self.notices = Notices(
            store=store,
            outbox=self.outbox,
            events=events,
            permissions=self.permissions,
            channels=("memory",),
            chats=(),
            language=language or "en",
            window_s=3600.0,
            clean=str,
            clock=clock,
        )
        self.views = Views(
            cares=cares,
            ledger=self.ledger,
            approvals=self.approvals,
            estimates=self.estimates,
            outbox=self.outbox,
            channels=dict(self.hosted),
            progress=self.runner.progress,
            findings=findings,
            started_at=clock.now(),
            clock=clock,
            incidents=self.incidents,
        )
        self.people = People(store, self.permissions, PEOPLE, clock)
        self.admissions = Admissions(
            people=self.people,
            permissions=self.permissions,
            outbox=self.outbox,
            audit=self.audit,
            language=language or "en",
        )
        self.requests = Requests(
            cares=cares,
            ledger=self.ledger,
            runner=cast(Runner, self.runner),
            approvals=self.approvals,
            permissions=self.permissions,
            audit=self.audit,
            views=self.views,
            admissions=self.admissions,
            incidents=self.incidents,
            notices=self.notices,
            rates=Rates(self.table.per_minute, self.table.jobs_per_hour, clock),
        )
        self.conversations = Conversations(
            cares=cares,
            requests=self.requests,
            permissions=self.permissions,
            outbox=self.outbox,
            ledger=self.ledger,
            views=self.views,
            events=events,
            admissions=self.admissions,
            language=language or "zh",
            ask_when_busy=self.table.ask_when_busy,
            clock=clock,
        )

    @classmethod
    async def make(
        cls, root: Path, store: Store, events: Events, clock: Clock, *, language: Language = "", settings: str = ""
    ) -> Parts:
        """Parts around a repository with one commit; `settings` is more of regrow.toml."""
        checkout = Checkout(root / "checkout")
        checkout.commit("Begin", {"src/answer.txt": "good\n"})
        repository = await Repository.open(checkout.path)
        return cls(
            root,
            store,
            events,
            clock,
            repository=repository,
            checkout=checkout,
            language=language,
            settings=settings,
        )

    async def release(self, good: bool = True) -> Release:
        """A release of what main is now."""
        made = (await self.store.rows(_LAST))[0]["last"] or 0
        job = made + 1000
        staged = self.care.releases.staging(job)
        commit = self.checkout.git("rev-parse", "HEAD")
        (staged / "commit").write_text(commit)
        version, subject = self.checkout.git("log", "-1", "--format=%h%n%s").split("\n")
        release = await self.care.releases.seal(job, version=version, commit=commit, subject=subject, build_seconds=1.5)
        if good:
            await self.care.releases.promoted(release.number)
        return await self.care.releases.get(release.id)

    def serve(self, release: Release, pid: int = 4242, **changes: Any) -> None:
        """Let the service run a release."""
        now = instance(release, pid, self.clock.now())
        self.service.shows(**{"state": "running", "active": now, "good": {"id": release.id}, **changes})

    def asked(self, who: str = "owner", chat: str = "main", language: str = "en", key: str = "") -> Asked:
        """Somebody of PEOPLE asks; "" is a stranger."""
        person = next((person for person in PEOPLE if person.id == who), None)
        address = Address("memory", chat, key)
        return Asked(person, who, address, "zh" if language == "zh" else "en", key and f"memory:{key}", who)

    def message(self, text: str, number: str, who: str = "owner", chat: str = "main", age: float = 0.0) -> Incoming:
        """Somebody says something, `age` seconds ago."""
        return Incoming(Address("memory", chat, number), who, who, text, self.clock.now() - age)

    async def shown_as(self, key: str, platform_id: str) -> None:
        """Let a message have reached its platform."""
        values = {"platform_id": platform_id, "state": "sent", "sent_revision": 1, "channel": "memory"}
        where = outbox_table.c.key == key
        await self.store.transact(lambda c: c.execute(outbox_table.update().where(where).values(**values)))

    async def outgoing(self) -> list[Outgoing]:
        """Everything in the outbox, as the channels get it, oldest first."""
        return [message_of(row) for row in await self.store.rows(_SENT)]

    async def sent(self) -> list[dict[str, Any]]:
        """Everything in the outbox: key, chat, text, buttons."""
        rows = await self.store.rows(_SENT)
        return [
            {
                "key": row["key"],
                "chat": row["chat"],
                "text": row["content"]["text"],
                "choices": row["content"]["choices"],
            }
            for row in rows
        ]


def instance(release: Release, pid: int, at: float, state: str = "active", **probes: int) -> Instance:
    """A running copy of a release; `probes` are strikes by name."""
    known = {name: {"strikes": strikes, "cause": "HTTP 500" if strikes else ""} for name, strikes in probes.items()}
    known = known or {"health": {"strikes": 0, "cause": ""}}
    return Instance(
        f"token-{pid}", release.id, release.digest, state, pid, 1, at, True, release.version, "", False, False, known
    )
