"""The steps about settings: written and taken back as one with the release that starts with them (F18, F19, F20)."""

from __future__ import annotations

import json

from regrow import settable, setting_changes
from regrow.config import load
from regrow.errors import ConfigError
from regrow.jobs.base import Done, Outcome, StepFailed
from regrow.jobs.work import Work
from regrow.pool import in_thread
from regrow.setting_changes import Change


async def check_files(work: Work) -> None:
    """Refuse to start anything while a file of settings is broken: what serves goes on with what it has read.

    Raises:
        StepFailed: kind "broken_settings".
    """
    try:
        await in_thread(setting_changes.check_files, work.care)
    except ConfigError as error:
        said = work.care.redactor.shorten_paths(str(error))
        raise StepFailed(said, kind="broken_settings", cause=said.removeprefix("cannot use ")) from None


async def configure(work: Work) -> Outcome:
    """Write the settings. From here on they are those of the service, unless the job is taken back."""
    changes = [Change(**one) for one in json.loads(work.job.args["changes"])]
    changed = await in_thread(setting_changes.apply, work.care, work.job.id, changes)
    await _read_again(work)
    return Done({"changed": changed})


async def put_back(work: Work) -> None:
    """What this job changed is as it was; what somebody else changed meanwhile stays (F19)."""
    kept = await in_thread(setting_changes.take_back, work.care, work.job.id)
    await _read_again(work)
    for path in kept:
        work.log(f"settings: the file as it was found is kept in {path}")


async def _read_again(work: Work) -> None:
    config = await in_thread(load, work.care.config.path)
    work.care.configure(settable.live(work.care.config, config))
    work.events.touch(("service", work.care.name))


async def settings(work: Work) -> Outcome:
    """Keep the service's own files before a new version may change them; or bring back those of an earlier job."""
    await in_thread(setting_changes.guard, work.care, work.job.id)
    if (earlier := work.job.args.get("settings_of")) is None:
        return Done()
    back = await in_thread(setting_changes.reversed_changes, work.care, int(earlier))
    if back:
        await in_thread(setting_changes.apply, work.care, work.job.id, back)
    # Killed after it was written, there is nothing left to reverse, and the record knows what was.
    return Done({"changed": await in_thread(setting_changes.changed, work.care, work.job.id)})


async def settings_back(work: Work) -> None:
    """What the new version has dropped from them is there again (F20)."""
    for path in await in_thread(setting_changes.give_back_lost, work.care, work.job.id):
        work.log(f"settings: the file as the new version left it is kept in {path}")
    if "settings_of" in work.job.args:
        await put_back(work)


async def compare(work: Work) -> Outcome:
    """A version that drops a setting or a section is not kept: nine bots of ten would be silent, without an error."""
    lost = await in_thread(setting_changes.lost, work.care, work.job.id)
    if not lost:
        changed = await in_thread(setting_changes.note_changed, work.care, work.job.id)
        return Done({"migrated": changed} if changed and "changed" not in work.facts else {})
    named = "; ".join(f"{file}: {', '.join(names)}" for file, names in lost.items())
    raise StepFailed(f"cannot keep the new version: it dropped settings: {named}", kind="settings_lost", cause=named)
