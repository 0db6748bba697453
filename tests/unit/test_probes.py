"""What a start in the box is asked: what can be asked there, and nothing that is about somebody outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow import probes
from regrow.config import parse

BEGIN = '[service]\nname = "bot"\ncommand = ["./bot"]\nhandover = "exclusive"\n'
HTTP = '[probe.health]\ntarget = "http://127.0.0.1:8700/health"\n'
HEARS = '[probe.hears]\ntype = "log"\ntarget = "connected"\n'
READY = '[probe.lives]\ntype = "ready"\n'
TALKS = '[probe.talks]\ntype = "chat"\ntarget = "ping"\n[chat]\nforward = "http://127.0.0.1:8700/chat"\n'


@pytest.mark.parametrize(
    ("text", "asked", "stands"),
    [
        (HTTP, ["http"], False),
        (HTTP + HEARS + READY + TALKS, ["http"], False),
        (HEARS, [], True),
        ("", [], True),
    ],
)
def test_a_trial_asks_only_what_answers_in_a_box(tmp_path: Path, text: str, asked: list[str], stands: bool) -> None:
    config = parse(tmp_path / "regrow.toml", BEGIN + ('ready = "started"\n' if not text else "") + text)
    trial = probes.trial(config, "r1", "/release", "/state")
    assert [one["type"] for one in trial["probes"]] == asked
    assert (trial["stands_s"] > 0) == stands
