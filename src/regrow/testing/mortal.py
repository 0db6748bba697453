"""A daemon that dies by SIGKILL at a chosen point of a job, once: `python -m regrow.testing.mortal --config FILE`.

The environment says where:

    REGROW_TESTING_DIE_AT    KIND:STEP:begin   before the step does anything
                             KIND:STEP:end     after all it does, before anything of that is written down
                             KIND:STEP:undo    before the step is taken back
                             KIND:STEP:undone  after that, before it is written down
                             forward:post:end  after the service has answered a message, before that is written down

It is the real daemon with the steps of its table wrapped; nothing in the daemon knows of it.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys

from regrow import daemon
from regrow.forwarding import Forwarding
from regrow.jobs.base import Outcome, Step
from regrow.jobs.steps import STEPS
from regrow.jobs.work import Work

VARIABLE = "REGROW_TESTING_DIE_AT"


def mortal(step: Step, kind: str, when: str) -> Step:
    """The step, deadly at `when` for jobs of `kind`."""

    def die(work: Work, now: str) -> None:
        if work.job.kind == kind and now == when:
            os.kill(os.getpid(), signal.SIGKILL)

    async def do(work: Work) -> Outcome:
        die(work, "begin")
        outcome = await step.do(work)
        die(work, "end")
        return outcome

    async def undo(work: Work) -> None:
        die(work, "undo")
        if step.undo is not None:
            await step.undo(work)
        die(work, "undone")

    return dataclasses.replace(step, do=do, undo=undo if step.undo is not None else None)


async def die(*_: object) -> None:
    """End the daemon here and now."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Wrap the step that is named, and be the daemon."""
    kind, name, when = os.environ[VARIABLE].split(":")
    if kind == "forward":
        Forwarding.finish = die  # type: ignore[method-assign,assignment]
    else:
        STEPS[name] = mortal(STEPS[name], kind, when)
    return daemon.main(sys.argv[1:])


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
