"""Clauses beside a request: what is left out, and what never is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.clauses import aside, split
from regrow.intents import Intent
from regrow.phrases import phrases
from regrow.testing.utterances import has_effect
from regrow.understanding import understand

ASIDES = ["客户都急了", "老板在看演示", "clients are on the line", "the demo is in five"]
COMMANDS = ["重启一下", "回滚到 r3", "部署 main", "please restart it", "roll it back", "deploy main please"]


def test_a_text_is_split_where_clauses_end() -> None:
    assert split("deploy v1.2, ok? go") == ["deploy v1.2", "ok?", "go"]


@pytest.mark.parametrize("clause", ASIDES)
def test_a_reason_in_any_words_is_an_aside(clause: str) -> None:
    assert aside(phrases().plain(clause), phrases())


@pytest.mark.parametrize(
    "clause", ["先别", "明天吧", "小明", "老张说的", "如果还不行", "why", "not yet", "tomorrow at noon"]
)
def test_what_may_take_a_request_back_is_no_aside(clause: str) -> None:
    assert not aside(phrases().plain(clause), phrases())


@pytest.mark.parametrize("reason", ASIDES)
@pytest.mark.parametrize("said", COMMANDS)
def test_a_command_beside_a_reason_in_any_words_is_asked_back(said: str, reason: str) -> None:
    request, plain = understand(f"{reason}, {said}"), understand(said)
    assert has_effect(plain)
    assert (request.intent, request.args) == (plain.intent, plain.args) or request.doubt == (plain.intent,)


@pytest.mark.parametrize(
    "text",
    [
        "重启一下，效果立竿见影",
        "重启一下，世界清净了",
        "王小明同学，重启一下",
        "restart please, sang the band",
        "restart it, famous final words",
        "approve it, the crowd chanted",
        "dear Tom, restart it please",
    ],
)
def test_words_that_nobody_listed_never_make_it_act(text: str) -> None:
    """What stands beside a command may turn it into a story or be meant for somebody else."""
    assert not has_effect(understand(text))


@given(
    st.sampled_from(ASIDES),
    st.sampled_from(["别", "不要", "如果", "为什么", "明天", "老板说", "don't ", "if you ", "why did you ", "log: "]),
    st.sampled_from(COMMANDS),
)
def test_a_refused_questioned_or_reported_command_beside_a_reason_starts_nothing(
    reason: str, front: str, said: str
) -> None:
    assert not has_effect(understand(f"{reason}, {front}{said}"))


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("谁动了线上", Intent.history),
        ("服务还活着吗", Intent.status),
        ("日志呢?发来看看", Intent.logs),
        ("udno that", Intent.undo),
    ],
)
def test_questions_and_slips_are_understood(text: str, intent: Intent) -> None:
    assert understand(text).intent is intent
