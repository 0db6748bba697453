"""The live message of each kind of job, step by step."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from regrow.approvals import Approvals
from regrow.catalogue import say, say_fitting, texts
from regrow.jobs.ledger import WAITING_FOR_KEEP
from regrow.risks import Risk
from regrow.testing.gallery.stage import AGENT, Stage, running

BEFORE = {"previous_version": "9f3c2d1", "previous_release": "r6", "serving": "9f3c2d1"}
BUILT: dict[str, Any] = {
    **BEFORE,
    **{"version": "abc1234", "release": "r7", "subject": "Fix the time zone", "build_bytes": 38_000_000},
    **{"build_seconds": 72.3, "tests": "passed", "tests_seconds": 11.6, "build_estimate": [60.0, 90.0]},
}
REPAIR: dict[str, Any] = {
    **BEFORE,
    **{"agent": AGENT, "files": ["src/scheduler.rs", "tests/seven.rs"], "test_files": ["tests/seven.rs"]},
    **{"summary": "Convert UTC to Asia/Shanghai before the next run is computed", "added": 6, "removed": 2},
    **{"tests_added": 18, "tests_removed": 0, "reproduced_by": "test", "reproducing_tests": ["seven_oclock_runs"]},
    **{"failing": "assertion `left == right` failed\n  left: 15:00\n right: 07:00", "reproduced": True},
    **{"proving_tests": ["seven_oclock_runs"], "tests": "passed", "cost": "0.42 USD"},
}
FIXED: dict[str, Any] = {**REPAIR, **BUILT, "serving": "abc1234", "branch": "regrow/job-7"}
_DIFF = """\
--- a/src/scheduler.rs
+++ b/src/scheduler.rs
@@ -41,4 +41,4 @@ impl Job {
-        let next = self.cron.after(&Utc::now());
+        let next = self.cron.after(&Shanghai.now());
"""


async def restart(stage: Stage) -> None:
    """Restart."""
    stage.section("A restart")
    stage_args = {"result": {**BEFORE, "version": "9f3c2d1"}}
    await stage.live("the receipt", "restart", **stage_args)
    wait = say(stage.language, "live.waiting_turn", job=3)
    held = {"at": "turn", "mark": "waiting", "waiting_for": "turn"}
    await stage.live("another job is under way", "restart", **held, progress=running(12.2, wait), **stage_args)
    wait = say(stage.language, "live.waiting_idle", count=2)
    idle = held | {"waiting_for": "idle", "args": {"when": "idle"}}
    await stage.live("asked for when idle", "restart", **idle, progress=running(34.2, wait), **stage_args)
    await stage.live("the new process starts", "restart", at="candidate", progress=running(2.0), **stage_args)
    await stage.live("the live message when it is over", "restart", status="done", **stage_args)


async def deploy(stage: Stage) -> None:
    """Build and deploy."""
    stage.section("A deployment")
    await stage.live("tests run", "deploy", at="test", progress=running(6.2, "", 0.5, (11.0, 14.0)), result=BEFORE)
    await stage.live("the very first build", "deploy", at="build", progress=running(20.2), result=BEFORE)
    told = running(42.2, "Compiling claw v0.4.1", 0.58, (60.4, 89.6))
    await stage.live("a build, with what the past says", "deploy", at="build", progress=told, result=BEFORE)
    quick = running(0.0, "", 0.5, (0.2, 0.4))
    await stage.live("a build that is always quick", "deploy", at="build", progress=quick, result=BEFORE)
    await stage.live("built, and being watched", "deploy", at="bake", progress=running(12.2, "", 0.4), result=BUILT)
    until = BUILT | {"keep_until": stage.parts.clock.now() + 600}
    keep = {"at": "confirm", "mark": "waiting", "waiting_for": WAITING_FOR_KEEP}
    await stage.live("keep it?", "deploy", **keep, result=until)
    await stage.live("being taken back", "deploy", at="bake", mark="undoing", status="undoing", result=BUILT)
    await stage.live("build only", "build", at="build", progress=told, result=BEFORE)
    await stage.live("build only, when it is over", "build", status="done", result=BUILT)
    args = {"release": "r6"}
    back = {"version": "9f3c2d1", "previous_version": "abc1234", "previous_release": "r7"}
    await stage.live("a rollback", "rollback", at="candidate", progress=running(3.0), args=args, result=back)


async def repair(stage: Stage) -> None:
    """Repair."""
    stage.section("A repair")
    early = dict(BEFORE)
    said = [
        ("reading", "src/scheduler.rs"), ("editing", "src/scheduler.rs"), ("running", "cargo test seven"),
        ("thinking", "The cron is read as UTC"),
    ]  # fmt: skip
    for kind, what in said:
        doing = say(stage.language, f"live.agent_{kind}", what=what)
        detail = f"{doing} · 0.18 USD · {say(stage.language, 'live.agent_left', minutes=18)}"
        at = {"at": "agent", "progress": running(61.2, detail, 0.1), "result": early | {"agent": AGENT}}
        await stage.live(f"the agent is {kind}", "repair", **at)
    found = {name: REPAIR[name] for name in ("reproduced_by", "reproducing_tests", "failing", "agent")}
    await stage.live("reproduced by a test", "repair", at="agent", progress=running(5.0), result=early | found)
    command = {"reproduced_by": "command", "failing": "expected 07:00, ran at 15:00", "agent": AGENT}
    await stage.live("reproduced by the command of the report", "repair", at="agent", progress=running(5.0),
                     result=early | command)  # fmt: skip
    for key in _below(stage, "unreproduced"):
        facts = early | {"reproduced_by": "", "unreproduced": key, "agent": AGENT}
        await stage.live(f"not reproduced: {key}", "repair", at="agent", progress=running(5.0), result=facts)
    several = REPAIR | {
        "attempts": [{"number": number, "state": "proved", "text": "", "lines": 9 - number} for number in (1, 2, 3)],
        **{"attempt": 2, "attempts_planned": 3},
    }
    await stage.live("several attempts", "repair", at="verify", progress=running(9.0), result=several)
    for key in _below(stage, "proving"):
        doing = say_fitting(
            stage.language, f"proving.{key}", detail="" if key.startswith("tests") else "src/scheduler.rs:44"
        )
        await stage.live(f"proving: {key}", "repair", at="verify", progress=running(9.0, doing), result=REPAIR)
    await stage.live("the build", "repair", at="build", progress=running(30.2, "", 0.4, (60.0, 90.0)),
                     result=REPAIR | {"approved_by": "Ada"})  # fmt: skip
    await _questions(stage)
    again = say(stage.language, "live.proving_again")
    merging = {"at": "merge", "progress": running(7.0, again), "result": FIXED | {"approved_by": "Ada"}}
    await stage.live("the branch has moved meanwhile", "repair", **merging)
    for step in ("weigh", "promote", "recheck", "tidy"):
        await stage.live(f"a step that is quick: {step}", "repair", at=step, progress=running(1.0), result=FIXED)
    await _question(stage, "the branch has moved, and the change is another one", at="merge", result=FIXED)
    stage.parts.views.page, stage.parts.views.public = "https://regrow.example.org", True
    await stage.live("with a link to the whole conversation", "repair", at="agent", progress=running(5.0),
                     result=early | {"agent": AGENT})  # fmt: skip
    stage.parts.views.page = ""


async def _questions(stage: Stage) -> None:
    stage.section("A repair asks")
    rules = _below(stage, "risk")
    details = {"large": "240", "many_files": "12", "failed_before": "3", "unneeded": "41", "long_line": "900"}
    few = [
        Risk("sensitive", "src/auth.rs"),
        Risk("large", "", "240"),
        Risk("not_reproduced", "", say(stage.language, "unreproduced.passes")),
    ]
    await _question(stage, "the change, and what to look at first", result=REPAIR | {"risks": [asdict(r) for r in few]})
    every = [Risk(rule, "src/scheduler.rs", details.get(rule, "next")) for rule in rules]
    await _question(stage, "every reason there is", result=REPAIR | {"risks": [asdict(risk) for risk in every]})
    stage.settings("repair", four_eyes=True)
    await _question(stage, "whoever asked may not approve", result=REPAIR)
    stage.settings("repair", four_eyes=False)


async def _question(stage: Stage, title: str, *, at: str = "approve", result: dict[str, Any]) -> None:
    record = await stage.job("repair", at=at, mark="waiting", result=result, waiting_for="approval")
    asks: Approvals = stage.parts.approvals
    head = say(stage.language, "live.test_changes")
    diff = (
        f"{_DIFF}\n# {head}\n--- /dev/null\n+++ b/tests/seven.rs\n@@ -0,0 +1 @@\n+#[test] fn seven_oclock_runs() {{}}\n"
    )
    await asks.ask(record.id, "d", result["summary"], result["files"], diff, within_s=3600)
    await stage.tell(title, record)
    await asks.close(record.id)


def _below(stage: Stage, group: str) -> list[str]:
    return [key.partition(".")[2] for key in texts(stage.language) if key.startswith(f"{group}.")]


SCENES = (restart, deploy, repair)
