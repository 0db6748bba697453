"""Keep, or go back: what the word does early, in time, again and late, in every way in which it can be said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regrow.channels.base import Press
from regrow.channels.feishu import cards
from regrow.jobs.ledger import WAITING_FOR_KEEP, Record
from regrow.presses import Presses
from regrow.testing.gallery.stage import Stage
from regrow.testing.parts import Parts

FACTS: dict[str, Any] = {
    **{"version": "abc1234", "commit": "abc1234def5678", "release": "r7", "previous_version": "9f3c2d1"},
    **{"previous_release": "r6", "serving": "9f3c2d1", "switched_at": 1.0, "build_bytes": 1, "build_seconds": 1.0},
}
HERE = {"channel": "memory", "chat": "main", "message": "m0"}


async def asking(parts: Parts, language: str = "en", **more: Any) -> Record:
    """A job that waits for the word, asked for in the chat in which everybody speaks."""
    facts = FACTS | {"keep_until": parts.clock.now() + 600}
    at: dict[str, Any] = {"at": "confirm", "mark": "waiting", "waiting_for": WAITING_FOR_KEEP}
    return await Stage(parts, language).job("deploy", **{**at, "result": facts, **HERE, **more})


async def said(parts: Parts, text: str, number: str = "m1", who: str = "maintainer") -> str:
    await parts.conversations.handle(parts.message(text, number, who=who))
    return next(row["text"] for row in reversed(await parts.sent()) if row["key"].startswith("answer:"))


def presses(parts: Parts) -> Presses:
    return Presses(
        outbox=parts.outbox,
        ledger=parts.ledger,
        requests=parts.requests,
        permissions=parts.permissions,
        refusal=parts.conversations.refusal,
        tell=parts.conversations.tell,
        answer=parts.conversations.press,
        language="zh",
    )


@pytest.mark.parametrize(
    ("text", "language", "answer"),
    [
        ("保留", "zh", "👍 已确认保留（任务 #{n}）"),
        ("保留新版本", "zh", "👍 已确认保留（任务 #{n}）"),
        ("保留 #{n}", "zh", "👍 已确认保留（任务 #{n}）"),
        ("keep", "en", "👍 Kept (job #{n})"),
        ("keep it", "en", "👍 Kept (job #{n})"),
        ("keep job {n}", "en", "👍 Kept (job #{n})"),
    ],
)
async def test_the_word_in_the_chat(parts: Parts, text: str, language: str, answer: str) -> None:
    record = await asking(parts, language)
    assert await said(parts, text.format(n=record.id)) == answer.format(n=record.id)
    assert (await parts.ledger.get(record.id)).kept_by == "maintainer"


@pytest.mark.parametrize(
    ("language", "asks", "labels"),
    [
        ("zh", "✋ 新版本 abc1234 已上线。请在 ", ("保留", "撤销")),
        ("en", '✋ The new version abc1234 serves. Say "keep" by ', ("Keep", "Undo")),
    ],
)
async def test_the_question_has_its_buttons(parts: Parts, language: str, asks: str, labels: tuple[str, str]) -> None:
    record = await asking(parts, language)
    await parts.conversations.tell(record.id)
    (told,) = [one for one in await parts.outgoing() if one.key == f"job-{record.id}-live"]
    assert asks in told.content.text
    assert tuple(choice.label for choice in told.content.choices) == labels
    shown = json.dumps(json.loads(cards.card(told)), ensure_ascii=False)
    assert all(label in shown for label in labels)
    assert f"keep:{record.id}" in shown
    # Where no card can go, the words that do the same are written out, and they are understood.
    plain = json.loads(cards.plain(told.content))["text"]
    assert plain.endswith(f"→ {labels[0]} #{record.id} / {labels[1]} #{record.id}")
    await said(parts, f"{labels[0]} #{record.id}")
    assert (await parts.ledger.get(record.id)).kept_by == "maintainer"


@pytest.mark.parametrize(("action", "kept", "cancelled"), [("keep", "Maintainer", ""), ("undo", "", "Maintainer")])
async def test_a_button_in_a_chat(parts: Parts, action: str, kept: str, cancelled: str) -> None:
    record = await asking(parts, "zh")
    key = f"job-{record.id}-live"
    await parts.conversations.tell(record.id)
    await parts.shown_as(key, "om_7")
    press = Press("memory", "main", "om_7", "maintainer", "Maintainer", f"{action}:{record.id}")
    pressed = await presses(parts).take(press)
    assert pressed.ok, pressed.text
    now = await parts.ledger.get(record.id)
    assert (now.kept_by, now.cancelled_by) == (kept, cancelled)


async def test_whoever_may_not_deploy_may_not_keep(parts: Parts) -> None:
    record = await asking(parts, "zh")
    assert await said(parts, "保留", who="operator") == "⛔ 这件事要维护者或更高的角色才能做，请找所有者。"
    assert (await parts.ledger.get(record.id)).kept_by == ""


async def test_the_word_comes_early(parts: Parts) -> None:
    await asking(parts, at="bake", mark="doing", waiting_for="")
    assert await said(parts, "keep") == "⛔ abc1234 is still being watched. I will ask; say “keep” then."
    assert await said(parts, "保留", "m2") == "⛔ abc1234 还在观察。观察完我会问，那时再说“保留”。"


@pytest.mark.parametrize("status", ["undone", "undoing"])
async def test_the_word_comes_late(parts: Parts, status: str) -> None:
    error = {"kind": "unconfirmed", "text": "cannot keep", "step": "confirm", "log_tail": ""}
    await asking(parts, status=status, mark="failed", waiting_for="", error=error)
    en = "⛔ Too late: nobody said “keep” for abc1234 in time, and 9f3c2d1 is back."
    assert await said(parts, "keep") == f"{en} To try it again, deploy abc1234def by name."
    zh = "⛔ 晚了: abc1234 没有等到“保留”，已经回到 9f3c2d1。还要用它，请指名部署 abc1234def。"
    assert await said(parts, "保留", "m2") == zh


async def test_the_word_is_said_again(parts: Parts) -> None:
    record = await asking(parts)
    await said(parts, "keep")
    assert await said(parts, "保留", "m2") == "👍 abc1234 已由 maintainer 确认保留，不用再说。"
    await parts.ledger.change(record.id, status="done", waiting_for="")
    assert await said(parts, "keep", "m3") == "👍 maintainer has already kept abc1234; nothing more to say."


async def test_the_word_means_nothing_where_nothing_waits(parts: Parts) -> None:
    assert await said(parts, "keep") == "⛔ No new version waits to be kept."
    await asking(parts, status="cancelled", mark="failed", waiting_for="")
    assert await said(parts, "保留", "m2") == "⛔ 现在没有等待确认保留的新版本。"


async def test_the_end_says_that_nobody_kept_it(parts: Parts) -> None:
    error = {"kind": "unconfirmed", "text": "cannot keep", "step": "confirm", "log_tail": ""}
    record = await asking(parts, "zh", status="undone", mark="failed", waiting_for="", error=error)
    await parts.conversations.tell(record.id)
    (told,) = [one.content.text for one in await parts.outgoing() if one.key == f"job-{record.id}-result"]
    assert told.startswith("↩️ 没有人确认保留 abc1234，已自动回到 9f3c2d1。")
    assert "下一步: 还想用它的话，请说“部署 abc1234”。" in told
