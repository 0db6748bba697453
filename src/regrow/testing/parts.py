"""The parts of a daemon around one service, wired as the daemon wires them, without a process of their own.

The store, the git repository and the releases are real; the service stands still and shows what a test says, and jobs
are written down and not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa

from regrow.admissions import Admissions
from regrow.agents import agent_of
from regrow.api import types
from regrow.approvals import Approvals
from regrow.audit import Audit
from regrow.care import Care
from regrow.channels.base import Address, Incoming
from regrow.channels.hosted import HostedChannel
from regrow.clock import Clock
from regrow.config import load
from regrow.conversations import Conversations
from regrow.events import Events
from regrow.gate import Gate
from regrow.git import Repository
from regrow.idle import Idle
from regrow.inbox import Inbox
from regrow.incidents import Incidents
from regrow.intents import ROLES
from regrow.jobs.estimates import Estimates
from regrow.jobs.ledger import Ledger, Record
from regrow.jobs.runner import Runner
from regrow.jobs.work import Progress
from regrow.notices import Notices
from regrow.outbox import Outbox
from regrow.people import People
from regrow.permissions import READS, Permissions, Person, Role
from regrow.redact import Redactor
from regrow.releases import Release, Releases
from regrow.requests import Asked, Requests
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
    """

    def __init__(
        self, root: Path, store: Store, events: Events, clock: Clock, *, repository: Repository, checkout: Checkout
    ) -> None:
        self.root, self.store, self.events, self.clock, self.checkout = root, store, events, clock, checkout
        self.service, self.runner = StillService(), PaperRunner()
        (root / "regrow.toml").write_text(_CONFIG)
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
        self.permissions = Permissions(PEOPLE, {**ROLES, **READS})
        self.incidents = Incidents(store, events, clock=clock)
        self.notices = Notices(
            store=store,
            outbox=self.outbox,
            events=events,
            permissions=self.permissions,
            channels=("memory",),
            chats=(),
            language="en",
            window_s=3600.0,
            clean=str,
            clock=clock,
        )
        self.views = Views(
            cares=cares,
            ledger=self.ledger,
            approvals=self.approvals,
            estimates=Estimates(store, clock),
            outbox=self.outbox,
            channels=dict(self.hosted),
            progress=self.runner.progress,
            findings=findings,
            started_at=clock.now(),
            incidents=self.incidents,
        )
        self.people = People(store, self.permissions, PEOPLE, clock)
        self.admissions = Admissions(
            people=self.people, permissions=self.permissions, outbox=self.outbox, audit=self.audit, language="en"
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
            clock=clock,
        )

    @classmethod
    async def make(cls, root: Path, store: Store, events: Events, clock: Clock) -> Parts:
        """Parts around a repository with one commit."""
        checkout = Checkout(root / "checkout")
        checkout.commit("Begin", {"src/answer.txt": "good\n"})
        repository = await Repository.open(checkout.path)
        return cls(root, store, events, clock, repository=repository, checkout=checkout)

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
