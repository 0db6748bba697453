"""The chat in a pipe."""

from __future__ import annotations

import json
import threading
from typing import Any


def test_each_message_once_in_its_final_form(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.jobs[5] = [scripted.job(5)]
    daemon.script.messages.append(scripted.message(1, "of yesterday"))
    answers = [scripted.message(0, "🔄 正在重启...", job=5, bar=0.2)]
    daemon.script.answers["重启一下"] = answers
    daemon.script.answers["hello"] = [scripted.message(0, "hi")]

    def finish() -> None:
        scripted.wait_for(lambda: len(daemon.script.messages) == 5, "both lines")
        edited = {"text": "✅ 已重新上线，运行正常", "bar": None, "revision": 1}
        daemon.script.messages[2] = daemon.script.messages[2] | edited
        daemon.script.now[5] = scripted.job(5, status="done")

    thread = threading.Thread(target=finish)
    thread.start()
    ended = command.run("chat", stdin="重启一下\nhello\n")
    thread.join()
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == ["regrow: hi", "regrow: ✅ 已重新上线，运行正常"]


def test_a_button_is_pressed_by_its_letter(daemon: Any, command: Any, scripted: Any) -> None:
    buttons = [{"label": "Approve", "action": "yes"}, {"label": "Reject", "action": "no"}]
    daemon.script.answers["fix it"] = [scripted.message(0, "approve?", buttons=buttons)]
    ended = command.run("chat", stdin="fix it\nr\n")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["regrow: approve?", "[A]pprove  [R]eject"]
    assert daemon.script.calls == ["press 2 no"]


def test_json_gives_every_event(daemon: Any, command: Any, scripted: Any) -> None:
    daemon.script.answers["hello"] = [scripted.message(0, "hi")]
    lines = command.run("chat", "--json", stdin="hello\n").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["hello", "hi"]
