"""Which release or commit a request means."""

from __future__ import annotations

from regrow import probes, restores
from regrow.care import Care
from regrow.errors import Refused
from regrow.intents import Args
from regrow.releases import Release


async def serving(care: Care, doing: str) -> Release:
    """The release that serves; for a restart the last good one, where none does.

    Raises:
        Refused: kind "nothing_runs".
    """
    found = await care.serving()
    if found is None:
        good = await care.releases.good()
        if doing == "restart" and good:
            return good[0]
        raise Refused(f"cannot {doing}: no release of {care.name} is running; deploy one first", kind="nothing_runs")
    return found


async def failing_probe(care: Care) -> str:
    """A probe that fails right now and can be tried in the box; "" when there is none."""
    active = (await care.service.status()).active
    struck = [name for name, probe in active.probes.items() if probe["strikes"]] if active else []
    failing = [name for name in struck if probes.can_be_reproduced(care.config, name)]
    return failing[0] if failing else ""


async def to_build(care: Care, target: str) -> dict[str, str]:
    """The commit that a build or deploy is about, fixed at the moment of the request.

    Raises:
        Refused: kind "pinned": the newest went wrong before, and nobody named it.
        NotFound: there is no such commit.
    """
    named = target not in {"", "latest"}
    commit = await care.repository.resolve(target if named else care.config.source.branch)
    status = await care.service.status()
    if not named and any(pin["commit"] == commit for pin in status.pins):
        short = await care.repository.short(commit)
        raise Refused(
            f"cannot deploy {short}: it went wrong before and is marked bad; fix it, or name it to try it again",
            kind="pinned",
        )
    return {"commit": commit} | ({"named": "yes"} if named else {})


async def back_to(care: Care, args: Args) -> Release:
    """The release that a rollback is about: the one named, that of a snapshot, or the good one before.

    Raises:
        Refused: kinds "already_serving" and "no_earlier".
        NotFound: there is no such release or snapshot.
    """
    serving, target = await care.serving(), args.target
    if args.snapshot is not None and target in {"", "previous"}:
        return await restores.release_for(care, await care.snapshots.get(args.snapshot))
    if target not in {"", "previous"}:
        wanted = await care.releases.get(target)
        if serving is not None and wanted.id == serving.id and args.snapshot is None:
            raise Refused(f"cannot roll back: {wanted.id} ({wanted.version}) is what runs", kind="already_serving")
        return wanted
    pinned = {pin["digest"] for pin in (await care.service.status()).pins}
    for release in await care.releases.good():
        older = serving is None or (release.number < serving.number and release.digest != serving.digest)
        if older and release.digest not in pinned:
            return release
    raise Refused("cannot roll back: there is no earlier good release; `regrow releases` lists them", kind="no_earlier")


async def moved(care: Care, release: str) -> bool:
    """Whether the data has another schema by now than a release works with."""
    known = (await care.releases.get(release)).schema
    return bool(care.databases) and bool(known) and known != await care.schema()
