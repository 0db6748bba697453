"""The steps that keep data and code together (F21): copied first, tried on the copy, and changing hands with the code.

Where a release moves the schema on, or may, the old one has ended before it opens the data, and what was there is set
aside at that very moment, by the supervisor: then whoever goes back, the daemon or the supervisor alone, goes back to
all of it, and no release ever writes into data that is newer than itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regrow import files, restores, space
from regrow.care import Care
from regrow.errors import RegrowError, ServiceError
from regrow.jobs.base import Done, Outcome, StepFailed
from regrow.jobs.work import Work
from regrow.pool import in_thread
from regrow.rehearsals import rehearse as try_on_a_copy
from regrow.releases import Release
from regrow.services.base import Exchange, ServiceStatus
from regrow.snapshots import Reason

_LEFT = ".left"
_UNKNOWN = "unknown"
_BACK_S = 60.0
_LOOK_S = 0.5


def _aside(care: Care, job: int, ending: str = "") -> Path:
    """Where data is kept while other data is in its place: beside it, so that nothing need be copied to go back."""
    return care.state.resolve() / "displaced" / f"job-{job}{ending}"


def _exchange(care: Care, aside: Path, put: str | None) -> Exchange:
    return Exchange(tuple(str(path.resolve()) for path in care.databases), str(aside), put)


def exchange(work: Work, status: ServiceStatus) -> Exchange | None:
    """What changes hands with this job's release; None where it works with the data as it is, beside the old one.

    Raises:
        StepFailed: kind "no_exchange", where the driver would let both releases at the data.
    """
    facts = work.facts
    if not facts.get("put") and facts.get("schema_moves", False) is False:
        return None
    if not status.exchanges:
        raise StepFailed(
            "cannot set the data aside: what runs the service does not know how; if it is the supervisor of an older "
            "Regrow, `regrow down` and `regrow up` bring a new one",
            kind="no_exchange",
        )
    return _exchange(work.care, _aside(work.care, work.job.id), facts.get("put"))


async def snapshot(work: Work) -> Outcome:
    """The service's data as it is before new code opens it (F21)."""
    care, job = work.care, work.job.id
    taken = await care.snapshots.take(job, care.databases)
    if taken is None:
        return Done()
    schema = await care.schema() if care.config.state.schema_command else taken.schema
    serving = await care.serving()
    if serving is not None:
        await care.releases.served_with(serving.number, schema)
    chosen = await care.releases.get(work.facts["release"])
    if chosen.promoted_at is None:
        await care.releases.opened_after(chosen.number, taken.id)
    facts = {"snapshot": str(taken.directory), "snapshot_bytes": taken.bytes, "snapshot_id": taken.id}
    return Done(facts | {"schema": schema})


async def put_back(work: Work) -> None:
    """The data has a newer schema than the release that serves again knows: its own data goes back, too, at once.

    This is for new code that was started beside the old release without a rehearsal: nothing was set aside, the
    snapshot is what there is. Anything else that moves the schema meanwhile is the old release itself.
    """
    care, facts = work.care, work.facts
    begun = any(step["name"] == "candidate" and step["status"] != "todo" for step in work.job.steps)
    serving = await care.serving()
    if not begun or "schema_moves" in facts or not facts.get("schema") or serving is None:
        return
    chosen = await care.releases.get(facts["release"])
    if chosen.id == serving.id or chosen.promoted_at is not None or await care.schema() == facts["schema"]:
        return
    token, place = f"{work.token}-data", _aside(care, work.job.id, "-data")
    status = await care.service.status()
    if status.active is None or status.active.token != token:
        taken = await care.snapshots.get(facts["snapshot_id"])
        put = await care.snapshots.lay_out(taken, _aside(care, work.job.id, ".put"))
        spec = replace(care.spec(serving), exchange=_exchange(care, place, str(put)))
        await care.service.start(spec, "candidate", token)
        await care.service.switch(token, 0.0, _BACK_S)
    await _promote_once_well(work, token)
    work.log(f"the data had a newer schema than {serving.id} knows: snapshot {facts['snapshot_id']} was restored")


async def _promote_once_well(work: Work, token: str) -> None:
    """Make it stay; a probe that has just failed passes again, or the supervisor ends the trial by its deadline."""
    while True:
        try:
            await work.care.service.promote(token)
            return
        except ServiceError as error:
            if error.kind != "not_well":
                raise
        await work.clock.sleep(_LOOK_S)


async def rehearse(work: Work) -> Outcome:
    """New code meets a copy of the data first; what cannot work with it never meets the data itself."""
    care, facts, mode = work.care, work.facts, work.care.config.state.rehearse
    chosen = await care.releases.get(facts["release"])
    if "snapshot_id" not in facts or mode == "never" or (mode != "always" and chosen.promoted_at is not None):
        return Done()
    if care.sandbox.name == "unconfined":
        work.log("rehearse: without a box there is no second network to try it in")
        return Done(_moves(work, None))
    taken = await care.snapshots.get(facts.get("restored") or facts["snapshot_id"])
    place = care.directory / "rehearsals" / work.token
    seen = await try_on_a_copy(care, chosen, taken, place)
    work.log(f"rehearse: {chosen.id} on a copy: passed: {seen.passed}, schema moves: {seen.moves}\n{seen.output}")
    if seen.passed is False:
        # Something else than the data may be missing in the box; then the release that serves fails there, too.
        known = await care.serving() or next(iter(await care.releases.good()), None)
        if known is not None and known.digest != chosen.digest:
            again = await try_on_a_copy(care, known, await care.snapshots.get(facts["snapshot_id"]), place)
            work.log(f"rehearse: {known.id} on a copy: passed: {again.passed}\n{again.output}")
            if again.passed:
                cause = care.redactor.for_people(_last_line(seen.output))
                raise StepFailed(
                    f"cannot deploy: on a copy of the data the new version fails: {cause}",
                    kind="rehearsal_failed",
                    log=seen.output,
                    cause=cause,
                )
    return Done(_moves(work, seen.moves) | {"rehearsed": "passed" if seen.passed else _UNKNOWN})


def _last_line(output: str) -> str:
    """The last word of the program itself; the one after it is the trial's."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-2] if len(lines) > 1 else lines[-1] if lines else "it said nothing"


def _moves(work: Work, moves: bool | None) -> dict[str, Any]:
    """Whether the schema moves, as a fact; where it may, the data is copied at the switch, and there must be room.

    Raises:
        StepFailed: kind "disk_full" (F14).
    """
    if moves is not False:
        need = sum(space.database_bytes(path) for path in work.care.databases)
        if (free := files.free_bytes(work.care.state)) < need:
            raise StepFailed(
                f"cannot deploy: setting the data aside needs {need} bytes and {free} are free; free some space",
                kind="disk_full",
            )
    return {"schema_moves": _UNKNOWN if moves is None else moves}


async def restore(work: Work) -> Outcome:
    """The data that goes with an older release, laid out and checked before anything is stopped."""
    care, args, facts = work.care, work.job.args, work.facts
    chosen = await care.releases.get(facts["release"])
    number = int(args["snapshot"]) if "snapshot" in args else None
    taken = await restores.choose(care, chosen, args.get("data") == "yes", number)
    if taken is None:
        return Done()
    if taken.id == facts.get("snapshot_id") and number is None:
        return Done()  # nothing was written since: this is the data already
    put = await care.snapshots.lay_out(taken, _aside(care, work.job.id, ".put"))
    rows = restores.rows_text(await restores.worth(care, taken))
    return Done({"put": str(put), "restored": taken.id, "restored_at": restores.when(taken.at), "rows": rows})


async def drop_put(work: Work) -> None:
    """Forget the copy that was to be put in place."""
    await in_thread(files.remove_tree, _aside(work.care, work.job.id, ".put"))


async def settle(work: Work, chosen: Release) -> dict[str, Any]:
    """The release stays: it is known to work with the data as it is, and what was set aside becomes a snapshot.

    Returns:
        facts for the report.
    """
    care, facts, job = work.care, work.facts, work.job.id
    if not care.databases:
        return {}
    found: dict[str, Any] = {}
    try:
        schema = await care.schema()
        await care.releases.served_with(chosen.number, schema)
        if facts.get("schema") and schema != facts["schema"]:
            found["schema_moved"] = True
        aside, restored = _aside(care, job), "restored" in facts
        if restored or aside.exists():
            reason: Reason = "displaced" if restored else "change"
            inside = [aside / path.name for path in care.databases]
            kept = await care.snapshots.take(job, inside, facts.get("schema"), reason=reason, again=aside.exists())
            # A second try finds what the first has made, or nothing, where that was the snapshot from before already.
            number = (kept or await care.snapshots.of(job, reason) or await care.snapshots.get(facts["snapshot_id"])).id
            if restored:
                found["displaced"] = number
            else:
                await care.releases.opened_after(chosen.number, number)
            await in_thread(_clear, care, job)
    except (RegrowError, OSError) as error:
        work.log(f"promote: what was set aside stays in {_aside(care, job)}: {error}")
    return found


async def aftermath(care: Care, job: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A job that went wrong is over: what its release wrote into data that was taken back, for the report (F21).

    Returns:
        facts: the snapshot that holds it, and what it is worth; nothing where no data was taken back.
    """
    found: dict[str, Any] = {}
    if _aside(care, job).exists() or (await care.service.status()).trial is not None:
        return found  # it is not over: what is there is still needed
    for ending in (_LEFT, "-data"):
        left = _aside(care, job, ending)
        if not left.exists():
            continue
        inside = {path.name: left / path.name for path in care.databases}
        # With what the old release wrote between the snapshot and its end, which was brought back and is not lost.
        began = await care.snapshots.get(facts.get("restored") or facts["snapshot_id"])
        more = await restores.worth_of(inside, began)
        found |= {"data_back": True, "rows": restores.rows_text(more), "left": str(left)}
        kept = await care.snapshots.take(job, list(inside.values()), reason="displaced", again=True)
        if kept is not None:
            found |= {"displaced": kept.id}
    if found:
        await in_thread(_clear, care, job)
    return found


def _clear(care: Care, job: int) -> None:
    for path in _aside(care, job).parent.glob(f"job-{job}[.-]*"):
        files.remove_tree(path)
    files.remove_tree(_aside(care, job))


async def prune(care: Care) -> None:
    """Keep as many snapshots as the settings say, and those that what runs may need to go back."""
    keep = care.config.snapshots
    await care.snapshots.prune(keep.keep, keep.keep_bytes, await restores.needed(care))
