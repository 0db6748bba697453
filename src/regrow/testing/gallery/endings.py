"""How jobs end, and why they fail."""

from __future__ import annotations

from typing import Any

from regrow.catalogue import say, say_fitting, texts
from regrow.gate import Refusal
from regrow.jobs.repair import refused
from regrow.testing.gallery.jobs import BEFORE, BUILT, FIXED, REPAIR
from regrow.testing.gallery.stage import AGENT, WHO, Stage

SERVED = {"serving": "abc1234", "down_ms": 0.0, "pid": 4242}


async def done(stage: Stage) -> None:
    """It worked."""
    stage.section("It worked")
    again = {**BEFORE, "version": "9f3c2d1", "release": "r6", **SERVED}
    await stage.ended("a restart", "restart", result=again)
    gap = again | {"down_ms": 1340.0, "probes_mended": ["health"], "probes_failing": ["queue"]}
    await stage.ended("a restart that was noticed", "restart", result=gap)
    await stage.ended("a build", "build", result=BUILT)
    brings = {"brings_commits": 3, "brings_files": ["src/scheduler.rs", "src/clock.rs"], "brings_count": 2}
    await stage.ended("a deployment", "deploy", result=BUILT | SERVED | brings | {"tests_passed": 42})
    many = brings | {"brings_files": [f"src/part{number}.rs" for number in range(10)], "brings_count": 31}
    await stage.ended("a large deployment", "deploy", result=BUILT | SERVED | many | {"tests_passed": 42})
    more = {"uncommitted": True, "kept_by": "Ada", "schema_moved": True, "tests": "none"}
    bare = {name: value for name, value in BUILT.items() if name != "tests_seconds"}
    await stage.ended("a deployment, with what is worth knowing", "deploy", result=bare | SERVED | more)
    await stage.ended("the first version", "deploy", result=bare | SERVED | {"debut": True, "previous_release": None})
    back = {**BEFORE, "version": "9f3c2d1", "release": "r6", "previous_release": "r7", **SERVED}
    await stage.ended("a rollback", "rollback", args={"release": "r6"}, result=back)
    data = {"restored": 11, "restored_at": "2025-06-15 23:00", "displaced": 12, "rows": "notes +3, reminders +1"}
    await stage.ended("a rollback with data", "rollback", args={"release": "r6", "data": "yes"}, result=back | data)
    undo = back | {"undoes": 7, "undoes_landed": "main", "undoes_commit": "abc1234def"}
    await stage.ended("undo of a repair", "rollback", args={"release": "r6", "named": "yes"}, result=undo)


async def repaired(stage: Stage) -> None:
    """A repair worked."""
    stage.section("A repair worked")
    fixed = FIXED | SERVED | {"approved_by": "Ada", "merged": True, "merged_into": "main"}
    await stage.ended("proved by a test", "repair", result=fixed | {"recheck": "passes", "recheck_by": "test"})
    weak = {"proving_tests": [], "flaky_tests": ["test_luck"], "failed_before": 2}
    command = fixed | weak | {"recheck": "passes", "recheck_by": "command"}
    rebased = {"landing": "rebased", "rebased_over": 3, "landed": "77aa88bb99cc"}
    await stage.ended("proved by a command", "repair", result=command | rebased)
    bare = command | {"reproduced": False, "recheck": "passes", "recheck_by": "probe"}
    await stage.ended("only tests speak for it", "repair", result=bare)
    await stage.ended("nothing speaks for it", "repair", result=bare | {"tests": "none", "recheck": "unknown"})
    revert = {"agent": "revert", "culprit": "77aa88bb99cc", "culprit_subject": "Read the cron as local time"}
    await stage.ended("a commit was taken back", "repair", result=fixed | revert | {"cost": "", "test_files": []})
    left = fixed | {"merged": False, "landing": "still_failing", "recheck": "fails", "recheck_by": "command"}
    await stage.ended("it did not help", "repair", result=left | {"recheck_tail": "expected 07:00, ran at 15:00"})
    causes = {
        "gate": refused(stage.language, [Refusal("outside", ".env", "")]),
        "unproved": say(stage.language, "cause.verify_tests_failed"),
        "failed": say(stage.language, "refusal.ref_moved").removeprefix("⛔ "),
    }
    more = {"pushed_to": "origin", "conflicts": ["src/scheduler.rs"]}
    for why in _below(stage, "landing"):
        facts = fixed | {"merged": False, "landing": why, **more, "cause": causes.get(why, "")}
        await stage.ended(f"not merged: {why}", "repair", result=facts)


async def stopped(stage: Stage) -> None:
    """It was stopped or taken back."""
    stage.section("It was stopped, or taken back")
    cut = {"at": "build", "mark": "failed", "undone": ("workspace", "test")}
    await stage.ended("cancelled", "deploy", "cancelled", **cut, cancelled_by=WHO, result=BEFORE)
    await stage.ended(
        "cancelled by nobody in particular", "deploy", "cancelled", at="test", mark="failed", result=BEFORE
    )
    fell = {"fell_back": True, "cause": "probe health: HTTP 500", "switched_at": 1.0}
    log = "INFO listening on 8700\nERROR scheduler: no such time zone: Asia/Shangai\nERROR health: scheduler is down"
    error = _error("fell_back", "bake", "cannot keep the new version: probe health: HTTP 500", log)
    wrong = {"at": "bake", "mark": "failed", "error": error, "result": BUILT | fell}
    await stage.ended("it failed its probe after the switch", "deploy", "undone", **wrong)
    data = {"data_back": True, "rows": "notes +2"}
    with_data = wrong | {"result": BUILT | fell | data | {"displaced": 12}}
    await stage.ended("the data went back with it", "deploy", "undone", **with_data)
    left = wrong | {"result": BUILT | fell | data}
    await stage.ended("the data went back, and what was written lies aside", "deploy", "undone", **left)
    gone = wrong | {"result": BUILT | fell | {"serving": ""}}
    await stage.ended("nothing serves any more", "deploy", "undone", **gone)
    for cause in _DEATHS:
        facts = BUILT | fell | {"cause": cause}
        error = _error("fell_back", "bake", f"cannot keep the new version: {cause}")
        await stage.ended(
            f"because of: {cause}", "deploy", "undone", at="bake", mark="failed", error=error, result=facts
        )
    unkept = _error("unconfirmed", "confirm", "cannot keep the new version: nobody said keep in time")
    facts = BUILT | {"switched_at": 1.0}
    await stage.ended("nobody said keep", "deploy", "undone", at="confirm", mark="failed", error=unkept, result=facts)


_DEATHS = (
    "exit code 1: ModuleNotFoundError: No module named 'claw.clock'",
    "killed by SIGSEGV",
    "killed by SIGKILL (out of memory: the limit of its control group)",
    "probe talk: no answer within 5 s",
)


def _error(kind: str, step: str, text: str, log: str = "") -> dict[str, Any]:
    return {"kind": kind, "step": step, "text": text, "log_tail": log}


# Each kind of failure: the job, the step, what the program says of it in English, what is known besides, the log.
_CARGO = """\
error[E0308]: mismatched types
  --> src/scheduler.rs:44:20
   |
44 |         let next = self.cron;
   |                    ^^^^^^^^^ expected `DateTime`, found `Cron`
error: could not compile `claw` (bin "claw") due to 1 previous error"""
_TESTS = "FAILED tests/test_scheduler.py::test_seven - AssertionError: assert 15 == 7\n1 failed, 41 passed in 3.20s"
_PANIC = "thread 'main' panicked at src/main.rs:12:9:\nno such time zone: Asia/Shangai"
_FAILURES: dict[str, tuple[str, str, str, dict[str, Any], str]] = {
    "build_failed": ("deploy", "build", "cannot build", {"cause": "error[E0308]: mismatched types"}, _CARGO),
    "build_timeout": ("deploy", "build", "cannot build: still running after 600 s", {}, "Compiling claw v0.4.1"),
    "tests_failed": ("deploy", "test", "cannot deploy: the tests failed (exit code 1)", {}, _TESTS),
    "test_timeout": ("deploy", "test", "cannot test: still running after 600 s", {}, "test_seven ..."),
    "candidate_failed": (
        "deploy",
        "candidate",
        "",
        {"cause": "exit code 101: no such time zone: Asia/Shangai"},
        _PANIC,
    ),
    "canary_failed": ("deploy", "bake", "", {"cause": "probe echo: no answer within 5 s"}, ""),
    "rehearsal_failed": ("deploy", "rehearse", "", {"cause": "no such table: reminders"}, "no such table: reminders"),
    "schema_moved": ("rollback", "restore", "", {}, ""),
    "no_snapshot": ("rollback", "restore", "", {}, ""),
    "no_snapshot_left": ("rollback", "restore", "", {}, ""),
    "snapshot_damaged": ("rollback", "restore", "cannot use snapshot 11: claw.db is missing", {"snapshot": 11}, ""),
    "snapshot_failed": ("deploy", "snapshot", "cannot take a snapshot: claw.db is locked", {}, ""),
    "disk_full": ("deploy", "check", "", {"cause": "1.2GB < 3.4GB"}, ""),
    "no_sandbox": ("deploy", "check", "cannot use bubblewrap: it is not installed; apt install bubblewrap", {}, ""),
    "deadline": ("deploy", "release", "cannot finish the step release: its time is over", {}, ""),
    "bug": ("deploy", "release", "cannot go on: KeyError: 'build_seconds'", {}, ""),
    "unknown_step": ("deploy", "release", "cannot go on: this version does not know the step polish", {}, ""),
    "no_exchange": ("deploy", "candidate", "cannot set the data aside", {}, ""),
    "empty_build": ("deploy", "build", "cannot make a release: the build command wrote nothing", {}, ""),
    "no_answer": ("deploy", "candidate", "cannot start tiny: the supervisor does not answer", {}, ""),
    "never_idle": ("restart", "turn", "", {}, ""),
    "overtaken": ("repair", "turn", "", {"cause": "77aa88b"}, ""),
    "forbidden": ("deploy", "turn", "cannot deploy: it needs the role maintainer and yours is lower", {}, ""),
    "nothing_reproduced": ("repair", "reproduce", "", {"cause": "{unreproduced}"}, ""),
    "not_reproduced": ("repair", "reproduce", "cannot repair: the reproduction passes", {}, "ok"),
    "no_reproduction": (
        "repair",
        "reproduce",
        "cannot repair: the reproduction cannot run",
        {},
        "sh: curll: not found",
    ),
    "no_attempt": ("repair", "agent", "", {"cause": "{attempts}"}, ""),
    "no_change": ("repair", "agent", "cannot repair: nothing was changed", {}, ""),
    "no_culprit": ("repair", "agent", "cannot repair: no earlier good release to compare with", {}, ""),
    "conflict": ("repair", "agent", "cannot repair: taking it back conflicts", {}, "src/scheduler.rs"),
    "timeout": ("repair", "agent", "cannot repair: no end after 1200 s", {}, ""),
    "agent_missing": ("repair", "agent", "cannot use claude: it is not installed; install regrow[claude]", {}, ""),
    "agent_login": ("repair", "agent", "", {"cause": "HTTP 401: invalid x-api-key"}, ""),
    "agent_budget": ("repair", "agent", "", {"cause": "2.00 USD are spent"}, ""),
    "agent_turns": ("repair", "agent", "", {"cause": "40 turns"}, ""),
    "agent_killed": ("repair", "agent", "", {"cause": "signal SIGKILL"}, ""),
    "agent_failed": ("repair", "agent", "", {"cause": "exit code 1: cannot read the settings"}, ""),
    "agent_model": ("repair", "agent", "", {"cause": "HTTP 529: overloaded"}, ""),
    "agent_secret": ("repair", "agent", "", {"cause": ""}, ""),
    "gate": ("repair", "gate", "", {"cause": "{gate}"}, ""),
    "verify_not_reproduced": ("repair", "verify", "", {}, ""),
    "verify_still_failing": ("repair", "verify", "", {}, "expected 07:00, ran at 15:00"),
    "verify_tests_failed": ("repair", "verify", "", {}, _TESTS),
    "verify_toothless": ("repair", "verify", "", {}, ""),
    "verify_build_failed": ("repair", "verify", "", {}, _CARGO),
    "verify_timeout": ("repair", "verify", "", {}, ""),
    "verify_unproven": ("repair", "verify", "", {}, ""),
    "rejected": ("repair", "approve", "cannot go on: Ada rejected the change", {}, ""),
    "approval_expired": ("repair", "approve", "", {}, ""),
    "four_eyes": ("repair", "approve", "", {}, ""),
    "not_approved": ("repair", "commit", "", {"cause": "the approval is of another change"}, ""),
    "frozen": ("deploy", "turn", "", {"cause": "Ada: release window closed"}, ""),
    "settings_lost": ("deploy", "compare", "", {"cause": "claw.toml: clock.zone, feishu"}, ""),
    "broken_settings": ("deploy", "check", "", {"cause": "claw.toml: line 4: Expected '=' after a key"}, ""),
    "other": ("deploy", "candidate", "cannot start: the supervisor does not answer", {}, ""),
    "fell_back": ("deploy", "bake", "", {"cause": "exit code 1 after 12 s"}, ""),
    "unconfirmed": ("deploy", "confirm", "", {}, ""),
}


async def failed(stage: Stage) -> None:
    """Why it failed, each reason there is."""
    stage.section("It failed")
    language = stage.language
    keys = [key.partition(".")[2] for key in texts(language) if key.startswith("cause.")]
    for key in keys:
        kind, step, text, facts, log = _FAILURES.get(key, ("deploy", "check", f"cannot go on: {key}", {}, ""))
        cause = str(facts.get("cause", ""))
        if cause == "{unreproduced}":
            cause = say(language, "unreproduced.no_test")
        elif cause == "{gate}":
            cause = refused(language, [Refusal("outside", ".env", "")])
        elif cause == "{attempts}":
            cause = _attempts(stage)
        known = _known(kind, step)
        error = _error(key, step, text or "cannot go on", log)
        result = known | facts | ({"cause": cause} if "cause" in facts else {})
        status = "undone" if step in {"bake", "compare", "confirm"} else "failed"
        result |= {"switched_at": 1.0, "version": "abc1234"} if status == "undone" else {}
        at = {"at": step, "mark": "failed", "settings": step == "compare"}
        await stage.ended(key, kind, status, **at, error=error, result=result)  # type: ignore[arg-type]
    stage.section("What the gate refuses")
    for rule in _below(stage, "gate"):
        if rule != "line":
            cause = refused(language, [Refusal(rule, "src/scheduler.rs", "", "42")])
            error = _error("gate", "gate", "cannot accept the change")
            facts = BEFORE | {"agent": AGENT, "cause": cause, "cost": "0.42 USD"}
            await stage.ended(rule, "repair", "failed", at="gate", mark="failed", error=error, result=facts)


def _known(kind: str, step: str) -> dict[str, Any]:
    """The facts of a job that has come to a step."""
    if kind == "repair":
        return (
            FIXED
            if step == "turn"
            else REPAIR
            if step in {"verify", "approve", "commit"}
            else {**BEFORE, "agent": AGENT}
        )
    return BEFORE if kind != "deploy" or step in {"check", "test", "build"} else BUILT


def _attempts(stage: Stage) -> str:
    language = stage.language
    lines = [
        say(language, "attempt.failed", number=number, why=say_fitting(language, f"cause.{why}"))
        for number, why in enumerate(("verify_still_failing", "verify_tests_failed"), 1)
    ]
    for why in _below(stage, "given_up"):
        words = say(language, f"given_up.{why}")
        lines.append(say(language, "attempt.given_up", made=2, planned=5, why=words))
    return "\n".join(lines)


def _below(stage: Stage, group: str) -> list[str]:
    return [key.partition(".")[2] for key in texts(stage.language) if key.startswith(f"{group}.")]


SCENES = (done, repaired, stopped, failed)
