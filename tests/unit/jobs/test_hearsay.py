"""What an agent does becomes one line that says what it does, what it has cost, and how long it may go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from regrow.agents.base import Event
from regrow.jobs.hearsay import Hearsay
from regrow.jobs.work import Work
from regrow.models.usage import Usage
from regrow.redact import Redactor

SECRET = "a-known-" + "value-1"


class Desk:
    """As much of a step's work as is needed."""

    def __init__(self, language: str) -> None:
        self.job = type("Job", (), {"language": language})()
        self.care = type("Care", (), {"redactor": Redactor([SECRET], roots={"workspaces": Path("/w/x")})})()
        self.logged: list[str] = []
        self.told: list[str] = []

    def log(self, text: str) -> None:
        self.logged.append(text)

    def tell(self, detail: str | None = None, **_: Any) -> None:
        self.told.append(detail or "")


def heard(language: str = "en") -> tuple[Desk, Hearsay]:
    desk = Desk(language)
    return desk, Hearsay(cast(Work, desk), "claude", 900.0)


def test_the_live_line_says_what_it_does_the_cost_and_the_time_left() -> None:
    desk, hear = heard()
    hear(Event("reading", "src/chat.py"))
    hear(Event("cost", "$0.0100"))
    hear(Event("editing", "src/chat.py"))
    hear(Event("log", "a long output"))
    hear(Event("running", "make test\nand more"))
    assert desk.told == [
        "reads src/chat.py · 15 min left",
        "reads src/chat.py · $0.0100 · 15 min left",
        "edits src/chat.py · $0.0100 · 15 min left",
        "runs make test and more · $0.0100 · 15 min left",
    ]
    assert "claude: log: a long output" in desk.logged, "the transcript is not whole"


def test_what_is_counted_at_the_door_comes_before_what_the_agent_says() -> None:
    desk, hear = heard("zh")
    hear.usage(Usage(requests=1, cost=0.25))
    hear(Event("cost", "$9.9900"))
    hear(Event("running", "make"))
    assert desk.told[-1] == "正在执行 make · 0.25 USD · 还剩 15 分钟"
    hear.usage(Usage(requests=1, input=10, output=5))
    assert hear.cost == "15 tokens"


def test_secrets_and_paths_stay_here_and_a_long_line_is_cut() -> None:
    desk, hear = heard()
    hear(Event("running", f"curl -H {SECRET} /w/x/1/workspace/src " + "y" * 500))
    assert SECRET not in desk.told[-1] + desk.logged[-1]
    assert "/w/x" not in desk.told[-1]
    assert len(desk.told[-1]) < 120
    assert "y" * 500 in desk.logged[-1]
