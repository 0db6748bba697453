"""What an agent says is bounded, and its failures are told by the door's word before its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from regrow.agents.base import Event, Task
from regrow.agents.told import Telling, summary_of, with_trouble
from regrow.errors import Refused, RegrowError


def test_each_event_and_all_of_them_are_bounded() -> None:
    heard: list[Event] = []
    telling = Telling(heard.append)
    telling(Event("log", " \n "))
    telling(Event("thinking", " So it is. "))
    telling(Event("log", "x" * 100_000))
    assert heard[0] == Event("thinking", "So it is.")
    assert telling.last == "So it is."
    assert len(heard[1].text) < 21_000
    assert "80000 characters left out" in heard[1].text
    for _ in range(1000):
        telling(Event("log", "y" * 20_000))
    assert sum(len(event.text) for event in heard) < 8_100_000
    assert heard[-1].text == "[... it says too much: the rest is left out ...]"


def test_the_summary_is_the_last_paragraph_in_one_line() -> None:
    assert summary_of("I looked.\n\nThe cause was x.\nIt is y now.\n\n") == "The cause was x. It is y now."
    assert summary_of(" \n\n ") == ""
    assert len(summary_of("z" * 10_000)) == 600


@dataclass
class AnyDoor:
    """A door with a trouble."""

    trouble: RegrowError | None
    socket: Path = Path("/s")
    kind: str = "anthropic"
    model: str = "m"


@pytest.mark.parametrize(
    ("reason", "kind", "told"),
    [
        ("agent_failed", "model_budget", "agent_budget"),
        ("agent_failed", "model_key", "agent_login"),
        ("no_change", "model_secret", "agent_secret"),
        ("agent_failed", "model_unreachable", "agent_model"),
        ("timeout", "model_budget", "timeout"),
        ("", "model_busy", ""),
        ("agent_turns", "", "agent_turns"),
    ],
)
def test_what_the_door_says_comes_before_what_the_agent_makes_of_it(reason: str, kind: str, told: str) -> None:
    door = AnyDoor(Refused("cannot ask: so it is", kind=kind) if kind else None)
    task = Task(bug="b", workspace=Path("/w"), git_directory=Path("/g"), allowed=(), door=door)
    found, summary = with_trouble(reason, "its own words", task)
    assert found == told
    assert summary == ("its own words" if told == reason else "cannot ask: so it is")
