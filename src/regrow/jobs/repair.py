"""The steps that make a change and prove it: reproduction, attempts, gate, verification.

What an agent says is not believed (design 4.5): a reproducing test must fail on the base, the fix is made by an agent
that may not touch tests, the gate reads the change from outside, and fresh checkouts in the box prove it. What a step
has found out is noted beside the job's workspaces, so that one that runs again after a kill finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from regrow import attempts, files, process, risks, verification
from regrow.agents.base import Agent, Span, Task
from regrow.agents.base import Outcome as Answer
from regrow.attempts import Attempt, Attempts
from regrow.boxes import build_box
from regrow.catalogue import Language, say, say_fitting
from regrow.config import Config
from regrow.errors import RegrowError
from regrow.gate import GateReport, Refusal, digest
from regrow.git import Repository
from regrow.jobs.base import Done, Outcome, StepFailed
from regrow.jobs.hearsay import Hearsay
from regrow.jobs.ledger import Record
from regrow.jobs.work import Work
from regrow.pool import in_thread
from regrow.process import Completed
from regrow.rehearsals import INTERPRETER
from regrow.risks import Risk
from regrow.sandboxes.masks import shown_git
from regrow.verification import TEST_FILES, Conditions, Runs, Trial, Verification
from regrow.workspaces import FIRST

_TRIES = 2
_PARTS = 6
_REFUSALS = 5
_TAIL_LINES = 20
_INSTRUCTION_BYTES = 64 * 1024
_FORGET_S = 30.0
_MADE_BY = ("Regrow", "regrow@localhost")


def room_of(job: Record) -> int:
    """The job in whose workspaces and home this one's agent works: the first of a conversation with it."""
    return int(job.args.get("room", job.id))


async def forget(*homes: Path) -> None:
    """Delete homes of agents. By a program: an agent can nest directories deeper than a recursion goes."""
    if homes:
        await process.run(["rm", "-rf", "--", *map(str, homes)], timeout_s=_FORGET_S)


# First the reproduction


async def reproduce(work: Work) -> Outcome:
    """The bug must show on the base before anybody mends it: by the command of the report, or by a test that the agent
    writes for it and that fails for the reason reported."""
    config = work.care.config
    if work.job.args.get("reproduction"):
        return await _by_command(work)
    if config.repair.reproduce == "off":
        return Done({"reproduced_by": ""})
    note = await work.care.workspaces.note(work.job.id, "reproduction")
    if (known := await in_thread(_read, note)) is None:
        known = await _by_test(work)
        await in_thread(files.write_atomic, note, json.dumps(known, ensure_ascii=False).encode())
    if known["reproduced_by"]:
        return Done(known)
    reason = say(work.job.language, f"unreproduced.{known['unreproduced']}")
    if config.repair.reproduce == "required":
        raise StepFailed(
            f"cannot repair: nothing reproduces the bug ({known['unreproduced']}); say in a code block how it shows",
            kind="nothing_reproduced",
            log=known["failing"],
            facts=known,
            cause=f"{reason}\n{known['diagnosis']}".strip(),
        )
    work.tell(detail=reason)
    return Done({**known, "risks": [_fact(Risk("not_reproduced", "", reason))]})


async def _by_command(work: Work) -> Outcome:
    """Run the command of the report on the base."""
    care, base = work.care, work.facts["base"]
    script = work.job.args["reproduction"]
    tree = await care.workspaces.fresh(work.job.id, "reproduce", base)
    try:
        trial = await verification.reproduce(care.sandbox, tree, script, await _conditions(work))
    finally:
        await care.workspaces.drop(tree)
    work.log(f"reproduce: {trial.finding}\n{trial.output}")
    if trial.finding == "passes":
        raise StepFailed("cannot repair: the reproduction passes", kind="not_reproduced", log=trial.output)
    if trial.finding in {"skip", "cannot_run"}:
        raise StepFailed("cannot repair: the reproduction cannot run", kind="no_reproduction", log=trial.output)
    return Done({"reproduced_by": "command", "failing": _tail(work, _said(trial))})


def _said(trial: Trial) -> str:
    return trial.output if trial.finding == "fails" else f"{trial.output}\n(no end after {trial.seconds:g} s)"


async def _by_test(work: Work) -> dict[str, Any]:
    """Let the agent write a reproducing test; what was found, as facts."""
    care, config = work.care, work.care.config
    if not config.test.command:
        return _nothing("no_tests")
    base, earlier = work.facts["base"], list[str]()
    found = _nothing("no_test")
    for number in range(1, _TRIES + 1):
        driver = _driver(work)
        made = await care.workspaces.anew(room_of(work.job), base, FIRST)
        task = await _task(work, made.path, config.repair.tests, number=number, earlier=earlier, goal="reproduce")
        answer, _, _ = await _ask(work, driver, task)
        said = care.redactor.for_people(answer.summary)
        if not answer.changed:
            # Whoever cannot write a test will not learn it, and who found nothing to write has said why.
            why = "cannot" if answer.reason == "no_reproduction" else "no_test"
            return _nothing(why, said, answer.log if answer.reason not in {"no_reproduction", "no_change"} else "")
        gate = care.gate.only(config.repair.tests)
        report = await gate.check(care.repository, base, made.path)
        if report.refusals:
            _log_refusals(work, report.refusals)
            found = _nothing("refused", said, "\n".join(refusal.text for refusal in report.refusals))
        else:
            proof = await verification.prove_test(
                care.sandbox,
                care.workspaces,
                work.job.id,
                base,
                report.tree,
                test_command=_test_command(work),
                told=task.bug,
                conditions=await _conditions(work),
                reruns=config.test.reruns,
                runs=await _runs(work),
                tell=_teller(work),
            )
            work.log(f"reproduce: {proof.why or 'fails as reported'}: {', '.join(proof.tests)}\n{proof.log}")
            if not proof.why:
                return await _reproduced(work, report, proof, said)
            found = _nothing(proof.why, said, proof.failing)
        earlier.append(f"{found['unreproduced']}: {found['failing']}"[-2000:])
    return {**found, "failing": _tail(work, found["failing"])}


def _nothing(why: str, diagnosis: str = "", failing: str = "") -> dict[str, Any]:
    return {"reproduced_by": "", "unreproduced": why, "diagnosis": diagnosis, "failing": failing}


async def _reproduced(work: Work, report: GateReport, proof: verification.Reproduced, said: str) -> dict[str, Any]:
    """The facts of a test that reproduces the bug; the fix begins from a commit with the test in it."""
    base = work.facts["base"]
    start = await work.care.repository.commit_tree(
        report.tree, [base], f"A test that fails for the bug of job {work.job.id}", _MADE_BY, at=0
    )
    return {
        "reproduced_by": "test",
        "start": start,
        "reproducing_tests": list(proof.tests),
        "test_files": [change.path for change in report.changes],
        "failing": _tail(work, proof.failing),
        "diagnosis": said,
        "risks": [_fact(risk) for risk in report.risks],
    }


# Then the fix


async def agent(work: Work) -> Outcome:
    """Let the agent work on trees of the job's own, as often as the settings say; the smallest proved change wins."""
    repair = work.care.config.repair
    made = Attempts(await work.care.workspaces.note(work.job.id, "attempts"))
    if repair.attempts == 1:
        await _attempt(work, made, 1, None)
        return _only(work, made)
    given_up, runs = "", await _runs(work)
    width = min(repair.attempts_parallel, repair.attempts)
    for first in range(1, repair.attempts + 1, width):
        if given_up := attempts.hopeless(made.ended):
            break
        if repair.attempts_until == "proved" and attempts.smallest(made.ended):
            break
        numbers = range(first, min(first + width, repair.attempts + 1))
        told = await asyncio.gather(*(_attempt(work, made, n, runs) for n in numbers), return_exceptions=True)
        for error in told:
            if error is not None:
                raise error
    return _best(work, made.ended, given_up)


def _only(work: Work, made: Attempts) -> Outcome:
    """What became of the one attempt."""
    (attempt,) = made.ended
    facts = {"agent": _driver(work).name, "summary": attempt.summary} | _told(made.ended)
    if attempt.state == "failed":
        raise StepFailed(
            f"cannot repair: {attempt.summary}", kind=attempt.why, log=attempt.log, facts=facts, cause=attempt.summary
        )
    return Done(facts | _chosen(attempt))


def _best(work: Work, ended: Sequence[Attempt], given_up: str) -> Outcome:
    """What became of several."""
    language, total = work.job.language, work.care.config.repair.attempts
    best = attempts.smallest(ended)
    facts: dict[str, Any] = {
        "agent": _driver(work).name,
        "attempts": [
            {"number": one.number, "state": one.state, "text": one.text or one.summary, "lines": one.lines}
            for one in ended
        ],
        "attempts_planned": total,
        "given_up": given_up,
        **_told(ended),
    }
    if best is None:
        last = ended[-1]
        cause = "\n".join(say(language, "attempt.failed", number=one.number, why=one.text) for one in ended)
        if given_up:
            words = say(language, f"given_up.{given_up}")
            cause += "\n" + say(language, "attempt.given_up", made=len(ended), planned=total, why=words)
        raise StepFailed(
            f"cannot repair: none of {len(ended)} attempts was accepted; the last one: {last.text}",
            kind="no_attempt",
            log=last.log,
            facts=facts | {"summary": last.summary},
            cause=cause,
        )
    work.log(f"attempt {best.number} wins with {best.lines} changed lines")
    return Done(facts | {"summary": best.summary, "attempt": best.number} | _chosen(best))


def _told(ended: Sequence[Attempt]) -> dict[str, str]:
    """What it has cost so far, and the session to go on with: that of the first attempt, whose place is made again."""
    cost = next((one.cost for one in reversed(ended) if one.cost), "")
    session = next((one.session for one in ended if one.number == 1), "")
    model = next((one.model for one in reversed(ended) if one.model), "")
    return {name: text for name, text in (("cost", cost), ("session", session), ("model", model)) if text}


def _chosen(attempt: Attempt) -> dict[str, Any]:
    return {
        "workspace": attempt.workspace,
        "culprit": attempt.culprit,
        "culprit_subject": attempt.culprit_subject,
    }


async def _attempt(work: Work, made: Attempts, number: int, runs: Runs | None) -> None:
    """Make one attempt, from the start, and judge it where there are others to compare it with: where there are
    `runs`."""
    care, repair = work.care, work.care.config.repair
    if (known := made.get(number)) is not None and known.ended:
        return
    driver, start = _driver(work), work.facts.get("start", work.facts["base"])
    # One that was cut off begins again: what it left half-done is nobody's idea of a fix.
    workspace = await care.workspaces.anew(room_of(work.job), start, f"attempt-{number}")
    attempt = Attempt(number, workspace=str(workspace.path))
    await made.put(attempt)
    task = await _task(
        work,
        workspace.path,
        (*repair.allowed, *repair.ask),
        number=number,
        earlier=[one.text for one in made.ended if one.text],
    )
    answer, cost, model = await _ask(work, driver, task, f"{number}/{repair.attempts} " if runs is not None else "")
    said = care.redactor.for_people(answer.summary)
    attempt = dataclasses.replace(
        attempt,
        summary=said,
        culprit=answer.culprit,
        culprit_subject=answer.culprit_subject,
        log=answer.log[-4000:],
        cost=cost,
        model=model,
        # An agent that has seen a secret is not gone on with: nothing that it says would be let through again.
        session="" if answer.reason == "agent_secret" else answer.session,
    )
    if not answer.changed:
        why = answer.reason or "no_change"
        await made.put(dataclasses.replace(attempt, state="failed", why=why, text=said))
        return
    if runs is None:
        await made.put(dataclasses.replace(attempt, state="changed"))
        return
    await made.put(await _judged(work, attempt, driver.name, runs))


async def _judged(work: Work, attempt: Attempt, name: str, runs: Runs) -> Attempt:
    """An attempt after gate and verification."""
    facts = {**work.facts, "agent": name, **_chosen(attempt)}
    report, refusals = await _checked(work, facts)
    attempt = dataclasses.replace(
        attempt,
        tree=report.tree,
        paths=tuple(change.path for change in report.changes),
        lines=sum(change.added + change.removed for change in report.changes),
    )
    if refusals:
        _log_refusals(work, refusals)
        why = "no_change" if refusals[0].rule == "no_change" else "gate"
        return dataclasses.replace(attempt, state="failed", why=why, text=refused(work.job.language, refusals))
    result = await _verified(work, facts, report.tree, runs, f"a{attempt.number}-")
    if not result.passed:
        text = say(work.job.language, f"cause.verify_{result.verdict}")
        if result.lost:
            text += f" ({', '.join(result.lost[:5])})"
        return dataclasses.replace(
            attempt, state="failed", why=f"verify_{result.verdict}", text=text, log=result.failing
        )
    return dataclasses.replace(attempt, state="proved", proof=_proof(work, result))


def _driver(work: Work) -> Agent:
    return work.care.agents(work.job.args.get("agent", ""))


async def _task(
    work: Work, workspace: Path, allowed: Sequence[str], *, number: int, earlier: Sequence[str], goal: str = "fix"
) -> Task:
    care, config, job = work.care, work.care.config, work.job
    home = await in_thread(files.private_directory, care.agent_home(room_of(job)))
    return Task(
        bug="\n\n".join(filter(None, (job.args["bug"], job.args.get("evidence", "")))),
        workspace=workspace,
        git_directory=await _shown_git(work, workspace),
        allowed=tuple(allowed),
        reproduction=job.args.get("reproduction", ""),
        spans=await _spans(work),
        readable=(*config.readable(), *INTERPRETER),
        env=tuple(config.test.env.items()),
        timeout_s=config.repair.timeout,
        # Attempts may be made at the same time, and an agent does not share its home.
        home=await in_thread(files.private_directory, home / workspace.name),
        session=job.args.get("session", "") if (goal, number) == ("fix", 1) else "",
        instructions=await _instructions(work),
        goal="reproduce" if goal == "reproduce" else "fix",
        failing=work.facts.get("failing", ""),
        earlier=tuple(earlier),
        attempt=number,
        sealed=config.repair.reproduce != "off",
    )


async def _shown_git(work: Work, workspace: Path) -> Path:
    """What the agent sees of git; nothing, when it cannot be made."""
    care = work.care
    commit = (await care.workspaces.of(workspace)).commit
    directory = workspace.with_name(f"git-{commit[:16]}")
    try:
        return await shown_git(care.repository, commit, workspace, care.redactor.forms, directory)
    except (RegrowError, OSError, TimeoutError) as error:
        work.log(f"agent: works without a history: {error}")
        return directory


async def _instructions(work: Work) -> str:
    """What the repository tells agents, as it is in the commit: the tree is the agent's own by and by."""
    entries = await work.care.repository.entries(work.facts["base"])
    for name in ("AGENTS.md", "CLAUDE.md"):
        entry = entries.get(name)
        if entry is not None and entry.mode.startswith("100") and entry.size <= _INSTRUCTION_BYTES:
            return await work.care.repository.blob(entry.id)
    return ""


async def _ask(work: Work, driver: Agent, task: Task, prefix: str = "") -> tuple[Answer, str, str]:
    """Let a driver work, with a door to the model where there is one; what it tells goes to the log and to the story.

    Returns:
        Its answer, what the conversation has cost so far, in words, and the model; "" where that is not known.
    """
    care, room = work.care, room_of(work.job)
    hear = Hearsay(work, driver.name, task.timeout_s, prefix)
    async with contextlib.AsyncExitStack() as stack:
        if care.models is not None:
            # One account for the whole conversation: what follows up, or is tried again, has not a new budget.
            door = await stack.enter_async_context(care.models.serve(f"job-{room}", tell=hear.usage))
            task = dataclasses.replace(task, door=door)
        answer = await driver.repair(task, care.sandbox, hear)
    work.log(f"{driver.name}: {answer.summary}\n{answer.log}")
    if answer.reason == "agent_secret" and task.home is not None:
        await forget(task.home)  # its memory holds the value now
    return answer, hear.cost, task.door.model if task.door is not None else ""


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


# The gate


async def gate(work: Work) -> Outcome:
    """Judge the tree from outside."""
    report, refusals = await _checked(work, work.facts)
    work.log("gate: " + ", ".join(f"{c.kind} {c.path} +{c.added} -{c.removed}" for c in report.changes))
    if refusals:
        _log_refusals(work, refusals)
        kind = "no_change" if refusals[0].rule == "no_change" else "gate"
        raise StepFailed(
            f"cannot accept the change: {refusals[0].text}",
            kind=kind,
            facts={"files": [change.path for change in report.changes], "refusals": [_refusal(r) for r in refusals]},
            cause=refused(work.job.language, refusals),
        )
    base, tests = work.facts["base"], GitIgnoreSpec.from_lines(_test_files(work.care.config))
    changed = await work.care.repository.diff(base, report.tree)
    code = [one for one in changed if not tests.match_file(one.path)]
    proving = [one for one in changed if tests.match_file(one.path)]
    return Done(
        {
            "tree": report.tree,
            "digest": digest(report.tree, base),
            "files": [one.path for one in changed],
            "test_files": [one.path for one in proving],
            "added": sum(one.added for one in code),
            "removed": sum(one.removed for one in code),
            "tests_added": sum(one.added for one in proving),
            "tests_removed": sum(one.removed for one in proving),
            "risks": [*work.facts.get("risks", ()), *(_fact(risk) for risk in report.risks)],
        }
    )


async def _checked(work: Work, facts: Mapping[str, Any]) -> tuple[GateReport, tuple[Refusal, ...]]:
    """What the gate says of a workspace, and what of that counts."""
    care = work.care
    start = facts.get("start", facts["base"])
    judge = care.gate.sealing(_test_files(care.config)) if care.config.repair.reproduce != "off" else care.gate
    report = await judge.check(care.repository, start, Path(facts["workspace"]))
    refusals = report.refusals
    if await _takes_back_one_commit(work, facts, report.tree):
        # Nobody wrote this: it is what the repository held before. Where it lies is no reason to refuse it.
        harmless = {"outside", "denied", "executable", "sealed"}
        refusals = tuple(refusal for refusal in refusals if refusal.rule not in harmless)
        report = dataclasses.replace(report, risks=())
    return report, refusals


async def _takes_back_one_commit(work: Work, facts: Mapping[str, Any], tree: str) -> bool:
    """Whether the change is exactly the reverse of the culprit, computed again from outside."""
    culprit = facts.get("culprit", "")
    if facts["agent"] != "revert" or not culprit:
        return False
    start = facts.get("start", facts["base"])
    return (await work.care.repository.revert_tree(start, culprit)).tree == tree


def refused(language: Language, refusals: Sequence[Refusal]) -> str:
    """Each refusal with its file and what to do, for the chat; the log has the rules' names."""
    lines = []
    for refusal in refusals[:_REFUSALS]:
        text = say_fitting(language, f"gate.{refusal.rule}", detail=refusal.detail)
        lines.append(say(language, "gate.line", path=refusal.path, text=text) if refusal.path else f"• {text}")
    if len(refusals) > _REFUSALS:
        lines.append(f"... (+{len(refusals) - _REFUSALS})")
    return "\n" + "\n".join(lines)


def _log_refusals(work: Work, refusals: Sequence[Refusal]) -> None:
    for refusal in refusals:
        work.log(f"gate: refused by {refusal.rule}: {refusal.path}: {refusal.text}")


def _refusal(refusal: Refusal) -> dict[str, str]:
    return {"rule": refusal.rule, "path": refusal.path, "detail": refusal.detail}


def _fact(risk: Risk) -> dict[str, str]:
    return dataclasses.asdict(risk)


# The proof


async def verify(work: Work) -> Outcome:
    """Prove the change from fresh trees: what failed before passes after, what passed still does, and it builds."""
    facts = work.facts
    made = Attempts(await work.care.workspaces.note(work.job.id, "attempts"))
    chosen = made.get(facts.get("attempt", 0))
    if chosen is not None and chosen.state == "proved" and chosen.tree == facts["tree"]:
        found = dict(chosen.proof)
    else:
        result = await _verified(work, facts, facts["tree"], await _runs(work))
        if not result.passed:
            raise StepFailed(
                f"cannot accept the change: {_VERDICTS[result.verdict]}",
                kind=f"verify_{result.verdict}",
                log=result.failing,
                facts=_proof(work, result),
                cause=", ".join(result.lost[:5]),
            )
        found = _proof(work, result)
    known = [*await _known_by_heart(work), *await _unneeded(work, found)]
    return Done(found | {"risks": [*facts.get("risks", ()), *found["risks"], *(_fact(risk) for risk in known)]})


_VERDICTS = {
    "not_reproduced": "the reproduction passes without it",
    "still_failing": "the reproduction still fails with it",
    "tests_failed": "the tests fail with it",
    "toothless": "the tests that it adds pass without the fix",
    "build_failed": "it does not build",
    "timeout": "a test or the reproduction hangs with it",
    "unproven": "there is neither a reproduction nor a test that could prove it",
}


async def _verified(work: Work, facts: Mapping[str, Any], tree: str, runs: Runs, label: str = "") -> Verification:
    care, config = work.care, work.care.config

    async def build(export: Path) -> Completed:
        return await _trial_build(work, export)

    result = await verification.verify(
        care.sandbox,
        care.workspaces,
        work.job.id,
        facts["base"],
        tree,
        test_command=_test_command(work),
        reproduction=work.job.args.get("reproduction", ""),
        expected=facts.get("reproducing_tests", ()),
        build=build if config.build.command else None,
        conditions=await _conditions(work),
        # The tests of the culprit go with it; judging by them would keep every bug that came with a test.
        test_files=() if facts["agent"] == "revert" else _test_files(config),
        reruns=config.test.reruns,
        runs=runs,
        label=label,
        tell=_teller(work),
    )
    work.log(f"verification: {result.verdict}\n{result.log}")
    return result


async def _trial_build(work: Work, export: Path) -> Completed:
    """Build a change that nobody has approved: into nothing, with a cache of its own, so that it can leave nothing in
    the one that later builds read. Where tests, which are not approved either, may read that one, it begins as a copy
    of it: a compiler that keeps its work would otherwise do all of it again (RayClaw: 270 crates)."""
    care, config = work.care, work.care.config
    out, cache = export.with_name(f"{export.name}-out"), export.with_name(f"{export.name}-cache")
    try:
        for directory in (out, cache):
            await in_thread(files.private_directory, directory)
        if config.build.cache and config.test.cache:
            kept = await in_thread(care.made_cache)
            copy = ("cp", "-a", "--reflink=auto", f"{kept}/.", str(cache))
            (await process.run(copy, timeout_s=config.build.timeout)).check("copy the build cache")
        env = {
            "REGROW_VERSION": work.facts["version"],
            "REGROW_COMMIT": work.facts["commit"],
            "REGROW_OUT": str(out),
            "REGROW_CACHE": str(cache),
        }
        box = await in_thread(build_box, config, export, out, cache, env)
        argv = config.expand(config.build.command, out=str(out), cache=str(cache))
        return await care.sandbox.run(argv, box, timeout_s=config.build.timeout)
    finally:
        for directory in (out, cache):
            await care.workspaces.drop(directory)


def _proof(work: Work, result: Verification) -> dict[str, Any]:
    """A verification as facts of the job."""
    found = [Risk("new_test_broken", "")] if "new_test_broken" in result.doubts else []
    if "flaky" in result.doubts:
        found.append(Risk("flaky", "", ", ".join(result.flaky[:5])))
    return {
        "tests": "passed" if work.care.config.test.command else "none",
        "reproduced": result.verdict == "verified",
        "proving_tests": list(result.proving),
        "flaky_tests": list(result.flaky),
        "lost_tests": list(result.lost),
        "failed_before": result.failed_before,
        "risks": [_fact(risk) for risk in found],
    }


async def _known_by_heart(work: Work) -> list[Risk]:
    """Whether the code of the change knows the reported case; what was taken back knows nothing."""
    repository, facts = work.care.repository, work.facts
    if facts["agent"] == "revert":
        return []
    return await known_by_heart(
        repository, facts["base"], facts["tree"], [work.job.args.get("reproduction", ""), work.job.args["bug"]]
    )


async def known_by_heart(repository: Repository, base: str, tree: str, told: Sequence[str]) -> list[Risk]:
    """See `risks.copied`; the new tests of the change are texts of the reproduction too.

    Args:
        repository: where both are.
        base, tree: full ids before and after.
        told: the script and the words of the report.
    """
    tests = GitIgnoreSpec.from_lines(TEST_FILES)
    new_tests, changed = list[str](), dict[str, tuple[str, str]]()
    for one in await repository.diff(base, tree):
        if one.binary or one.status == "D":
            continue
        after = await repository.blob(one.new_id)
        before = "" if one.status == "A" else await repository.blob(one.old_id)
        if tests.match_file(one.path):
            new_tests.append(risks.new_lines(before, after))
        else:
            changed[one.path] = before, after
    return [*risks.copied([*told, *new_tests], changed), *risks.introduced(new_tests, changed)]


async def _unneeded(work: Work, found: Mapping[str, Any]) -> list[Risk]:
    """The parts of the change that have no part in the proof."""
    care, config, facts = work.care, work.care.config, work.facts
    if not found["reproduced"] or facts["agent"] == "revert" or not config.repair.try_parts:
        return []
    parts, count = await verification.unneeded(
        care.sandbox,
        care.workspaces,
        work.job.id,
        facts["base"],
        facts["tree"],
        test_command=_test_command(work),
        reproduction=work.job.args.get("reproduction", ""),
        proving=found["proving_tests"],
        conditions=await _conditions(work),
        test_files=_test_files(config),
        most=_PARTS,
        runs=await _runs(work),
        tell=_teller(work),
    )
    if count > _PARTS:
        return [Risk("too_many_parts", "", str(count))]
    return [Risk("unneeded", part.path, str(part.line)) for part in parts]


# Once more, when it has been deployed


async def tried(work: Work, directory: Path, script: str) -> Trial:
    """Run a reproduction in an export; one that fails is given a second chance.

    Raises:
        RegrowError: the box could not be made.
    """
    trial = await verification.reproduce(work.care.sandbox, directory, script, await _conditions(work))
    if trial.finding == "fails":
        trial = await verification.reproduce(work.care.sandbox, directory, script, await _conditions(work))
    return trial


async def tested(work: Work, directory: Path) -> Completed:
    """Run the tests in an export.

    Raises:
        ProcessTimeout: they hung.
        RegrowError: the box could not be made.
    """
    config = work.care.config
    return await verification.attempt(
        work.care.sandbox, directory, config.expand(config.test.command), await _conditions(work)
    )


async def proved_again(work: Work, onto: str, tree: str) -> tuple[str, str, list[dict[str, str]]]:
    """Put the change through gate and verification once more, as it would stand on other commits.

    Args:
        work: of the job that made it.
        onto: full id of the commit below it.
        tree: full id of the result.

    Returns:
        A stable word for why it is refused, the cause in the job's language, and the risks; both empty when it is not.
    """
    care, facts = work.care, work.facts
    moved: dict[str, Any] = {**facts, "base": onto}
    if "start" in facts:  # the reproducing test came first then, and does so now
        below = await care.repository.overlay(onto, tree, facts.get("test_files", ()))
        moved["start"] = await care.repository.commit_tree(below, [onto], "The tests of the change", _MADE_BY, at=0)
    export = await care.workspaces.fresh(work.job.id, "landing", tree)
    try:
        report, refusals = await _checked(work, {**moved, "workspace": str(export)})
    finally:
        await care.workspaces.drop(export)
    if refusals:
        _log_refusals(work, refusals)
        return "gate", refused(work.job.language, refusals), []
    result = await _verified(work, moved, tree, await _runs(work), "landing-")
    if not result.passed:
        text = say_fitting(work.job.language, f"cause.verify_{result.verdict}", cause="", text="")
        return "unproved", text, []
    risks_now = [*facts.get("risks", ()), *(_fact(risk) for risk in report.risks), *_proof(work, result)["risks"]]
    return "", "", [risk for number, risk in enumerate(risks_now) if risk not in risks_now[:number]]


async def patch(work: Work) -> str:
    """The change for people: the code first, then the tests, redacted."""
    repository, facts = work.care.repository, work.facts
    tests = set(facts.get("test_files", ()))
    code = [path for path in facts["files"] if path not in tests]
    parts = [await repository.patch(facts["base"], facts["tree"], paths) for paths in (code, sorted(tests)) if paths]
    heading = say(work.job.language, "live.test_changes")
    text = parts[0] if len(parts) == 1 else f"{parts[0].rstrip()}\n\n# {heading}\n{parts[1]}"
    return work.care.redactor.redact(text)


def _test_files(config: Config) -> tuple[str, ...]:
    """The patterns of what proves something and so is fixed while the fix is made."""
    return (*TEST_FILES, *config.repair.tests)


async def _runs(work: Work) -> Runs:
    """The test runs of the job so far."""
    return await in_thread(Runs, await work.care.workspaces.note(work.job.id, "runs"))


def _test_command(work: Work) -> list[str]:
    """The test command; empty when there is none."""
    config = work.care.config
    return config.expand(config.test.command, cache=str(work.care.cache)) if config.test.command else []


async def _conditions(work: Work) -> Conditions:
    config = work.care.config
    cache = (await in_thread(work.care.made_cache),) if config.test.cache else ()
    return Conditions(
        readable=(*config.readable(), *INTERPRETER, *cache),
        env=config.test.env,
        timeout_s=config.test.timeout,
        memory_bytes=config.sandbox.memory,
        file_bytes=config.sandbox.file_size,
        processes=config.sandbox.processes,
        nice=config.test.nice,
    )


def _teller(work: Work) -> verification.Tell:
    redactor = work.care.redactor

    def tell(word: str, detail: str) -> None:
        text = say_fitting(work.job.language, f"proving.{word}", detail=detail)
        work.tell(detail=redactor.for_people(text)[:100])

    return tell


def _tail(work: Work, text: str) -> str:
    """The end of an output, for people."""
    redactor = work.care.redactor
    lines = [line for line in redactor.for_people(text).splitlines() if line.strip()]
    return "\n".join(line[:200] for line in lines[-_TAIL_LINES:])


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_bytes())) if path.exists() else None
