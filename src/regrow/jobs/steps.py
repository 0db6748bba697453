"""The steps by name. Each is a short story: what it needs, what it does, what it found out."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regrow import files, space, test_results
from regrow.availability import Availability, Seen
from regrow.boxes import build_box, test_box
from regrow.canaries import Canaries, Hearing, hearing
from regrow.catalogue import bytes_text, say
from regrow.decisive import decisive_head
from regrow.errors import CandidateFailed, ProcessTimeout, RegrowError, ServiceError
from regrow.jobs import configure, data, holds, landing, repair
from regrow.jobs.base import Done, Outcome, Step, StepFailed, Wait
from regrow.jobs.candidate_check import run_check
from regrow.jobs.ledger import WAITING_FOR_IDLE, WAITING_FOR_KEEP, WAITING_FOR_TURN
from regrow.jobs.work import Work
from regrow.pool import in_thread
from regrow.process import Completed, exit_words
from regrow.releases import Release
from regrow.sandboxes.base import Box
from regrow.services.base import Instance, ServiceStatus
from regrow.space import Need
from regrow.tail import end_of

_IDLE_LOOK_S = 2.0
_BAKE_LOOK_S = 1.0
_LAST_LOOK_S = 0.5
_SLACK_S = 10.0
_UNKEPT = "not promoted in time"  # the supervisor's reason
_LOG_BYTES = 4000
_HOMES = 50
_COUNTED = re.compile(r"^\s*\[\s*(\d+)\s*/\s*(\d+)\s*\]\s*(.*)")


# What a job needs before it begins


async def check(work: Work) -> Outcome:
    """Refuse what cannot end well while nothing has been touched."""
    care, job = work.care, work.job
    await _room(work)
    if {"candidate", "configure"} & set(job.plan):
        await configure.check_files(work)
    if {"build", "test", "agent", "verify"} & set(job.plan):
        await care.sandbox.check()
    facts: dict[str, Any] = {"started_wall": work.clock.now(), **_before(await care.serving())}
    if job.kind == "configure" and "release" not in job.args:
        return Done(facts)  # nothing served when it was asked for: there is nothing to start anew
    if job.kind in {"restart", "rollback", "configure"}:
        release = await care.releases.get(job.args["release"])
        return Done(facts | {"release": release.id, "version": release.version, "commit": release.commit})
    commit = job.args["commit"]
    checkout = care.config.repository
    if job.kind != "repair" and (checkout / ".git").exists() and await care.repository.is_dirty(checkout):
        facts["uncommitted"] = True  # only commits are ever built; whoever forgot to commit should hear of it
    version = await care.repository.short(commit)
    subject = await care.repository.subject(commit)
    if job.kind == "deploy":
        facts |= await _brings(work, str(facts.get("previous_commit", "")), commit)
    return Done(facts | {"commit": commit, "base": commit, "version": version, "subject": subject})


async def _brings(work: Work, before: str, commit: str) -> dict[str, Any]:
    """What a commit brings since the one that serves, for the report; nothing where it is not built on that."""
    repository = work.care.repository
    try:
        if not before or before == commit or not await repository.is_ancestor(before, commit):
            return {}
        commits = await repository.commits_between(before, commit)
        files_of = [one.path for one in await repository.diff(before, commit)]
    except RegrowError as error:
        work.log(f"check: what is new cannot be told: {error}")
        return {}
    # The first ones are shown; all of a large change would only be carried around.
    return {"brings_commits": len(commits), "brings_files": files_of[:10], "brings_count": len(files_of)}


async def _room(work: Work) -> None:
    """Refuse a job that would run out of space in the middle, on whichever file system that is (F14)."""
    care, job = work.care, work.job
    needs = [Need("the job's log", care.directory, 0)]
    if "snapshot" in job.plan:
        size = await in_thread(lambda: sum(space.database_bytes(path) for path in care.databases))
        needs.append(Need("the snapshot", care.directory / "snapshots", size))
    if "build" in job.plan:
        files_of = await care.repository.entries(job.args["commit"])
        tree = sum(entry.size for entry in files_of.values())
        newest = next(iter(await care.releases.all()), None)
        # A tree for each attempt, one for its test and a fresh one to build from; the release while it is built and
        # sealed.
        trees = 2 + (care.config.repair.attempts if "agent" in job.plan else 0)
        needs.append(Need("the workspace", care.directory / "workspaces", trees * tree))
        needs.append(Need("the release", care.directory / "releases", max(newest.bytes if newest else 0, tree)))
    if lack := await in_thread(space.shortage, needs):
        what, need, free = ", ".join(lack.what) or "this job", bytes_text(lack.needed), bytes_text(lack.free)
        raise StepFailed(
            f"cannot begin: {what} and a reserve take {need} and only {free} are free on {lack.path}; free some space",
            kind="disk_full",
            cause=f"{free} < {need}",
        )


def _before(serving: Release | None) -> dict[str, Any]:
    """What serves before anything is changed."""
    if serving is None:
        return {}
    return {
        "previous_version": serving.version,
        "previous_release": serving.id,
        "previous_commit": serving.commit,
    }


async def workspace(work: Work) -> Outcome:
    """A tree of the job's own; the live checkout is never used (F17).

    A job that goes on with an agent's session works where the first one did: agents keep their sessions by path.
    """
    room = repair.room_of(work.job)
    if room != work.job.id and not (await work.ledger.get(room)).ended:
        return Wait((WAITING_FOR_TURN, {"job": room}), (("job", room),))
    made = await work.care.workspaces.make(room, work.facts["commit"])
    work.log(f"workspace of {work.facts['commit']} in {made.path}")
    return Done({"workspace": str(made.path)})


async def drop_workspace(work: Work) -> None:
    """Forget the tree."""
    await work.care.workspaces.discard(work.job.id)
    if "workspace" in work.facts:
        await work.care.workspaces.discard(repair.room_of(work.job))


# Proving and building, in the box


async def test(work: Work) -> Outcome:
    """The service's own tests, from the job's tree, in the box."""
    config = work.care.config
    if not config.test.command:
        work.log("test: no [test] command is set")
        return Done({"tests": "none"})
    argv = config.expand(config.test.command, cache=str(work.care.cache))
    tree = Path(work.facts["workspace"])
    box = await in_thread(test_box, config, tree, await in_thread(work.care.made_cache))
    done = await _boxed(work, "test", argv, box, config.test.timeout)
    if done.code != 0:
        raise StepFailed(
            f"cannot deploy: the tests failed ({exit_words(done.code)})", kind="tests_failed", log=done.output
        )
    passed = (await in_thread(test_results.read, done.output, done.code)).passed
    return Done({"tests": "passed", "tests_passed": passed, "tests_seconds": round(done.seconds, 2)})


async def build(work: Work) -> Outcome:
    """Build the commit into a staging directory; what runs is not touched by any failure of it (F10)."""
    care, config = work.care, work.care.config
    staging = await in_thread(care.releases.staging, work.job.id)
    cache = await in_thread(care.made_cache)
    # A repair's change is a commit by now: build from its own fresh tree, never from the one the agent edited.
    tree = await care.workspaces.fresh(work.job.id, "build", work.facts["commit"])
    await landing.check_files(work, tree)
    if not config.build.command:
        await in_thread(_copy_tree, tree, staging)
        return Done({"build_seconds": 0.0})
    expected = await work.estimates.range(care.name, "build")
    variables = {
        "REGROW_VERSION": work.facts["version"],
        "REGROW_COMMIT": work.facts["commit"],
        "REGROW_OUT": str(staging),
        "REGROW_CACHE": str(cache),
    }
    argv = config.expand(config.build.command, out=str(staging), cache=str(cache))
    box = await in_thread(build_box, config, tree, staging, cache, variables)
    done = await _boxed(work, "build", argv, box, config.build.timeout)
    if done.code != 0:
        cause = care.redactor.for_people(decisive_head(done.output) or exit_words(done.code))
        raise StepFailed(f"cannot build: {cause}", kind="build_failed", log=done.output, cause=cause)
    return Done({"build_seconds": round(done.seconds, 2), "build_estimate": expected})


async def drop_staging(work: Work) -> None:
    """Forget a half-made build."""
    await in_thread(work.care.releases.discard_staging, work.job.id)


def _copy_tree(tree: Path, staging: Path) -> None:
    import shutil

    shutil.copytree(tree, staging, symlinks=True, dirs_exist_ok=True)


async def _boxed(work: Work, what: str, argv: list[str], box: Box, timeout_s: float) -> Completed:
    """Run a test or build command in the box, with an estimate from the past and a bar."""
    past = await work.estimates.past(work.care.name, what)
    expected = statistics.median(seconds for seconds, _ in past) if past else None
    if past:
        work.tell(estimate_s=(min(s for s, _ in past), max(s for s, _ in past)))
    lines = 0

    def on_line(line: str) -> None:
        nonlocal lines
        lines += 1
        work.log(line)
        if counted := _COUNTED.match(line):
            at, of, text = int(counted[1]), int(counted[2]), counted[3]
            work.tell(detail=work.care.redactor.for_people(text)[:80])
            if of > 0:
                work.tell(part=at / of)
        else:
            if line.strip():
                # Told with the next heartbeat: whoever waits sees what it hangs on (F30), and no edit a line.
                work.progress.detail = work.care.redactor.for_people(line.strip())[:80]
            if expected is None and past:
                work.tell(part=lines / max(past[0][1], 1))

    work.log(f"$ {' '.join(argv)}")
    try:
        done = await work.care.sandbox.run(argv, box, timeout_s=timeout_s, on_line=on_line)
    except ProcessTimeout as error:
        raise StepFailed(
            f"cannot {what}: still running after {timeout_s:g} s; raise [{what}] timeout or mend what makes it hang",
            kind=f"{what}_timeout",
            log=error.log,
        ) from error
    work.log(f"{what}: {exit_words(done.code)} after {done.seconds:.2f} s")
    if done.code == 0:
        await work.estimates.add(work.care.name, what, done.seconds, lines)
    return done


async def release(work: Work) -> Outcome:
    """Make the build a release: digest, durable, one rename."""
    facts = work.facts
    made = await work.care.releases.seal(
        work.job.id,
        version=facts["version"],
        commit=facts["commit"],
        subject=facts["subject"],
        build_seconds=facts["build_seconds"],
    )
    return Done({"release": made.id, "build_bytes": made.bytes, "digest": made.digest})


# Changing what runs


async def turn(work: Work) -> Outcome:
    """One job changes a service at a time; the others wait in order. One that may wait for idleness or for the end of
    quiet hours does so first."""
    await holds.check(work, "turn")  # again at each look
    if wait := await holds.until_quiet_ends(work) or await _until_idle(work):
        return wait
    holder = await work.ledger.take_turn(work.care.name, work.job.id)
    if holder != work.job.id:
        work.tell(detail=say(work.job.language, "live.waiting_turn", job=holder))
        return Wait((WAITING_FOR_TURN, {"job": holder}), (("turn", work.care.name),))
    # Jobs that had the turn before, and people while it was waited for, may have changed what serves since `check`.
    serving = await work.care.serving()
    facts = _before(serving)
    if serving is not None and work.job.kind in {"restart", "configure"}:
        facts |= {"release": serving.id, "version": serving.version, "commit": serving.commit}
    if serving is not None and work.job.kind == "repair" and not await _contains(work, serving.commit):
        raise StepFailed(
            f"cannot deploy the repair: {serving.version} was deployed meanwhile and would be lost; ask again",
            kind="overtaken",
            cause=serving.version,
        )
    return Done(facts)


async def _until_idle(work: Work) -> Wait | None:
    """What to wait for while the service is busy; None once it is idle, or when nothing serves anyway."""
    if (await work.ledger.get(work.job.id)).args.get("when") != "idle":  # it may have been hurried since
        return None
    busy = await work.care.idle.busy()
    if busy is None or await work.care.serving() is None:
        return None
    if work.clock.now() - work.job.created_at > work.care.config.service.idle_within:
        raise StepFailed(
            f"cannot wait any longer: {work.care.name} was never idle; ask again, or ask for it now", kind="never_idle"
        )
    said = f" · {work.care.redactor.redact(busy.said)}" if busy.said else ""
    work.tell(detail=say(work.job.language, "live.waiting_idle", count=busy.messages + busy.conversations) + said)
    return Wait((WAITING_FOR_IDLE, {"messages": busy.messages}), ("forwards", ("job", work.job.id)), _IDLE_LOOK_S)


async def _contains(work: Work, commit: str) -> bool:
    """Whether what this job deploys is built on `commit`."""
    return await work.care.repository.is_ancestor(commit, work.facts["commit"])


async def candidate(work: Work) -> Outcome:
    """Check the release, start it beside the one that serves, and have it proved; until then it serves nobody."""
    care = work.care
    chosen = await care.releases.get(work.facts["release"])
    spec = care.spec(chosen)
    files.private_directory(care.state)
    status = await care.service.status()
    active = status.active
    # A second try finds the process that the first one started; nothing served before that.
    nothing_serves = active is None or active.token == work.token
    named = work.job.args.get("named") == "yes"
    # What does not hold on the active release is not asked of this one, or a broken service could not be repaired.
    canaries = Canaries(care.config)
    silent = [] if active is None or nothing_serves else await canaries.silent(active, canaries.names)
    if not nothing_serves:
        spec = replace(spec, exchange=data.exchange(work, status))
    if not any(copy and copy.token == work.token for copy in (active, status.candidate)):
        await landing.check_release(work, chosen)
    try:
        await run_check(work, spec)
        started = await care.service.start(spec, "active" if nothing_serves else "candidate", work.token, force=named)
    except CandidateFailed as error:
        raise StepFailed(
            str(error), kind="candidate_failed", log=error.log_tail, cause=care.redactor.redact(error.cause)
        ) from error
    debut = nothing_serves and not await care.releases.good()
    facts = {"first": nothing_serves, "debut": debut, "pid": started.pid, "version": chosen.version}
    return Done(facts | {"silent": silent, "supervisor": status.supervisor_pid})


async def discard_candidate(work: Work) -> None:
    """End the candidate, unless it serves by now."""
    status = await work.care.service.status()
    if status.candidate is not None and status.candidate.token == work.token:
        await work.care.service.discard(work.token)


async def switch(work: Work) -> Outcome:
    """Make the candidate the one that serves; from here on the supervisor can take it back by itself."""
    if work.facts["first"]:
        return Done({"switched_at": work.clock.now(), "bake_s": 0.0})
    again: Mapping[str, Any] = {}
    if await _lost_with_its_supervisor(work):
        work.log("switch: the machine's death took the proved candidate; it is started and proved once more")
        outcome = await candidate(work)
        assert isinstance(outcome, Done)
        again = outcome.facts
        if again["first"]:
            return Done({**again, "switched_at": work.clock.now(), "bake_s": 0.0})
    settings = work.care.config.switch
    # A release that was proved before needs a look, not a trial.
    bake_s = settings.restart_bake if work.job.kind in {"restart", "rollback"} else settings.bake
    confirm_s = settings.confirm_within if "confirm" in work.job.plan else 0.0
    # The supervisor's own limit is a little later than ours, so that a yes in the last second is not lost on its way.
    limit_s = confirm_s + _SLACK_S if confirm_s else bake_s + settings.promote_within
    async with Availability(work.care.config).watched() as seen:
        try:
            await work.care.service.switch(work.token, bake_s, limit_s)
        except CandidateFailed as error:
            raise StepFailed(str(error), kind="candidate_failed", log=error.log_tail, cause=error.cause) from error
        except ServiceError as error:
            # An earlier try, cut by our own death, may have switched; what came of it is for `bake` to find.
            if error.kind != "not_proved" or not await _has_served(work):
                raise
    switched_at = work.clock.now()
    facts = {**again, "switched_at": switched_at, "bake_s": bake_s, "switch_down_ms": seen.down_ms}
    return Done(facts | ({"keep_until": switched_at + confirm_s} if confirm_s else {}))


async def _lost_with_its_supervisor(work: Work) -> bool:
    """Whether the candidate is gone because its supervisor died too: then nothing is said against the release."""
    status = await work.care.service.status()
    if work.facts.get("supervisor") in {None, status.supervisor_pid}:
        return False
    copies = (status.active, status.standby, status.candidate)
    return not any(copy and copy.token == work.token for copy in copies) and await _pin(work, status) is None


async def _has_served(work: Work) -> bool:
    """Whether the job's release was switched to and taken back: no other is pinned."""
    return await _pin(work, await work.care.service.status()) is not None


async def _pin(work: Work, status: ServiceStatus) -> Mapping[str, Any] | None:
    """The supervisor's word against the job's release, if there is one."""
    chosen = await work.care.releases.get(work.facts["release"])
    return next((pin for pin in status.pins if pin["digest"] == chosen.digest), None)


async def switch_back(work: Work) -> None:
    """Return to the last good release, if this job's is still on trial."""
    service = work.care.service
    with work.events.watch(("service", work.care.name)) as watch:
        while (trial := (status := await service.status()).trial) is not None and trial["token"] == work.token:
            try:
                await service.fall_back("the job was taken back")
                return
            except ServiceError as error:
                # Between the old one's end and the new one's start there is nothing to go back from yet.
                if error.kind != "no_fallback" or status.state != "switching":
                    raise
            await watch.changed(_BAKE_LOOK_S)


async def bake(work: Work) -> Outcome:
    """Watch the new release; its death is the supervisor's business, telling of it is ours."""
    until = work.facts["switched_at"] + work.facts["bake_s"]
    async with Availability(work.care.config).watched() as seen:
        try:
            active = (await work.care.service.status()).active
            async with hearing(work.care.config, work.facts.get("silent", ()), active) as heard:
                await _watch_until(work, until, heard)
        except StepFailed as failed:
            await work.clock.sleep(_LAST_LOOK_S)  # what came back must have answered once before the gap is told
            failed.facts |= _downtime(work, seen)
            raise
    return Done(_downtime(work, seen))


async def _watch_until(work: Work, until: float, heard: Hearing) -> None:
    with work.events.watch(("service", work.care.name)) as watch:
        while True:
            await _still_ours(work)
            if heard.failure is not None:
                await _take_back(work, *heard.failure)
            left = until - work.clock.now()
            if left <= 0 and heard.satisfied:
                return
            work.tell(part=1 - left / work.facts["bake_s"] if work.facts["bake_s"] else 1.0)
            await watch.changed(min(max(left, _LAST_LOOK_S), _BAKE_LOOK_S))


async def _take_back(work: Work, probe: str, cause: str) -> None:
    """Return to the last good release for a canary's sake. Raises StepFailed."""
    care = work.care
    cause = care.redactor.redact(f"probe {probe}: {cause}")
    text = f"cannot keep the new version: {cause}"
    log = await in_thread(end_of, care.release_log(work.facts["release"]), _LOG_BYTES)
    if work.facts["first"]:
        raise StepFailed(text, kind="canary_failed", log=log, cause=cause)
    trial = (await care.service.status()).trial
    if trial is None or trial["token"] != work.token:
        await _still_ours(work)  # the supervisor was faster
    await care.service.fall_back(cause)
    raise StepFailed(text, kind="fell_back", log=log, cause=cause, fell_back=True)


def _downtime(work: Work, seen: Seen) -> dict[str, float]:
    """Milliseconds without an answer through switch and bake; nothing where nobody could ask."""
    parts = [part for part in (work.facts.get("switch_down_ms"), seen.down_ms) if part is not None]
    return {"down_ms": round(sum(parts), 1)} if parts else {}


async def _still_ours(work: Work) -> None:
    """Raise when the supervisor has gone back to the last good release meanwhile."""
    if work.facts["first"]:
        return
    status = await work.care.service.status()
    if status.active is not None and status.active.token == work.token:
        return
    pin = await _pin(work, status)
    if pin and pin["reason"] == _UNKEPT and "keep_until" in work.facts:
        # The daemon was away when the time was over: the supervisor alone has kept the promise.
        raise _nobody_kept_it(fell_back=True)
    cause = work.care.redactor.redact(str(pin["cause"] or pin["reason"])) if pin else "it does not run any more"
    raise StepFailed(
        f"cannot keep the new version: {cause}",
        kind="fell_back",
        log=await in_thread(end_of, work.care.release_log(work.facts["release"]), _LOG_BYTES),
        cause=cause,
        fell_back=True,
    )


async def confirm(work: Work) -> Outcome:
    """Where the settings ask for it, a person must say keep; without that word the old version comes back."""
    until = work.facts.get("keep_until")
    if until is None:
        return Done()
    if by := (await work.ledger.get(work.job.id)).kept_by:
        return Done({"kept_by": by})
    await _still_ours(work)
    left = until - work.clock.now()
    if left <= 0:
        raise _nobody_kept_it()
    return Wait((WAITING_FOR_KEEP, {"until": until}), (("job", work.job.id), ("service", work.care.name)), left)


def _nobody_kept_it(**fields: Any) -> StepFailed:
    return StepFailed("cannot keep the new version: nobody said keep in time", kind="unconfirmed", **fields)


async def promote(work: Work) -> Outcome:
    """The release is good: it becomes what the next switch falls back to."""
    care = work.care
    while True:
        try:
            await care.service.promote(work.token)
            break
        except ServiceError as error:
            await _still_ours(work)
            if error.kind != "not_well":
                raise
        # A probe has just failed. It passes again, or the supervisor ends the trial: by strikes or by its deadline.
        await work.clock.sleep(_LAST_LOOK_S)
    chosen = await care.releases.get(work.facts["release"])
    await care.releases.promoted(chosen.number)
    active = (await care.service.status()).active
    found = await _not_required(work, active) | await data.settle(work, chosen)
    return Done({"pid": active.pid if active else None, **found})


async def _not_required(work: Work, active: Instance | None) -> dict[str, list[str]]:
    """The probes that failed on the release before and so were not required of this one: how they stand now."""
    if active is None:
        return {}
    silent = work.facts.get("silent", ())
    still = await Canaries(work.care.config).silent(active, silent)
    stands = {name: bool(state["passed"]) for name, state in active.probes.items() if not state.get("required", True)}
    stands |= {name: name not in still for name in silent}
    return {
        "probes_mended": [name for name, passed in stands.items() if passed],
        "probes_failing": [name for name, passed in stands.items() if not passed],
    }


async def tidy(work: Work) -> Outcome:
    """Keep what the settings say, and never less than what runs and the last two good ones."""
    care, keep = work.care, work.care.config.retention
    status = await care.service.status()
    running = {copy.release for copy in (status.active, status.standby, status.candidate) if copy}
    fallbacks = {str(known["id"]) for known in (status.good, status.previous) if known}
    try:
        gone = await care.releases.prune(keep.releases, running | fallbacks | {work.facts.get("release", "")})
        await data.prune(care)
        await drop_workspace(work)
        await landing.forget(work)
        await in_thread(_prune_logs, work.log_file.parent, keep.job_logs)
        old = await in_thread(_old_homes, care.agent_home(0).parent)
        await repair.forget(*old)
        for home in old if care.models is not None else ():
            await care.models.forget(f"job-{home.name}")  # type: ignore[union-attr]
    except (RegrowError, OSError) as error:
        work.log(f"tidy: {error}")  # what could not be deleted is deleted another day
        return Done()
    if gone:
        work.log(f"tidy: deleted {', '.join(gone)}")
    return Done()


def _old_homes(directory: Path) -> list[Path]:
    """The homes of agents whose conversations are long over."""
    found = sorted((int(path.name) for path in directory.glob("*") if path.name.isdecimal()), reverse=True)
    return [directory / str(number) for number in found[_HOMES:]]


def _prune_logs(directory: Path, keep: int) -> None:
    numbered = sorted((p for p in directory.glob("*.log") if p.stem.isdigit()), key=lambda p: int(p.stem), reverse=True)
    for path in numbered[keep:]:
        path.unlink(missing_ok=True)


STEPS: dict[str, Step] = {
    "check": Step(check),
    "workspace": Step(workspace, drop_workspace),
    "test": Step(test, deadline_s=None),
    "build": Step(build, drop_staging, deadline_s=None),
    "release": Step(release),
    "reproduce": Step(repair.reproduce, deadline_s=None),
    "agent": Step(repair.agent, deadline_s=None),
    "gate": Step(repair.gate),
    "verify": Step(repair.verify, deadline_s=None),
    "weigh": Step(landing.weigh),
    "approve": Step(landing.approve, landing.close_approval),
    "commit": Step(landing.commit),
    "turn": Step(turn),
    "snapshot": Step(data.snapshot, data.put_back, deadline_s=None),
    "restore": Step(data.restore, data.drop_put, deadline_s=None),
    "rehearse": Step(data.rehearse, deadline_s=None),
    "settings": Step(configure.settings, configure.settings_back),
    "configure": Step(configure.configure, configure.put_back),
    "candidate": Step(candidate, discard_candidate, deadline_s=None),
    "switch": Step(switch, switch_back, deadline_s=None),
    "bake": Step(bake, deadline_s=None),
    "compare": Step(configure.compare),
    "confirm": Step(confirm),
    "promote": Step(promote, deadline_s=None),
    "recheck": Step(landing.recheck, deadline_s=None),
    "merge": Step(landing.merge, deadline_s=None),
    "tidy": Step(tidy),
}
