"""The one form of messages, and the tables that go with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from regrow.intents import TABLE, Intent
from regrow.phrases import HIDDEN, phrases


@given(st.text(max_size=200))
def test_the_one_form_has_the_same_positions(text: str) -> None:
    assert len(phrases().plain(text)) == len(text)


def test_the_one_form() -> None:
    assert phrases().plain("重啟ＲＥＳＴＡＲＴ，Now！") == "重启restart,now!"
    assert phrases().plain("说“重启”") == f"说{HIDDEN * 4}"
    assert phrases().plain("deploy `v1.2`") == "deploy  v1.2 "


def test_every_intent_has_patterns_and_every_candidate_is_an_intent() -> None:
    # A bug has words of its own, and a setting is called by names that only the settings know.
    assert {*phrases().patterns, "repair", "configure"} == {intent.value for intent in TABLE}
    assert all(Intent(name) in TABLE for names in phrases().unclear.values() for name in names)
