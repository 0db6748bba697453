"""What is in the way of a change: quiet hours, a freeze, what would be interrupted, a limit; and the words of each
decision in the audit log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from regrow.api import types
from regrow.asking import Asked, button
from regrow.channels.base import Address, Choice, Content, Outgoing, Press
from regrow.errors import Refused, ServiceError
from regrow.events import Events
from regrow.idle import Busy, Idle
from regrow.intents import Args, Intent
from regrow.jobs.ledger import WAITING_FOR_QUIET, WAITING_FOR_TURN
from regrow.jobs.plans import plan
from regrow.permissions import LOCAL, Place
from regrow.quiet import Quiet
from regrow.redact import Redactor
from regrow.secret import Secret
from regrow.store import Store, audit
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts, instance

QUIET = '[quiet]\nhours = ["{begin}-{end}"]\n'
Make = Callable[..., Awaitable[Parts]]


def hours(clock: ManualClock, begins_in_s: float = -3600.0, ends_in_s: float = 3600.0) -> str:
    """Quiet hours around the present of the test."""
    begin, end = (Quiet().clock(clock.now() + s) for s in (begins_in_s, ends_in_s))
    return QUIET.format(begin=begin, end=end)


@pytest.fixture
def make(tmp_path: Path, store: Store, events: Events, clock: ManualClock) -> Make:
    """Parts with settings of the test's own, and a release that serves."""

    async def made(settings: str = "") -> Parts:
        parts = await Parts.make(tmp_path / "parts", store, events, clock, settings=settings)
        await parts.release()
        parts.checkout.commit("Second", {"src/answer.txt": "better\n"})
        parts.serve(await parts.release())
        return parts

    (tmp_path / "parts").mkdir()
    return made


class Doing:
    """A service that is busy with what a test says."""

    def __init__(self, busy: Busy | None) -> None:
        self.now = busy

    async def busy(self) -> Busy | None:
        return self.now


def busy(parts: Parts, found: Busy | None) -> None:
    object.__setattr__(parts.care, "idle", cast(Idle, Doing(found)))  # frozen for everybody else


async def last(parts: Parts) -> dict[str, Any]:
    return (await parts.sent())[-1]


async def rows(parts: Parts, what: str) -> list[dict[str, Any]]:
    return await parts.store.rows(sa.select(audit).where(audit.c.what == what).order_by(audit.c.id))


async def waiting(parts: Parts, kind: str, waiting_for: str, **args: str) -> int:
    """A job that waits at its turn."""
    record, _ = await parts.ledger.open(
        service="tiny",
        kind=kind,  # type: ignore[arg-type]
        plan=plan(kind, data=False),  # type: ignore[arg-type]
        args=args,
        key="",
        language="zh",
        asked_by="owner",
        person="owner",
        address=Address("memory", "main", "m"),
    )
    await parts.ledger.step(record.id, record.plan.index("turn"), status="waiting", waiting_for=waiting_for)
    return record.id


# Quiet hours


@pytest.mark.parametrize(
    ("text", "kind"),
    [("部署最新版本", "deploy"), ("重启一下", "restart"), ("fix this bug: the answer is wrong", "repair")],
)
async def test_in_quiet_hours_a_change_is_asked_back(make: Make, clock: ManualClock, text: str, kind: str) -> None:
    parts = await make(hours(clock))
    await parts.conversations.handle(parts.message(text, "m1"))
    assert await parts.ledger.last() == []
    asked = await last(parts)
    assert "🌙" in asked["text"]
    assert [choice["action"] for choice in asked["choices"]] == ["say:1", "say:2", "say:no"]
    await parts.conversations.handle(parts.message("2", "m2"))
    (job,) = await parts.ledger.last()
    assert (job.kind, job.args["when"]) == (kind, "now")


async def test_one_that_waits_is_a_job_that_waits_by_itself(make: Make, clock: ManualClock) -> None:
    parts = await make(hours(clock))
    await parts.conversations.handle(parts.message("部署最新版本", "m1"))
    await parts.conversations.handle(parts.message("1", "m2"))
    (job,) = await parts.ledger.last()
    assert "when" not in job.args, "its turn waits, see holds.py"


@pytest.mark.parametrize("text", ["回滚", "马上重启", "强制重启", "restart now", "现在部署", "编译一下", "状态"])
async def test_the_way_back_and_what_is_wanted_now_never_wait(make: Make, clock: ManualClock, text: str) -> None:
    parts = await make(hours(clock))
    await parts.conversations.handle(parts.message(text, "m1"))
    assert "🌙 现在是" not in (await last(parts))["text"]
    assert len(await parts.ledger.last()) == (0 if text == "状态" else 1)


async def test_what_is_down_or_unwell_is_restarted_at_once(make: Make, clock: ManualClock) -> None:
    parts = await make(hours(clock))
    release = (await parts.care.releases.good())[0]
    parts.service.shows(active=instance(release, 4242, clock.now(), health=2))
    await parts.conversations.handle(parts.message("重启一下", "m1"))
    (job,) = await parts.ledger.last()
    assert job.kind == "restart"


async def test_a_stranger_and_a_viewer_are_refused_and_not_asked(make: Make, clock: ManualClock) -> None:
    parts = await make(hours(clock))
    for number, who in enumerate(("viewer", "stranger")):
        await parts.conversations.handle(parts.message("部署最新版本", f"m{number}", who=who))
        assert (await last(parts))["choices"] == [] or "pair" in (await last(parts))["key"]
    assert await parts.ledger.last() == []


async def test_it_may_be_set_to_wait_without_a_question(make: Make, clock: ManualClock) -> None:
    parts = await make(hours(clock) + "ask = false\n")
    await parts.conversations.handle(parts.message("部署最新版本", "m1"))
    assert len(await parts.ledger.last()) == 1


async def test_a_job_that_waits_has_a_button_and_goes_at_once_by_it(make: Make, clock: ManualClock) -> None:
    parts = await make(hours(clock))
    number = await waiting(parts, "deploy", WAITING_FOR_QUIET, commit="c")
    await parts.conversations.tell(number)
    choices = {choice["action"] for choice in (await last(parts))["choices"]}
    assert f"now:{number}:deploy" in choices
    for who, kind in (("operator", "forbidden"), ("maintainer", "")):
        intent, args = button(f"now:{number}:deploy")
        try:
            await parts.requests.carry_out(intent, args, parts.asked(who))
            refused = ""
        except Refused as error:
            refused = error.kind
        assert refused == kind
        assert (await parts.ledger.get(number)).args.get("when") == (None if kind else "now")
    assert [row["detail"]["when"] for row in await rows(parts, "hurried")] == ["now"]


async def test_a_button_for_another_kind_of_job_does_nothing(make: Make, clock: ManualClock) -> None:
    """The role is that of the kind: an operator's restart is no key to a deploy."""
    parts = await make(hours(clock))
    number = await waiting(parts, "deploy", WAITING_FOR_QUIET, commit="c")
    with pytest.raises(Refused) as refused:
        await parts.requests.carry_out(*button(f"now:{number}:restart"), parts.asked("operator"))
    assert refused.value.kind == "bad_request"
    assert "when" not in (await parts.ledger.get(number)).args


async def test_now_hurries_an_equal_job_that_waits(make: Make, clock: ManualClock) -> None:
    parts = await make(hours(clock))
    first = await parts.requests.carry_out(Intent.deploy, Args(), parts.asked())
    assert isinstance(first, types.Accepted)
    record = await parts.ledger.get(first.job)
    await parts.ledger.step(first.job, record.plan.index("turn"), status="waiting", waiting_for=WAITING_FOR_QUIET)
    again = await parts.requests.carry_out(Intent.deploy, Args(when="now"), parts.asked())
    assert again == types.Accepted(job=first.job, joined=True)
    assert (await parts.ledger.get(first.job)).args["when"] == "now"


# What would be interrupted


async def test_a_deploy_is_asked_about_what_it_interrupts(make: Make) -> None:
    parts = await make()
    busy(parts, Busy(2, "writing a poem", 3, 1, 10.0))
    await parts.conversations.handle(parts.message("部署最新版本", "m1"))
    assert await parts.ledger.last() == []
    asked = await last(parts)
    for said in ("2 条消息", "3 个正在进行的对话", "10 秒内有 1 个提醒", "writing a poem"):
        assert said in asked["text"]
    assert [choice["label"] for choice in asked["choices"]][:2] == ["现在就做", "空闲时再做"]
    await parts.conversations.handle(parts.message("空闲时再做", "m2"))
    (job,) = await parts.ledger.last()
    assert job.args["when"] == "idle"


async def test_a_job_under_way_can_be_forced_aside(make: Make) -> None:
    parts = await make()
    busy(parts, Busy(0, "", 1))
    other = await waiting(parts, "rollback", "", release="r1")
    await parts.conversations.handle(parts.message("deploy the latest version", "m1"))
    asked = await last(parts)
    assert f"#{other}" in asked["text"]
    assert [choice["action"] for choice in asked["choices"]] == ["say:1", "say:2", "say:3", "say:no"]
    await parts.conversations.handle(parts.message("3", "m2"))
    assert (await parts.ledger.get(other)).cancelled_by == "owner"
    assert (await parts.ledger.last())[0].args["when"] == "force"
    assert [row["detail"]["why"] for row in await rows(parts, "cancelled")] == ["force"]


async def test_a_job_under_way_alone_is_waited_for_and_not_asked_about(make: Make) -> None:
    parts = await make()
    await waiting(parts, "rollback", "", release="r1")
    await parts.conversations.handle(parts.message("deploy the latest version", "m1"))
    assert [job.kind for job in await parts.ledger.last()] == ["deploy", "rollback"]


async def test_a_job_behind_another_offers_to_call_that_off(make: Make) -> None:
    parts = await make()
    first = await waiting(parts, "rollback", "", release="r1")
    number = await waiting(parts, "deploy", WAITING_FOR_TURN, commit="c")
    await parts.conversations.tell(number)
    assert (await last(parts))["choices"][0]["action"] == f"force:{number}:deploy"
    await parts.requests.carry_out(*button(f"force:{number}:deploy"), parts.asked("maintainer"))
    assert (await parts.ledger.get(first)).cancelled_by == "maintainer"
    assert (await parts.ledger.get(number)).cancelled_by == ""


@pytest.mark.parametrize("text", ["重启一下", "回滚"])
async def test_an_operator_is_obeyed_at_once_and_told(make: Make, text: str) -> None:
    parts = await make()
    busy(parts, Busy(0, "", 2))
    await parts.conversations.handle(parts.message(text, "m1", who="operator"))
    assert len(await parts.ledger.last()) == 1
    assert "2 个正在进行的对话" in (await last(parts))["text"]


async def test_what_force_calls_off_is_said(make: Make) -> None:
    parts = await make()
    other = await waiting(parts, "deploy", "", commit="c")
    await parts.conversations.handle(parts.message("强制重启", "m1", who="operator"))
    assert (await parts.ledger.get(other)).cancelled_by == "operator"
    assert f"任务 #{other}" in (await last(parts))["text"]


async def test_nothing_is_asked_where_nothing_is_interrupted(make: Make) -> None:
    parts = await make()
    busy(parts, Busy(3, ""))  # what is forwarded is delivered through the switch
    await parts.conversations.handle(parts.message("部署最新版本", "m1"))
    assert len(await parts.ledger.last()) == 1


async def test_the_table_says_what_is_asked_and_what_is_confirmed(make: Make) -> None:
    parts = await make('[permissions]\nask_when_busy = ["restart"]\nconfirm = ["deploy"]\n')
    busy(parts, Busy(0, "", 1))
    await parts.conversations.handle(parts.message("重启一下", "m1"))
    assert await parts.ledger.last() == []
    await parts.conversations.handle(parts.message("不用", "m2"))
    await parts.conversations.handle(parts.message("部署最新版本", "m3"))
    assert "没有执行任何操作" in (await last(parts))["text"]
    await parts.conversations.handle(parts.message("是", "m4"))
    assert [job.kind for job in await parts.ledger.last()] == ["deploy"]


async def test_a_supervisor_that_does_not_answer_keeps_nobody_from_an_answer(
    make: Make, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await make(hours(clock))

    async def away() -> None:
        raise ServiceError("cannot reach the supervisor: it does not answer", kind="no_answer")

    monkeypatch.setattr(parts.service, "status", away)
    await parts.conversations.handle(parts.message("重启一下", "m1"))
    assert "没有得到应答" in (await last(parts))["text"]


# A freeze


async def test_a_frozen_service_is_changed_by_nobody_and_gone_back_with(make: Make) -> None:
    parts = await make()
    await parts.conversations.handle(parts.message("冻结 发版窗口关闭", "m1", who="maintainer"))
    assert "发版窗口关闭" in (await last(parts))["text"]
    for intent in (Intent.deploy, Intent.repair, Intent.restart):
        with pytest.raises(Refused) as refused:
            await parts.requests.carry_out(intent, Args(bug="it is wrong", when="force"), parts.asked("owner"))
        assert refused.value.kind == "frozen"
        assert (refused.value.values["by"], refused.value.values["reason"]) == ("maintainer", "发版窗口关闭")
    await parts.conversations.handle(parts.message("部署最新版本", "m2"))
    said = (await last(parts))["text"]
    assert "发版窗口关闭" in said
    assert "maintainer" in said
    assert await parts.ledger.last() == []
    assert {row["detail"]["why"] for row in await rows(parts, "refused")} == {"frozen"}
    await parts.requests.carry_out(Intent.build, Args(), parts.asked())
    await parts.requests.carry_out(Intent.rollback, Args(), parts.asked("operator"))
    assert [job.kind for job in await parts.ledger.last()] == ["rollback", "build"]
    assert "发版窗口关闭" in await parts.views.status_text("zh")
    await parts.conversations.handle(parts.message("解冻", "m3"))
    await parts.requests.carry_out(Intent.deploy, Args(), parts.asked())
    assert (await parts.ledger.last())[0].kind == "deploy"


async def test_what_is_down_may_be_started_while_it_is_frozen(make: Make) -> None:
    parts = await make()
    await parts.requests.carry_out(Intent.freeze, Args(reason="audit"), parts.asked())
    parts.service.shows(active=None, state="down")
    await parts.requests.carry_out(Intent.restart, Args(), parts.asked("operator"))
    assert [job.kind for job in await parts.ledger.last()] == ["restart"]


async def test_a_freeze_takes_a_maintainer_and_says_what_it_holds(make: Make) -> None:
    parts = await make()
    number = await waiting(parts, "deploy", WAITING_FOR_TURN, commit="c")
    with pytest.raises(Refused):
        await parts.requests.carry_out(Intent.freeze, Args(), parts.asked("operator"))
    done = await parts.requests.carry_out(Intent.freeze, Args(reason="a\n b " + "x" * 400), parts.asked("maintainer"))
    assert isinstance(done, types.Answer)
    assert f"#{number}" in done.text
    found = await parts.care.freezes.of("tiny")
    assert found is not None
    assert (found.reason[:4], len(found.reason)) == ("a b ", 300)
    await parts.requests.carry_out(Intent.unfreeze, Args(), parts.asked())
    with pytest.raises(Refused) as refused:
        await parts.requests.carry_out(Intent.unfreeze, Args(), parts.asked())
    assert refused.value.kind == "not_frozen"
    assert [len(await rows(parts, what)) for what in ("frozen", "unfrozen")] == [1, 1]


# How often


async def test_a_minute_has_so_many_requests_of_one_person(make: Make, clock: ManualClock) -> None:
    parts = await make("[permissions]\nper_minute = 3\n")
    for _ in range(3):
        await parts.requests.carry_out(Intent.status, Args(), parts.asked("operator"))
    with pytest.raises(Refused) as refused:
        await parts.requests.carry_out(Intent.status, Args(), parts.asked("operator"))
    assert (refused.value.kind, refused.value.values["seconds"]) == ("rate", 60)
    await parts.requests.carry_out(Intent.rollback, Args(), parts.asked("operator"))
    await parts.requests.carry_out(Intent.cancel, Args(), parts.asked("operator"))
    await parts.requests.carry_out(Intent.status, Args(), parts.asked("maintainer"))
    local = Asked(LOCAL, "local", Address("api", ""), "en")
    for _ in range(9):
        await parts.requests.carry_out(Intent.status, Args(), local)
    clock.advance(61)
    await parts.requests.carry_out(Intent.status, Args(), parts.asked("operator"))


async def test_an_hour_has_so_many_jobs_of_one_person_whatever_became_of_the_daemon(
    make: Make, clock: ManualClock
) -> None:
    parts = await make("[permissions]\njobs_per_hour = 2\n")
    for number in range(2):
        done = await parts.requests.carry_out(Intent.build, Args(), parts.asked(key=f"m{number}"))
        await parts.ledger.change(done.job, status="failed")  # type: ignore[union-attr]
    with pytest.raises(Refused) as refused:
        await parts.requests.carry_out(Intent.build, Args(), parts.asked(key="m3"))
    assert (refused.value.kind, refused.value.values["seconds"]) == ("rate", 3600)
    again = await parts.requests.carry_out(Intent.build, Args(), parts.asked(key="m1"))
    assert again.joined, "the same delivery is no new job"  # type: ignore[union-attr]
    await parts.requests.carry_out(Intent.rollback, Args(), parts.asked())
    await parts.requests.carry_out(Intent.build, Args(), parts.asked("maintainer"))
    clock.advance(3601)
    await parts.requests.carry_out(Intent.build, Args(), parts.asked(key="m4"))


# Where


async def test_a_rule_holds_for_words_buttons_and_questions(make: Make) -> None:
    parts = await make()
    rules = {"memory": Place(roles={"deploy": None, "approve": None})}
    parts.permissions._places = rules  # a channel of tests, which no settings know
    await parts.conversations.handle(parts.message("部署最新版本", "m1"))
    assert "memory" in (await last(parts))["text"]
    assert await parts.ledger.last() == []
    number = await waiting(parts, "deploy", WAITING_FOR_QUIET, commit="c")
    await parts.approvals.ask(number, "d", "fix", [], "", within_s=60)
    for action in (f"now:{number}:deploy", f"approve:{number}:d"):
        with pytest.raises(Refused) as refused:
            await parts.requests.carry_out(*button(action), parts.asked())
        assert refused.value.kind == "forbidden_here"
    elsewhere = replace(parts.asked(), address=Address("web", "main"))
    await parts.requests.carry_out(*button(f"approve:{number}:d"), elsewhere)
    decided = await parts.approvals.of(number)
    assert decided is not None
    assert (decided.state, decided.channel, decided.chat) == ("approved", "web", "main")


# The words that led to a decision


async def test_each_decision_keeps_its_words_and_how_they_were_understood(make: Make) -> None:
    parts = await make()
    await parts.conversations.handle(parts.message("@bot 重启一下", "m1"))
    (asked,) = await rows(parts, "asked")
    assert (asked["detail"]["words"], asked["detail"]["understood"]) == ("@bot 重启一下", "grammar")
    await parts.conversations.handle(parts.message("要不要部署一下？", "m2"))
    await parts.conversations.handle(parts.message("是", "m3"))
    (_, answered) = await rows(parts, "asked")
    assert answered["detail"]["words"] == "要不要部署一下？ → 是"
    assert answered["detail"]["understood"] == "answer"
    await parts.conversations.handle(parts.message("重启一下", "m4", who="viewer"))
    (refused,) = await rows(parts, "refused")
    assert (refused["who"], refused["detail"]["words"]) == ("viewer", "重启一下")
    await parts.conversations.handle(parts.message("部署最新版本", "m5", who="stranger"))
    (pairing,) = await rows(parts, "pairing")
    assert pairing["detail"]["words"] == "部署最新版本"
    assert (await parts.audit.verify()).broken is None


async def test_a_pressed_button_is_kept_by_what_it_said(make: Make) -> None:
    parts = await make()
    busy(parts, Busy(0, "", 1))
    await parts.conversations.handle(parts.message("部署最新版本", "m1"))
    said = await last(parts)
    content = Content(said["text"], tuple(Choice(**choice) for choice in said["choices"]))
    shown = Outgoing(said["key"], Address("memory", "main", "m1"), content)
    pressed = Press("memory", "main", "x", "owner", "owner", "say:1")
    assert await parts.conversations.press(pressed, shown)
    (asked,) = await rows(parts, "asked")
    assert asked["detail"]["words"] == "部署最新版本 → 现在就做"
    assert asked["detail"]["understood"] == "button"


async def test_words_are_without_secrets_and_not_without_end(make: Make) -> None:
    parts = await make()
    canary = "k" + "3y" * 12
    object.__setattr__(parts.care, "redactor", Redactor([Secret(canary)], home=Path.home(), roots={}))
    words = f"fix this bug: the key {canary} does not work\n" + "x " * 500
    await parts.requests.carry_out(
        Intent.freeze, Args(reason=f"because of {canary}"), replace(parts.asked(), words=words, understood="api")
    )
    (row,) = await rows(parts, "frozen")
    assert canary not in str(row)
    assert len(row["detail"]["words"]) <= 300
    assert row["detail"]["words"].endswith("…")
    found = await parts.care.freezes.of("tiny")
    assert found is not None
    assert canary not in found.reason
