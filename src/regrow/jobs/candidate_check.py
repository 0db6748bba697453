"""`[service] check`: what can be known of a release before anything that runs is touched.

The daemon does this and not the supervisor: it is part of a deploy and of no way back, it needs time, output and a
log, and every driver has it this way. A daemon that dies in it has stopped nothing; its successor does it again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from regrow import files
from regrow.errors import CandidateFailed, ConfigError, ProcessError, ProcessTimeout
from regrow.jobs.work import Work
from regrow.pool import in_thread
from regrow.process import Completed, exit_words, run
from regrow.secret import resolve
from regrow.services.base import ReleaseSpec

PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
)  # fmt: skip
"""Of the daemon's own environment; the supervisor passes on the same."""


async def run_check(work: Work, spec: ReleaseSpec) -> None:
    """Run the service's check with a release's directory, environment and secrets; nothing where none is set.

    Where the service has databases, `{state}` and `REGROW_STATE` are a copy of them, as the release will find them:
    new code that migrates what it only was to look at has done that to nobody (F21).

    Raises:
        CandidateFailed: it ended with another code than 0, was late, or could not be run.
        Refused: kinds "snapshot_damaged" and "disk_full", of the copy.
    """
    if not work.care.config.service.check:
        return
    number = work.facts.get("restored") or work.facts.get("snapshot_id")
    if number is None:
        await _run(work, spec, work.care.state)
        return
    place = work.care.directory / "checks" / work.token
    try:
        taken = await work.care.snapshots.get(number)
        await in_thread(files.private_directory, place)
        await _run(work, spec, await work.care.snapshots.lay_out(taken, place, work.care.config.state.sqlite))
    finally:
        await in_thread(files.remove_tree, place)


async def _run(work: Work, spec: ReleaseSpec, state: Path) -> None:
    service = work.care.config.service
    argv = work.care.config.expand(service.check, release=spec.cwd, state=str(state))
    work.log(f"$ {' '.join(argv)}")
    try:
        env = await in_thread(environment, spec, os.environ) | {"REGROW_STATE": str(state)}
        done = await run(argv, timeout_s=service.check_timeout, cwd=Path(spec.cwd), env=env, on_line=work.log)
    except ProcessTimeout as error:
        raise CandidateFailed(f"check: still running after {service.check_timeout:g} s", log_tail=error.log) from error
    except (ProcessError, ConfigError) as error:
        raise CandidateFailed(f"check: {error}") from error
    if done.code != 0:
        raise CandidateFailed(f"check: {_why(done)}", log_tail=done.output)


def environment(spec: ReleaseSpec, own: Mapping[str, str]) -> dict[str, str]:
    """What the supervisor would start the release with, sockets apart. Raises ConfigError (a secret is not there)."""
    secrets = {name: resolve(reference, environ=own).reveal() for name, reference in spec.secrets.items()}
    inherited = {name: own[name] for name in PASSED_ON if name in own}
    return {**inherited, **spec.env, **secrets, "REGROW_RELEASE": spec.id}


def _why(done: Completed) -> str:
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    return ": ".join([exit_words(done.code), *lines[-1:]])
