"""What a person should know before a change is made: that it is quiet hours, or what would be interrupted.

Words in a chat are asked back about it, with what can be done instead as buttons. A verb of the command line and a
pressed button are definite already: they are not asked.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from regrow import story
from regrow.care import Care
from regrow.catalogue import Language, say
from regrow.clock import Clock
from regrow.idle import Busy
from regrow.intents import CHANGES, HELD, Args, Intent
from regrow.jobs import holds
from regrow.jobs.ledger import Ledger, Record


@dataclass(frozen=True)
class Caution:
    """A question back.

    Attributes:
        text: what is in the way.
        whens: what can be done about it, as `Args.when`: "now", "idle", "force", or "" to wait for the end of quiet
            hours.
        until: that end, as the clock on the wall shows it.
    """

    text: str
    whens: tuple[str, ...]
    until: str = ""

    def labels(self, language: Language) -> list[str]:
        """What the buttons say, in the order of `whens`."""
        keys = [f"caution.{when or 'wait'}" for when in self.whens]
        return [say(language, key, **({"until": self.until} if key == "caution.wait" else {})) for key in keys]


async def caution(
    intent: Intent,
    args: Args,
    care: Care,
    *,
    ledger: Ledger,
    clock: Clock,
    language: Language,
    asks: Collection[str],
) -> Caution | None:
    """What to ask somebody who wants a change and has not said when; None when nothing is in its way.

    Args:
        intent, args: what is asked for.
        care, ledger, clock: of the service.
        language: of the question.
        asks: intents that are asked about when something would be interrupted.
    """
    if intent not in CHANGES or args.when:
        return None
    until = care.quiet.until(clock.now()) if intent in HELD and care.config.quiet.ask else None
    helps = await holds.helps(care, intent)
    busy, job = await interrupted(care, ledger)
    told = interruption(care, busy, job, language)
    if until is not None and not helps:
        end = care.quiet.clock(until)
        return Caution("\n".join([say(language, "caution.quiet", until=end), *told]), ("", "now"), end)
    # A job under way is not interrupted: this one waits for its turn, and can be told to call that off.
    if intent not in asks or busy is None or not busy.interrupted or helps:
        return None
    whens = ("now", "idle", *(("force",) if job else ()))
    return Caution("\n".join([say(language, "caution.busy"), *told]), whens)


async def interrupted(care: Care, ledger: Ledger) -> tuple[Busy | None, Record | None]:
    """What the service is busy with, and the job that is changing it now."""
    busy = await care.idle.busy() if await care.serving() is not None else None
    turn = await ledger.turn(care.name)
    jobs = [
        one for one in await ledger.live(care.name) if "turn" in one.plan and one.waiting_for not in ("idle", "quiet")
    ]
    return busy, next((one for one in jobs if one.id == turn), jobs[0] if jobs else None)


def interruption(care: Care, busy: Busy | None, job: Record | None, language: Language) -> list[str]:
    """What would be interrupted, a line each."""
    lines = []
    if busy is not None and busy.interrupted:
        if busy.messages:
            lines.append(say(language, "caution.messages", count=busy.messages))
        if busy.conversations:
            lines.append(say(language, "caution.conversations", count=busy.conversations))
        if busy.due:
            lines.append(say(language, "caution.due", count=busy.due, seconds=round(busy.drain_s)))
        if busy.said:
            lines.append(say(language, "caution.said", said=care.redactor.redact(busy.said)))
    if job is not None:
        title = story.title(job.kind, language, job.args, job.result)
        lines.append(say(language, "caution.job", job=job.id, title=care.redactor.redact(title)))
    return lines
