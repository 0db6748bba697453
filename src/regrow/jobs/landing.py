"""The steps that bring a proved change home: weigh it, ask people, commit it, try what runs, give it to the branch.

What is approved is a digest over the tree and its base, and that digest is looked for again at each later point: in the
commit, in the files the build reads, in the release that is started (F35). Once the release is good nothing here ends
the job: a change that cannot land stays on its own branch, and that is said. A checkout of a person is never touched
(F17).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from regrow import files, test_results, verification
from regrow.approvals import Approval, Policy, asks, weighed
from regrow.canaries import Canaries
from regrow.catalogue import say
from regrow.errors import ProcessTimeout, Refused, RegrowError
from regrow.gate import digest
from regrow.git import Difference
from regrow.jobs import repair
from regrow.jobs.base import Done, Outcome, StepFailed, Wait
from regrow.jobs.work import Work
from regrow.pool import in_thread
from regrow.releases import Release, digest_tree
from regrow.services.base import Instance

AUTHOR = ("Regrow", "regrow@localhost")
WAITING_FOR_APPROVAL = "approval"
_AGAIN = 3  # how often a branch that keeps moving is followed
_TAIL_LINES = 6


# Weighing and asking


async def weigh(work: Work) -> Outcome:
    """What a person should know before saying yes: size, paths, how strong the proof is; to what was found before."""
    facts = work.facts
    risks = list(facts.get("risks", ()))
    known = {risk["rule"] for risk in risks}
    found = weighed(
        facts["files"],
        facts["added"] + facts["removed"],
        reproduced=bool(facts["reproduced"]) or "not_reproduced" in known,
        tests=facts["tests"] == "passed",
        failed_before=facts.get("failed_before", 0),
        policy=_policy(work),
    )
    return Done({"risks": [*risks, *(asdict(risk) for risk in found)]})


def _policy(work: Work) -> Policy:
    settings = work.care.config.repair
    return Policy(settings.approve, settings.risky_lines, settings.risky_files, settings.sensitive)


async def approve(work: Work) -> Outcome:
    """Ask; the answer counts for exactly this digest, once (F35)."""
    facts = work.facts
    if not asks(_policy(work), [risk["rule"] for risk in facts.get("risks", ())]):
        return Done({"approved_by": ""})
    question = await work.approvals.of(work.job.id)
    if question is None:
        question = await work.approvals.ask(
            work.job.id,
            facts["digest"],
            facts["summary"],
            facts["files"],
            await repair.patch(work),
            within_s=work.care.config.repair.approve_within,
        )
    if question.state == "open":
        return Wait((WAITING_FOR_APPROVAL, {}), (("approval", work.job.id),))
    if question.state == "approved" and question.digest == facts["digest"]:
        _two_people(work, question)
        return Done({"approved_by": question.decided_by})
    if question.state == "rejected":
        raise StepFailed(f"cannot go on: {question.decided_by} rejected the change", kind="rejected")
    raise StepFailed("cannot go on: nobody approved the change in time; ask again", kind="approval_expired")


def _two_people(work: Work, question: Approval) -> None:
    """Whoever asked may not have been the one who approved, where the settings say so now."""
    if work.care.config.repair.four_eyes and question.person == work.job.person:
        raise StepFailed(
            f"cannot go on: {question.decided_by} asked for the change and approved it; somebody else must approve",
            kind="four_eyes",
        )


async def close_approval(work: Work) -> None:
    """The question dies with the job."""
    await work.approvals.close(work.job.id)


# The commit, and that it is what was approved all the way to the process


async def commit(work: Work) -> Outcome:
    """A commit on the job's own branch, with its provenance."""
    care, facts, job = work.care, work.facts, work.job
    if digest(facts["tree"], facts["base"]) != facts["digest"]:
        raise _other_change("the tree is not the one that the gate let through")
    if facts["approved_by"]:
        question = await work.approvals.of(job.id)
        if question is None or (question.state, question.digest) != ("approved", facts["digest"]):
            raise _other_change("the approval is of another change")
    branch = f"regrow/job-{job.id}"
    message = _message(work, facts["approved_by"], facts["digest"])
    # The same tree, message and time give the same id: a repeated step makes no second commit.
    made = await care.repository.commit_tree(facts["tree"], [facts["base"]], message, AUTHOR, at=facts["started_wall"])
    head = await care.repository.branch_head(branch)
    if head != made:
        await care.repository.update_ref(f"refs/heads/{branch}", made, head)
    return Done(
        {
            "commit": made,
            "version": await care.repository.short(made),
            "subject": message.splitlines()[0],
            "branch": branch,
            "approved_digest": facts["digest"],
        }
    )


def _message(work: Work, approved_by: str, approved: str, **more: str) -> str:
    """The message of a commit: what was asked, what was done, and whose word it is on, as trailers."""
    facts, job = work.facts, work.job
    title = " ".join(job.args["bug"].split())[:60]
    trailers = {
        "Regrow-Job": str(job.id),
        "Requested-by": job.asked_by,
        "Agent": facts["agent"],
        "Model": facts.get("model", ""),
        "Cost": facts.get("cost", ""),
        "Verification": _proof(facts),
        "Risks": ", ".join(dict.fromkeys(risk["rule"] for risk in facts.get("risks", ()))),
        "Approved-by": approved_by or f"policy ({work.care.config.repair.approve})",
        "Approved-digest": approved,
        "Reverts": facts.get("culprit", ""),
        **more,
    }
    # A name with a line end in it would be a trailer of somebody's own making.
    body = "\n".join(f"{key}: {' '.join(str(value).split())}" for key, value in trailers.items() if value)
    summary = str(facts["summary"]).strip()
    return work.care.redactor.redact(f"Fix: {title}\n\n{summary}\n\n{body}\n")


def _proof(facts: Mapping[str, Any]) -> str:
    if facts.get("proving_tests"):
        proof = "fails before and passes after: " + ", ".join(facts["proving_tests"][:3])
    elif facts["reproduced"]:
        proof = "the reproduction fails before and passes after"
    else:
        proof = "nothing was reproduced"
    return f"{proof}; {'tests pass' if facts['tests'] == 'passed' else 'there are no tests'}"


def _other_change(why: str) -> StepFailed:
    return StepFailed(
        f"cannot go on: what would be deployed is not what was approved: {why}; ask for the repair again",
        kind="not_approved",
        cause=why,
    )


async def check_files(work: Work, directory: Path) -> None:
    """The files that are about to be built are, byte for byte, those that were approved.

    A repository answers with what is in its object store; that it has been changed there shows when every file is
    hashed again.

    Raises:
        StepFailed: kind "not_approved".
    """
    facts = work.facts
    if "approved_digest" not in facts:
        return
    tree = await work.care.repository.write_tree_from(directory, facts["commit"])
    if digest(tree, facts["base"]) != facts["approved_digest"]:
        raise _other_change("the repository's objects were changed after the approval")


async def check_release(work: Work, release: Release) -> None:
    """The release that is about to be started is the one that was built from what was approved.

    Raises:
        StepFailed: kind "not_approved".
    """
    if "approved_digest" in work.facts and await in_thread(digest_tree, release.directory) != release.digest:
        raise _other_change("the release's files were changed after the build")


# After the deployment


async def recheck(work: Work) -> Outcome:
    """Try the bug's own reproduction once more, on what really runs now; that it fails ends nothing and is told."""
    try:
        found = await _recheck(work)
    except (RegrowError, OSError) as error:
        work.log(f"recheck: {error}")
        found = {"recheck": "unknown"}
    return Done(found)


async def _recheck(work: Work) -> dict[str, Any]:
    care, facts, args = work.care, work.facts, work.job.args
    active = (await care.service.status()).active
    if active is None or active.release != facts["release"]:
        return {"recheck": "unknown"}
    if (probe := args.get("probe", "")) and (cause := await _probed(work, probe, active)) is not None:
        return _rechecked(work, "probe", not cause, cause)
    # The commit that the release says it was built from: what runs, and not what this job remembers.
    running = await care.releases.get(active.release)
    tree = await care.workspaces.fresh(work.job.id, "recheck", running.commit)
    try:
        await check_files(work, tree)
        if args.get("reproduction"):
            trial = await repair.tried(work, tree, args["reproduction"])
            if trial.finding not in {"passes", "fails", "hangs"}:
                return {"recheck": "unknown"}
            return _rechecked(work, "command", trial.finding == "passes", trial.output)
        if expected := facts.get("reproducing_tests"):
            done = await repair.tested(work, tree)
            results = test_results.read(done.output, done.code)
            failing = [name for name in expected if not verification.passes(results, name)]
            return _rechecked(work, "test", not failing, test_results.section(done.output, (failing or expected)[0]))
    except ProcessTimeout as error:
        return _rechecked(work, "test", False, error.log)
    finally:
        await care.workspaces.drop(tree)
    return {"recheck": "none"}


async def _probed(work: Work, name: str, active: Instance) -> str | None:
    """Why the running process fails the probe that reproduced the bug, "" when it does not; None: there is no such
    probe any more."""
    canaries = Canaries(work.care.config)
    if name in canaries.names:
        return await canaries.fails(name, active)
    state = active.probes.get(name)
    if state is None:
        return None
    well = not state["strikes"] and state.get("passed", True)
    return "" if well else str(state.get("cause") or f"probe {name}")


def _rechecked(work: Work, how: str, passes: bool, output: str) -> dict[str, Any]:
    redactor = work.care.redactor
    text = redactor.for_people(output)
    work.log(f"recheck by {how}: {'passes' if passes else 'fails'}\n{text}")
    lines = [line[:200] for line in text.splitlines() if line.strip()][-_TAIL_LINES:]
    return {
        "recheck": "passes" if passes else "fails",
        "recheck_by": how,
        "recheck_tail": "" if passes else "\n".join(lines),
    }


# Landing


async def merge(work: Work) -> Outcome:
    """Give the promoted change to the branch that is deployed from, or leave it where it is and say why.

    The release is good by now: nothing that happens here ends the job, or what serves would be taken back for it.
    """
    try:
        return await _land(work)
    except (RegrowError, OSError) as error:
        work.log(f"merge: {error}\n{error.log if isinstance(error, RegrowError) else ''}")
        cause = work.care.redactor.for_people(str(error))
        return _left("failed", cause=cause)


def _left(why: str, **more: Any) -> Done:
    """It stays on the job's own branch; `why` is a key of the catalogue."""
    return Done({"merged": False, "landing": why, **more})


async def _land(work: Work) -> Outcome:
    care, facts = work.care, work.facts
    settings, branch = care.config.repair, care.config.source.branch
    if facts.get("recheck") == "fails":
        return _left("still_failing")
    if (await work.ledger.get(work.job.id)).cancelled_by:
        return _left("taken_back")
    serving = await care.serving()
    if serving is None or not await care.repository.is_ancestor(facts["commit"], serving.commit):
        return _left("not_serving")
    if settings.land == "branch":
        return _left("branch")
    if settings.land == "push":
        await care.repository.push(settings.remote, facts["branch"], facts["commit"])
        return _left("pushed", pushed_to=settings.remote)
    for _ in range(_AGAIN):
        moved = await care.repository.fast_forward(branch, facts["commit"])
        if moved in {"moved", "already"}:
            return Done({"merged": True, "merged_into": branch})
        if moved == "checked_out":
            return _left("checked_out")
        if moved == "diverged" and (outcome := await _rebase(work, branch)) is not None:
            return outcome
    return _left("raced")


async def _rebase(work: Work, branch: str) -> Outcome | None:
    """People have committed meanwhile: the same change on top of theirs, proved again; None when they go on doing so.

    What serves stays the commit that was approved. On the branch the change stands among other code, so it goes through
    gate and verification once more; and where a file that it changes is not the same as the one approved, before or
    after, a person is asked again.
    """
    facts, repository = work.facts, work.care.repository
    onto = await repository.resolve(f"refs/heads/{branch}")
    base, change = facts["base"], facts["commit"]
    landed = await repository.ref(_mark(work))
    if landed is not None and await repository.is_ancestor(landed, onto):  # an earlier try of this step got there
        return _landed(branch, landed, await _above(work, (await repository.parents(landed))[0]))
    if branch in await repository.checkouts():
        return _left("checked_out")
    before, theirs, ours = [await repository.tree(commit) for commit in (base, onto, change)]
    merged = await repository.merge_trees(before, theirs, ours)
    if merged.conflicts:
        return _left("conflict", conflicts=list(merged.conflicts))
    if merged.tree == theirs:
        return Done({"merged": True, "merged_into": branch, "landing": "there_already"})
    proof = await _proved_again(work, onto, merged.tree)
    if proof["why"]:
        return _left(proof["why"], cause=proof["cause"])
    approved_by, approved = facts["approved_by"], facts["approved_digest"]
    if not await _same_change(work, onto, merged.tree):
        answer = await _approve_again(work, onto, merged.tree, proof["risks"])
        if not isinstance(answer, str):
            return answer
        approved_by, approved = answer, digest(merged.tree, onto)
    message = _message(work, approved_by, approved, **{"Rebased-from": change})
    made = await repository.commit_tree(merged.tree, [onto], message, AUTHOR, at=facts["started_wall"])
    # Written down before the branch moves, so that a second try knows it again.
    await repository.update_ref(_mark(work), made, await repository.ref(_mark(work)))
    if await repository.fast_forward(branch, made) in {"moved", "already"}:
        return _landed(branch, made, await _above(work, onto))
    return None


def _mark(work: Work) -> str:
    return f"refs/regrow/landing/{work.job.id}"


async def _above(work: Work, onto: str) -> int:
    """How many commits had come meanwhile."""
    repository, base = work.care.repository, work.facts["base"]
    return len(await repository.commits_between(base, onto)) if await repository.is_ancestor(base, onto) else 0


def _landed(branch: str, made: str, above: int) -> Done:
    return Done({"merged": True, "merged_into": branch, "landing": "rebased", "landed": made, "rebased_over": above})


async def _same_change(work: Work, onto: str, tree: str) -> bool:
    """Whether each file is, before and after, byte for byte what was approved."""

    def shown(differences: Sequence[Difference]) -> set[tuple[str, ...]]:
        return {(one.path, one.old_mode, one.old_id, one.new_mode, one.new_id) for one in differences}

    repository, facts = work.care.repository, work.facts
    approved = await repository.diff(facts["base"], facts["commit"])
    return shown(approved) == shown(await repository.diff(onto, tree))


async def _proved_again(work: Work, onto: str, tree: str) -> dict[str, Any]:
    """Gate and verification of the change on top of other commits; noted, because a wait comes back here again."""
    note = await work.care.workspaces.note(work.job.id, "landing")
    known = await in_thread(_read, note)
    if known is not None and (known["onto"], known["tree"]) == (onto, tree):
        return known
    work.tell(detail=say(work.job.language, "live.proving_again"))
    why, cause, risks = await repair.proved_again(work, onto, tree)
    found = {"onto": onto, "tree": tree, "why": why, "cause": cause, "risks": risks}
    await in_thread(files.write_atomic, note, json.dumps(found, ensure_ascii=False).encode())
    return found


def _read(path: Path) -> dict[str, Any] | None:
    return dict(json.loads(path.read_bytes())) if path.exists() else None


async def _approve_again(work: Work, onto: str, tree: str, risks: Sequence[Mapping[str, str]]) -> str | Outcome:
    """Who approved the change as it would be on the branch ("" for the settings), or what else is to be done."""
    job, repository, facts = work.job, work.care.repository, work.facts
    if not asks(_policy(work), [risk["rule"] for risk in risks]):
        return ""
    wanted = digest(tree, onto)
    question = await work.approvals.of(job.id)
    if question is None or question.digest != wanted:
        patch = work.care.redactor.redact(await repository.patch(onto, tree))
        within_s = work.care.config.repair.approve_within
        changed = [one.path for one in await repository.diff(onto, tree)]
        question = await work.approvals.ask(job.id, wanted, facts["summary"], changed, patch, within_s=within_s)
    if question.state == "approved":
        _two_people(work, question)
        return question.decided_by
    if question.state == "open":
        # It serves and changes nothing that runs any more: others need not wait for this word.
        await work.ledger.give_turn(work.care.name, job.id)
        work.tell(detail="")  # what was proved is proved
        return Wait((WAITING_FOR_APPROVAL, {}), (("approval", job.id), ("job", job.id)))
    return _left("rejected" if question.state == "rejected" else "unanswered")


async def forget(work: Work) -> None:
    """What a second try of landing would have had to know."""
    if found := await work.care.repository.ref(_mark(work)):
        try:
            await work.care.repository.delete_ref(_mark(work), found)
        except Refused as error:
            work.log(f"tidy: {error}")
