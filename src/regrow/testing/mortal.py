"""A daemon that dies by SIGKILL at chosen points of a job, once at each: `python -m regrow.testing.mortal --config F`.

Two variables say where:

    REGROW_TESTING_DIE_AT   points, separated by commas: KIND:STEP:WHEN. The end of every job is its step
                            "conclude"; "forward:post:end" is after the service has answered a message. WHEN is one of
                                begin    before the step does anything
                                end      after all it does, before anything of that is written down
                                undo     before the step is taken back
                                undone   after that, before it is written down
                                record   not killed: the database itself fails, in earnest, at the very statement by
                                         which the engine writes down that the step has ended
    REGROW_TESTING_DIED     a directory that gets one file, named as the point, for each death

Two more ways to go, each once:

    REGROW_TESTING_COMMIT   "N:before" or "N:after" the N-th commit of its store, counted from the moment at which the
                            file "armed" is in the directory above
    REGROW_TESTING_FILL     "KIND:STEP FILE": as that step begins the file is written until the disk is full

It is the real daemon with the steps of its table wrapped; nothing in the daemon knows of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from regrow import daemon
from regrow.databases.base import Database
from regrow.forwarding import Forwarding, Reply
from regrow.jobs.base import Outcome, Step
from regrow.jobs.runner import Runner
from regrow.jobs.steps import STEPS
from regrow.jobs.work import Work
from regrow.store import Store

POINTS = "REGROW_TESTING_DIE_AT"
DIED = "REGROW_TESTING_DIED"
COMMIT = "REGROW_TESTING_COMMIT"
FILL = "REGROW_TESTING_FILL"


def fill(kind: str, step: str) -> None:
    """Fill the disk, if this is the step and the first time here."""
    where, _, ballast = os.environ.get(FILL, "").partition(" ")
    mark = Path(os.environ[DIED], f"filled {where}")
    if where != f"{kind}:{step}" or mark.exists():
        return
    mark.touch()
    with contextlib.suppress(OSError), Path(ballast).open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def deadly_commits() -> None:
    """Be killed at one commit of the store, the engine's own among them."""
    number, _, when = os.environ[COMMIT].partition(":")
    armed, mark = Path(os.environ[DIED], "armed"), Path(os.environ[DIED], os.environ[COMMIT])
    counted = itertools.count(1)
    commit = DefaultDialect.do_commit

    def do_commit(self: DefaultDialect, connection: Any) -> None:
        here = armed.exists() and not mark.exists() and next(counted) == int(number)
        if here:
            mark.touch()
        if here and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, connection)  # type: ignore[no-untyped-call]
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]


def here(kind: str, step: str, when: str) -> bool:
    """Whether this is one of the points, and the first time here."""
    point = f"{kind}:{step}:{when}"
    if point not in os.environ.get(POINTS, "").split(","):
        return False
    mark = Path(os.environ[DIED], point)
    if mark.exists():
        return False
    mark.touch()
    return True


def die(kind: str, step: str, when: str) -> None:
    """Be killed, if this is one of the points and the first time here."""
    if here(kind, step, when):
        os.kill(os.getpid(), signal.SIGKILL)


class MortalStore(Store):
    """The store, which fails where the engine writes down that a step has ended."""

    failing = False

    def __init__(self, where: Database | Path) -> None:
        super().__init__(where)
        sa.event.listen(self.engine, "before_cursor_execute", self._before)

    def _before(self, connection: sa.Connection, _: Any, statement: str, *__: Any) -> None:
        if not MortalStore.failing or not re.match(r"INSERT INTO \S*operation_outputs", statement):
            return
        MortalStore.failing = False
        if self.database.restorable:
            # The kernel refuses every byte that makes the file longer than this, as a full disk would.
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            return
        number = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with self.engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({number}, 10000)")


def mortal(name: str, step: Step) -> Step:
    """The step, deadly where the variables say so."""

    async def do(work: Work) -> Outcome:
        fill(work.job.kind, name)
        die(work.job.kind, name, "begin")
        outcome = await step.do(work)
        die(work.job.kind, name, "end")
        MortalStore.failing = here(work.job.kind, name, "record")
        return outcome

    async def undo(work: Work) -> None:
        die(work.job.kind, name, "undo")
        if step.undo is not None:
            await step.undo(work)
        die(work.job.kind, name, "undone")

    return dataclasses.replace(step, do=do, undo=undo if step.undo is not None else None)


class MortalRunner(Runner):
    """The runner, deadly where a job ends."""

    async def _conclude(self, job: int, ending: dict[str, Any]) -> str:
        kind = (await self._ledger.get(job)).kind
        die(kind, "conclude", "begin")
        status = await super()._conclude(job, ending)
        die(kind, "conclude", "end")
        return status


class MortalForwarding(Forwarding):
    """The way to the service, deadly between an answer and its record."""

    async def finish(self, row: Mapping[str, Any], reply: Reply) -> None:
        """Die, or write down how a message ended."""
        die("forward", "post", "end")
        await super().finish(row, reply)


def main() -> int:
    """Wrap the steps, and be the daemon."""
    for name, step in STEPS.items():
        STEPS[name] = mortal(name, step)
    if COMMIT in os.environ:
        deadly_commits()
    daemon.Store = MortalStore  # type: ignore[attr-defined,assignment]
    daemon.Runner = MortalRunner  # type: ignore[attr-defined]
    daemon.Forwarding = MortalForwarding  # type: ignore[attr-defined]
    return daemon.main(sys.argv[1:])


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
