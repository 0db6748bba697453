"""The runner: one DBOS workflow that walks a plan, step by step, and back when it fails.

The rules it keeps, each paid for in the field: the plan is an argument and so stored with the job; cancelling is a flag
of our own seen between steps, because after DBOS's own cancel no undo step would run; the application version is
pinned, one executor id a daemon; every job is enqueued on the host's own queue; the serializer is JSON; a failed step
is a value, so that the engine never ends a job by itself; no job ends with the service down (F4).
"""

from __future__ import annotations

import asyncio
import errno
import json
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos import Serializer as DBOSSerializer

from regrow.approvals import Approvals
from regrow.audit import Audit
from regrow.care import Care
from regrow.clock import Clock, SystemClock
from regrow.errors import RegrowError
from regrow.events import Events
from regrow.jobs import data
from regrow.jobs.base import Done, Outcome, Step, StepFailed, Wait
from regrow.jobs.bell import Bell
from regrow.jobs.estimates import Estimates
from regrow.jobs.ledger import Ledger, Record
from regrow.jobs.plans import GOOD, SWITCHED
from regrow.jobs.work import Progress, Work
from regrow.permissions import Permissions
from regrow.pool import in_thread
from regrow.store import Store

log = structlog.get_logger("jobs")

APPLICATION_VERSION = "1"
_QUEUE_POLL_S = 2.0  # the net below the bell
_RING_AGAIN_S = (0.1, 0.3, 1.0)  # the engine's own thread brings back the jobs of the last life, and rings nobody
_LISTENER_POLL_S = 0.25  # looks at memory only while nothing is received; a stop waits for one round of it
_RECOVERIES = 1000
_TAIL_CHARACTERS = 400
_UNDO_DEADLINE_S = 120.0
_COME_BACK_LOOK_S = 0.5
_WATCHED = frozenset({"bake", "confirm"}) | GOOD


class JSONSerializer(DBOSSerializer):
    """What the engine stores is readable and never code (its default is pickle)."""

    def serialize(self, data: Any) -> str:
        """As JSON; exceptions as their text, because the engine stores those too."""
        return json.dumps(data, ensure_ascii=False, default=repr)

    def deserialize(self, serialized_data: str) -> Any:
        """The inverse."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """The format's name in the store."""
        return "regrow_json"


class Runner:
    """Runs the jobs of all services of this daemon.

    Args:
        host: this daemon's name among those that share a store.
        steps: what each step name does.
        permissions: who may still do what, asked again before each step that leads to a switch (F37).
        on_end: called once a job has ended and its report is written down.
    """

    def __init__(
        self,
        *,
        store: Store,
        host: str,
        ledger: Ledger,
        approvals: Approvals,
        audit: Audit,
        events: Events,
        cares: Mapping[str, Care],
        steps: Mapping[str, Step],
        permissions: Permissions,
        clock: Clock | None = None,
    ) -> None:
        self._permissions = permissions
        self._store = store
        self._queue = f"host-{host}"
        self._host = host
        self._ledger = ledger
        self._approvals = approvals
        self._audit = audit
        self._events = events
        self._cares = cares
        self._steps = steps
        self._clock = clock or SystemClock()
        self._estimates = Estimates(store, self._clock)
        self._progress: dict[int, Progress] = {}
        self._running: dict[int, asyncio.Task[dict[str, Any]]] = {}
        self._bell = Bell()
        self._stopping = False
        self._run_plan: Callable[[int, list[str]], Awaitable[str]] | None = None

    def progress(self, job: int) -> Progress | None:
        """How far the running step of `job` is, if one runs here."""
        return self._progress.get(job)

    async def start(self) -> None:
        """Launch the engine; jobs that were under way go on."""
        config: DBOSConfig = {
            "name": "regrow",
            "system_database_url": str(self._store.engine.url),
            "system_database_engine": self._store.engine,
            "application_version": APPLICATION_VERSION,
            "executor_id": self._host,
            "log_level": "WARNING",
            "serializer": JSONSerializer(),
            "use_listen_notify": False,
            "notification_listener_polling_interval_sec": _LISTENER_POLL_S,
        }
        self._bell.hang(DBOS(config=config))

        # Named here and not at import, so that importing this module does nothing.
        @DBOS.step(name="perform")
        async def perform(job: int, index: int, facts: dict[str, Any]) -> dict[str, Any]:
            return await self._perform(job, index, facts)

        @DBOS.step(name="take_back")
        async def take_back(job: int, index: int, facts: dict[str, Any]) -> None:
            await self._take_back(job, index, facts)

        @DBOS.step(name="conclude")
        async def conclude(job: int, ending: dict[str, Any]) -> str:
            return await self._conclude(job, ending)

        @DBOS.workflow(name="run_plan", max_recovery_attempts=_RECOVERIES)
        async def run_plan(job: int, plan: list[str]) -> str:
            facts: dict[str, Any] = {}
            ending: dict[str, Any] = {"status": "done"}
            reached = 0
            for index in range(len(plan)):
                reached = index
                outcome = await perform(job, index, facts)
                facts = {**facts, **outcome.get("facts", {})}
                if outcome["status"] != "done":
                    ending = outcome
                    break
            if ending["status"] != "done":
                for index in range(reached, -1, -1):
                    await take_back(job, index, facts)
            return await conclude(job, {**ending, "facts": facts})

        self._run_plan = run_plan
        DBOS.listen_queues([self._queue])
        DBOS.launch()
        await DBOS.register_queue_async(self._queue, polling_interval_sec=_QUEUE_POLL_S)
        for record in await self._ledger.live():
            # Killed between writing the job down and handing it to the engine: the id makes a second hand-over
            # harmless.
            await self._enqueue(record)
        for after_s in _RING_AGAIN_S:
            asyncio.get_running_loop().call_later(after_s, self._bell.ring)

    async def submit(self, record: Record) -> None:
        """Hand a job that is in the ledger to the engine. Safe to repeat."""
        await self._enqueue(record)

    async def _enqueue(self, record: Record) -> None:
        assert self._run_plan is not None, "the runner is started first"
        with SetWorkflowID(f"{self._store.database.scope}job-{record.id}"):
            await DBOS.enqueue_workflow_async(self._queue, self._run_plan, record.id, record.plan)  # type: ignore[arg-type]
        self._bell.ring()

    async def stop(self) -> None:
        """End what runs here without an outcome: the engine runs those steps again in the next life."""
        self._stopping = True
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await in_thread(DBOS.destroy, workflow_completion_timeout_sec=0)

    # One step

    def _work(self, record: Record, facts: Mapping[str, Any], progress: Progress) -> Work:
        care = self._cares[record.service]
        return Work(
            job=record,
            facts=facts,
            care=care,
            ledger=self._ledger,
            approvals=self._approvals,
            estimates=self._estimates,
            events=self._events,
            clock=self._clock,
            log_file=care.job_log(record.id),
            progress=progress,
        )

    async def _record(self, job: int) -> Record:
        """The job; one of a service that this daemon does not care for any more waits until a later one does."""
        record = await self._ledger.get(job)
        if record.service not in self._cares:
            log.warning("a job waits for its service", action="job_set_aside", job=job, service=record.service)
            # An error here would be the end of the job for the engine, and nobody would ever be told.
            await asyncio.get_running_loop().create_future()
        return record

    async def _perform(self, job: int, index: int, facts: dict[str, Any]) -> dict[str, Any]:
        record = await self._record(job)
        name = record.plan[index]
        if record.cancelled_by and name not in GOOD:
            return {"status": "cancelled", "step": name}
        started_at = self._clock.now()
        began = self._clock.monotonic()
        if record.started_at is None:
            await self._ledger.change(job, started_at=started_at)
        # The receipt comes first: a job killed here is known to have been here (F30).
        await self._ledger.step(job, index, status="doing", started_at=started_at, detail="")
        progress = self._progress[job] = Progress()
        work = self._work(record, facts, progress)
        task = asyncio.create_task(self._do(work, index), name=f"job-{job}-{name}")
        self._running[job] = task
        try:
            with self._events.watch(("cancel", job)) as watch:
                while not task.done():
                    looking = asyncio.ensure_future(watch.changed())
                    await asyncio.wait({task, looking}, return_when=asyncio.FIRST_COMPLETED)
                    looking.cancel()
                    if not task.done() and (await self._ledger.get(job)).cancelled_by and name not in GOOD - {"tidy"}:
                        task.cancel()
                        await asyncio.wait({task})
            if self._stopping:
                # No outcome may be recorded for a step that was cut off by our own stop: park until the process ends.
                await asyncio.get_running_loop().create_future()
            if task.cancelled():
                outcome: dict[str, Any] = {"status": "cancelled", "step": name}
            else:
                outcome = task.result()
        finally:
            self._running.pop(job, None)
            self._progress.pop(job, None)
        seconds = self._clock.monotonic() - began
        status = "done" if outcome["status"] == "done" else "failed"
        await self._ledger.step(
            job, index, outcome.get("facts"), status=status, seconds=seconds, detail=progress.detail
        )
        return outcome

    async def _do(self, work: Work, index: int) -> dict[str, Any]:
        """Run a step to its outcome; every expected failure becomes a value."""
        name = work.job.plan[index]
        step = self._steps.get(name)
        try:
            if step is None:
                raise StepFailed(
                    f"cannot go on: this version does not know the step {name}; install the one that began the job",
                    kind="unknown_step",
                )
            await self._check_rights(work.job, name)
            result = await self._once(work, step)
            while not isinstance(result, Done):
                if isinstance(result, Wait):
                    result = await self._wait(work, index, step, result)
                else:
                    work.log(f"{name}: again in {result.after_s:g} s: {result.reason}")
                    await self._clock.sleep(result.after_s)
                    result = await self._once(work, step)
            return {"status": "done", "facts": dict(result.facts)}
        except TimeoutError:
            return self._failure(name, StepFailed(f"cannot finish the step {name}: its time is over", kind="deadline"))
        except RegrowError as error:
            work.log(f"{name}: {error}" + (f"\n{error.log}" if error.log else ""))
            return self._failure(name, error)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            full = f"cannot go on: the disk is full ({error.filename or work.care.directory}); free some space"
            return self._failure(name, StepFailed(full, kind="disk_full"))
        except Exception as error:
            log.exception("a step broke", action="step_bug", job=work.job.id, step=name)
            work.log(traceback.format_exc())
            return self._failure(name, StepFailed(f"cannot go on: {type(error).__name__}: {error}", kind="bug"))

    async def _check_rights(self, job: Record, step: str) -> None:
        """Whoever asked and whoever approved must still have the right when it is acted upon (F37).

        Raises:
            Refused: kind "forbidden". Once the new release serves, its trial decides and nobody's rights.
        """
        if step not in _WATCHED:
            if job.person:
                self._permissions.check(self._permissions.person(job.person), job.kind)
            approval = await self._approvals.of(job.id)
            if approval is not None and approval.state == "approved" and approval.person:
                self._permissions.check(self._permissions.person(approval.person), "approve")

    @staticmethod
    async def _once(work: Work, step: Step) -> Outcome:
        async with asyncio.timeout(step.deadline_s):
            return await step.do(work)

    async def _wait(self, work: Work, index: int, step: Step, wait: Wait) -> Outcome:
        """Look again at each change of what is waited for, until the step says something else."""
        reason, fields = wait.reason
        job, name = work.job.id, work.job.plan[index]
        await self._ledger.step(job, index, status="waiting", waiting_for=reason)
        work.log(f"{name}: waiting for {reason} {json.dumps(dict(fields))}")
        with self._events.watch(*wait.topics) as watch:
            result = await self._once(work, step)
            while isinstance(result, Wait):
                await watch.changed(result.within_s)
                result = await self._once(work, step)
        await self._ledger.step(job, index, status="doing")
        return result

    @staticmethod
    def _failure(step: str, error: RegrowError) -> dict[str, Any]:
        extra = {"facts": error.facts, "fields": error.fields} if isinstance(error, StepFailed) else {}
        # A program may print megabytes without an end of line; this goes into chats.
        tail = "\n".join(line[:_TAIL_CHARACTERS] for line in error.log.splitlines()[-40:])
        return {"status": "failed", "step": step, "kind": error.kind, "text": str(error), "log_tail": tail, **extra}

    async def _take_back(self, job: int, index: int, facts: dict[str, Any]) -> None:
        record = await self._record(job)
        name = record.plan[index]
        step = self._steps.get(name)
        if step is None or step.undo is None:
            return
        failed = record.steps[index]["status"] == "failed"  # people are to see where it went wrong
        await self._ledger.step(job, index, status="undoing")
        work = self._work(record, facts, Progress())
        try:
            async with asyncio.timeout(_UNDO_DEADLINE_S):
                await step.undo(work)
            work.log(f"{name}: undone")
            await self._ledger.step(job, index, status="failed" if failed else "undone")
        except Exception as error:
            # One undo that fails must not keep the others from running; the report names what really serves (F25).
            log.exception("an undo failed", action="undo_failure", job=job, step=name)
            work.log(f"{name}: undo failed: {error}")
            await self._ledger.step(job, index, status="failed", detail=str(error))

    async def _come_back(self, care: Care) -> None:
        """Wait while the supervisor starts what it went back to: an exclusive service takes its time (F4)."""
        service = care.config.service
        try:
            async with asyncio.timeout(service.drain + service.stop_timeout + service.start_timeout):
                with self._events.watch(("service", care.name)) as watch:
                    while (await care.service.status()).state not in {"running", "stopped"}:
                        await watch.changed(_COME_BACK_LOOK_S)
        except (RegrowError, OSError) as error:
            log.warning("the service is not back", action="come_back_failure", service=care.name, error=str(error))

    @staticmethod
    async def _aftermath(care: Care, job: int, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What became of the data."""
        try:
            return await data.aftermath(care, job, facts)
        except (RegrowError, OSError) as error:
            log.warning("what was written is not told of", action="aftermath_failure", job=job, error=str(error))
            return {}

    @staticmethod
    async def _serving(care: Care) -> dict[str, str]:
        """What really serves now, whatever the steps believe (F25)."""
        try:
            serving = await care.serving()
        except (RegrowError, OSError) as error:
            log.warning("the supervisor does not answer", action="status_failure", error=str(error))
            return {}
        return {"serving": serving.version, "serving_release": serving.id} if serving else {}

    async def _outcome(
        self, record: Record, status: str, facts: Mapping[str, Any], error: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """What the audit log keeps of an end: the result, and on whose word it was."""
        found = {
            "status": status,
            "kind": record.kind,
            "service": record.service,
            "error": error["kind"] if error else "",
        }
        found |= {name: facts[name] for name in ("version", "serving", "commit") if facts.get(name)}
        approval = await self._approvals.of(record.id)
        if approval is not None and approval.decided_by:
            found |= {approval.state: approval.decided_by, "digest": approval.digest}
        words = {"kept": record.kept_by, "cancelled": record.cancelled_by}
        return found | {word: by for word, by in words.items() if by}

    async def _conclude(self, job: int, ending: dict[str, Any]) -> str:
        record = await self._record(job)
        care = self._cares[record.service]
        facts = dict(ending["facts"])
        status = ending["status"]
        if status != "done" and ending["step"] in SWITCHED:
            await self._come_back(care)
        if status != "done":
            facts.update(await self._aftermath(care, job, facts))
        facts.update(await self._serving(care))
        error = None
        if status == "failed":
            error = {
                "kind": ending["kind"],
                "text": ending["text"],
                "step": ending["step"],
                "log_tail": ending["log_tail"],
            }
            facts.update(ending.get("fields", {}))
        if status in {"failed", "cancelled"} and ending["step"] in SWITCHED and "switched_at" in facts:
            status = "undone" if status == "failed" else "cancelled"
        await self._approvals.close(job)
        await self._ledger.give_turn(record.service, job)
        await self._ledger.change(
            job,
            status=status,
            result={**record.result, **facts},
            error=error,
            # Concluded again after a kill, it ended when it ended.
            ended_at=self._clock.now() if record.ended_at is None else record.ended_at,
            waiting_for="",
        )
        await self._audit.write(
            "regrow", "job", "ended", job, once=True, **await self._outcome(record, status, facts, error)
        )
        return str(status)
