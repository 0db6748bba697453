"""What keeps a job from changing its service for now: a freeze ends it, quiet hours let it wait.

Asked when a job is made, again when it comes to its turn, and again before each step up to the switch: a service may
be frozen while a build runs.
"""

from __future__ import annotations

from regrow.care import Care
from regrow.catalogue import say
from regrow.errors import Refused
from regrow.freezes import Freeze
from regrow.intents import HELD, Intent
from regrow.jobs.base import StepFailed, Wait
from regrow.jobs.ledger import WAITING_FOR_QUIET
from regrow.jobs.work import Work

CHANGING = frozenset({"turn", "snapshot", "restore", "rehearse", "candidate", "switch"})
"""The steps of a plan from its turn to the switch."""
AT_ONCE = frozenset({"now", "force"})
_LOOK_S = 60.0


async def is_unwell(care: Care, token: str = "") -> bool:
    """Whether a service is down or fails a probe, so that starting it again can only help.

    Args:
        care: of the service.
        token: of a job whose own copy is not counted.
    """
    active = (await care.service.status()).active
    return active is None or active.token == token or any(probe["strikes"] for probe in active.probes.values())


async def helps(care: Care, intent: str) -> bool:
    """Whether a change cannot wait for quiet hours to end: nothing serves, or a restart of what fails its probes."""
    if (await care.service.status()).active is None:
        return True
    return intent == Intent.restart and await is_unwell(care)


async def freeze_of(care: Care, intent: str, token: str = "") -> Freeze | None:
    """The freeze that keeps an intent from being carried out, or None. What is down may always be started again."""
    if intent not in HELD or (found := await care.freezes.of(care.name)) is None:
        return None
    return None if intent == Intent.restart and await is_unwell(care, token) else found


def frozen(doing: str, found: Freeze, care: Care) -> Refused:
    """The refusal: why, since when, and on whose word."""
    reason = care.redactor.redact(found.reason) or "no reason given"
    return Refused(
        f"cannot {doing}: {found.service} is frozen by {found.by} since {care.quiet.date(found.at)}: {reason}; "
        "only a way back is open (rollback, undo) until somebody says unfreeze",
        kind="frozen",
        service=found.service,
        by=found.by,
        since=care.quiet.date(found.at),
        reason=care.redactor.redact(found.reason) or "-",
    )


async def check(work: Work, step: str) -> None:
    """Refuse a step that changes a frozen service. Raises StepFailed, kind "frozen"."""
    if work.job.result.get("undoes"):
        return  # a way back, also where it is a change of settings
    if step in CHANGING and (found := await freeze_of(work.care, work.job.kind, work.token)) is not None:
        refused = frozen(work.job.kind, found, work.care)
        raise StepFailed(str(refused), kind="frozen", cause=f"{found.by}: {refused.values['reason']}")


async def until_quiet_ends(work: Work) -> Wait | None:
    """What to wait for in quiet hours; None once they are over, for a job that is a way back, and for one that was
    asked for with "now" or "force", also while it waits."""
    care, job = work.care, await work.ledger.get(work.job.id)
    if job.kind not in HELD or job.args.get("when") in AT_ONCE or job.result.get("undoes"):
        return None
    now = work.clock.now()
    until = care.quiet.until(now)
    if until is None or await helps(care, job.kind):
        return None
    work.tell(detail=say(job.language, "live.waiting_quiet", until=care.quiet.clock(until)))
    return Wait(
        (WAITING_FOR_QUIET, {"until": until}), (("job", job.id), ("turn", care.name)), min(until - now, _LOOK_S)
    )
