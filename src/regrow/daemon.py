"""The daemon: builds every part, runs them, stops them in reverse. The only place where parts are wired together."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import secrets
import signal
import socket
import stat
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from regrow import __version__, backups, doctor, files, rights, secret_files, succession, timetable
from regrow.admissions import Admissions
from regrow.agents import agent_of
from regrow.api import server as api
from regrow.api import types
from regrow.api.callers import MCP, Callers, of_token, program
from regrow.api.client import Client
from regrow.api.mcp_door import McpDoor, beside
from regrow.approvals import Approvals
from regrow.asking import Asked
from regrow.audit import Audit
from regrow.care import Care, for_people
from regrow.catalogue import Language
from regrow.channels.base import Address, Channel
from regrow.channels.feishu import feishu_channel, people
from regrow.channels.feishu.messages import NAME as FEISHU
from regrow.channels.hosted import HostedChannel
from regrow.config import (
    Config,
    DaemonSection,
    FeishuSection,
    McpSection,
    ProgramSection,
    TokenSection,
    load,
    only,
)
from regrow.conversations import Conversations
from regrow.databases import database
from regrow.databases.base import Database
from regrow.decision_links import AskedAlone, DecisionLinks
from regrow.errors import ConfigError, NotFound, RegrowError, ServiceError, StoreError
from regrow.events import Events
from regrow.forwarding import Forwarding
from regrow.freezes import Freezes
from regrow.gate import PROTECTED, Gate, Limits
from regrow.git import Repository
from regrow.heal import Heal
from regrow.idle import Idle
from regrow.inbox import Inbox
from regrow.incidents import Incidents
from regrow.intents import Args, Intent
from regrow.interpreter import Interpreter
from regrow.jobs import holds
from regrow.jobs.estimates import Estimates
from regrow.jobs.ledger import Ledger
from regrow.jobs.runner import Runner
from regrow.jobs.steps import STEPS
from regrow.log_watch import LogWatch
from regrow.lookout import Lookout
from regrow.models.gateway import ModelGateway
from regrow.notices import Notices
from regrow.outbox import Outbox
from regrow.people import People
from regrow.permissions import LOCAL, Permissions
from regrow.phrases import phrases
from regrow.places import Places
from regrow.pool import in_thread
from regrow.presses import Presses
from regrow.process import process_age_s
from regrow.quiet import Quiet
from regrow.rates import Rates
from regrow.redact import Redactor
from regrow.releases import Releases
from regrow.requests import Requests
from regrow.sandboxes import sandbox_of
from regrow.secret import Secret, resolve
from regrow.services import service as make_service
from regrow.snapshots import Snapshots
from regrow.store import STORE_ERROR_EXIT, Store, check
from regrow.traces import Traces
from regrow.verification import TEST_FILES
from regrow.versions import Versions
from regrow.views import Views
from regrow.web import console
from regrow.web.guards import LOOPBACK, guarded
from regrow.web.session import Session
from regrow.workspaces import Workspaces

log = structlog.get_logger("daemon")

EXIT_CONFIG = 78
EXIT_REFUSED = 5
_LONGEST_DOOR = 70  # bytes, of the 100 that the address of a socket may have
_RESTART_PART_S = 1.0
_PART_PAUSE_S = 60.0
_STOP_S = 30.0


class Daemon:
    """One daemon and the services it cares for.

    Args:
        configs: one a service.
        places: where its state and sockets are.
    """

    def __init__(self, configs: Sequence[Config], places: Places) -> None:
        self.configs = configs
        self.places = places
        self._started_at = time.time()
        self._stop = asyncio.Event()
        self._stop_services = False
        self._known: list[Secret] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.cares: dict[str, Care] = {}
        self.successor: list[str] = []  # what this process becomes when it has stopped

    # Life

    async def run(self) -> None:
        """Start, live until told to stop, stop.

        Raises:
            ConfigError, Refused, StoreError: it could not start; nothing is left running that was not before.
        """
        files.private_directory(self.places.state)
        files.private_directory(self.places.runtime)
        with files.exclusive_lock(self.places.state / "daemon.lock", "daemon"):
            async with contextlib.AsyncExitStack() as stack:
                await self._start(stack)
                await self._stop.wait()
                _tell_systemd("STOPPING=1")
                log.info("stopping", action="stop", services=self._stop_services)
                self.events.touch("stopping")

    def stop(self, services: bool = False) -> None:
        """Ask the daemon to stop.

        Args:
            services: stop the services too; otherwise they go on under their supervisors.
        """
        self._stop_services = self._stop_services or services
        self._stop.set()

    async def _upgrade(self) -> None:
        """Stop, and become the version of Regrow that is in use. Raises Refused when that one is not fit."""
        configs = [word for config in self.configs for word in ("--config", str(config.path))]
        self.successor = await succession.begin(self.places, configs)
        self.stop()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings = _daemon_section(self.configs)
        self.events = events = Events()
        self.store = store = Store(self._database(settings))
        stack.callback(store.close)
        token = _console_token(self.places.state / "console.token")
        listening = self._listen(settings.console, stack)

        restored = backups.note(self.places.state)
        for config in self.configs:
            care = await self._care(config, token)
            self.cares[care.name] = care
            stack.push_async_callback(self._let_go, care)
            if restored:
                log.info("known again", action="adopt", service=care.name, releases=await care.releases.adopt())

        ledger, approvals = Ledger(store, events), Approvals(store, events)
        audit = await self._audit(store, restored)
        outbox, inbox = Outbox(store, events), Inbox(store, events)
        hosted = {name: HostedChannel(name, store, events) for name in ("web", "terminal")}
        channels: dict[str, Channel] = dict(hosted)
        feishu = _feishu_section(self.configs)
        programs, table = _programs(self.configs), rights.section(self.configs)
        configured = [*people(feishu), *(program(name, section) for name, section in programs.items())]
        permissions = rights.permissions(table, configured)
        listed = People(store, permissions, configured)
        await listed.load()
        admissions = Admissions(
            people=listed, permissions=permissions, outbox=outbox, audit=audit, language=settings.language
        )
        self.runner = runner = Runner(
            store=store,
            host=settings.host,
            ledger=ledger,
            approvals=approvals,
            audit=audit,
            events=events,
            cares=self.cares,
            steps=STEPS,
            permissions=permissions,
        )

        notices = Notices(
            store=store,
            outbox=outbox,
            events=events,
            permissions=permissions,
            channels=channels,
            chats=settings.notices,
            language=settings.language,
            window_s=settings.notice_window,
            hold=self._held_until,
            clean=partial(for_people, self.cares),
        )
        incidents = Incidents(store, events)

        async def findings() -> list[types.Finding]:
            found = await doctor.findings(self.places, self.cares, channels)
            return found + [await doctor.rule(store, name) for name in table.chats if not name.endswith(":*")]

        self.views = views = Views(
            cares=self.cares,
            ledger=ledger,
            approvals=approvals,
            estimates=Estimates(store),
            outbox=outbox,
            channels=channels,
            progress=runner.progress,
            findings=findings,
            started_at=self._started_at,
            incidents=incidents,
        )

        self.requests = requests = Requests(
            cares=self.cares,
            ledger=ledger,
            runner=runner,
            approvals=approvals,
            permissions=permissions,
            audit=audit,
            views=views,
            admissions=admissions,
            rates=Rates(table.per_minute, table.jobs_per_hour),
            incidents=incidents,
            notices=notices,
        )
        forwarding = _forwarding(self.cares, store, outbox, events)
        page = settings.console_url or f"http://{settings.console}"
        links = DecisionLinks(token, page)
        alone = None
        if feishu is not None and not feishu.listen:
            alone = AskedAlone(links=links, permissions=permissions, outbox=outbox, channels={FEISHU})
        conversations = Conversations(
            cares=self.cares,
            requests=requests,
            permissions=permissions,
            outbox=outbox,
            ledger=ledger,
            views=views,
            events=events,
            admissions=admissions,
            forward=forwarding.put if forwarding else None,
            language=settings.language,
            ask_when_busy=table.ask_when_busy,
            alone=alone,
            interpreter=self._interpreter(),
        )
        if feishu is not None:
            presses = Presses(
                outbox=outbox,
                ledger=ledger,
                requests=requests,
                permissions=permissions,
                refusal=conversations.refusal,
                tell=conversations.tell,
                answer=conversations.press,
                language=settings.language,
            )
            talk = feishu_channel(feishu, permissions, presses.take, inbox.newest, admissions.left)
            channels[talk.name] = talk
            stack.push_async_callback(talk.close)
        lookout = Lookout(
            versions=Versions(self.places.state),
            store=store,
            notices=notices,
            outbox=outbox,
            cares=self.cares,
            channels=channels,
            language=settings.language,
        )
        incidents.tell = lookout.service_event
        heal = Heal(
            cares=self.cares,
            incidents=incidents,
            ledger=ledger,
            requests=requests,
            notices=notices,
            events=events,
            language=settings.language,
            may_heal=self._may_heal,
        )
        await lookout.begin()
        stack.push_async_callback(lookout.end)
        for care in self.cares.values():
            await care.service.ensure()
        await runner.start()
        stack.push_async_callback(runner.stop)

        file = self.places.database if store.database.restorable else None
        copies = backups.Backups(file, store.database.title, settings.backup_every, settings.backup_keep)
        parts = api.Parts(
            requests=requests,
            ledger=ledger,
            views=views,
            events=events,
            hosted=hosted,
            findings=findings,
            people=admissions.listed,
            permissions=lambda person, channel, chat: rights.table(
                permissions, table, permissions.person(person), channel, chat
            ),
            upgrade=self._upgrade,
            backups=copies,
            stop=self.stop,
            stopping=self._stop,
            callers=Callers(programs, channels, settings.language),
        )
        pages = _Pages(
            views=views,
            ledger=ledger,
            hosted=hosted,
            token=token,
            language=settings.language,
            links=links,
            requests=requests,
            permissions=permissions,
        )
        application = api.application(parts, console.routes(pages))
        shown = {of_token(name): _session(name, section.token) for name, section in _tokens(self.configs).items()}
        hosts = {*LOOPBACK, urlsplit(page).hostname or ""}
        console_app = guarded(application, Session(token), hosts=hosts, programs=shown)
        door = None
        if (mcp := _mcp_section(self.configs)) is not None and mcp.token:
            door = McpDoor(resolve(mcp.token), Client(self.places.socket, principal=MCP))
            console_app = beside(door, console_app)
        views.console = f"http://{settings.console}/login?token={token}"
        views.page, views.public = page, bool(settings.console_url)

        stack.push_async_callback(self._end_tasks)
        for channel in channels.values():
            self._keep(f"channel {channel.name}", lambda channel=channel: channel.run(inbox.take))  # type: ignore[misc]
        # Half a second of compiling; the first message should not wait for it.
        self._keep("phrases", _warm)
        self._keep("inbox", lambda: inbox.run(conversations.handle))
        self._keep("outbox", lambda: outbox.run(channels))
        self._keep("conversations", conversations.run)
        if settings.traces:
            self._keep("traces", Traces(settings.traces, settings.host, ledger, events).run)
        self._keep("lookout", lookout.run)
        self._keep("heal", heal.run)
        self._keep("watchdog", _feed_watchdog)
        if door is not None:
            self._keep("mcp", door.run)
        self._keep("backups", lambda: copies.run(notices.backup_failed))
        if forwarding is not None:
            self._keep("forwarding", forwarding.run)
            self._keep("outbox of the service", forwarding.poll)
        for care in self.cares.values():
            self._keep(f"events of {care.name}", lambda care=care: incidents.follow(care))  # type: ignore[misc]
            watch = LogWatch(care, incidents, events)
            self._keep(f"log of {care.name}", watch.run)
            self._keep(f"snapshots of {care.name}", lambda care=care: timetable.run(care, ledger, notices))  # type: ignore[misc]
        for app, bound in ((application, listening[0]), (console_app, listening[1])):
            await self._serve(app, bound, stack)
        for care in self.cares.values():
            await self._bring_up(care)
        views.ready_ms = process_age_s() * 1000
        _tell_systemd("READY=1")
        log.info("ready", action="ready", version=__version__, ready_ms=round(views.ready_ms))

    def _database(self, settings: DaemonSection) -> Database:
        """Where the store is; what is secret about that is known from here on."""
        found, secret = database(settings.store, self.places.database, settings.host)
        self._known = [secret, *([Secret(word)] if (word := found.engine.url.password) else [])] if secret else []
        # For who has to know it while no daemon runs: `regrow backup restore`.
        if found.restorable:
            self.places.served_by.unlink(missing_ok=True)
        else:
            files.write_atomic(self.places.served_by, found.title.encode())
        return found

    async def _audit(self, store: Store, restored: Mapping[str, object] | None) -> Audit:
        """The audit log, which begins with what has changed since the last life."""
        audit = Audit(store, head=self.places.audit_head)
        await audit.begin(restored)
        backups.forget_note(self.places.state)
        settings = {str(config.path): hashlib.sha256(config.path.read_bytes()).hexdigest() for config in self.configs}
        await audit.write("regrow", "daemon", "started", version=__version__, settings=settings)
        return audit

    async def _care(self, config: Config, token: str) -> Care:
        """The parts of one service."""
        directory = files.private_directory(self.places.service(config.service.name))
        repository = await Repository.open(config.repository)
        workspaces = Workspaces(directory / "workspaces", repository)
        named = {reference: resolve(reference) for reference in config.service.secrets.values()}
        named |= await in_thread(secret_files.values, config.repository)
        named |= {"the token of the console": Secret(token)}
        named |= {f"the store's password {index}": value for index, value in enumerate(self._known)}
        if (feishu := _feishu_section(self.configs)) is not None:
            named[feishu.app_secret] = resolve(feishu.app_secret)
        if (mcp := _mcp_section(self.configs)) is not None and mcp.token:
            named[mcp.token] = resolve(mcp.token)
        named |= {section.token: resolve(section.token) for section in _tokens(self.configs).values()}
        model, repair = config.model, config.repair
        redactor = Redactor(
            [*named.values(), *((resolve(model.key),) if model is not None and model.key else ())],
            home=Path.home(),
            roots={"workspaces": directory / "workspaces", "releases": directory / "releases", "state": directory},
        )
        limits = Limits(files=repair.max_files, lines=repair.max_lines, file_bytes=repair.max_file_size)
        return Care(
            config=config,
            directory=directory,
            service=make_service(config, self.places, directory),
            repository=repository,
            releases=Releases(self.store, directory / "releases", config.service.name),
            workspaces=workspaces,
            snapshots=Snapshots(self.store, directory / "snapshots", config.service.name),
            sandbox=sandbox_of(config.sandbox, (self.places.state, self.places.runtime)),
            agents=lambda name: agent_of(config, name, repository, workspaces),
            models=None if model is None else ModelGateway(model, named, self._doors(directory)),
            idle=Idle(
                self.store,
                config.service.name,
                config.service.idle,
                config.service.drain,
                config.expand(config.service.idle_command, state=str(config.data(directory))),
            ),
            freezes=Freezes(self.store, self.events),
            quiet=Quiet(config.quiet.hours, config.quiet.zone),
            gate=Gate(
                repair.allowed,
                (*PROTECTED, *repair.denied),
                limits,
                [_holds_no_secret(redactor)],
                ask=repair.ask,
                tests=(*TEST_FILES, *repair.tests),
                scripts=_scripts(config),
            ),
            redactor=redactor,
        )

    def _interpreter(self) -> Interpreter | None:
        """Who is asked what a message may mean: the model of the first service that says so, with a budget of a day."""
        for care in self.cares.values():
            chat, model = care.config.chat, care.config.model
            if not chat.interpret or model is None or care.models is None:
                continue
            budget = {"budget": chat.interpret_budget if model.budget else 0.0, "budget_tokens": 0}
            settings = model.model_copy(update={**budget, "budget_requests": chat.interpret_requests})
            return Interpreter(care.models.with_settings(settings), self.cares)
        return None

    def _doors(self, directory: Path) -> Path:
        """Where a service's sockets to its model are: the address of a socket must be short."""
        long = len(os.fsencode(directory)) > _LONGEST_DOOR
        return files.private_directory((self.places.runtime / directory.name if long else directory) / "models")

    def _held_until(self, now: float) -> float | None:
        """Until when good news waits: the end of the quiet hours of those services that want it held."""
        holding = [care.quiet.until(now) for care in self.cares.values() if care.config.quiet.notices == "hold"]
        return max((until for until in holding if until is not None), default=None)

    async def _may_heal(self, care: Care) -> str:
        """Why Regrow may not repair a service by itself now, "" when it may: whatever forbids changes says so here."""
        if await holds.freeze_of(care, Intent.repair) is not None:
            return "frozen"
        return "quiet" if care.quiet.until(time.time()) is not None else ""

    async def _let_go(self, care: Care) -> None:
        await care.service.close(keep_service=not self._stop_services)

    async def _bring_up(self, care: Care) -> None:
        """A service that was stopped is started: its last good release, or for the very first time. One that is down
        is its supervisor's to start again, which knows how and how often."""
        now = await care.service.status()
        if now.active is not None or (now.good is not None and now.state != "stopped"):
            return
        intent = Intent.restart if await care.releases.good() else Intent.deploy
        asked = Asked(LOCAL, "regrow", Address("api", ""), "en", understood="daemon")
        try:
            await self.requests.carry_out(
                intent, Args(target="latest" if intent is Intent.deploy else ""), asked, care.name
            )
        except RegrowError as error:
            log.error("the service could not be brought up", action="bring_up", service=care.name, error=str(error))

    # Parts

    def _keep(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part in a task of its own; one that breaks is told of and started again, the others go on."""

        async def keep() -> None:
            pause = _RESTART_PART_S
            while True:
                began = time.monotonic()
                try:
                    await part()
                    return
                except RegrowError as error:
                    log.error("a part of the daemon cannot run", action="part_failure", part=name, error=str(error))
                except Exception:
                    log.exception("a part of the daemon broke and is started again", action="part_failure", part=name)
                # Whatever keeps it from running will not be cured by trying every second.
                pause = _RESTART_PART_S if time.monotonic() - began > _PART_PAUSE_S else min(2 * pause, _PART_PAUSE_S)
                await asyncio.sleep(pause)

        self._tasks.append(asyncio.create_task(keep(), name=name))

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _listen(self, console_address: str, stack: contextlib.AsyncExitStack) -> tuple[socket.socket, socket.socket]:
        """The unix socket of this user and the console's port, both bound before anything is started."""
        path = self.places.socket
        files.private_directory(path.parent)
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise ConfigError(f"cannot listen on {path}: something else is there; move it away")
            path.unlink()  # ours: the lock says that no other daemon of this state directory lives
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stack.callback(local.close)
        old = os.umask(0o177)
        try:
            local.bind(str(path))
        finally:
            os.umask(old)
        stack.callback(path.unlink, missing_ok=True)
        host, _, port = console_address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        remote = socket.socket(family, socket.SOCK_STREAM)
        stack.callback(remote.close)
        remote.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            remote.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise ConfigError(
                f"cannot open the console on {console_address}: {error.strerror}; "
                "stop what uses it or set [daemon] console to another port",
                kind="address_in_use",
            ) from error
        return local, remote

    async def _serve(self, app: object, bound: socket.socket, stack: contextlib.AsyncExitStack) -> None:
        server = api.server(app)  # type: ignore[arg-type]
        task = asyncio.create_task(server.serve(sockets=[bound]), name="http server")

        async def end() -> None:
            server.should_exit = True
            await asyncio.wait({task}, timeout=_STOP_S)

        stack.push_async_callback(end)
        while not server.started:
            if task.done():
                await task
                raise ConfigError("cannot serve HTTP: the server ended at once; see the log")
            await asyncio.sleep(0.002)


class _Pages:
    """What the console shows."""

    def __init__(
        self,
        *,
        views: Views,
        ledger: Ledger,
        hosted: dict[str, HostedChannel],
        token: str,
        language: Language,
        links: DecisionLinks,
        requests: Requests,
        permissions: Permissions,
    ) -> None:
        self.language: Language = language
        self._views = views
        self._ledger = ledger
        self._hosted = hosted
        self.token = token
        self._links = links
        self._requests = requests
        self._permissions = permissions

    async def status(self) -> types.Status:
        return await self._views.status()

    async def job(self, number: int, /) -> types.Job:
        return await self._views.job(await self._ledger.get(number))

    async def jobs(self, limit: int, kind: str, status: str, before: int | None, /) -> list[types.Job]:
        return await self._views.jobs(await self._ledger.last(limit, kind=kind, status=status, before=before))

    async def asking(self) -> list[types.Job]:
        return await self._views.asking()

    async def incidents(self, limit: int, /) -> list[types.Incident]:
        return await self._views.all_incidents(limit)

    async def releases(self) -> dict[str, list[types.Release]]:
        return await self._views.all_releases()

    async def audit(self, limit: int, before: int | None, who: str, job: int | None, /) -> list[types.AuditRow]:
        asked = Asked(LOCAL, LOCAL.name, Address("web", ""), self.language, words="audit", understood="api")
        found = await (await self._requests.audit(asked)).find(before=before, who=who, job=job, limit=limit)
        return [types.AuditRow(**row) for row in reversed(found)]

    async def job_log(self, number: int, /) -> str:
        return await self._views.job_log(number)

    async def messages(self, channel: str, chat: str, /) -> list[types.Message]:
        return await self._hosted[channel].after(chat, 0)

    async def question(self, link: str, /) -> console.Question:
        decision = self._links.read(link)
        job = await self._views.job(await self._ledger.get(decision.job))
        asked = job.approval
        if asked is None or asked.digest != decision.digest:
            raise NotFound("cannot show this question: another change has taken its place", kind="no_such_link")
        person = self._permissions.person(decision.person)
        open_ = asked.state == "open" and job.status not in types.ENDED
        return console.Question(job, person.name if person else decision.person, open_)

    async def answer(self, link: str, approve: bool, language: Language, /) -> str:
        decision = self._links.read(link)
        record = await self._ledger.get(decision.job)
        person = self._permissions.person(decision.person)
        name = person.name if person else decision.person
        asked = Asked(person, name, record.address, language, via="link", understood="link")
        intent = Intent.approve if approve else Intent.reject
        done = await self._requests.carry_out(intent, Args(job=decision.job, target=decision.digest), asked)
        return done.text if isinstance(done, types.Answer) else ""


def _scripts(config: Config) -> tuple[str, ...]:
    """What the settings start by name: whoever changes it changes what is built and what is tested."""
    words = (*config.build.command, *config.test.command, *config.service.check)
    return tuple(os.path.normpath(word) for word in words if not word.startswith(("-", "/", "{")))


def _holds_no_secret(redactor: Redactor) -> Callable[[str, str], tuple[str, str] | None]:
    """The gate's check that no secret gets into a commit (F38)."""

    def check(_path: str, text: str) -> tuple[str, str] | None:
        return ("secret", "it holds what looks like a secret") if redactor.redact(text) != text else None

    return check


async def _warm() -> None:
    await in_thread(phrases)


def _daemon_section(configs: Sequence[Config]) -> DaemonSection:
    settings = only("daemon", (config.daemon for config in configs))
    names = [config.service.name for config in configs]
    if len(set(names)) < len(names):
        raise ConfigError(f"cannot care for two services of one name: {', '.join(sorted(names))}; rename one")
    return settings or DaemonSection()


def _feishu_section(configs: Sequence[Config]) -> FeishuSection | None:
    return only("channels.feishu", (config.channels.feishu for config in configs if config.channels is not None))


def _mcp_section(configs: Sequence[Config]) -> McpSection | None:
    return only("mcp", (config.mcp for config in configs))


def _tokens(configs: Sequence[Config]) -> dict[str, TokenSection]:
    """The programs that have a token of their own, by the names of their sections."""
    found: dict[str, TokenSection] = {}
    for config in configs:
        if twice := set(found) & set(config.token):
            raise ConfigError(f"cannot use two [token.{min(twice)}] sections; call one of them by another name")
        found |= config.token
    return found


def _programs(configs: Sequence[Config]) -> dict[str, ProgramSection]:
    """All programs that may ask, by the names that they go by on the list of people."""
    mcp = _mcp_section(configs)
    named: dict[str, ProgramSection] = {MCP: mcp} if mcp is not None else {}
    return named | {of_token(name): section for name, section in _tokens(configs).items()}


def _session(name: str, token: str) -> Session:
    try:
        return Session(resolve(token).reveal())
    except ValueError:
        text = f"cannot use the token of [token.{name}]: it has fewer than 16 characters; make a longer one"
        raise ConfigError(text) from None


def _forwarding(cares: Mapping[str, Care], store: Store, outbox: Outbox, events: Events) -> Forwarding | None:
    """The way to the service that gets what is said to nobody else."""
    given = [care for care in cares.values() if care.config.chat.forward]
    if len(given) > 1:
        names = ", ".join(care.name for care in given)
        raise ConfigError(f"cannot forward the chat to {names}: nobody could tell whose a message is; keep one forward")
    for care in given:
        chat = care.config.chat
        return Forwarding(
            service=care.name, settings=chat, store=store, outbox=outbox, events=events, redactor=care.redactor
        )
    return None


def _console_token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(24)
        files.write_atomic(path, token.encode())
        return token


def _tell_systemd(line: str) -> None:
    """`sd_notify`, where a service manager asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger, contextlib.suppress(OSError):
            messenger.sendto(line.encode(), address.replace("@", "\0", 1))


async def _feed_watchdog() -> None:
    """Tell a service manager that asked for it that the loop turns; one that hangs is killed and started again."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    every_s = int(os.environ.get("WATCHDOG_USEC") or 0) / 2e6
    while every_s:
        _tell_systemd("WATCHDOG=1")
        await asyncio.sleep(every_s)


def _set_up_logging() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


async def _run(configs: Sequence[Config], places: Places) -> list[str]:
    daemon = Daemon(configs, places)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, daemon.stop)
    await daemon.run()
    return daemon.successor


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m regrow.daemon --config FILE [...]`: run in the foreground until TERM, INT or HUP.

    Returns:
        0 after a clean stop, 78 for the configuration, 5 when refused (a second daemon), 75 for the state on disk.
    """
    parser = argparse.ArgumentParser(prog="regrow.daemon")
    parser.add_argument("--config", action="append", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="look at configuration and store, change nothing, end")
    options = parser.parse_args(argv)
    places = Places.of()
    Versions(places.state).hand_over("regrow.daemon", list(sys.argv[1:] if argv is None else argv))
    _set_up_logging()
    try:
        configs = [load(path) for path in options.config]
        if options.check:
            settings = _daemon_section(configs)
            check(database(settings.store, places.database, settings.host)[0])
            return 0
        if successor := asyncio.run(_run(configs, places)):
            sys.stderr.flush()
            os.execv(successor[0], successor)  # noqa: S606 - the same process, for whoever started it
    except RegrowError as error:
        sys.stderr.write(f"{error}\n")
        if isinstance(error, StoreError):
            return STORE_ERROR_EXIT
        refused = error.kind in {"locked", "own_cgroup", "units", "driver_changed"}
        if isinstance(error, ServiceError) and not refused:
            return STORE_ERROR_EXIT  # a supervisor that cannot start: its record is a newer one's, or its disk is full
        return EXIT_REFUSED if refused else EXIT_CONFIG
    except OSError as error:
        text = f"cannot start: {error.strerror or error}: {error.filename or places.state}; mend that and start again"
        sys.stderr.write(f"{text}\n")
        return STORE_ERROR_EXIT
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # The engine's threads may still hang in a wait of theirs; everything that matters is on disk.
    os._exit(code)
