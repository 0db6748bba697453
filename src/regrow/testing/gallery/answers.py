"""What people are answered at once: help, questions, lists, refusals, questions back."""

from __future__ import annotations

import sqlite3
from typing import Any

from regrow.api.types import Finding
from regrow.catalogue import doubt_text, say, texts
from regrow.channels.base import Content
from regrow.conversations import doubt_choices
from regrow.errors import NotFound, Refused, RegrowError
from regrow.intents import TABLE, Args, Intent, Request
from regrow.releases import Release
from regrow.testing.gallery.jobs import BUILT
from regrow.testing.gallery.stage import Stage
from regrow.testing.parts import instance


async def asked(stage: Stage) -> None:
    """Questions and lists."""
    stage.section("What can be asked")
    await stage.says("help", "帮助", "help")
    await stage.says("something that is not understood", "今天天气不错", "nice weather today")
    for title, zh, en in (
        ("the state, when nothing runs", "状态", "status"),
        ("releases, when there are none", "有哪些版本", "releases"),
        ("jobs, when there were none", "最近的任务", "recent jobs"),
        ("snapshots, when there are none", "有哪些快照", "which snapshots are there"),
        ("the log, when there is none", "最近50行日志", "last 50 lines of the log"),
        ("people", "人员列表", "people"),
    ):
        await stage.says(title, zh, en)
    _, good, fallback, active = [await _release(stage, subject) for subject in _SUBJECTS]
    bad, built, _ = [await _release(stage, subject, good=False) for subject in _UNPROVED]
    now = stage.parts.clock.now()
    copies: dict[str, Any] = {
        "active": instance(active, 4242, now - 7384.0),
        "standby": instance(fallback, 4100, now - 90000.0),
        "candidate": instance(built, 4300, now),
    }
    pins = ({"digest": bad.digest, "id": bad.id, "commit": bad.commit, "cause": "HTTP 500", "reason": "probe failed"},)
    stage.parts.serve(active, **copies, good={"id": good.id}, pins=pins)
    stage.parts.clock.advance(3 * 86400)  # type: ignore[attr-defined]
    await stage.job("build", status="done", result=BUILT)
    stage.show("the state", await stage.parts.views.status_text(stage.language))
    log = stage.parts.care.release_log(active.id)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("INFO listening on 8700\nINFO 12 reminders are due today\n")
    for reason in ("change", "schedule", "asked", "displaced"):
        await _snapshot(stage, reason)
    for status in ("done", "failed", "undone", "cancelled", "todo", "doing", "waiting", "undoing"):
        at = "" if status in {"done", "todo"} else "build"
        await stage.job("deploy", at=at, mark="failed" if status in {"failed", "undone", "cancelled"} else status,
                        status=status, args={"commit": f"c{status}"}, result=BUILT)  # fmt: skip
        stage.parts.clock.advance(3700)  # type: ignore[attr-defined]
    sick = instance(active, 4242, stage.parts.clock.now() - 7384.0, health=3)
    stage.parts.service.shows(active=sick)
    await stage.says("the state, with a probe that fails", "状态", "status")
    stage.parts.service.shows(active=copies["active"])
    await stage.says("releases", "有哪些版本", "releases")
    await stage.says("recent jobs", "最近的任务", "recent jobs")
    await stage.says("snapshots", "有哪些快照", "which snapshots are there")
    stage.settings("state", sqlite=("claw.db",))
    await stage.says("a snapshot", "备份一下数据", "take a snapshot")
    await stage.says("the log", "最近50行日志", "last 50 lines of the log")
    stage.parts.found = [
        Finding(name="git", ok=True, detail="git version 2.43.0"),
        Finding(name="tiny: agent claude", ok=False, detail="it is not installed", mend="install regrow[claude]"),
    ]
    await stage.says("the check of the installation", "自检一下", "health check")


_SUBJECTS = ("Begin", "Count the reminders", "Answer in the thread", "Fix the time zone")


_UNPROVED = ("Cache the clock", "Colour the log", "Sort the log")


async def _release(stage: Stage, subject: str, *, good: bool = True) -> Release:
    stage.parts.checkout.commit(subject, {"src/answer.txt": subject})
    release = await stage.parts.release(good)
    stage.call(release.version, f"{release.number:02d}c2d{release.number:02d}"[:7])
    return release


async def _snapshot(stage: Stage, reason: Any) -> None:
    path = stage.parts.care.state / "claw.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (text)")
        connection.execute("INSERT INTO notes VALUES (?)", (reason,))  # the same data again would be no new snapshot
    await stage.parts.care.snapshots.take(None, [path], reason=reason)
    stage.parts.clock.advance(86400)  # type: ignore[attr-defined]


async def decided(stage: Stage) -> None:
    """Answers to what somebody says about a job."""
    stage.section("What is said about a job")
    await stage.serve()
    ask = stage.parts.approvals.ask
    for title, zh, en in (
        ("approved", "同意 #{n}", "approve #{n}"), ("rejected", "拒绝 #{n}", "reject #{n}"),
    ):  # fmt: skip
        record = await stage.job("repair", at="approve", mark="waiting", result={"agent": "x", "files": []})
        await ask(record.id, "d", "", [], "", within_s=60)
        await stage.says(title, zh.format(n=record.id), en.format(n=record.id))
        await stage.clear()
    record = await stage.job("deploy", at="build")
    await stage.says("cancelled", f"取消任务 {record.id}", f"cancel job {record.id}")
    await stage.clear()
    facts = BUILT | {"keep_until": stage.parts.clock.now() + 600, "switched_at": 1.0}
    record = await stage.job("deploy", at="confirm", mark="waiting", waiting_for="keep", result=facts)
    await stage.says("kept", f"保留 #{record.id}", f"keep #{record.id}")
    await stage.clear()
    await stage.says("the same again", "重启一下", "restart")
    await stage.says("the same again, of somebody else", "重启一下", "restart", who="operator")
    await stage.clear()
    here: dict[str, Any] = {"channel": "memory", "chat": "main", "message": "earlier"}
    await stage.job("repair", status="done", result={"agent": "x"}, **here)
    await stage.says("whether an agent should go on", "还是不对，8点也没触发", "still wrong, it missed 8 o'clock too")


async def doubts(stage: Stage) -> None:
    """Questions back."""
    stage.section("Questions back")
    await stage.serve()
    await stage.says("which of several", "回滚还是重启？", "roll back or restart?")
    await stage.says("whether it was meant", "要不要重启？", "should we restart?")
    await stage.says("no", "不是", "no")
    every = [intent for intent in TABLE if intent not in {Intent.restart, Intent.rollback}]
    request = Request(Intent.none, Args(), stage.language, tuple(every), "")
    content = Content(doubt_text(stage.language, every), doubt_choices(request, every))
    stage.show("everything that a question can be about", content)
    await stage.says("undo is always asked about", "撤销", "undo")
    await stage.says("a repair without a bug", "修一下bug", "fix the bug")
    await stage.says("a message that comes late", "重启一下", "restart", age=4000.0)


# What is raised where, and what it says: for texts that need a state of the world that is tested elsewhere.
_REFUSALS: tuple[RegrowError, ...] = (
    Refused("cannot restart: it needs the role operator", kind="forbidden", needed="operator"),
    Refused("cannot repair: no role allows it", kind="forbidden"),
    Refused("cannot tell", kind="which_job", jobs="#11, #12"),
    Refused("cannot restart", kind="too_often", count=3, minutes=7),
    Refused("cannot repair", kind="no_such_agent", names="claude, revert"),
    Refused("cannot go on", kind="still_repairing", job=12),
    Refused(
        "cannot roll back", kind="schema_moved", version="9f3c2d1", at="2025-06-15 23:00", snapshot=11, rows="notes +3"
    ),
    Refused("cannot restore", kind="other_schema", release="r6", snapshot=11),
    Refused("cannot undo", kind="overtaken_undo", before="r6"),
    Refused("cannot keep", kind="too_early_to_keep", version="abc1234"),
    Refused("cannot keep", kind="too_late_to_keep", version="abc1234", serving="9f3c2d1", commit="abc1234def"),
    Refused("cannot keep", kind="kept_already", version="abc1234", by="Ada"),
    Refused("cannot decide", kind="code_decided", by="Ada"),
    Refused("cannot restart", kind="forbidden_here", where="feishu:oc_team"),
    Refused("cannot take more", kind="rate", count=30, seconds=12),
    Refused("cannot go on", kind="not_a_repair", job=12),
    Refused("cannot set it", kind="in_units", name="service.stop_timeout"),
    NotFound("cannot tell", kind="no_such_service", names="claw, courier"),
    Refused("cannot use bubblewrap: it is not installed; apt install bubblewrap", kind="no_sandbox"),
    Refused("cannot repair: the model speaks anthropic", kind="agent_model"),
    Refused("cannot use claude: install regrow[claude]", kind="agent_missing"),
    Refused("cannot do this one thing; do another", kind="something_new"),
)


_ELSEWHERE = {
    *("other", "forbidden_role", "frozen", "not_frozen"),
    *("which_setting", "not_settable", "no_such_setting", "no_such_file", "nothing_to_change", "bad_setting"),
}
"""Refusals that are other scenes, or part of another one."""


async def refusals(stage: Stage) -> None:
    """Refusals."""
    stage.section("Refusals")
    known = {key.partition(".")[2] for key in texts(stage.language) if key.startswith("refusal.")}
    refusal = stage.parts.conversations.refusal
    for error in _REFUSALS:
        stage.show(error.kind, refusal(error, stage.language))
    listed = {error.kind for error in _REFUSALS}
    for kind in sorted(known - listed - _ELSEWHERE):
        stage.show(kind, refusal(Refused(f"cannot: {kind}", kind=kind), stage.language))


async def pressed(stage: Stage) -> None:
    """What is shown right after a button was pressed."""
    stage.section("Right after a button is pressed")
    for key in ("working", "failed", "changed", "elsewhere"):
        stage.show(key, say(stage.language, f"press.{key}"))


SCENES = (asked, decided, doubts, refusals, pressed)
