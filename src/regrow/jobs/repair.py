"""The steps that make a change and prove it: the agent, the gate, the verification. What an agent says is not believed
(design 4.5)."""

from __future__ import annotations

from pathlib import Path

from regrow import verification
from regrow.agents.base import Event, Span, Task
from regrow.jobs.base import Done, Outcome, StepFailed
from regrow.jobs.work import Work
from regrow.rehearsals import INTERPRETER


async def agent(work: Work) -> Outcome:
    """Let the agent work on the job's tree; what it says is kept, not believed."""
    care, config, job = work.care, work.care.config, work.job
    driver = care.agents(job.args.get("agent", ""))

    def tell(event: Event) -> None:
        text = care.redactor.redact(event.text)
        work.log(f"{driver.name}: {event.kind}: {text}")
        if event.kind != "log":
            work.tell(detail=care.redactor.shorten_paths(text)[:100])

    task = Task(
        bug="\n\n".join(filter(None, (job.args["bug"], job.args.get("evidence", "")))),
        workspace=Path(work.facts["workspace"]),
        git_directory=care.repository.git_dir,
        allowed=config.repair.allowed,
        reproduction=job.args.get("reproduction", ""),
        spans=await _spans(work),
        readable=(*config.readable(), *INTERPRETER),
        env=tuple(config.test.env.items()),
        timeout_s=config.repair.timeout,
    )
    outcome = await driver.repair(task, care.sandbox, tell)
    work.log(f"{driver.name}: {outcome.summary}\n{outcome.log}")
    facts = {"agent": driver.name, "summary": care.redactor.shorten_paths(care.redactor.redact(outcome.summary))}
    if not outcome.changed:
        raise StepFailed(
            f"cannot repair: {facts['summary']}", kind=outcome.reason or "no_change", log=outcome.log, facts=facts
        )
    return Done(facts | {"culprit": outcome.culprit, "culprit_subject": outcome.culprit_subject})


async def _spans(work: Work) -> tuple[Span, ...]:
    """From each earlier good release to what serves now, the nearest first."""
    care = work.care
    bad = work.facts["base"]
    spans: list[Span] = []
    for good in await care.releases.good():
        if good.commit == bad or any(span.good == good.commit for span in spans):
            continue
        if await care.repository.is_ancestor(good.commit, bad):
            spans.append(Span(good.commit, bad))
    return tuple(spans)


async def gate(work: Work) -> Outcome:
    """Judge the tree from outside."""
    care = work.care
    report = await care.gate.check(care.repository, work.facts["base"], Path(work.facts["workspace"]))
    changed = [change.path for change in report.changes]
    work.log("gate: " + ", ".join(f"{c.kind} {c.path} +{c.added} -{c.removed}" for c in report.changes))
    refusals = report.refusals
    if await _takes_back_one_commit(work, report.tree):
        # Nobody wrote this: it is what the repository held before. Where it lies is no reason to refuse it.
        refusals = tuple(refusal for refusal in refusals if refusal.rule not in {"outside", "denied", "executable"})
    for refusal in refusals:
        work.log(f"gate: refused by {refusal.rule}: {refusal.path}: {refusal.text}")
    if refusals:
        first = refusals[0]
        kind = "no_change" if first.rule == "no_change" else "gate"
        text = f"cannot accept the change: {first.text}"
        raise StepFailed(text, kind=kind, facts={"files": changed}, cause=first.text)
    return Done(
        {
            "tree": report.tree,
            "digest": report.digest,
            "files": changed,
            "added": sum(c.added for c in report.changes),
            "removed": sum(c.removed for c in report.changes),
        }
    )


async def _takes_back_one_commit(work: Work, tree: str) -> bool:
    """Whether the change is exactly the reverse of the culprit, computed again from outside."""
    culprit = work.facts.get("culprit", "")
    if work.facts["agent"] != "revert" or not culprit:
        return False
    return (await work.care.repository.revert_tree(work.facts["base"], culprit)).tree == tree


async def verify(work: Work) -> Outcome:
    """Prove the change from fresh trees: the reproduction fails before and passes after, and so do the tests."""
    care, config = work.care, work.care.config
    result = await verification.verify(
        care.sandbox,
        care.workspaces,
        work.job.id,
        work.facts["base"],
        work.facts["tree"],
        test_command=config.expand(config.test.command) if config.test.command else (),
        reproduction=work.job.args.get("reproduction", ""),
        conditions=verification.Conditions(
            readable=(*config.readable(), *INTERPRETER),
            env=config.test.env,
            timeout_s=config.test.timeout,
            memory_bytes=config.sandbox.memory,
            file_bytes=config.sandbox.file_size,
            processes=config.sandbox.processes,
            nice=config.test.nice,
        ),
        # The tests of the culprit go with it; judging by them would keep every bug that came with a test.
        **({"test_files": ()} if work.facts["agent"] == "revert" else {}),
        tell=lambda text: work.tell(detail=care.redactor.shorten_paths(care.redactor.redact(text))[:100]),
    )
    work.log(f"verification: {result.verdict}\n{result.log}")
    if not result.passed:
        raise StepFailed(
            f"cannot accept the change: {_VERDICTS[result.verdict]}", kind=f"verify_{result.verdict}", log=result.log
        )
    tests = "passed" if config.test.command else "none"
    return Done({"tests": tests, "reproduced": result.verdict == "verified"})


_VERDICTS = {
    "not_reproduced": "the reproduction passes without it",
    "still_failing": "the reproduction still fails with it",
    "tests_failed": "the tests fail with it",
    "timeout": "a test or the reproduction hangs with it",
    "unproven": "there is neither a reproduction nor a test that could prove it",
}
