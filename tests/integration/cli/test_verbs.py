"""The real command against a daemon that speaks the contract."""

from __future__ import annotations

import json
import signal
from typing import Any

DONE = [("check", "done", ""), ("candidate", "done", ""), ("switch", "done", "")]


def test_restart_is_followed_to_its_end(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [
        scripted.job(steps=[("check", "done", ""), ("candidate", "doing", "")]),
        scripted.job(status="done", steps=DONE, story="✅ 已重新上线，运行正常"),
    ]
    ended = command.run("restart")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "job 1: restart claw",
        "✓ Check 0.5 s",
        "… Candidate",
        "✓ Candidate 0.5 s",
        "✓ Switch 0.5 s",
        "✅ 已重新上线，运行正常",
    ]
    assert daemon.script.requests[0]["intent"] == "restart"
    assert daemon.script.requests[0]["key"]


def test_a_failing_build_is_exit_2_with_the_last_lines(daemon: Any, command: Any, scripted: Any) -> None:
    error = {"kind": "process_failed", "text": "cannot build: exit code 101", "step": "build", "log_tail": "a\nE0308 b"}
    steps = [("test", "done", ""), ("build", "failed", "exit code 101")]
    daemon.script.jobs[1] = [scripted.job(kind="deploy", status="failed", steps=steps, error=error)]
    ended = command.run("deploy", "main")
    assert ended.returncode == 2
    assert "✗ Build 0.5 s — exit code 101" in ended.stdout
    assert "cannot build: exit code 101" in ended.stdout
    assert "  E0308 b" in ended.stdout
    assert daemon.script.requests[0]["args"] == {"target": "main"}


def test_a_release_that_went_back_is_exit_4(daemon: Any, command: Any, scripted: Any) -> None:
    error = {"kind": "service", "text": "cannot keep r2: it died", "step": "bake"}
    steps = [*DONE[:2], ("switch", "undone", ""), ("bake", "failed", "it died")]
    daemon.script.jobs[1] = [scripted.job(kind="deploy", status="undone", steps=steps, error=error)]
    assert command.run("deploy").returncode == 4


def test_a_refused_request_is_exit_5(daemon: Any, command: Any) -> None:
    daemon.script.refuse["rollback"] = (409, "pinned", "cannot roll back to r1: it is pinned; name another")
    ended = command.run("rollback", "r1")
    assert (ended.returncode, ended.stderr) == (5, "regrow: cannot roll back to r1: it is pinned; name another\n")
    as_json = command.run("rollback", "r1", "--json")
    assert json.loads(as_json.stderr)["kind"] == "pinned"
    assert as_json.stdout == ""


def test_forbidden_is_exit_77(daemon: Any, command: Any) -> None:
    daemon.script.refuse["build"] = (403, "forbidden", "cannot build: ask an operator")
    assert command.run("build").returncode == 77


def test_without_a_daemon_is_exit_69(command: Any, root: Any) -> None:
    ended = command.run("status")
    assert ended.returncode == 69
    expected = f"cannot reach the daemon at {root}/d.sock: it is not running; start it with `regrow up`"
    assert ended.stderr == f"regrow: {expected}\n"


def test_wrong_usage_is_exit_64(command: Any) -> None:
    assert command.run("fly").returncode == 64
    assert command.run("deploy", "--fly").returncode == 64
    assert command.run("repair").returncode == 64
    assert command.run("repair", "-", stdin=" \n").returncode == 64


def test_help_and_version(command: Any) -> None:
    assert command.run("--help").returncode == 0
    assert command.run("--version").stdout == command.run("version").stdout


def test_json_everywhere(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job(), scripted.job(status="done", steps=DONE)]
    daemon.script.log = "one\ntwo\n"
    lines = command.run("restart", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["doing", "done"]
    assert json.loads(command.run("restart", "--json", "--no-wait").stdout) == {"job": 1, "joined": False}
    assert json.loads(command.run("status", "--json").stdout)["new_field"] == 1
    logs = command.run("logs", "--json").stdout.splitlines()
    assert [json.loads(line) for line in logs] == [{"line": "one"}, {"line": "two"}]
    for verb in (["jobs"], ["job", "1"], ["releases"], ["doctor"], ["version"], ["cancel", "1"], ["job", "1", "--log"]):
        json.loads(command.run(*verb, "--json").stdout)


def test_no_escapes_without_colours(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job(status="done", steps=DONE, story="evil \x1b[2J title")]
    daemon.script.log = "\x1b[31mred\x1b[0m\n"
    for verb in (["restart"], ["status"], ["jobs"], ["job", "1"], ["logs"], ["--help"]):
        ended = command.run(*verb, NO_COLOR="1")
        assert "\x1b" not in ended.stdout + ended.stderr, verb


def test_ctrl_c_leaves_the_job_running(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job(steps=[("check", "doing", "")]), "gate:never"]
    process = command.start("restart")
    assert process.stdout.readline() == "job 1: restart claw\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "job 1 goes on" in told
    assert daemon.script.calls == []
    daemon.script.open("gate:never")


def test_following_goes_on_over_a_restart_of_the_daemon(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [
        scripted.job(steps=[("check", "doing", "")]),
        "drop",
        scripted.job(status="done", steps=DONE),
    ]
    daemon.script.drops = 1
    process = command.start("restart")
    assert process.stdout.readline() == "job 1: restart claw\n"
    daemon.script.open("drop")
    daemon.stop()
    daemon.start()
    out, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert told.count("the daemon is restarting; waiting for it") == 1
    assert out.count("job 1: restart claw") == 0, "told once"


def test_an_approval_is_explained_where_nobody_can_be_asked(daemon: Any, command: Any, scripted: Any) -> None:
    question = {"digest": "d1", "summary": "fix the zone", "files": ["src/a.py"], "diff": "-a\n+b\n"}
    asking = scripted.job(kind="repair", status="waiting", waiting_for="approval", approval=question)
    daemon.script.jobs[1] = [asking, "approve", scripted.job(kind="repair", status="done", steps=DONE)]
    process = command.start("repair", "-", "--reproduce", "false", "--agent", "revert")
    process.stdin.write("the clock is wrong\n")
    process.stdin.close()
    process.stdin = None
    while "approval: look with" not in (line := process.stdout.readline()):
        assert line
    assert command.run("job", "1", "--diff").stdout == "-a\n+b\n"
    assert command.run("approve", "1").returncode == 0
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert daemon.script.calls == ['approve 1 {"digest": "d1"}']
    args = {"bug": "the clock is wrong", "reproduction": "false", "agent": "revert"}
    assert daemon.script.requests[0]["args"] == args


def test_a_repair_is_gone_on_with_by_its_number(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job(kind="repair", status="done", steps=DONE)]
    for words, args in (
        (("also the title", "--continue", "7"), {"bug": "also the title", "job": "7"}),
        (("-c", "7", "--agent", "opencode"), {"agent": "opencode", "job": "7"}),
    ):
        done = command.run("repair", *words)
        assert done.returncode == 0, done.stderr
        assert daemon.script.requests.pop()["args"] == args
    assert command.run("repair", "--continue", "x").returncode == 64


def test_approve_asks_for_nothing_that_is_not_open(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job()]
    ended = command.run("approve", "1")
    assert ended.returncode == 5
    assert "asks nothing now" in ended.stderr
    assert command.run("approve", "7").returncode == 5, "not found"
    assert daemon.script.calls == []


def test_chinese_words_and_language(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job(status="failed", steps=[])]
    ended = command.run("restart", LANG="zh_CN.UTF-8")
    assert "任务 1" in ended.stdout
    assert "失败" in ended.stdout
    assert daemon.script.requests[0]["language"] == "zh"


def test_status_for_people(daemon: Any, command: Any) -> None:
    running = {"release": "r1", "version": "abc1234", "commit": "abc1234", "pid": 7, "since": 1.0}
    probes = [{"name": "http", "ok": True}, {"name": "canary", "ok": False, "detail": "no answer"}]
    daemon.script.service = {"name": "claw", "state": "up", "active": running, "probes": probes, "job": 3, "queue": [4]}
    out = command.run("status").stdout
    for part in ("claw  up  abc1234 (r1) · pid 7", "✓ http", "✗ canary (no answer)", "3, then 4", "daemon 9.9"):
        assert part in out


def test_doctor_is_exit_1_when_something_is_wrong(daemon: Any, command: Any) -> None:
    daemon.script.findings = [{"name": "bwrap", "ok": True, "detail": "0.11"}]
    assert command.run("doctor").returncode == 0
    daemon.script.findings.append({"name": "disk", "ok": False, "detail": "3 % free", "mend": "delete old releases"})
    ended = command.run("doctor")
    assert ended.returncode == 1
    assert "→ delete old releases" in ended.stdout


def test_lists(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job(status="done")]
    daemon.script.releases = [{
        "id": "r2", "version": "abc", "commit": "abcdef0123456", "subject": "Fix", "digest": "d", "bytes": 38_000_000,
        "built_at": 1.0, "build_seconds": 72.0, "job": 1, "state": "pinned", "pinned_reason": "died",
    }]  # fmt: skip
    assert "restart claw" in command.run("jobs").stdout
    out = command.run("releases").stdout
    assert "38 MB, 1 min 12 s" in out
    assert "(died)" in out


def test_a_reader_that_leaves_is_no_error(daemon: Any, command: Any) -> None:
    daemon.script.log = "line\n" * 200_000
    process = command.start("logs")
    process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, told = process.communicate(timeout=30)
    assert "Traceback" not in told
