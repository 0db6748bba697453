"""The story of a job as the chat tells it: one live message edited in place, and one message with the result.

Every figure comes from the job's own record. Texts are in the catalogues, in the language of the request.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from regrow.api import types
from regrow.catalogue import Language, bytes_text, duration_text, say, say_fitting, seconds_text, texts
from regrow.channels.base import Choice, Content
from regrow.intents import CHANGES
from regrow.jobs.ledger import PUT_OFF, WAITING_FOR_TURN
from regrow.jobs.plans import DATA, GOOD, SWITCHED, UNDOABLE

_MARKS = {"done": "✓", "doing": "…", "waiting": "⏸", "failed": "✗", "undoing": "↺", "undone": "↺"}
_WORTH_SECONDS = 0.1
_QUIET_STEPS = frozenset(
    {
        "restore",
        "check",
        "workspace",
        "reproduce",
        "turn",
        "gate",
        "commit",
        "release",
        "confirm",
        "promote",
        "recheck",
        "merge",
        "tidy",
        "weigh",
        "approve",
    }
)
_DIFF_LINES = 60
_FILES = 5
_FAILING_LINES = 8
_TAIL_LINES = 6
NEXT = {
    kind: step
    for step, kinds in {
        "fix": "build_failed tests_failed candidate_failed rehearsal_failed",
        "fix_pinned": "canary_failed fell_back",
        "longer": "build_timeout test_timeout deadline timeout verify_timeout",
        "box": "no_sandbox agent_missing no_answer",
        "space": "disk_full snapshot_failed",
        "again": "overtaken not_approved approval_expired other",
        "idle": "never_idle",
        "named": "unconfirmed",
        "with_data": "schema_moved",
        "by_commit": "no_snapshot no_snapshot_left",
        "other_snapshot": "snapshot_damaged",
        "right": "forbidden forbidden_here",
        "unfreeze": "frozen",
        "somebody": "four_eyes",
        "command": "no_reproduction nothing_reproduced not_reproduced verify_unproven verify_not_reproduced",
        "exact": "no_change no_attempt agent_turns agent_secret",
        "say_more": "rejected gate verify_still_failing verify_tests_failed verify_toothless verify_build_failed",
        "by_hand": "no_culprit conflict",
        "agent": "agent_failed agent_model",
        "budget": "agent_budget",
        "key": "agent_login",
        "memory": "agent_killed",
        "bug": "bug",
        "settings": "settings_lost",
        "mend_file": "broken_settings",
        "upgrade": "unknown_step",
        "supervisor": "no_exchange",
        "build_command": "empty_build",
    }.items()
    for kind in kinds.split()
}
"""What a person can do about a cause: keys below "next." in the catalogue. A test asks for one of every cause."""


def title(kind: str, language: Language, args: dict[str, str], result: dict[str, Any]) -> str:
    """What the job does, in a few words."""
    bug = " ".join(args.get("bug", "").split())
    return say(
        language,
        f"title.{kind}",
        **({"bug": bug[:60] + ("…" if len(bug) > 60 else "")} if kind == "repair" else {}),
        **({"version": result.get("version", args.get("release", ""))} if kind == "rollback" else {}),
        **({"names": _names(args)} if kind == "configure" else {}),
    )


def _names(args: Mapping[str, str]) -> str:
    """The settings that a job changes, and what they are to be."""
    changes = json.loads(args.get("changes", "[]"))
    return ", ".join(str(change["name"]) for change in changes)


def live(job: types.Job, agent: str) -> Content:
    """The message that is edited while the job runs.

    Args:
        job: as it stands.
        agent: the name of the repairing agent, for before it has begun.
    """
    lines = [*_headlines(job, agent), *_steps(job)]
    choices: tuple[Choice, ...] = ()
    bar = None
    if job.status in types.ENDED:
        lines.append(say(job.language, "live.ended", job=job.id))
    else:
        running = next((s for s in job.steps if s.status in {"doing", "waiting"}), None)
        bar = running.progress if running and running.name in {"build", "test", "bake"} else None
        cancel = Choice(say(job.language, "button.cancel"), f"cancel:{job.id}", "danger")
        choices = (cancel,) if running is None or running.name not in GOOD else ()
        choices = (*_sooner(job), *choices)
        if job.approval is not None and job.approval.state == "open":
            lines += _question(job)
            # What is approved goes with the press: an old button cannot approve a new change (F35).
            choices = (
                Choice(say(job.language, "button.approve"), f"approve:{job.id}:{job.approval.digest}", "primary"),
                Choice(say(job.language, "button.reject"), f"reject:{job.id}:{job.approval.digest}", "danger"),
            )
        elif running is not None and running.name == "confirm" and running.status == "waiting":
            until = time.strftime("%H:%M:%S", time.localtime(job.result["keep_until"]))
            lines.append(say(job.language, "live.keep", version=job.result["version"], until=until))
            choices = (
                Choice(say(job.language, "button.keep"), f"keep:{job.id}", "primary"),
                Choice(say(job.language, "button.undo"), f"undo:{job.id}", "danger"),
            )
    return Content("\n".join(lines), choices, bar)


def _sooner(job: types.Job) -> tuple[Choice, ...]:
    """What a job that waits for its time, or for another job, can be told instead."""
    if job.status == "waiting" and job.waiting_for in PUT_OFF:
        return (Choice(say(job.language, "button.now"), f"now:{job.id}:{job.kind}", "primary"),)
    if job.status == "waiting" and job.waiting_for == WAITING_FOR_TURN and job.kind in CHANGES:
        return (Choice(say(job.language, "button.force"), f"force:{job.id}:{job.kind}"),)
    return ()


def _headlines(job: types.Job, agent: str) -> list[str]:
    """The seed's dialogue, as far as it has come."""
    language, result = job.language, job.result
    done = {step.name for step in job.steps if step.status == "done"}
    begun = {step.name: step for step in job.steps if step.status != "todo"}
    lines: list[str] = []
    if not begun and job.status == "todo":
        lines.append(say(language, "live.queued"))
    if job.kind == "restart":
        lines.append(say(language, "live.restart"))
    if job.kind == "configure":
        lines.append(say(language, "live.configure"))
    if job.kind == "rollback":
        lines.append(say(language, "live.rollback", version=result.get("version", "")))
    if result.get("interrupts") and job.status not in types.ENDED:
        lines += [say(language, "caution.interrupts"), *result["interrupts"]]
    if job.kind == "repair":
        lines.append(say(language, "live.repair", agent=result.get("agent", agent)))
        lines += _reproduction(job)
        lines += _won(job)
        if "gate" in done:
            lines.append(say(language, "live.repair_changed", agent=result["agent"], files=", ".join(result["files"])))
            lines.append(say(language, "live.repair_summary", summary=_summary(job)))
            if "approve" in done and result.get("approved_by"):
                lines.append(say(language, "live.approved", by=result["approved_by"]))
            if "build" in begun and "build" not in done:
                lines.append(say(language, "live.repair_building"))
    build = begun.get("build")
    if job.kind in {"build", "deploy"} and job.status != "todo":
        estimate = result.get("build_estimate") or (build.estimate_s if build else None)
        if estimate:
            low, high = round(estimate[0]), max(round(estimate[1]), round(estimate[0]) + 1)
            known = say(language, "live.build_estimate", low=low, high=high)
            lines.append(known if estimate[1] >= 1 else say(language, "live.build_quick"))
        else:
            lines.append(say(language, "live.build_first"))
    if "release" in done:
        lines.append(
            say(
                language,
                "live.build_only_done" if job.kind == "build" else "live.build_done",
                size=bytes_text(result["build_bytes"]),
                seconds=seconds_text(result["build_seconds"]),
            )
        )
    if job.page and "agent" in begun:
        lines.append(say(language, "live.transcript", url=job.page))
    if job.status == "undoing":
        lines.append(say(language, "live.undoing"))
    return lines


def _reproduction(job: types.Job) -> list[str]:
    """How the problem shows before the fix: what failed, and with what words."""
    language, found = job.language, job.result
    by = found.get("reproduced_by")
    if by is None or (not by and not found.get("unreproduced")):
        return []
    if not by:
        reason = say(language, f"unreproduced.{found['unreproduced']}")
        return [say(language, "live.not_reproduced", reason=reason)]
    names = {"tests": ", ".join(found["reproducing_tests"][:3])} if by == "test" else {}
    tail = [line for line in found.get("failing", "").splitlines() if line.strip()][-_FAILING_LINES:]
    head = say(language, f"live.reproduced_{by}", **names)
    return [f"{head}:", "```", *tail, "```"] if tail else [head]


def _won(job: types.Job) -> list[str]:
    """Which of several attempts was chosen."""
    found = job.result
    chosen = next((one for one in found.get("attempts", ()) if one["number"] == found.get("attempt")), None)
    if chosen is None:
        return []
    figures = {"made": len(found["attempts"]), "planned": found["attempts_planned"]}
    return [say(job.language, "live.attempts", number=chosen["number"], lines=chosen["lines"], **figures)]


def reasons(language: Language, found: Mapping[str, Any]) -> list[str]:
    """What a person should look at before saying yes, a line each.

    Args:
        language: of the lines.
        found: the facts of the job.
    """
    lines = []
    for risk in found.get("risks", ()):
        text = say_fitting(language, f"risk.{risk['rule']}", detail=risk["detail"])
        lines.append(f"{risk['path']}: {text}" if risk["path"] else text)
    return list(dict.fromkeys(lines))


def _summary(job: types.Job) -> str:
    """One line on the change: the commit that was taken back, else the agent's own words."""
    if job.result.get("culprit"):
        subject, commit = job.result["culprit_subject"], job.result["culprit"][:7]
        return say(job.language, "result.took_back", commit=commit, subject=subject)
    return str(job.result["summary"])


def _steps(job: types.Job) -> list[str]:
    """One line a step that has begun; quick ones that are done say nothing."""
    lines: list[str] = []
    for step in job.steps:
        if step.status == "todo" or (step.name in _QUIET_STEPS and step.status in {"done", "undone"}):
            continue
        seconds = step.seconds if step.seconds is not None else None
        took = f" {seconds_text(seconds)}" if seconds is not None and seconds >= _WORTH_SECONDS else ""
        detail = f" · {step.detail}" if step.detail and step.status in {"doing", "waiting"} else ""
        lines.append(f"{_MARKS[step.status]} {step.title}{took}{detail}")
    return lines


def _question(job: types.Job) -> list[str]:
    """What is to be approved: the change, the reasons for doubt, and what a yes does."""
    assert job.approval is not None
    language, found = job.language, job.result
    # Ids of blobs say nothing to a person, and fill a line of a phone each.
    diff = [line for line in job.approval.diff.splitlines() if not line.startswith("index ")]
    shown = diff[:_DIFF_LINES] + ([f"... (+{len(diff) - _DIFF_LINES})"] if len(diff) > _DIFF_LINES else [])
    lines = ["```diff", *shown, "```"]
    if job.approval.reasons:
        lines += [say(language, "live.risks"), *(f"• {reason}" for reason in job.approval.reasons)]
    if any(step.name == "promote" and step.status == "done" for step in job.steps):
        lines.append(say(language, "live.approve_landing", version=found["version"]))
    else:
        size = {"added": found.get("added", 0), "removed": found.get("removed", 0)}
        lines.append(say(language, "live.approve", **size))
    if job.approval.barred:
        lines.append(say(language, "live.four_eyes", name=job.approval.barred))
    return lines


def result(job: types.Job) -> Content:
    """The message that tells how the job ended."""
    if job.status == "done":
        lines = _success(job)
    elif job.status == "cancelled":
        lines = [_cancelled(job), *_taken_back(job), *_data_back(job), *_what_serves(job)]
    elif job.status == "undone":
        lines = _undone(job)
    else:
        lines = _failure(job)
    before = job.result.get("previous_release")
    other = before != job.result.get("release") or "displaced" in job.result
    replaced = bool(before and other) or (job.kind == "configure" and bool(job.result.get("changed")))
    undoable = job.status == "done" and job.kind in UNDOABLE and replaced
    undo = Choice(say(job.language, "button.undo"), f"undo:{job.id}", "danger")
    return Content("\n".join(lines), (undo,) if undoable else ())


def _success(job: types.Job) -> list[str]:
    language, found = job.language, job.result
    size, seconds = bytes_text(found.get("build_bytes", 0)), seconds_text(found.get("build_seconds", 0.0))
    if job.kind == "build":
        made = {"version": found["version"], "release": found["release"]}
        return [say(language, "result.build", size=size, seconds=seconds, **made)]
    if job.kind == "configure" and not any(step.name == "candidate" for step in job.steps):
        return [say(language, "result.configure_live"), *_changed(job)]
    if found.get("debut"):
        lines = [say(language, "result.first", version=found["version"])]
    elif job.kind == "repair" and found.get("recheck") == "fails":
        lines = [say(language, "result.repair_still_failing")]
    elif job.kind in {"restart", "repair", "configure"}:
        lines = [say(language, f"result.{job.kind}")]
    else:
        lines = [say(language, f"result.{job.kind}", version=found["version"])]
    if job.kind == "rollback" and found.get("changed"):
        lines.append(say(language, "result.settings_too"))
    lines += _changed(job)
    if found.get("migrated"):
        lines += [say(language, "result.settings_migrated"), *_changed(job, key="migrated")]
    if job.kind == "repair":
        lines += _change(job)
    if job.kind == "deploy":
        lines += _brought(job)
    if job.kind == "deploy" and "tests_seconds" in found:
        count = f"{found['tests_passed']} " if found.get("tests_passed") else ""
        lines.append(say(language, "result.tests_seconds", count=count, seconds=seconds_text(found["tests_seconds"])))
    if job.kind in {"deploy", "repair"}:
        lines.append(say(language, "result.build_seconds", seconds=f"{seconds} ({size})"))
    if found.get("uncommitted"):
        lines.append(say(language, "result.uncommitted"))
    for key in ("probes_mended", "probes_failing"):
        if found.get(key):
            lines.append(say(language, f"result.{key}", probes=", ".join(found[key])))
    if job.kind in {"restart", "repair"}:
        lines.append(say(language, "result.version", version=found["version"]))
    lines += _data(job)
    if found.get("kept_by"):
        lines.append(say(language, "result.kept_by", by=found["kept_by"]))
    if found.get("down_ms") is not None and found.get("pid"):
        down = seconds_text(found["down_ms"] / 1000)
        lines.append(say(language, "result.process", pid=found["pid"], down=down))
    if job.started_at is not None and job.ended_at is not None:
        total = duration_text(language, max(0.0, job.ended_at - job.started_at))
        lines.append(say(language, "result.took", total=total))
    if job.kind == "repair":
        lines += [*_rechecked(job), *_landed(job)]
        if found.get("cost"):
            lines.append(say(language, "result.agent_cost", agent=found["agent"], cost=found["cost"]))
    if found.get("undoes_landed"):
        landed = {"branch": found["undoes_landed"], "commit": found["undoes_commit"]}
        lines.append(say(language, "result.undone_stays", **landed))
    return lines


def _brought(job: types.Job) -> list[str]:
    """What a deployment brought since the version before: how many commits, which files."""
    files = job.result.get("brings_files", [])
    if not files:
        return []
    shown = ", ".join(files[:_FILES])
    if len(files) > _FILES:
        shown = say(job.language, "result.and_more", files=shown, count=job.result["brings_count"])
    return [say(job.language, "result.brings", commits=job.result["brings_commits"], files=shown)]


def _rechecked(job: types.Job) -> list[str]:
    """What became of the problem on what runs now."""
    found = job.result
    how = found.get("recheck", "none")
    if how == "passes":
        return [say(job.language, f"result.recheck_{found['recheck_by']}")]
    if how == "unknown":
        return [say(job.language, "result.recheck_unknown")]
    if how == "fails" and found.get("recheck_tail"):
        return ["```", *found["recheck_tail"].splitlines(), "```"]
    return []


def _landed(job: types.Job) -> list[str]:
    """Where the commit is by now, and what brings it further where it could not land."""
    language, found = job.language, job.result
    why = found.get("landing", "")
    if found.get("merged"):
        branch = found["merged_into"]
        lines = [say(language, "result.merged", branch=branch)]
        if why == "rebased":
            lines.append(say(language, "result.rebased", count=found["rebased_over"], commit=found["landed"][:10]))
        return lines
    told = {"branch": found["branch"], "remote": found.get("pushed_to", ""), "cause": found.get("cause", "")}
    files = ", ".join(found.get("conflicts", ())[:5])
    note = say_fitting(language, f"landing.{why}", files=files, **told) if why else ""
    return [say(language, "result.left_branch", branch=found["branch"], note=note)]


def _change(job: types.Job) -> list[str]:
    """What was changed, tests apart from code, and what proves it."""
    language, found = job.language, job.result
    tests = found.get("test_files", [])
    lines = [say(language, "result.files", files=", ".join(path for path in found["files"] if path not in tests))]
    if tests:
        size = {"added": found["tests_added"], "removed": found["tests_removed"]}
        lines.append(say(language, "result.test_files", files=", ".join(tests), **size))
    lines.append(say(language, "result.summary", summary=_summary(job)))
    if found.get("proving_tests"):
        lines.append(say(language, "result.proof_test", tests=", ".join(found["proving_tests"][:3])))
    else:
        proved = "proof_tests" if found.get("tests") == "passed" else "proof_none"
        lines.append(say(language, "result.proof" if found.get("reproduced") else f"result.{proved}"))
    if found.get("flaky_tests"):
        lines.append(say(language, "result.flaky", tests=", ".join(found["flaky_tests"][:5])))
    if found.get("failed_before"):
        lines.append(say(language, "result.failed_before", count=found["failed_before"]))
    return lines


def _changed(job: types.Job, *, key: str = "changed", back: bool = False) -> list[str]:
    """Which settings were changed, from what to what; or, with `back`, which ones are as they were."""
    language, lines = job.language, []
    for one in job.result.get(key) or ():
        unset = say(language, "result.unset")
        keys = ("after", "before") if back else ("before", "after")
        before, after = (unset if one[key] is None else one[key] for key in keys)
        name = one["name"] if one["file"] == "regrow.toml" else f"{one['file']}: {one['name']}"
        lines.append(say(language, "result.changed", name=name, before=before, after=after))
    return lines


def _settings_back(job: types.Job) -> list[str]:
    """After a change of settings that was taken back: what went back, and where the file as it was found is (F19)."""
    back = {step.name for step in job.steps if step.status == "undone"}
    lines = []
    if job.result.get("changed") and back & {"configure", "settings"}:
        lines += [say(job.language, "result.settings_back"), *_changed(job, back=True)]
    if kept := job.result.get("settings_kept"):
        lines.append(say(job.language, "result.settings_kept", paths=", ".join(kept)))
    return lines


def _data(job: types.Job) -> list[str]:
    """What became of the service's data."""
    language, found = job.language, job.result
    lines = []
    if "restored" in found:
        lines.append(say(language, "result.restored", snapshot=found["restored"], at=found["restored_at"]))
        if "displaced" in found:
            lines.append(say(language, "result.displaced", snapshot=found["displaced"], rows=found["rows"]))
    elif found.get("schema_moved"):
        lines.append(say(language, "result.schema_moved"))
    return lines


def _data_back(job: types.Job) -> list[str]:
    """After a change that was taken back: the data that went back with it."""
    found = job.result
    if not found.get("data_back"):
        return []
    if "displaced" in found:
        return [say(job.language, "result.data_back", rows=found["rows"], snapshot=found["displaced"])]
    return [say(job.language, "result.data_left", rows=found["rows"])]


def _cancelled(job: types.Job) -> str:
    by = job.result.get("cancelled_by", "")
    if by:
        return say(job.language, "result.cancelled_by", job=job.id, by=by)
    return say(job.language, "result.cancelled", job=job.id)


def _taken_back(job: types.Job) -> list[str]:
    """Which steps were undone; of the data it is told what became of it."""
    steps = [step.title for step in job.steps if step.status == "undone" and step.name not in DATA]
    return [say(job.language, "result.undone_steps", steps=", ".join(steps))] if steps else []


def cause(job: types.Job) -> str:
    """Why it failed, in plain words."""
    assert job.error is not None
    told = str(job.result.get("cause", job.error.text))
    return say_fitting(job.language, f"cause.{_kind(job)}", text=job.error.text, cause=plain(job.language, told))


def plain(language: Language, cause: str) -> str:
    """How a process died or a probe failed, as the supervisor says it, in the language of the reader: what a program
    said itself stays as it is."""
    if probe := re.match(r"probe (\S+): (.*)", cause, re.DOTALL):
        return say(language, "died.probe", probe=probe[1], cause=plain(language, probe[2]))
    if silent := re.fullmatch(r"no answer within ([\d.]+) s", cause):
        return say(language, "died.silent", seconds=silent[1])
    if code := re.match(r"exit code (\d+)", cause):
        return say(language, "died.exit", code=code[1]) + cause[code.end() :]
    if killed := re.match(r"killed by (SIG\w+)( \(out of memory: [^)]*\))?", cause):
        word = "memory" if killed[2] else "killed"
        return say(language, f"died.{word}", signal=killed[1]) + cause[killed.end() :]
    return cause


def _kind(job: types.Job) -> str:
    """The kind of the failure, as far as there are words for it."""
    assert job.error is not None
    return job.error.kind if f"cause.{job.error.kind}" in texts(job.language) else "other"


def _next(job: types.Job) -> list[str]:
    """What to do about it."""
    if job.kind == "configure" and NEXT[_kind(job)] in {"fix", "fix_pinned"}:
        return [say(job.language, "result.set_otherwise")]  # nobody has changed the code
    return [say_fitting(job.language, f"next.{NEXT[_kind(job)]}", job=job.id, version=job.result.get("version", ""))]


def _undone(job: types.Job) -> list[str]:
    language, found = job.language, job.result
    serving = found.get("serving", "")
    unkept = job.error is not None and job.error.kind == "unconfirmed"
    key = "undone_plain" if not serving else "unkept" if unkept else "undone"
    key = "undone_settings" if key == "undone" and job.kind == "configure" else key
    lines = [say_fitting(language, f"result.{key}", version=found.get("version", ""), serving=serving)]
    lines.append(say(language, "result.cause", cause=cause(job)))
    lines += _decisive_lines(job)
    lines += _data_back(job) + _settings_back(job)
    if found.get("fell_back") and job.kind != "configure":  # a fresh process of what serves is never marked bad
        lines.append(say(language, "result.pinned", version=found.get("version", "")))
    return [*lines, *([] if serving else _what_serves(job)), *_next(job), *_whole_log(job)]


def _failure(job: types.Job) -> list[str]:
    language = job.language
    step = next((s.title for s in job.steps if job.error and s.name == job.error.step), "")
    lines = [say(language, "result.failed", title=job.title, step=step)]
    lines.append(say(language, "result.cause", cause=cause(job)))
    lines += [*_decisive_lines(job), *_data_back(job), *_settings_back(job)]
    if job.result.get("cost"):
        lines.append(say(language, "result.agent_cost", agent=job.result["agent"], cost=job.result["cost"]))
    return [*lines, *_what_serves(job), *_next(job), *_whole_log(job)]


def _whole_log(job: types.Job) -> list[str]:
    """Where all of it can be read."""
    return [say(job.language, "result.log", job=job.id) + (f" · {job.page}" if job.page else "")]


def _decisive_lines(job: types.Job) -> list[str]:
    """The lines of the failing program that say why, redacted when they were stored."""
    if job.error is None:
        return []
    last = [line for line in job.error.log_tail.splitlines() if line.strip()][-_TAIL_LINES:]
    lines = job.error.decisive.splitlines() or last
    return ["```", *lines, "```"] if lines else []


def _what_serves(job: types.Job) -> list[str]:
    language, found = job.language, job.result
    serving = found.get("serving", "")
    if not serving:
        return [say(language, "result.nothing_serves")]
    switched = "switched_at" in found or (job.error is not None and job.error.step in SWITCHED)
    if not switched and found.get("previous_version") == serving:
        return [say(language, "result.kept", serving=serving)]
    return [say(language, "result.serving", serving=serving)]
