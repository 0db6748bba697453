"""The command on a real terminal (a pseudo terminal): the live table, the approval question, the chat."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any


def asking(scripted: Any, **fields: Any) -> dict[str, Any]:
    question = {"digest": "d1", "summary": "fix the zone", "files": ["src/a.py"], "diff": "@@ 1 @@\n-a\n+b\x1b[2K\n"}
    steps = [("agent", "done", ""), ("approve", "waiting", "")]
    base = {"kind": "repair", "status": "waiting", "waiting_for": "approval", "steps": steps}
    return scripted.job(**(base | {"approval": question | fields.pop("question", {})} | fields))


def test_the_live_table_ends_as_a_picture_of_the_job(daemon: Any, terminal: Any, scripted: Any) -> None:
    doing = scripted.job(kind="deploy", steps=[("build", "doing", "")])
    doing["steps"][0]["progress"] = 0.5
    done = scripted.job(kind="deploy", status="done", steps=[("build", "done", "38 MB")], story="✅ done: abc")
    daemon.script.jobs[1] = [doing, "go", done]
    screen = terminal("deploy")
    screen.expect("━━━")
    daemon.script.open("go")
    screen.expect("✓.*Build")
    screen.expect("✅ done: abc")
    assert screen.end() == 0


def test_yes_approves_what_was_shown(daemon: Any, terminal: Any, scripted: Any) -> None:
    done = asking(scripted, status="done", question={"state": "approved"}, story="✅ ok")
    daemon.script.jobs[1] = [asking(scripted), "approve", done]
    screen = terminal("repair", "the clock is wrong")
    screen.expect("fix the zone")
    screen.expect(r"\x1b\[31m-a")
    screen.expect(r"\x1b\[32m\+b␛\[2K")
    screen.expect(r"approve\? \[y/n\]")
    screen.type("perhaps\n")
    screen.expect(r"approve\? \[y/n\]")
    screen.type("y\n")
    screen.expect("✅ ok")
    assert screen.end() == 0
    assert daemon.script.calls == ['approve 1 {"digest": "d1"}']


def test_no_rejects_and_is_exit_1(daemon: Any, terminal: Any, scripted: Any) -> None:
    error = {"kind": "rejected", "text": "cannot deploy the repair: rejected", "step": "approve"}
    failed = asking(scripted, status="failed", question={"state": "rejected"}, error=error)
    daemon.script.jobs[1] = [asking(scripted), "reject", failed]
    screen = terminal("repair", "the clock is wrong")
    screen.expect(r"approve\?")
    screen.type("n\n")
    assert screen.end() == 1
    assert daemon.script.calls == ["reject 1 "]


def test_an_answer_given_elsewhere_ends_the_question(daemon: Any, terminal: Any, scripted: Any) -> None:
    done = asking(scripted, status="done", question={"state": "approved", "decided_by": "ann"}, story="✅ ok")
    daemon.script.jobs[1] = [asking(scripted), "elsewhere", done]
    screen = terminal("repair", "the clock is wrong")
    screen.expect(r"approve\?")
    daemon.script.open("elsewhere")
    screen.expect("decided elsewhere: approved ann")
    assert screen.end() == 0
    assert daemon.script.calls == []


def test_ctrl_c_on_the_live_table(daemon: Any, terminal: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job(steps=[("check", "doing", "")]), "never"]
    screen = terminal("restart")
    screen.expect("Check")
    os.kill(screen.process.pid, 2)
    screen.expect("job 1 goes on")
    assert screen.end() == 130
    assert "\x1b[?25h" in screen.seen, "the cursor is back"
    daemon.script.open("never")


def test_no_color_on_a_terminal_is_plain(daemon: Any, terminal: Any, scripted: Any) -> None:
    daemon.script.jobs[1] = [scripted.job(status="done", steps=[("check", "done", "")])]
    screen = terminal("restart", NO_COLOR="1")
    assert screen.end() == 0
    assert "\x1b" not in screen.seen


def test_chat_edits_in_place_and_presses_buttons(daemon: Any, terminal: Any, scripted: Any) -> None:
    buttons = [{"label": "Approve", "action": "yes"}, {"label": "拒绝", "action": "no"}]
    answers = [scripted.message(0, "🔨 开始编译...", bar=0.1), scripted.message(0, "approve?", buttons=buttons)]
    daemon.script.answers["编译重启"] = answers
    screen = terminal("chat")
    screen.expect("> ")
    scripted.wait_for(lambda: daemon.script.listeners, "the chat's stream")
    screen.type("编译重启\n")
    screen.expect("██░")
    screen.expect(re.escape("[A]pprove  [2] 拒绝"))
    screen.type("a\n")
    screen.expect("pressed")
    assert daemon.script.calls == ["press 3 yes"]
    screen.type("\x04")
    assert screen.end() == 0


def test_chat_moves_up_to_edit_the_last_message(daemon: Any, terminal: Any, scripted: Any) -> None:
    daemon.script.answers["go"] = [scripted.message(0, "building", bar=0.1)]
    screen = terminal("chat")
    screen.expect("> ")
    scripted.wait_for(lambda: daemon.script.listeners, "the chat's stream")
    screen.type("go\n")
    screen.expect("building")
    daemon.script.messages[-1] = daemon.script.messages[-1] | {"text": "built", "bar": None, "revision": 1}
    screen.expect(r"\x1b\[2A\x1b\[Jregrow: built")
    screen.type("\x04")
    assert screen.end() == 0


def test_up_live_stops_everything_on_ctrl_c(terminal: Any, root: Path, fake_daemon: dict[str, str]) -> None:
    (root / "regrow.toml").write_text("")
    screen = terminal("up", "--live", "--config", str(root / "regrow.toml"), **fake_daemon)
    screen.expect("claw")
    os.kill(screen.process.pid, 2)
    screen.expect("nothing is left running")
    assert screen.end() == 0
    assert "stop services=True" in (root / "state/daemon.log").read_text()


def test_watch_shows_what_is_and_stops_nothing(daemon: Any, terminal: Any, scripted: Any) -> None:
    daemon.script.now[1] = scripted.job(status="done", steps=[("check", "done", "")])
    screen = terminal("watch")
    screen.expect("claw")
    daemon.script.service["state"] = "down"
    screen.expect("down")
    os.kill(screen.process.pid, 2)
    assert screen.end() == 0
    assert "\x1b[?25h" in screen.seen, "the cursor is back"
    assert daemon.script.calls == []


def test_watch_as_json_is_a_line_for_each_change(daemon: Any, terminal: Any) -> None:
    screen = terminal("watch", "--json")
    screen.expect('"state": ?"up"')
    daemon.script.service["state"] = "down"
    screen.expect('"state": ?"down"')
    os.kill(screen.process.pid, 2)
    assert screen.end() == 0
    states = [json.loads(line)["services"][0]["state"] for line in screen.seen.splitlines() if line.startswith("{")]
    assert states == ["up", "down"]
