"""What people and programs are shown: jobs, releases and the whole state, put together from the parts that know."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regrow import __version__, restores, settable, story
from regrow.api import types
from regrow.approvals import Approval, Approvals
from regrow.care import Care
from regrow.catalogue import Language, ago_text, bytes_text, duration_text, help_text, say, say_fitting
from regrow.channels.base import Channel
from regrow.clock import Clock, SystemClock
from regrow.config import Config, ServiceSection
from regrow.errors import RegrowError
from regrow.incidents import MENDABLE, Incident, Incidents
from regrow.intents import TABLE
from regrow.jobs.estimates import Estimates
from regrow.jobs.ledger import Ledger, Record
from regrow.jobs.work import Progress
from regrow.outbox import Outbox
from regrow.pool import in_thread
from regrow.services.base import Instance
from regrow.tail import Follower, end_of

_LOG_BYTES = 256 * 1024
_LIST = 10
_FOLLOW_S = 0.25
_OPEN = frozenset({"open", "repairing", "came_back", "tried"})


# What a report may need; the rest of a job's facts are the steps' own business, paths of this machine among them.
SHOWN = frozenset(
    {
        *("release", "version", "commit", "subject", "digest", "first", "debut", "pid", "switched_at", "down_ms"),
        *("previous_version", "previous_release", "serving", "serving_release", "uncommitted"),
        *("schema_moved", "restored", "restored_at", "displaced", "rows", "data_back"),
        *("tests", "tests_seconds", "tests_passed", "build_seconds", "build_bytes", "build_estimate", "snapshot_bytes"),
        *("agent", "cost", "summary", "culprit", "culprit_subject", "files", "added", "removed", "reproduced"),
        *("reproduced_by", "unreproduced", "diagnosis", "failing", "reproducing_tests", "refusals", "risks"),
        *("test_files", "tests_added", "tests_removed", "proving_tests", "flaky_tests", "lost_tests", "failed_before"),
        *("attempts", "attempt", "attempts_planned", "given_up"),
        *("keep_until", "kept_by", "interrupts"),
        *("approved_by", "branch", "merged", "merged_into", "landing", "landed", "rebased_over"),
        *("conflicts", "pushed_to", "recheck", "recheck_by", "recheck_tail", "model"),
        *("undoes", "undoes_landed", "undoes_commit", "changed", "migrated", "settings_kept"),
        *("brings_files", "brings_count", "brings_commits"),
        *("cause", "fell_back", "probes_mended", "probes_failing"),
    }
)


class Views:
    """Reads the parts; changes nothing."""

    def __init__(
        self,
        *,
        cares: Mapping[str, Care],
        ledger: Ledger,
        approvals: Approvals,
        estimates: Estimates,
        outbox: Outbox,
        channels: Mapping[str, Channel],
        progress: Callable[[int], Progress | None],
        findings: Callable[[], Awaitable[list[types.Finding]]],
        started_at: float,
        incidents: Incidents,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._incidents = incidents
        self._cares = cares
        self._ledger = ledger
        self._approvals = approvals
        self._estimates = estimates
        self._outbox = outbox
        self._channels = channels
        self._progress = progress
        self._findings = findings
        self._started_at = started_at
        self.ready_ms = 0.0
        self.console = ""
        self.page, self.public = "", False

    # Jobs

    async def job(self, record: Record) -> types.Job:
        """A job with its running step's progress and its open question."""
        return await self._job(record, await self._approvals.of(record.id))

    async def jobs(self, records: Sequence[Record]) -> list[types.Job]:
        """Each of `records` as `job` shows it; their questions are read at once."""
        questions = await self._approvals.of_all([record.id for record in records])
        return [await self._job(record, questions.get(record.id)) for record in records]

    async def asking(self) -> list[types.Job]:
        """The jobs that wait for somebody's yes, the oldest first."""
        questions = {one.job: one for one in await self._approvals.open()}
        live = await self._ledger.live()
        return [await self._job(one, questions[one.id]) for one in live if one.id in questions]

    async def _job(self, record: Record, question: Approval | None) -> types.Job:
        progress = self._progress(record.id)
        steps = [await self._step(record, step, progress) for step in record.steps]
        result = {name: value for name, value in record.result.items() if name in SHOWN}
        if record.status == "cancelled" and record.cancelled_by:
            result["cancelled_by"] = record.cancelled_by
        view = types.Job(
            id=record.id,
            service=record.service,
            kind=record.kind,
            status=record.status,
            title=story.title(record.kind, record.language, record.args, record.result),
            language=record.language,
            asked_by=record.asked_by,
            channel=record.address.channel,
            chat=record.address.chat,
            created_at=record.created_at,
            started_at=record.started_at,
            ended_at=record.ended_at,
            waiting_for=record.waiting_for,
            steps=steps,
            approval=None
            if question is None
            else types.Approval(
                digest=question.digest,
                summary=question.summary,
                files=question.files,
                diff=question.diff,
                state=question.state,
                decided_by=question.decided_by,
                reasons=story.reasons(record.language, record.result),
                barred=self._barred(record),
            ),
            page=self._page(record),
            result=result,
            error=types.Error(**record.error) if record.error else None,
        )
        if record.ended:
            view = view.model_copy(update={"story": story.result(view).text})
        return view

    def _page(self, record: Record) -> str:
        """The address of a job's page with its whole log, for those who reach it: a phone is not this machine."""
        near = record.address.channel in {"web", "terminal"}
        return f"{self.page}/jobs/{record.id}" if self.page and (near or self.public) else ""

    def _barred(self, record: Record) -> str:
        """Who may not approve, by name; "" when it is nobody."""
        care = self._cares.get(record.service)
        return record.asked_by if care is not None and care.config.repair.four_eyes else ""

    async def _step(self, record: Record, step: Mapping[str, object], progress: Progress | None) -> types.Step:
        running = step["status"] in {"doing", "waiting"} and progress is not None
        seconds = step.get("seconds")
        detail, part, estimate = str(step.get("detail") or ""), None, None
        if running and progress is not None:
            elapsed = self._clock.monotonic() - progress.began
            seconds, detail, estimate = elapsed, progress.detail, progress.estimate_s
            part = progress.part
            if part is None and estimate is not None and estimate[1] > 0:
                # Past the longest known duration nobody knows how far it is; a full bar would be a lie.
                part = min(elapsed / estimate[1], 0.95)
        return types.Step(
            name=str(step["name"]),
            title=say(record.language, f"step.{step['name']}"),
            status=step["status"],
            started_at=step.get("started_at"),
            seconds=None if seconds is None else float(str(seconds)),
            detail=detail,
            progress=part,
            estimate_s=estimate,
        )

    async def job_log(self, job: int) -> str:
        """The end of a job's full log, redacted when it was written."""
        record = await self._ledger.get(job)
        return await in_thread(end_of, self._cares[record.service].job_log(job), _LOG_BYTES)

    # The whole state

    async def status(self) -> types.Status:
        """Everything at a glance."""
        services = [await self._service(care) for care in self._cares.values()]
        return types.Status(
            daemon=types.DaemonStatus(
                version=__version__,
                pid=os.getpid(),
                started_at=self._started_at,
                ready_ms=self.ready_ms,
                rss_bytes=_rss_bytes(),
                console=self.console,
            ),
            services=services,
            channels=[
                types.ChannelStatus(name=name, healthy=health.healthy, detail=health.detail)
                for name, health in ((name, channel.health()) for name, channel in self._channels.items())
            ],
            outbox_waiting=await self._outbox.waiting(),
        )

    async def _service(self, care: Care) -> types.ServiceStatus:
        live = await self._ledger.live(care.name)
        turn = await self._ledger.turn(care.name)
        job = turn if any(record.id == turn for record in live) else (live[0].id if live else None)
        address = next(iter(care.config.service.listen.values()), "")
        queue = [record.id for record in live if record.id != job]
        frozen = await care.freezes.of(care.name)
        held: dict[str, Any] = {"quiet_until": care.quiet.until(self._clock.now())}
        if frozen is not None:
            reason = care.redactor.redact(frozen.reason)
            held["freeze"] = types.FreezeStatus(reason=reason, by=frozen.by, at=frozen.at)
        try:
            now = await care.service.status()
        except (RegrowError, OSError):
            return types.ServiceStatus(
                name=care.name,
                state="down",
                address=address,
                job=job,
                queue=queue,
                incidents=await self._open(care),
                **held,
            )
        known = {release.id: release for release in await care.releases.all()}

        def running(copy: Instance | None) -> types.Running | None:
            if copy is None or copy.pid is None:
                return None
            release = known.get(copy.release)
            return types.Running(
                release=copy.release,
                version=copy.version or (release.version if release else ""),
                commit=release.commit if release else "",
                pid=copy.pid,
                since=copy.started_at,
            )

        states = {"running": "up", "switching": "up", "starting": "starting", "stopped": "stopped"}
        probes = now.active.probes if now.active else {}
        trial = now.trial
        return types.ServiceStatus(
            name=care.name,
            state=states.get(now.state, "down"),
            active=running(now.active),
            standby=running(now.standby),
            candidate=running(now.candidate),
            fallback=str(now.good["id"]) if now.good else "",
            baking_until=trial["switched_at"] + trial["bake_s"] if trial and trial.get("switched_at") else None,
            pinned=[str(pin["id"]) for pin in now.pins],
            probes=[
                types.ProbeState(name=name, ok=not probe["strikes"], detail=str(probe.get("cause") or ""))
                for name, probe in probes.items()
            ],
            address=address,
            job=job,
            queue=queue,
            supervisor_pid=now.supervisor_pid,
            **held,
            incidents=await self._open(care),
        )

    async def _open(self, care: Care) -> int:
        return sum(one.state in _OPEN for one in await self.incidents(care))

    async def incidents(self, care: Care, limit: int = 50) -> list[types.Incident]:
        """What went wrong, the newest first, with what has become of it."""
        found = await self._incidents.last(care.name, limit)
        repairs = await self._ledger.some({one.job for one in found if one.job is not None})
        return [self._incident(care, one, repairs.get(one.job or 0)) for one in found]

    async def all_incidents(self, limit: int = 50) -> list[types.Incident]:
        """Those of every service, the one seen last first."""
        found = [one for care in self._cares.values() for one in await self.incidents(care, limit)]
        return sorted(found, key=lambda one: one.last_at, reverse=True)[:limit]

    def _incident(self, care: Care, one: Incident, last: Record | None) -> types.Incident:
        """An incident as people see it; `last` is its last repair."""
        now, settings = self._clock.now(), care.config.incidents
        again = last is not None and last.ended_at is not None and one.last_at > last.ended_at
        state: types.IncidentState = "open"
        if one.kind not in MENDABLE:
            state = "told"
        elif last is not None and not last.ended:
            state = "repairing"
        elif one.ignored(now, settings.factor):
            state = "ignored"
        elif last is not None and last.status == "done" and not again:
            state = "mended"
        elif now - one.last_at > settings.ignore:
            state = "quiet"
        elif last is not None:
            state = "came_back" if last.status == "done" else "tried"
        return types.Incident(
            id=one.id,
            service=one.service,
            kind=one.kind,
            state=state,
            fingerprint=one.fingerprint,
            cause=one.cause,
            lines=one.lines,
            first_at=one.first_at,
            last_at=one.last_at,
            count=one.count,
            last_hour=one.hourly(now),
            releases=one.releases,
            job=one.job,
            why=one.why,
            ignored_until=one.ignored_until,
        )

    async def incidents_text(self, care: Care, language: Language) -> str:
        """The answer to "incidents"."""
        found = (await self.incidents(care))[:_LIST]
        if not found:
            return say(language, "incident.none")
        now = self._clock.now()

        def line(one: types.Incident) -> str:
            state = "" if one.state == "open" else say_fitting(language, f"incident_state.{one.state}", job=one.job)
            return say(
                language,
                "incident.line",
                mark="⚠️" if one.state in _OPEN else "·",
                incident=one.id,
                title=say_fitting(language, f"incident.{one.kind}", cause=story.plain(language, one.cause)),
                count=one.count,
                release=", ".join(one.releases[-3:]) or "-",
                ago=ago_text(language, now - one.last_at),
                state=state,
            )

        lines = [say(language, "incident.heading"), *map(line, found)]
        return care.redactor.for_people("\n".join(lines))

    async def snapshots(self, care: Care) -> list[types.Snapshot]:
        """Every snapshot, newest first, with the releases that work with its data."""
        known = await care.releases.all()
        return [
            types.Snapshot(
                id=one.id,
                at=one.at,
                reason=one.reason,
                job=one.job,
                bytes=one.bytes,
                files=[str(entry["name"]) for entry in one.files],
                releases=[release.id for release in known if one.schema and release.schema == one.schema],
            )
            for one in await care.snapshots.all()
        ]

    async def restore_plan(self, care: Care, number: int) -> types.RestorePlan:
        """What restoring a snapshot would do.

        Raises:
            NotFound: kind "no_such_snapshot".
            Refused: kind "other_schema".
        """
        taken = await care.snapshots.get(number)
        serving, release = await care.serving(), await restores.release_for(care, taken)
        return types.RestorePlan(
            snapshot=next(one for one in await self.snapshots(care) if one.id == number),
            release=release.id,
            version=release.version,
            serving=serving.id if serving else "",
            rows=restores.rows_text(await restores.worth(care, taken)),
        )

    async def snapshots_text(self, care: Care, language: Language) -> str:
        """The newest snapshots, one a line."""
        lines = []
        for one in (await care.snapshots.all())[:_LIST]:
            reason = say(language, f"snapshot_reason.{one.reason}")
            told = {"snapshot": one.id, "at": restores.when(one.at), "size": bytes_text(one.bytes), "reason": reason}
            lines.append(say(language, "view.snapshot", **told))
        return "\n".join(lines) or say(language, "view.no_snapshots")

    async def releases(self, care: Care) -> list[types.Release]:
        """Every release on disk, newest first, with what it is to the service now."""
        now = await care.service.status()
        roles = {copy.release: role for role, copy in _roles(now.active, now.standby, now.candidate)}
        pins = {pin["digest"]: str(pin["cause"] or pin["reason"]) for pin in now.pins}
        good = {release.id for release in await care.releases.good()}
        fallback = str(now.good["id"]) if now.good else ""

        def state(release_id: str, digest: str) -> str:
            if release_id in roles:
                return roles[release_id]
            if digest in pins:
                return "pinned"
            return "fallback" if release_id == fallback else "good" if release_id in good else "built"

        return [
            types.Release(
                id=release.id,
                version=release.version,
                commit=release.commit,
                subject=release.subject,
                digest=release.digest,
                bytes=release.bytes,
                built_at=release.built_at,
                build_seconds=release.build_seconds,
                job=release.job,
                state=state(release.id, release.digest),
                pinned_reason=care.redactor.redact(pins.get(release.digest, "")),
            )
            for release in await care.releases.all()
        ]

    async def all_releases(self) -> dict[str, list[types.Release]]:
        """Those of every service, the newest first, by its name."""
        return {name: await self.releases(care) for name, care in self._cares.items()}

    async def logs(self, care: Care, lines: int, release: str = "") -> str:
        """The last lines that a release printed, redacted; of the one that serves unless named."""
        if release:
            chosen = (await care.releases.get(release)).id
        else:
            serving = await care.serving()
            newest = await care.releases.all()
            if serving is None and not newest:
                return ""
            chosen = serving.id if serving else newest[0].id
        text = await in_thread(end_of, care.release_log(chosen), _LOG_BYTES)
        return care.redactor.redact("\n".join(text.splitlines()[-lines:]))

    async def follow(self, care: Care, stopping: asyncio.Event) -> AsyncGenerator[str, None]:
        """Each new line of the release that serves, redacted, until `stopping`; a switch is followed too."""
        follower: Follower | None = None
        while not stopping.is_set():
            serving = await care.serving()
            now = None if serving is None else care.release_log(serving.id)
            if now is not None and (follower is None or now != follower.path):
                follower = await in_thread(_follow, now, follower is None)
            if follower is not None:
                for line in (await in_thread(follower.read)).splitlines():
                    yield care.redactor.redact(line)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FOLLOW_S):
                    await stopping.wait()

    # The same as texts for a chat

    async def status_text(self, language: Language) -> str:
        """The answer to "status?"."""
        status = await self.status()
        lines = []
        for service in status.services:
            active = service.active
            if active is None:
                lines.append(say(language, "view.service_down", name=service.name))
            else:
                lines.append(
                    say(
                        language,
                        "view.service_up",
                        name=service.name,
                        version=active.version,
                        release=active.release,
                        age=duration_text(language, self._clock.now() - active.since),
                        pid=active.pid,
                    )
                )
            lines += [
                f"  {'✓' if p.ok else '✗'} {p.name}" + (f": {p.detail}" if p.detail else "") for p in service.probes
            ]
            quiet = self._cares[service.name].quiet
            if service.freeze is not None:
                told = {"by": service.freeze.by, "since": quiet.date(service.freeze.at)}
                lines.append(say(language, "view.frozen", **told, reason=service.freeze.reason or "-"))
            if service.quiet_until is not None:
                lines.append(say(language, "view.quiet", until=quiet.clock(service.quiet_until)))
            if service.incidents:
                lines.append(say(language, "incident.open_count", incidents=service.incidents))
            if service.job is not None:
                record = await self._ledger.get(service.job)
                title = story.title(record.kind, language, record.args, record.result)
                lines.append(say(language, "view.job_now", job=service.job, title=title))
        return "\n".join(lines)

    def settings(self, care: Care, language: Language) -> list[types.Setting]:
        """The settings that can be changed by saying so, as they are."""
        plain = Config(service=ServiceSection(name="x", command=("x",)))
        found = []
        for name in settable.names(care.config):
            role = settable.role_of(name)
            assert role is not None
            value = _setting(care.config, name)
            if name.startswith("service.env."):
                value = care.redactor.redact(str(value))
            title = settable.title(name, language)
            default = _setting(plain, name)
            found.append(types.Setting(name=name, value=value, default=default, role=role.name, title=title))
        return found

    async def settings_text(self, care: Care, language: Language) -> str:
        """The answer to "which settings are there?"."""
        return "\n".join(
            say(language, "view.setting", name=one.name, value=_shown(one), title=one.title)
            for one in self.settings(care, language)
        )

    async def releases_text(self, care: Care, language: Language) -> str:
        """The answer to "which releases are there?"."""
        found = await self.releases(care)
        if not found:
            return say(language, "view.no_releases")
        return "\n".join(
            f"{r.id}  {r.version}  {say(language, f'release_state.{r.state}')}  {r.subject}" for r in found[:_LIST]
        )

    async def history_text(self, language: Language) -> str:
        """The answer to "what happened?"."""
        records = await self._ledger.last(_LIST)
        if not records:
            return say(language, "view.no_jobs")
        now = self._clock.now()
        return "\n".join(
            f"#{r.id}  {say(language, f'job_state.{r.status}')}  {story.title(r.kind, language, r.args, r.result)}"
            f"  ({r.asked_by}, {ago_text(language, now - r.created_at)})"
            for r in records
        )

    async def job_text(self, job: int) -> str:
        """One job, as its live message or its result."""
        view = await self.job(await self._ledger.get(job))
        if view.story:
            return view.story
        return story.live(view, "").text

    async def logs_text(self, care: Care, lines: int, language: Language) -> str:
        """The last lines of the service's log, in a fence."""
        text = care.redactor.shorten_paths(await self.logs(care, lines))
        return f"```\n{text}\n```" if text.strip() else say(language, "view.no_logs")

    async def doctor_text(self, language: Language) -> str:
        """What is fit to work and what is not."""
        findings = await self._findings()
        lines = [f"{'✓' if f.ok else '✗'} {f.name}: {f.detail}" + (f" → {f.mend}" if f.mend else "") for f in findings]
        return "\n".join(lines)

    @staticmethod
    def help_text(language: Language) -> str:
        """What can be said, one example each."""
        return help_text(language, list(TABLE))


def _shown(setting: types.Setting) -> str:
    """A value for people: seconds and bytes with their unit."""
    if isinstance(setting.value, float):
        return f"{setting.value:g}s"
    sized = setting.name.endswith(("_bytes", ".log_size")) and isinstance(setting.value, int)
    return bytes_text(setting.value) if sized else str(setting.value)


def _setting(config: Config, name: str) -> Any:
    """A value by its dotted name; None where the sections do not have it."""
    found: Any = config
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else getattr(found, part, None)
    return found


def _roles(*copies: Instance | None) -> list[tuple[str, Instance]]:
    names = ("active", "standby", "candidate")
    # Reversed by the caller's dict: a release that is both active and standby (a restart) reads as active.
    return [(name, copy) for name, copy in reversed(list(zip(names, copies, strict=True))) if copy is not None]


def _follow(path: Path, from_end: bool) -> Follower:
    return Follower(path, from_end=from_end)


def _rss_bytes() -> int:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
