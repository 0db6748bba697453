"""A request, carried out: permissions first, then an answer at once or a job.

Every way in ends here: chat, the console's buttons, the command line, the API. So what may be asked, by whom, and with
which confirmation is decided in one place (F37).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from regrow import probes, restores, rights, setting_changes, targets
from regrow.admissions import Admissions, Decider
from regrow.api import types
from regrow.approvals import Approvals
from regrow.asking import Asked
from regrow.audit import Audit
from regrow.care import Care, for_people
from regrow.catalogue import Language, bytes_text, say, say_fitting, span_text, time_text
from regrow.cautions import interrupted, interruption
from regrow.errors import NotFound, Refused
from regrow.incidents import Incident, Incidents
from regrow.intents import CHANGES, HELD, Args, Intent
from regrow.jobs import holds
from regrow.jobs.ledger import Ledger, Limit, Record, Share
from regrow.jobs.plans import UNDOABLE, plan
from regrow.jobs.runner import Runner
from regrow.notices import Notices
from regrow.permissions import AUDIT, LOCAL, Permissions
from regrow.pool import in_thread
from regrow.rates import FREE, HOUR_S, Rates
from regrow.releases import Release
from regrow.setting_changes import Change, Planned
from regrow.views import Views

_LOG_LINES = 30
_WORDS = 300
"""Characters of what somebody said that the audit log keeps."""

_SAYS_WHAT_IT_INTERRUPTS = frozenset({Intent.restart, Intent.rollback})
"""What is done at once; the others come to the service only after a build."""


class Requests:
    """Carries out what people ask for."""

    def __init__(
        self,
        *,
        cares: Mapping[str, Care],
        ledger: Ledger,
        runner: Runner,
        approvals: Approvals,
        permissions: Permissions,
        audit: Audit,
        views: Views,
        admissions: Admissions,
        incidents: Incidents,
        notices: Notices,
        rates: Rates | None = None,
    ) -> None:
        self._incidents = incidents
        self._notices = notices
        self._admissions = admissions
        self._rates = rates or Rates()
        self._cares = cares
        self._ledger = ledger
        self._runner = runner
        self._approvals = approvals
        self._permissions = permissions
        self._audit = audit
        self._views = views

    def care(self, service: str) -> Care:
        """The service of that name; the only one need not be named.

        Raises:
            NotFound: kind "no_such_service".
        """
        if not service and len(self._cares) == 1:
            return next(iter(self._cares.values()))
        if service not in self._cares:
            known = ", ".join(sorted(self._cares))
            raise NotFound(
                f"cannot tell which service is meant; name one of: {known}", kind="no_such_service", names=known
            )
        return self._cares[service]

    def counts(self, asked: Asked) -> bool:
        """Count a message of somebody who is on the list, as a request; False when they have asked too often."""
        if asked.person is None or self._permissions.person(asked.person.id) is None:
            return False
        try:
            self._rates.take(asked.person, Intent.help)
        except Refused:
            return False
        return True

    async def allow(self, asked: Asked, intent: str) -> None:
        """Let pass who may ask for an intent.

        Raises:
            Refused: kind "forbidden" and others; that it was tried is in the audit log.
        """
        try:
            self._permissions.check(asked.person, intent, *asked.where)
        except Refused as refused:
            why: dict[str, Any] = {} if refused.kind == "forbidden" else {"why": refused.kind}
            await self.record(asked, "refused", intent=str(intent), **why)
            raise

    async def carry_out(
        self, intent: Intent, args: Args, asked: Asked, service: str = "", agent: str = ""
    ) -> types.Accepted | types.Answer:
        """Do what is asked.

        Args:
            intent: what.
            args: its arguments.
            asked: who asks.
            service: which service; "" for the only one.
            agent: the repairing agent by name; "" for the one set.

        Returns:
            The job that does it, or the answer.

        Raises:
            Refused: kind "forbidden" and others; nothing has changed.
            NotFound: a release, commit, job or service that does not exist.
        """
        await self._may(intent, asked)
        if args.incident is not None:
            service = (await self._incidents.get(args.incident)).service
        match intent:
            case Intent.freeze | Intent.unfreeze:
                return types.Answer(text=await self._freeze(intent, args, asked, self.care(service)))
            case _ if intent in CHANGES and _hurries(args):
                return await self._hurry(intent, args.job or 0, args.when, asked)
            case Intent.repair if args.job is not None:
                return await self._further(args, asked, service, agent)
            case Intent.configure:
                return await self._configure(args.changes, asked, self.care(service))
            case Intent.restart | Intent.build | Intent.deploy | Intent.repair | Intent.rollback:
                return await self._job(intent, args, asked, self.care(service), agent)
            case Intent.approve | Intent.reject:
                return await self._decide(intent, args, asked)
            case Intent.cancel:
                return await self._cancel(args, asked)
            case Intent.keep:
                return await self._keep(args, asked)
            case Intent.undo:
                return await self._undo(args, asked, self.care(service))
            case Intent.people | Intent.admit | Intent.dismiss | Intent.remove:
                return types.Answer(text=await self._people(intent, args, asked))
            case Intent.snapshot:
                return types.Answer(text=await self._snapshot(asked, self.care(service)))
            case Intent.ignore:
                return types.Answer(text=await self._ignore(args, asked, self.care(service)))
            case Intent.notify:
                return types.Answer(text=await self._notify(args, asked))
            case _:
                return types.Answer(text=await self._tell(intent, args, asked, service))

    async def _may(self, intent: str, asked: Asked) -> None:
        """As `allow`, and not more often than the limits say. Raises Refused, also of kind "rate"."""
        await self.allow(asked, intent)
        if intent not in Intent.__members__:
            return
        try:
            self._rates.take(asked.person, Intent(intent))
        except Refused:
            await self.record(asked, "refused", intent=str(intent), why="rate")
            raise

    # Jobs

    async def _job(
        self, intent: Intent, args: Args, asked: Asked, care: Care, agent: str, *, undoes: Record | None = None
    ) -> types.Accepted | types.Answer:
        known: dict[str, Any] = {}
        limit = None
        await self._not_frozen(intent, asked, care)
        if intent is Intent.repair and args.incident is not None:
            return await self._mend(await self._incidents.get(args.incident), args, asked, care, agent)
        match intent:
            case Intent.restart:
                release = await targets.serving(care, "restart")
                limit = await self._limit(care, args)
                what, known = {"release": release.id}, {"version": release.version}
            case Intent.rollback:
                release = await targets.back_to(care, args)
                # Asked again when it is done: what is refused there should have been refused here.
                await restores.choose(care, release, args.data, args.snapshot)
                what, known = {"release": release.id}, {"version": release.version}
                if undoes is not None:
                    known |= _undone_by(undoes)
                    if await in_thread(setting_changes.reversed_changes, care, undoes.id):
                        what["settings_of"] = str(undoes.id)  # code, data and settings of before go together
                if args.target not in {"", "previous"}:
                    what["named"] = "yes"
                if args.snapshot is not None:
                    what["snapshot"] = str(args.snapshot)
                elif args.data:
                    what["data"] = "yes"
            case Intent.repair:
                release = await targets.serving(care, "repair")
                probe = "" if args.reproduction else await targets.failing_probe(care)
                shown = probes.reproduction(care.config, probe) if probe else args.reproduction
                what = {"commit": release.commit, "bug": args.bug, "reproduction": shown, "agent": agent}
                if probe:
                    what["probe"] = probe  # it is asked again once the repair serves
                if args.evidence:
                    what["evidence"] = "\n".join(args.evidence)  # quoted or attached: for the agent to read
                if not args.bug.strip():
                    raise Refused("cannot repair: say what goes wrong after the word bug", kind="no_bug")
                care.agents(agent)  # an unknown name is refused now, not in the middle of the job
            case _:
                what = await targets.to_build(care, args.target)
        if asked.address.chat and intent in _SAYS_WHAT_IT_INTERRUPTS:
            busy, other = await interrupted(care, self._ledger)
            if lines := interruption(care, busy, other if args.when == "force" else None, asked.language):
                known["interrupts"] = lines
        if args.when not in {"", "now"}:
            what["when"] = await self._when(args.when, asked, care)
        elif args.when and care.config.quiet.hours:
            what["when"] = "now"
        if what.get("when") in holds.AT_ONCE and (waiting := await self._ledger.put_off(care.name, intent, what)):
            return await self._hurry(intent, waiting.id, "now", asked)
        return await self._open(intent, what, known, asked, care, limit=limit)

    async def _not_frozen(self, intent: Intent, asked: Asked, care: Care) -> None:
        """Refuse what changes a frozen service. Raises Refused, kind "frozen"."""
        if (found := await holds.freeze_of(care, intent)) is not None:
            await self.record(asked, "refused", intent=str(intent), why="frozen")
            raise holds.frozen(intent, found, care)

    async def _hurry(self, intent: Intent, job: int, when: str, asked: Asked) -> types.Accepted:
        """Let a job that waits for its time go on now; by force, without those that are before it."""
        record = await self._ledger.get(job)
        if record.kind != intent.value or when not in holds.AT_ONCE:
            raise Refused(f"cannot hurry job {job}: it is a {record.kind}; say now or force", kind="bad_request")
        if when == "force":
            await self._when(when, asked, self.care(record.service), but=job)
        if not await self._ledger.hurry(job) and when == "now":
            raise Refused(f"cannot hurry job {job}: it does not wait for its time any more", kind="ended")
        await self.record(asked, "hurried", job, when=when)
        return types.Accepted(job=job, joined=True)

    # Incidents

    async def _mend(
        self, incident: Incident, args: Args, asked: Asked, care: Care, agent: str
    ) -> types.Accepted | types.Answer:
        """Repair an incident: its description is the bug, its lines are the evidence, and a probe that fails now is the
        reproduction. One that a job repairs already is joined."""
        if incident.job is not None:
            last = await self._ledger.get(incident.job)
            mine = asked.address.message and last.address == asked.address
            if not last.ended or mine:  # handled again after a kill: this message made it
                return types.Accepted(job=last.id, joined=True)
        release = await care.serving() or await care.releases.get(incident.release)
        probe = await targets.failing_probe(care) if incident.kind == "probe" and not args.reproduction else ""
        attempt = incident.attempts + 1
        what = {
            "commit": release.commit,
            "bug": self._described(incident, asked.language),
            "reproduction": probes.reproduction(care.config, probe) if probe else args.reproduction,
            "agent": agent,
            "evidence": "\n".join(incident.lines),
            "incident": str(incident.id),
        }
        if probe:
            what["probe"] = probe
        care.agents(agent)
        # The key is the incident's: two who press at once, and a daemon killed in between, make one job.
        key = f"incident:{incident.id}:{attempt}"
        accepted = await self._open(Intent.repair, what, {}, replace(asked, key=key), care)
        await self._incidents.began(incident.id, attempt, accepted.job)
        await self._notices.withdraw(f"incident {incident.id} offer ")
        return accepted

    @staticmethod
    def _described(incident: Incident, language: Language) -> str:
        """An incident in plain words, as a person would report it."""
        return say(
            language,
            "incident.bug",
            title=say_fitting(language, f"incident.{incident.kind}", cause=incident.cause),
            count=incident.count,
            release=incident.release or "-",
            first=time_text(incident.first_at),
            last=time_text(incident.last_at),
        )

    async def _ignore(self, args: Args, asked: Asked, care: Care) -> str:
        if args.incident is None:
            raise Refused("cannot tell which incident is meant; name one, such as #I3", kind="which_incident")
        for_s = care.config.incidents.ignore
        await self._incidents.ignore(args.incident, for_s)
        await self.record(asked, "ignored", incident=args.incident, seconds=for_s)
        await self._notices.withdraw(f"incident {args.incident} offer ")
        return say(asked.language, "answer.ignored", incident=args.incident, time=span_text(asked.language, for_s))

    async def _notify(self, args: Args, asked: Asked) -> str:
        """Tell somebody what is told unasked, or no more; the page and the terminal are told in any case."""
        if asked.person == LOCAL or not asked.identity:
            return say(asked.language, "answer.notified_here")
        await self._notices.listen(asked.address.channel, asked.identity, wants=not args.off)
        await self.record(asked, "unnotified" if args.off else "notified")
        return say(asked.language, "answer.unnotified" if args.off else "answer.notified")

    async def _further(self, args: Args, asked: Asked, service: str, agent: str) -> types.Accepted:
        """Go on with the repair that is named by its number."""
        earlier = await self._ledger.get(args.job or 0)
        if earlier.kind != "repair" or (service and earlier.service != service):
            raise Refused(
                f"cannot go on with job {earlier.id}: it is no repair of {service or earlier.service}; "
                "`regrow jobs` lists them",
                kind="not_a_repair",
                job=earlier.id,
            )
        return await self.go_on(earlier, args.bug.strip(), asked, agent=agent, reproduction=args.reproduction)

    async def go_on(
        self, earlier: Record, words: str, asked: Asked, *, agent: str = "", reproduction: str = ""
    ) -> types.Accepted:
        """Go on with a repair, or do it again: a new job that knows the earlier one.

        The same agent goes on with its own session, in the same workspace path and home; another begins anew and is
        told the bug and all words since, and so is one whose session is gone: homes are not kept for ever. What was not
        deployed is not in its tree.

        Args:
            earlier: the repair.
            words: what the person says now; "" asks for the same once more.
            asked: who asks.
            agent: by another agent.
            reproduction: how the bug shows, when that has changed.

        Raises:
            Refused: kind "forbidden", "still_repairing" while the agent of the earlier job works, and others.
        """
        await self._may(Intent.repair, asked)
        care = self.care(earlier.service)
        await self._not_frozen(Intent.repair, asked, care)
        before = earlier.args.get("agent", "") or str(earlier.result.get("agent", ""))
        agent = agent or before
        care.agents(agent)
        release = await targets.serving(care, "repair")
        if not earlier.ended:
            if not any(step["name"] == "approve" and step["status"] == "waiting" for step in earlier.steps):
                raise Refused(
                    f"cannot go on: the agent of job {earlier.id} is still at work; wait for it, or cancel it",
                    kind="still_repairing",
                    job=earlier.id,
                )
            await self._ledger.cancel(earlier.id, asked.name)
            await self.record(asked, "cancelled", earlier.id, why="goes on")
        room = int(earlier.args.get("room", earlier.id))
        session = str(earlier.result.get("session", "")) if words and agent == before else ""
        if session and not await in_thread(care.agent_home(room).is_dir):
            session = ""
        what = {**earlier.args, "commit": release.commit, "agent": agent, "follows": str(earlier.id)}
        for name in ("room", "session"):
            what.pop(name, None)
        if session:
            what |= {"bug": words, "session": session, "room": str(room)}
        elif words:
            what["bug"] = f"{earlier.args['bug']}\n\n{words}"
        if reproduction:
            what["reproduction"] = reproduction
            what.pop("probe", None)
        return await self._open(Intent.repair, what, {}, asked, care)

    async def _open(
        self,
        intent: Intent,
        what: dict[str, str],
        known: dict[str, str],
        asked: Asked,
        care: Care,
        *,
        limit: Limit | None = None,
        start: bool = True,
    ) -> types.Accepted:
        record, new = await self._ledger.open(
            service=care.name,
            kind=intent.value,  # type: ignore[arg-type]
            plan=plan(
                intent.value,  # type: ignore[arg-type]
                data=bool(care.databases),
                keep=bool(care.config.switch.confirm_within),
                settings=bool(care.config.config.files),
                start=start,
            ),
            args=what,
            key=asked.key,
            language=asked.language,
            asked_by=asked.name,
            person=asked.person.id if asked.person else "",
            address=asked.address,
            result=known,
            limit=limit,
            share=self._share(asked),
        )
        if new or record.person == (asked.person.id if asked.person else ""):
            detail = {
                "intent": str(intent),
                "args": {k: v for k, v in what.items() if k not in {"bug", "reproduction", "evidence", "changes"}},
            }
            if "changes" in what:
                detail["settings"] = [f"{one['file']}:{one['name']}" for one in json.loads(what["changes"])]
            # Once, and again when the daemon was killed between the job and this row.
            await self.record(asked, "asked", record.id, once=True, **detail)
        else:
            await self.record(asked, "joined", record.id, intent=str(intent))
        await self._runner.submit(record)
        return types.Accepted(job=record.id, joined=not new)

    def _share(self, asked: Asked) -> Share | None:
        """How many jobs the person may begin; the local user any number, see rates.py."""
        if not self._rates.jobs_per_hour or asked.person is None or asked.person.id == LOCAL.id:
            return None
        return Share(self._rates.jobs_per_hour, HOUR_S, frozenset(intent.value for intent in FREE))

    @staticmethod
    async def _limit(care: Care, args: Args) -> Limit | None:
        """How often a restart may be asked for (F6). Who means it says force, and what is down may be started."""
        service = care.config.service
        if not service.restart_limit or args.when == "force" or await care.serving() is None:
            return None
        return Limit(service.restart_limit, service.restart_window)

    async def _when(self, when: str, asked: Asked, care: Care, *, but: int | None = None) -> str:
        """When a job may change the service: "idle" waits, "force" calls off what is in its way, with undo."""
        if when not in {"idle", "force"}:
            raise Refused(f"cannot use when={when}: it is now, idle or force", kind="bad_request")
        if when == "force":
            self._permissions.check(asked.person, Intent.cancel, *asked.where)
            for other in await self._ledger.live(care.name):
                if "turn" in other.plan and other.id != but and await self._ledger.cancel(other.id, asked.name):
                    await self.record(asked, "cancelled", other.id, why="force")
        return when

    # Settings

    async def preview(self, words: Sequence[str], asked: Asked, service: str = "") -> types.Preview:
        """What changes of settings would do; nothing is written.

        Raises:
            Refused: kinds "forbidden", "bad_setting", "nothing_to_change" and those of `settable.find`.
        """
        await self.allow(asked, Intent.configure)
        care = self.care(service)
        planned, start, _ = await self._planned(setting_changes.asked(words, care.config), asked, care)
        return types.Preview(diff=planned.diff, role=planned.role.name, restarts=start)

    async def _planned(
        self, changes: Sequence[Change], asked: Asked, care: Care, *, literal: bool = False
    ) -> tuple[Planned, bool, Release | None]:
        """Changes tried on the files, for somebody who may make them; whether they take a fresh process, of what."""
        planned = await in_thread(setting_changes.plan, care, changes, literal=literal)
        present = self._permissions.person(asked.person.id) if asked.person else None
        if present is None or present.role < planned.role:
            await self.record(asked, "refused", intent=str(Intent.configure), role=planned.role.name)
            raise Refused(f"cannot set that: it takes the role {planned.role.name}; ask an owner", kind="forbidden")
        serving = await care.serving()
        start = serving is not None and setting_changes.needs_start(care, planned, serving)
        return planned, start, serving

    async def _configure(self, words: Sequence[str], asked: Asked, care: Care) -> types.Accepted:
        if not words:
            raise Refused("cannot set anything: say which setting and its value", kind="bad_request")
        await self._not_frozen(Intent.configure, asked, care)
        return await self._change(setting_changes.asked(words, care.config), asked, care)

    async def _change(
        self, changes: Sequence[Change], asked: Asked, care: Care, *, literal: bool = False, undoes: int | None = None
    ) -> types.Accepted:
        planned, start, serving = await self._planned(changes, asked, care, literal=literal)
        what = {"changes": json.dumps([vars(one) for one in planned.changes], ensure_ascii=False)}
        known: dict[str, Any] = {"diff": planned.diff} | ({} if undoes is None else {"undoes": undoes})
        if serving is not None:
            what["release"] = serving.id
            known["version"] = serving.version
        return await self._open(Intent.configure, what, known, asked, care, start=start)

    # Answers to questions of jobs

    async def _decide(self, intent: Intent, args: Args, asked: Asked) -> types.Answer:
        job = args.job if args.job is not None else await self._only_open_question(asked)
        decision = "approved" if intent is Intent.approve else "rejected"
        person = asked.person.id if asked.person else ""
        if decision == "approved":
            await self._two_people(await self._ledger.get(job), asked)
        channel, chat = asked.where
        decided = await self._approvals.decide(
            job, decision, asked.name, person=person, digest=args.target, channel=channel, chat=chat
        )
        await self.record(asked, decision, job, digest=decided.digest)
        return types.Answer(text=say(asked.language, f"answer.{decision}", job=job))

    async def _two_people(self, record: Record, asked: Asked) -> None:
        """Whoever asked may not be the one who approves, where the settings say so."""
        care = self._cares.get(record.service)
        person = asked.person.id if asked.person else ""
        if care is not None and care.config.repair.four_eyes and record.person == person:
            await self.record(asked, "refused", record.id, intent=str(Intent.approve), why="four_eyes")
            raise Refused(
                f"cannot approve job {record.id}: you asked for it, and somebody else must look at the change",
                kind="four_eyes",
            )

    async def _only_open_question(self, asked: Asked) -> int:
        open_ = [question.job for question in await self._approvals.open()]
        here = [job for job in open_ if _here(await self._ledger.get(job), asked)]
        found = here or open_
        if not found:
            raise Refused("cannot decide: nothing waits for an approval", kind="no_approval")
        if len(found) > 1:
            numbers = ", ".join(f"#{job}" for job in found)
            raise Refused(f"cannot tell which job is meant; name one of: {numbers}", kind="which_job", jobs=numbers)
        return found[0]

    async def _cancel(self, args: Args, asked: Asked) -> types.Answer:
        if args.job is not None:
            record = await self._ledger.get(args.job)
        else:
            live = await self._ledger.live()
            if args.kind:
                live = [record for record in live if record.kind == args.kind]
            if not live:
                raise Refused("cannot cancel: no job is under way", kind="nothing_to_cancel")
            mine = [record for record in live if _here(record, asked)]
            if len(mine or live) > 1:
                numbers = ", ".join(f"#{record.id}" for record in mine or live)
                raise Refused(f"cannot tell which job is meant; name one of: {numbers}", kind="which_job", jobs=numbers)
            record = (mine or live)[0]
        if not await self._ledger.cancel(record.id, asked.name):
            raise Refused(f"cannot cancel job {record.id}: it has ended already", kind="ended")
        await self.record(asked, "cancelled", record.id)
        return types.Answer(text=say(asked.language, "answer.cancelling", job=record.id))

    async def _keep(self, args: Args, asked: Asked) -> types.Answer:
        waiting = [record for record in await self._ledger.live() if record.asks_to_keep]
        if args.job is not None:
            waiting = [record for record in waiting if record.id == args.job]
        chosen = [record for record in waiting if _here(record, asked)] or waiting
        if len(chosen) > 1:
            numbers = ", ".join(f"#{record.id}" for record in chosen)
            raise Refused(f"cannot tell which job is meant; name one of: {numbers}", kind="which_job", jobs=numbers)
        if not chosen or not await self._ledger.keep(chosen[0].id, asked.name):
            raise await self._nothing_to_keep(args, asked)
        await self.record(asked, "kept", chosen[0].id)
        return types.Answer(text=say(asked.language, "answer.kept", job=chosen[0].id))

    async def _nothing_to_keep(self, args: Args, asked: Asked) -> Refused:
        """Why the word changes nothing: it comes too early, too late, or again; of the job named, else of the newest
        that asks for it, one of this chat first."""
        asking = [record for record in await self._ledger.last() if "confirm" in record.plan]
        asking = [record for record in asking if args.job in {None, record.id}]
        record = next((one for one in asking if _here(one, asked)), next(iter(asking), None))
        if record is None:
            return Refused("cannot keep: no new version waits for that word", kind="nothing_to_keep")
        found, version = record.result, str(record.result.get("version", ""))
        if not record.ended and not record.kept_by and "switched_at" in found and record.status != "undoing":
            text = f"cannot keep {version} yet: it is still being watched; say it when you are asked"
            return Refused(text, kind="too_early_to_keep", version=version)
        if record.kept_by:
            text = f"cannot keep {version} again: {record.kept_by} has done so"
            return Refused(text, kind="kept_already", version=version, by=record.kept_by)
        if record.status in {"undone", "undoing"} and "keep_until" in found:
            commit, serving = str(found.get("commit", ""))[:10], str(found.get("serving", ""))
            before = serving or str(found.get("previous_version", ""))
            text = (
                f"cannot keep {version}: nobody said so in time, and {before} is back; deploy {commit} to try it again"
            )
            return Refused(text, kind="too_late_to_keep", version=version, serving=before, commit=commit)
        return Refused("cannot keep: no new version waits for that word", kind="nothing_to_keep")

    async def _undo(self, args: Args, asked: Asked, care: Care) -> types.Accepted | types.Answer:
        """Back to what served before a job: the job itself is called off while it lasts, else a rollback is made.

        Code and data go back together: where the schema has moved since, the data does, and what was written since is
        kept as a snapshot. Where it has not, the old code works with the data as it is, and nobody loses any.
        """
        record = await self._to_undo(args, care)
        if not record.ended:
            good = any(step["name"] == "promote" and step["status"] == "done" for step in record.steps)
            called_off = await self._cancel(Args(job=record.id), asked)
            if not good:
                return called_off
        if record.kind == "configure":
            return await self._configured_before(record, asked, care)
        before, displaced = record.result.get("previous_release", ""), record.result.get("displaced")
        serving = await care.serving()
        if not before or (before == record.result.get("release") and not displaced):
            raise Refused(f"cannot undo job {record.id}: it replaced no other version", kind="nothing_to_undo")
        if serving is None or serving.id != record.result.get("release"):
            now = serving.version if serving else "nothing"
            raise Refused(
                f"cannot undo job {record.id}: {now} serves by now; name the release to go back to: {before}",
                kind="overtaken_undo",
                before=before,
            )
        # What was restored with the code goes with it again: the data that it displaced.
        number = int(displaced) if displaced else None
        data = args.data or (number is None and await targets.moved(care, str(before)))
        back = Args(target=str(before), data=data, snapshot=number)
        done = await self._job(Intent.rollback, back, asked, care, "", undoes=record)
        await self.record(asked, "undone", record.id, by=done.job if isinstance(done, types.Accepted) else None)
        return done

    async def _configured_before(self, record: Record, asked: Asked, care: Care) -> types.Accepted:
        """The settings of before a job, each unless somebody has changed it since."""
        changes = await in_thread(setting_changes.reversed_changes, care, record.id)
        if not changes:
            raise Refused(
                f"cannot undo job {record.id}: its settings were changed since; say what they are to be",
                kind="overtaken_settings",
            )
        done = await self._change(changes, asked, care, literal=True, undoes=record.id)
        await self.record(asked, "undone", record.id, by=done.job)
        return done

    async def _to_undo(self, args: Args, care: Care) -> Record:
        if args.job is not None:
            return await self._ledger.get(args.job)
        for record in await self._ledger.last():
            changes = record.kind in UNDOABLE and args.kind in {"", record.kind}
            if record.service == care.name and changes and (not record.ended or record.status == "done"):
                return record
        raise Refused("cannot undo: no job has changed what runs", kind="nothing_to_undo")

    async def _snapshot(self, asked: Asked, care: Care) -> str:
        taken = await care.snapshots.take(None, care.databases, reason="asked")
        if taken is None:
            raise Refused("cannot take a snapshot: [state] sqlite names no database that exists", kind="no_database")
        await self.record(asked, "snapshot", snapshot=taken.id)
        at, size = restores.when(taken.at), bytes_text(taken.bytes)
        return say(asked.language, "answer.snapshot", snapshot=taken.id, at=at, size=size)

    # People

    async def _people(self, intent: Intent, args: Args, asked: Asked) -> str:
        by = Decider(
            asked.name,
            asked.way,
            asked.language,
            asked.person.id if asked.person else "",
            words=self.words(asked),
        )
        match intent:
            case Intent.admit:
                return await self._admissions.admit(args.target, args.role, by, args.name)
            case Intent.dismiss:
                return await self._admissions.dismiss(args.target, by)
            case Intent.remove:
                return await self._admissions.remove(args.target, by)
            case _:
                people = await self._admissions.text(asked.language)
                return f"{people}\n{rights.text(self._permissions, asked.language, *asked.where)}"

    # Freezes

    async def _freeze(self, intent: Intent, args: Args, asked: Asked, care: Care) -> str:
        """Freeze a service, or lift that; jobs that have not switched yet end at their next step."""
        if intent is Intent.unfreeze:
            ended = await care.freezes.end(care.name)
            await self.record(asked, "unfrozen", service=care.name, since=ended.at)
            await self._tell_owners(f"{care.name} unfrozen {ended.at}", care, "unfrozen", by=asked.name)
            return say(asked.language, "answer.unfrozen", service=care.name)
        found = await care.freezes.begin(care.name, for_people(self._cares, args.reason), asked.name)
        await self.record(asked, "frozen", service=care.name, reason=found.reason)
        told = {"by": asked.name, "reason": found.reason or "-"}
        await self._tell_owners(f"{care.name} frozen {found.at} {found.reason}", care, "frozen", **told)
        held = [f"#{one.id}" for one in await self._ledger.live(care.name) if one.kind in HELD and _is_before(one)]
        text = say(asked.language, "answer.frozen", service=care.name, reason=found.reason or "-")
        return text + ("\n" + say(asked.language, "answer.frozen_jobs", jobs=", ".join(held)) if held else "")

    async def _tell_owners(self, event: str, care: Care, key: str, **values: str) -> None:
        await self._notices.tell(event, f"freeze {care.name}", key, service=care.name, **values)

    # The audit log

    def words(self, asked: Asked) -> dict[str, Any]:
        """What was said and how it was understood, as the audit log keeps it: without secrets, and not without end."""
        said = for_people(self._cares, " ".join(asked.words.split()))
        said = said if len(said) <= _WORDS else said[: _WORDS - 1] + "…"
        return {name: value for name, value in (("words", said), ("understood", asked.understood)) if value}

    async def record(
        self, asked: Asked, what: str, job: int | None = None, *, once: bool = False, **detail: Any
    ) -> None:
        """Write down what somebody did, with their id and the chat; see `Audit.write`."""
        person = asked.person.id if asked.person else ""
        where = asked.address
        if where.chat:
            detail["chat"] = where.chat
        detail |= self.words(asked)
        await self._audit.write(asked.name, asked.way, what, job, person=person, once=once, **detail)

    async def audit(self, asked: Asked) -> Audit:
        """The audit log, for those who may read it.

        Raises:
            Refused: kind "forbidden".
        """
        await self._may(AUDIT, asked)
        return self._audit

    # Questions that need no job

    async def _tell(self, intent: Intent, args: Args, asked: Asked, service: str) -> str:
        language = asked.language
        match intent:
            case Intent.status:
                return await self._views.status_text(language)
            case Intent.releases:
                return await self._views.releases_text(self.care(service), language)
            case Intent.snapshots:
                return await self._views.snapshots_text(self.care(service), language)
            case Intent.history:
                return await self._views.history_text(language)
            case Intent.job:
                found = args.job if args.job is not None else next((r.id for r in await self._ledger.last(1)), None)
                if found is None:
                    raise NotFound("cannot show a job: there was none yet", kind="no_such_job")
                return await self._views.job_text(found)
            case Intent.logs:
                return await self._views.logs_text(self.care(service), args.lines or _LOG_LINES, language)
            case Intent.incidents:
                return await self._views.incidents_text(self.care(service), language)
            case Intent.doctor:
                return await self._views.doctor_text(language)
            case Intent.settings:
                return await self._views.settings_text(self.care(service), language)
            case Intent.help:
                return self._views.help_text(language)
            case _:
                raise Refused(f"cannot {intent}: this version does not know how yet", kind="unsupported")


def _undone_by(undoes: Record) -> dict[str, Any]:
    """What the report of an undo says of the job: its commit is where it landed, and is not taken out of there."""
    found = undoes.result
    landed = str(found["merged_into"]) if found.get("merged") else ""
    commit = str(found.get("landed") or found.get("commit", ""))[:10]
    return {"undoes": undoes.id, "undoes_landed": landed, "undoes_commit": commit}


def _hurries(args: Args) -> bool:
    """Whether a request is about a job that waits for its time."""
    return args.job is not None and args.when in holds.AT_ONCE


def _is_before(record: Record) -> bool:
    """Whether a job has not switched yet."""
    return not any(step["name"] == "switch" and step["status"] == "done" for step in record.steps)


def _here(record: Record, asked: Asked) -> bool:
    """Whether a job was asked for in the chat that speaks now; two channels may have chats of one name."""
    return (record.address.channel, record.address.chat) == (asked.address.channel, asked.address.chat)
