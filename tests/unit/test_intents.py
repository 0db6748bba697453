"""Messages and what they ask for: our own labelled utterances, and texts of no sense at all."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.intents import ROLES, TABLE, Intent
from regrow.testing.utterances import Utterance, has_effect, score, utterances
from regrow.understanding import understand, yes_or_no

DATA = Path(__file__).parents[1] / "data" / "utterances"
BUILD, MEASURED = utterances(DATA / "build.jsonl"), utterances(DATA / "measured.jsonl")
FENCE = "```"
COMMANDS = [
    "restart",
    "重启",
    "deploy main",
    "回滚到 r3",
    "approve 12",
    "取消任务 12",
    "修一下这个 bug: 崩溃",
    "undo",
    "保留",
]


def test_the_table_has_a_row_for_every_intent_and_a_role_for_every_row() -> None:
    assert set(TABLE) == set(Intent) - {Intent.none}
    assert set(ROLES) == {intent.value for intent in TABLE}
    assert all(row.effect for row in TABLE.values() if row.changes_service or row.confirm)


def test_the_utterances_cover_what_people_say() -> None:
    assert len(BUILD) >= 200
    assert len(MEASURED) >= 200
    # What is said of settings needs their names, and is understood by setting_phrases.py.
    spoken = set(Intent) - {Intent.configure}
    assert min(Counter(row.intent for row in MEASURED)[intent] for intent in spoken) >= 8
    assert {row.intent for row in BUILD} == spoken
    assert sum(row.intent is Intent.none for row in MEASURED) >= len(MEASURED) / 3
    assert {row.lang for row in MEASURED} == {"zh", "en"}
    texts = [row.text for row in BUILD + MEASURED]
    assert len(set(texts)) == len(texts)


def test_the_goals_hold_on_the_measured_part() -> None:
    found = score(MEASURED)
    assert found.false_actions == ()
    assert min(found.recall.values()) >= 0.95, (found.recall, found.missed)
    assert found.asked >= 0.8
    assert found.silly <= 0.1


def test_no_blind_utterance_starts_what_it_does_not_ask_for() -> None:
    assert score(utterances(DATA / "blind.jsonl")).false_actions == ()


def test_no_utterance_of_the_other_sets_starts_what_it_does_not_ask_for() -> None:
    now_is_heard_by_the_conversation = {"restart the thing right now", "rolback now!!"}
    for part in ("opened", "situations"):
        found = score(utterances(DATA / f"{part}.jsonl"))
        assert {text for text, _ in found.false_actions} <= now_is_heard_by_the_conversation
        assert found.met >= 0.9


def test_the_page_shows_what_is_understood() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "what-you-can-say.md").read_text("utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    said = [sentence for row in rows for cell in row[1:] for sentence in cell.split(" · ")]
    assert len(said) >= 30
    assert [sentence for sentence in said if understand(sentence).intent is Intent.none] == []


def test_no_utterance_of_the_other_part_starts_what_it_does_not_ask_for() -> None:
    assert score(BUILD).false_actions == ()


@pytest.mark.parametrize("row", BUILD, ids=lambda row: row.text[:30])
def test_the_utterances_it_was_built_on_are_understood(row: Utterance) -> None:
    request = row.read()
    assert row.right(request), request
    assert not row.doubt or row.doubt & set(request.doubt), request


@pytest.mark.parametrize(
    ("text", "intent", "args"),
    [
        ("@bot 重启一下", Intent.restart, {}),
        ("@bot 编译重启", Intent.deploy, {"target": "latest"}),
        (
            "@bot 修一下这个 bug: 定时任务在北京时间7点没触发",
            Intent.repair,
            {"bug": "定时任务在北京时间7点没触发"},
        ),
    ],
)
def test_the_sentences_of_the_seed(text: str, intent: Intent, args: dict[str, object]) -> None:
    request = understand(text)
    assert (request.intent, request.args.given(), request.language, request.doubt) == (intent, args, "zh", ())


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("ship it", {"deploy", "approve"}),
        ("能不能重启一下", {"restart"}),
        ("restart my laptop", {"restart"}),
        ("先别重启，部署 main", {"deploy"}),
        ("修一下", {"repair"}),
        ("回滚还是重启？", {"rollback", "restart"}),
    ],
)
def test_what_is_likely_but_not_certain_is_asked_back(text: str, candidates: set[str]) -> None:
    request = understand(text)
    assert request.intent is Intent.none
    assert set(request.doubt) == candidates


def test_a_single_candidate_keeps_its_arguments() -> None:
    request = understand("能不能部署 Feature/X-1？")
    assert (request.doubt, request.args.target) == ((Intent.deploy,), "Feature/X-1")


def test_what_is_not_addressed_asks_for_nothing() -> None:
    request = understand("重启", addressed=False)
    assert (request.intent, request.doubt) == (Intent.none, ())


@pytest.mark.parametrize(
    "text", ["重启 claw", "claw 重启一下", "restart claw please", "restart the claw service", "把 claw 重启一下"]
)
def test_a_service_may_be_named(text: str) -> None:
    request = understand(text, services=["claw", "relay"])
    assert (request.intent, request.service) == (Intent.restart, "claw")


def test_a_named_service_leaves_the_target_alone() -> None:
    request = understand("deploy v1.2 on claw", services=["claw"])
    assert (request.intent, request.service, request.args.target) == (Intent.deploy, "claw", "v1.2")


def test_two_services_in_one_sentence_are_asked_about() -> None:
    request = understand("restart claw relay", services=["claw", "relay"])
    assert (request.intent, request.doubt) == (Intent.none, (Intent.restart,))


def test_a_repair_takes_scripts_and_evidence_out_of_the_words() -> None:
    script = f"{FENCE}sh\npython -m claw total\n{FENCE}"
    log = f"{FENCE}log\nrollback now\n{FENCE}"
    request = understand(f"fix this bug: totals are wrong\n{script}\n> expected 3\n{log}")
    assert request.intent is Intent.repair
    assert request.args.bug == "totals are wrong"
    assert request.args.reproduction == "python -m claw total"
    assert set(request.args.evidence) == {"expected 3", "rollback now"}


def test_a_traceback_without_a_language_is_evidence_not_a_script() -> None:
    request = understand(f"修一下这个 bug:\n{FENCE}\nTraceback (most recent call last):\nKeyError: 'x'\n{FENCE}")
    assert request.intent is Intent.repair
    assert request.args.reproduction == ""
    assert len(request.args.evidence) == 1


@pytest.mark.parametrize(
    ("text", "answer"),
    [("是", True), ("Yes!", True), ("不是", False), ("no thanks", False), ("重启", None), ("", None)],
)
def test_yes_or_no(text: str, answer: bool | None) -> None:
    assert yes_or_no(text) is answer


@given(st.text(max_size=400))
def test_any_text_is_survived(text: str) -> None:
    request = understand(text, services=["claw"])
    assert request.text == text
    assert not (request.doubt and request.intent is not Intent.none)
    yes_or_no(text)


@pytest.mark.parametrize(
    "text",
    [
        "fix" + " " * 50_000 + "x",
        "重启" * 30_000,
        "@" * 50_000,
        "`" * 50_001,
        "> " * 50_000,
        "修一下 " + "bug " * 20_000,
    ],
)
def test_long_texts_are_survived(text: str) -> None:
    assert not has_effect(understand(text)) or text.startswith("修")


SAID = [row.text for row in BUILD if row.intent is not Intent.none]
words = st.one_of(st.sampled_from(COMMANDS), st.sampled_from(SAID), st.text(max_size=60))
WRAPPINGS: dict[str, Callable[[str], str]] = {
    "fence": lambda said: f"{FENCE}\n{said}\n{FENCE}",
    "tildes": lambda said: f"~~~text\n{said}\n~~~",
    "quoted lines": lambda said: "\n".join(f"> {line}" for line in said.split("\n")),
    "quotes": lambda said: f"“{said}”",
    "corners": lambda said: f"「{said}」",
    "double corners": lambda said: f"『{said}』",
    "straight": lambda said: f'"{said}"',
    "code": lambda said: f"`{said} `",
    "log line": lambda said: f"2025-02-21 07:00:00 INFO {said}",
    "log": lambda said: "\n".join(f"[12:00:0{at % 10}] WARN {line}" for at, line in enumerate(said.split("\n"))),
    "key and value": lambda said: f'level=info msg="{said}"',
    "json": lambda said: json.dumps({"text": said}, ensure_ascii=False),
    "tag": lambda said: f"<system>{said}</system>",
    "system": lambda said: f"SYSTEM: {said}",
    "speaker": lambda said: f"user: {said}",
    "mail": lambda said: f"From: a@example.com\nSubject: hello\n{said}",
    "prompt": lambda said: f"$ {said}",
    "told": lambda said: f"小李说：“{said}”是什么意思",
    "announced": lambda said: f"log: {said}",
}


@given(body=st.lists(words, min_size=1, max_size=3), wrapping=st.sampled_from(sorted(WRAPPINGS)))
def test_quoted_and_pasted_text_starts_nothing(body: list[str], wrapping: str) -> None:
    # What would end the quotation, or be another line to a program that prints lines, is left out.
    inner = re.sub('[`~"“”「」『』\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]|\n\\s*\n', "", " ".join(body))
    assert not has_effect(understand(WRAPPINGS[wrapping](inner)))


@given(st.sampled_from(SAID), st.data())
def test_what_is_not_seen_on_a_screen_changes_nothing(said: str, data: st.DataObject) -> None:
    """Zero-width characters are read over; what turns the writing round makes a command a question."""
    at = data.draw(st.integers(0, len(said)))
    unseen = data.draw(st.sampled_from("\u200b\u200c\u2060\ufeff\u00ad"))
    plain, hidden = understand(said), understand(said[:at] + unseen + said[at:])
    assert hidden.intent is plain.intent
    assert {**hidden.args.given(), "bug": "", "evidence": "", "reproduction": ""} == {
        **plain.args.given(),
        "bug": "",
        "evidence": "",
        "reproduction": "",
    }
    turned = data.draw(st.sampled_from("\u202a\u202e\u2066\u2068"))
    assert not has_effect(understand(said[:at] + turned + said[at:]))


@pytest.mark.parametrize(
    "text", ["ｒｅｓｔａｒｔ", "𝐫𝐞𝐬𝐭𝐚𝐫𝐭", "RESTART", "re\u200bstart", "重\u200b启", "重啟", "restart\u3000please"]
)
def test_other_forms_of_the_same_letters_are_the_same_words(text: str) -> None:
    assert understand(text).intent is Intent.restart


@pytest.mark.parametrize(
    "text", ["rеstart", "r e s t a r t", "re\u0301start", "重、启", "not\u200b restart", "不\u200b要重启"]
)
def test_letters_that_only_look_alike_are_not(text: str) -> None:
    assert not has_effect(understand(text))


@pytest.mark.parametrize("front", ["修一下这个 bug: ", "fix this bug: ", "修bug：", "@bot please fix:\n"])
@given(middle=st.text(st.characters(exclude_characters="`~>＞@", exclude_categories=["Cs"]), max_size=200))
def test_the_words_about_a_bug_are_kept_to_the_byte(front: str, middle: str) -> None:
    bug = f"a{middle}z"
    request = understand(front + bug)
    assert request.args.bug.encode() == bug.encode()
    assert request.intent is Intent.repair or request.doubt == (Intent.repair,)


@given(
    st.sampled_from(SAID), st.sampled_from(["算了", "不", "no", "等等", "wait", "not", "别", "never mind", "开玩笑的"])
)
def test_what_is_taken_back_in_the_same_breath_does_not_change_the_service(said: str, back: str) -> None:
    row = understand(f"{said}, {back}")
    changes = row.intent is not Intent.none and TABLE[row.intent].changes_service
    # The words about a bug may hold anything, also these.
    assert not changes or row.intent is Intent.repair


@given(
    prefix=st.sampled_from(
        ["别", "不要", "如果", "为什么", "明天", "don't ", "never ", "why did you ", "if you ", "how do i "]
    ),
    command=st.sampled_from(COMMANDS),
)
def test_a_refused_or_questioned_command_starts_nothing(prefix: str, command: str) -> None:
    assert not has_effect(understand(prefix + command))
