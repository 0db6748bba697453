"""A message becomes a request, a question back, or silence; and jobs are told of, each in the chat that asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from regrow.agents import agent_of
from regrow.channels.base import Address, Choice, Content, Outgoing, Press
from regrow.config import AgentSection, ModelSection
from regrow.intents import Args, Intent
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts


async def served(parts: Parts) -> None:
    parts.serve(await parts.release())


async def answers(parts: Parts) -> list[str]:
    return [row["text"] for row in await parts.sent() if row["key"].startswith("answer:")]


@pytest.mark.parametrize(("text", "language"), [("重启一下", "zh"), ("please restart it", "en")])
async def test_a_command_is_a_job_with_a_receipt_at_once(parts: Parts, text: str, language: str) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message(text, "m1", chat="team"))
    (job,) = await parts.ledger.last()
    assert (job.kind, job.language, job.address) == ("restart", language, Address("memory", "team", "m1"))
    (told,) = await parts.sent()
    assert (told["key"], told["chat"]) == (f"job-{job.id}-live", "team")
    assert told["choices"][0]["action"] == f"cancel:{job.id}"


async def test_a_message_handled_twice_is_one_job_and_one_receipt(parts: Parts) -> None:
    """A daemon killed before it could record that it had handled a message handles it again (F5)."""
    await served(parts)
    for _ in range(3):
        await parts.conversations.handle(parts.message("重启一下", "m1"))
    (job,) = await parts.ledger.last()
    assert [row["key"] for row in await parts.sent()] == [f"job-{job.id}-live"], "it was told that it joined itself"


async def test_an_equal_command_of_somebody_else_joins(parts: Parts) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("重启一下", "m1"))
    await parts.conversations.handle(parts.message("restart", "m2", who="operator", chat="other"))
    (job,) = await parts.ledger.last()
    assert (await parts.sent())[-1]["chat"] == "other"
    assert await answers(parts) == [f"The same job is already under way: #{job.id}"]


@pytest.mark.parametrize(("who", "text"), [("viewer", "operator"), ("stranger", "重启")])
async def test_who_may_not_is_told_and_nothing_happens(parts: Parts, who: str, text: str) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("重启一下", "m1", who=who))
    (said,) = await answers(parts)
    assert said.startswith("⛔")
    assert await parts.ledger.last() == []


async def test_a_refusal_is_in_the_words_of_the_language(parts: Parts) -> None:
    await parts.conversations.handle(parts.message("重启一下", "m1"))
    await parts.conversations.handle(parts.message("restart", "m2"))
    await parts.conversations.handle(parts.message("deploy no-such-branch", "m3"))
    assert await answers(parts) == [
        "⛔ 目前没有版本在运行，请先部署一个。",
        "⛔ No version is running; deploy one first.",
        "⛔ There is no such branch, tag or commit. Look at the name, and whether it was pushed.",
    ]


@pytest.mark.parametrize("text", ["重启一下", "restart", "build and restart", "取消", "同意"])
async def test_a_command_that_comes_late_is_asked_back_and_not_run(parts: Parts, text: str) -> None:
    """F5, F34: after an outage things may have changed."""
    await served(parts)
    await parts.conversations.handle(parts.message(text, "m1", age=61.0))
    assert await parts.ledger.last() == []
    (said,) = await answers(parts)
    assert "1分1秒前" in said or "1m 1s ago" in said
    assert text in said
    await parts.conversations.handle(parts.message("状态", "m2", age=3600.0))
    assert len(await answers(parts)) == 2, "a question harms nobody, however late"


async def test_what_is_not_understood_is_answered_only_when_it_was_said_to_us(parts: Parts) -> None:
    await parts.conversations.handle(parts.message("今天天气不错", "m1"))
    assert len(await answers(parts)) == 1

    await parts.conversations.handle(replace(parts.message("今天天气不错", "m2"), addressed=False))
    await parts.conversations.handle(parts.message("  ", "m3"))
    assert len(await answers(parts)) == 1


async def test_a_doubt_is_asked_and_the_answer_counts_once(parts: Parts, clock: ManualClock) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("要不要重启？", "m1"))
    assert await parts.ledger.last() == []
    (said,) = await answers(parts)
    assert said.startswith("您是想：")
    await parts.conversations.handle(parts.message("是", "m2"))
    (job,) = await parts.ledger.last()
    assert (job.kind, job.language) == ("restart", "zh")
    await parts.ledger.change(job.id, status="done")
    await parts.conversations.handle(parts.message("是", "m3"))
    assert len(await parts.ledger.last()) == 1, "an old question was answered again"


async def test_a_doubt_is_for_the_one_who_was_asked(parts: Parts) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("要不要重启？", "m1", who="operator"))
    await parts.conversations.handle(parts.message("是", "m2", who="owner"))
    assert await parts.ledger.last() == []


async def test_a_doubt_is_dropped_by_no_by_time_and_by_anything_else(parts: Parts, clock: ManualClock) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("要不要重启？", "m1"))
    await parts.conversations.handle(parts.message("不是", "m2"))
    assert (await answers(parts))[-1] == "好的，什么都没做。"
    await parts.conversations.handle(parts.message("要不要重启？", "m3"))
    await parts.conversations.handle(parts.message("状态", "m4"))
    await parts.conversations.handle(parts.message("是", "m5"))
    await parts.conversations.handle(parts.message("要不要重启？", "m6"))
    clock.advance(24 * 3600)
    await parts.conversations.handle(parts.message("是", "m7"))
    assert await parts.ledger.last() == []


async def question(parts: Parts) -> Outgoing:
    """The last question with buttons, as a channel shows it."""
    row = [row for row in await parts.sent() if row["key"].startswith("answer:")][-1]
    content = Content(row["text"], tuple(Choice(**choice) for choice in row["choices"]))
    return Outgoing(row["key"], Address("memory", row["chat"]), content)


def press(action: str, who: str = "owner") -> Press:
    return Press("memory", "main", "om_1", who, who, action)


async def test_a_doubt_has_buttons_that_stand_for_words(parts: Parts) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("要不要重启？", "m1"))
    shown = await question(parts)
    assert [(choice.label, choice.action) for choice in shown.content.choices] == [
        ("重启", "say:yes"),
        ("都不是", "say:no"),
    ]
    assert await parts.conversations.press(press("say:yes"), shown)
    (job,) = await parts.ledger.last()
    assert (job.kind, job.language) == ("restart", "zh")
    assert (await question(parts)).content.choices == (), "what was answered can be answered again"
    assert not await parts.conversations.press(press("say:yes"), shown)
    assert len(await parts.ledger.last()) == 1


async def test_a_button_names_what_it_does(parts: Parts) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("should we deploy v1.2?", "m1"))
    assert (await question(parts)).content.choices[0].label == "Deploy v1.2"
    await parts.conversations.handle(parts.message("重启还是回滚？", "m2"))
    shown = await question(parts)
    assert [choice.action for choice in shown.content.choices] == ["say:1", "say:2", "say:no"]
    assert await parts.conversations.press(press("say:no"), shown)
    assert (await answers(parts))[-1] == "好的，什么都没做。"
    assert await parts.ledger.last() == []


async def test_a_button_is_for_the_one_who_was_asked_and_for_the_last_question(parts: Parts) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("要不要重启？", "m1"))
    first = await question(parts)
    assert not await parts.conversations.press(press("say:yes", "operator"), first)
    await parts.conversations.handle(parts.message("要不要回滚？", "m2"))
    assert not await parts.conversations.press(press("say:yes"), first)
    assert await parts.ledger.last() == []


# Telling of jobs


async def asked(parts: Parts, number: str = "m1") -> int:
    await served(parts)
    await parts.conversations.handle(parts.message("restart", number))
    return (await parts.ledger.last())[0].id


async def test_a_job_has_one_live_message_and_one_result(parts: Parts) -> None:
    job = await asked(parts)
    await parts.ledger.change(job, status="done", result={"version": "abc"}, ended_at=2.0)
    for _ in range(3):
        await parts.conversations.tell(job)
    live, result = await parts.sent()
    assert (live["key"], result["key"]) == (f"job-{job}-live", f"job-{job}-result")
    assert live["choices"] == [], "an ended job can still be cancelled"
    assert result["text"].startswith("✅ Back online")


async def test_a_job_that_ends_while_it_is_told_of_is_told_to_its_end(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once ended between the last telling and the look whether it had (F28)."""
    job = await asked(parts)
    put = parts.outbox.put

    async def ends_meanwhile(key: str, address: Address, content: Any, number: int | None = None) -> None:
        await put(key, address, content, number)
        if (await parts.ledger.get(job)).status != "done":
            await parts.ledger.change(job, status="done", result={"version": "abc"}, ended_at=2.0)

    monkeypatch.setattr(parts.outbox, "put", ends_meanwhile)
    task = asyncio.create_task(parts.conversations.run())
    try:
        async with asyncio.timeout(20):
            while f"job-{job}-result" not in [row["key"] for row in await parts.sent()]:
                clock = parts.clock
                assert isinstance(clock, ManualClock)
                clock.advance(1.0)
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_ended_unseen_is_told_by_the_next_daemon(parts: Parts) -> None:
    job = await asked(parts)
    await parts.ledger.change(job, status="failed", ended_at=2.0, error=_ERROR)
    task = asyncio.create_task(parts.conversations.run())
    try:
        async with asyncio.timeout(20):
            with parts.events.watch("outbox") as watch:
                while f"job-{job}-result" not in [row["key"] for row in await parts.sent()]:
                    await watch.changed(1.0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


_ERROR = {"kind": "candidate_failed", "text": "cannot start", "step": "check", "log_tail": ""}


async def test_paths_and_secrets_never_reach_a_chat(parts: Parts) -> None:
    """F38: also where the failing program prints them."""
    job = await asked(parts)
    secret = "ghp_" + "a1B2" * 9
    tail = f"{parts.care.directory}/workspaces/7: token={secret}"
    error = {"kind": "build_failed", "text": f"cannot build: {secret}", "step": "check", "log_tail": tail}
    await parts.ledger.change(job, status="failed", error=error, result={"cause": secret}, ended_at=2.0)
    await parts.conversations.tell(job)
    result = (await parts.sent())[-1]["text"]
    assert secret not in result
    assert str(parts.care.directory) not in result


async def test_a_job_of_the_command_line_is_told_in_no_chat(parts: Parts) -> None:
    await served(parts)
    asked = parts.asked(chat="")
    await parts.requests.carry_out(Intent.restart, Args(), asked)
    (job,) = await parts.ledger.last()
    await parts.conversations.tell(job.id)
    assert await parts.sent() == []


async def test_undo_is_asked_back_before_it_is_done(parts: Parts) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("撤销上一次操作", "m1"))
    (asked,) = await answers(parts)
    assert "没有执行任何操作" in asked
    await parts.conversations.handle(parts.message("是", "m2"))
    assert (await answers(parts))[-1] == "⛔ 没有可以撤销的操作。", "now it was tried"


# Agents


async def repaired(parts: Parts, number: str, chat: str = "main") -> int:
    """A repair that was asked for and has ended."""
    await parts.conversations.handle(parts.message("fix this bug with claude: the answer is wrong", number, chat=chat))
    (job, *_) = await parts.ledger.last()
    found = {"agent": "claude", "session": "s-1"}
    await parts.ledger.change(job.id, status="failed", result=found, ended_at=parts.clock.now())
    return job.id


@pytest.fixture
async def modelled(parts: Parts) -> Parts:
    """A service with a model, so that coding agents can be asked for."""
    settings = {"kind": "anthropic", "models": ["m"], "budget": 0}
    config = parts.care.config.model_copy(
        update={
            "model": ModelSection.model_validate(settings),
            "agent": {"opencode": AgentSection(driver="acp", command=("opencode", "acp"))},
        }
    )
    object.__setattr__(parts.care, "config", config)
    object.__setattr__(
        parts.care, "agents", lambda name: agent_of(config, name, parts.care.repository, parts.workspaces)
    )
    for number in range(1, 5):
        parts.care.agent_home(number).mkdir(parents=True)
    await served(parts)
    return parts


async def test_an_agent_is_chosen_by_its_name(modelled: Parts) -> None:
    await modelled.conversations.handle(modelled.message("let opencode fix this bug: 答案不对", "m1"))
    (job,) = await modelled.ledger.last()
    assert (job.args["agent"], job.args["bug"]) == ("opencode", "答案不对")
    await modelled.conversations.tell(job.id)
    (told,) = [row["text"] for row in await modelled.sent() if row["key"] == f"job-{job.id}-live"]
    assert "🤖 正在让 opencode" in told, "the one that is set is told of"


async def test_without_a_model_an_agent_that_needs_one_is_refused(parts: Parts) -> None:
    await served(parts)
    await parts.conversations.handle(parts.message("用 claude 修复 bug：答案不对", "m1"))
    assert await parts.ledger.last() == []
    assert (await answers(parts))[-1] == "⛔ 还没有设置模型：请在设置里加上 [model]，或者改用 revert。"


async def test_another_agent_does_the_same_repair_from_its_beginning(modelled: Parts) -> None:
    first = await repaired(modelled, "m1")
    await modelled.conversations.handle(modelled.message("让 opencode 来修", "m2"))
    job = (await modelled.ledger.last())[0]
    assert job.id != first
    assert (job.args["agent"], job.args["bug"], job.args["follows"]) == ("opencode", "the answer is wrong", str(first))
    assert "session" not in job.args
    assert "room" not in job.args


async def test_an_answer_in_the_thread_goes_on_with_the_agents_session(modelled: Parts) -> None:
    first = await repaired(modelled, "m1", chat="main/t1")
    said = modelled.message("not quite, also the title is wrong", "m3", chat="main/t1")
    await modelled.conversations.handle(said)
    assert await answers(modelled) == []
    second = (await modelled.ledger.last())[0]
    assert second.args["bug"] == "not quite, also the title is wrong"
    assert (second.args["session"], second.args["room"], second.args["agent"]) == ("s-1", str(first), "claude")
    await modelled.ledger.change(second.id, status="cancelled", result={"agent": "claude", "session": "s-1"})
    await modelled.ledger.change(second.id, ended_at=modelled.clock.now())
    await modelled.conversations.handle(said)  # handled again after a kill
    assert len(await modelled.ledger.last()) == 2
    await modelled.conversations.handle(modelled.message("still wrong", "m4", chat="main/t1"))
    third = (await modelled.ledger.last())[0]
    assert (third.args["room"], third.args["follows"]) == (str(first), str(second.id))


async def test_in_a_room_it_is_asked_whether_it_goes_on(modelled: Parts) -> None:
    first = await repaired(modelled, "m1")
    await modelled.conversations.handle(modelled.message("also the title is wrong", "m2"))
    assert len(await modelled.ledger.last()) == 1
    assert f"job #{first}" in (await answers(modelled))[-1]
    await modelled.conversations.handle(modelled.message("yes", "m3"))
    job = (await modelled.ledger.last())[0]
    assert (job.args["bug"], job.args["session"]) == ("also the title is wrong", "s-1")


async def test_what_goes_on_after_something_else_is_no_repair(modelled: Parts, clock: ManualClock) -> None:
    await modelled.conversations.handle(modelled.message("还有别的事", "m0"))
    first = await repaired(modelled, "m1")
    clock.advance(86401.0)
    await modelled.conversations.handle(modelled.message("still wrong", "m2"))
    assert [job.id for job in await modelled.ledger.last()] == [first]


async def test_an_agent_that_works_is_not_told_more(modelled: Parts) -> None:
    await modelled.conversations.handle(modelled.message("fix this bug with claude: the answer is wrong", "m1"))
    (job,) = await modelled.ledger.last()
    await modelled.conversations.handle(modelled.message("let opencode fix it", "m2"))
    assert len(await modelled.ledger.last()) == 1
    assert (await answers(modelled))[-1].startswith(f"⛔ The agent of job #{job.id} is still at work")


async def test_words_about_a_change_that_waits_for_approval_call_it_off_and_go_on(modelled: Parts) -> None:
    await modelled.conversations.handle(modelled.message("fix this bug with claude: the answer is wrong", "m1"))
    (job,) = await modelled.ledger.last()
    await modelled.ledger.change(job.id, status="waiting", result={"agent": "claude", "session": "s-1"})
    await modelled.ledger.step(job.id, job.plan.index("approve"), status="waiting")
    await modelled.conversations.handle(modelled.message("not quite, also the title", "m2"))
    second, first = await modelled.ledger.last()
    assert first.cancelled_by == "owner"
    assert (second.args["session"], second.args["room"]) == ("s-1", str(first.id))


async def test_a_session_whose_home_is_gone_is_not_gone_on_with(modelled: Parts) -> None:
    """The agent begins anew and is told everything."""
    first = await repaired(modelled, "m1", chat="main/t1")
    modelled.care.agent_home(first).rmdir()
    await modelled.conversations.handle(modelled.message("also the title", "m2", chat="main/t1"))
    job = (await modelled.ledger.last())[0]
    assert job.args["bug"] == "the answer is wrong\n\nalso the title"
    assert {"session", "room"} & set(job.args) == set()


async def test_a_viewer_does_not_go_on_with_a_repair(modelled: Parts) -> None:
    await repaired(modelled, "m1")
    await modelled.conversations.handle(modelled.message("let opencode fix it", "m2", who="viewer"))
    assert len(await modelled.ledger.last()) == 1
    assert "⛔" in (await answers(modelled))[-1]
