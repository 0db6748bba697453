"""What Regrow says unasked: notices, people who want to be let in, the first words of a channel."""

from __future__ import annotations

from typing import Any

from regrow.catalogue import duration_text, fields, say, texts
from regrow.channels.base import Choice, Content
from regrow.decision_links import AskedAlone, Decision, DecisionLinks
from regrow.notices import Notices
from regrow.testing.gallery.jobs import REPAIR
from regrow.testing.gallery.stage import Stage

_VALUES = {
    **{"service": "claw", "cause": "exit code 1: no such time zone: Asia/Shangai", "release": "r7", "back": "r6"},
    **{"version": "2.4.1", "channel": "feishu", "detail": "wss://example.org", "reason": "the disk is full"},
    **{"message": "job-12-result", "free": "0.4GB", "count": "3", "by": "Ada"},
}


async def notices(stage: Stage) -> None:
    """Each notice alone, and several in one message."""
    stage.section("Notices")
    parts, language = stage.parts, stage.language
    told = Notices(
        store=parts.store,
        outbox=parts.outbox,
        events=parts.events,
        permissions=parts.permissions,
        channels=(),
        chats=("feishu:oc_ops",),
        language=language,
        window_s=3600.0,
        clean=lambda text: text,
        clock=parts.clock,
    )
    values = _VALUES | {"down": duration_text(language, 4), "away": duration_text(language, 72)}
    elsewhere = {"notice.more", "notice.offer", "notice.healing"}
    keys = [key.partition(".")[2] for key in texts(language) if key.startswith("notice.") and key not in elsewhere]
    for key in keys:
        await told.tell(f"event {key}", f"subject {key}", key, **_fitting(language, key, values))
        stage.show(key, (await parts.outgoing())[-1].content)
    for number in range(9):
        await told.tell(f"again {number}", "claw", "crashed", service="claw", cause=values["cause"])
        parts.clock.advance(40)  # type: ignore[attr-defined]
    stage.show("the same again and again: one message, edited", (await parts.outgoing())[-1].content)


def _fitting(language: str, key: str, values: dict[str, str]) -> dict[str, str]:
    known = fields(texts("en")[f"notice.{key}"]) | fields(texts(language)[f"notice.{key}"])
    return {name: values[name] for name in known}


async def people(stage: Stage) -> None:
    """Strangers, and the owners' word."""
    stage.section("Who may use it")
    parts = stage.parts
    await stage.serve()
    before = len(await parts.outgoing())
    await stage.says("a stranger asks for something", "重启一下", "restart", who="陈晨")
    (waiting,) = await parts.people.waiting()
    stage.call(waiting.code, "K7M3QX")
    await stage.says("people, with one who waits", "人员列表", "people")
    yes = f"批准配对 {waiting.code} 为操作员", f"approve pairing {waiting.code} as operator"
    await stage.says("let in", *yes)
    admitted = next(person for person in parts.permissions.people if person.name == "陈晨")
    stage.call(admitted.id, "p-28bb49c8")
    asked = next(one for one in (await parts.outgoing())[before:] if one.key.startswith("pair-") and "web" in one.key)
    stage.show("what the owners' question becomes", asked.content)
    await stage.says("another stranger", "重启一下", "restart", who="周舟")
    (waiting,) = await parts.people.waiting()
    stage.call(waiting.code, "P4T9WZ")
    await stage.says("not let in", f"拒绝配对 {waiting.code}", f"reject pairing {waiting.code}")
    asked = next(one for one in (await parts.outgoing()) if waiting.code in one.key and "web" in one.key)
    stage.show("what the owners' question becomes then", asked.content)
    await stage.says("somebody of another organisation", "重启一下", "restart", who="outside:ou_1")
    await stage.says("somebody is removed", "移除人员 viewer", "remove person viewer")
    await parts.admissions.left("memory", ["operator"])
    stage.show("somebody leaves the organisation", (await parts.outgoing())[-1].content)
    parts.permissions.replace(())
    stage.show("people, when there are none", await parts.admissions.text(stage.language))
    for number in range(60):
        await parts.people.pair("memory", f"crowd {number}", "x", "c", stage.language)
    await stage.says("too many strangers", "重启一下", "restart", who="吴双")


async def alone(stage: Stage) -> None:
    """A question by a link, where a button would reach another program."""
    stage.section("Asked alone, by a link")
    parts = stage.parts
    links = DecisionLinks("a secret of the gallery", "https://regrow.example.org")
    told = AskedAlone(links=links, permissions=parts.permissions, outbox=parts.outbox, channels={"memory"})
    at: dict[str, Any] = {"at": "approve", "mark": "waiting", "result": REPAIR, "waiting_for": "approval"}
    for decision in ("approved", "rejected", "expired"):
        record = await stage.job("repair", **at, channel="memory", chat="main")
        asked = await parts.approvals.ask(record.id, "d", REPAIR["summary"], [], "", within_s=60.0)
        await told.tell(await parts.views.job(record), "")
        url = links.url(Decision(record.id, "d", "owner"))
        stage.call(url, "https://regrow.example.org/decide/…")
        if decision == "approved":
            stage.show("the question", await _last(stage, f"job-{record.id}-d-decide-owner"))
        if decision == "expired":
            await parts.approvals.close(record.id)
        else:
            await parts.approvals.decide(record.id, decision, "Ada", person="", digest=asked.digest)
        await told.tell(await parts.views.job(record), "")
        stage.show(decision, await _last(stage, f"job-{record.id}-d-decide-owner"))


async def _last(stage: Stage, key: str) -> Content:
    return next(one.content for one in await stage.parts.outgoing() if one.key == key)


async def forwarded(stage: Stage) -> None:
    """What is said of a message that the service should have answered."""
    stage.section("Messages for the service")
    for why in ("refused", "expired"):
        stage.show(why, say(stage.language, f"chat.forward_{why}", service="claw"))


async def greeting(stage: Stage) -> None:
    """The test message when a channel is set up."""
    stage.section("A channel is set up")
    button = Choice(say(stage.language, "setup.card.button"), "setup:code")
    stage.show("the test message", Content(say(stage.language, "setup.card.text"), (button,)))
    stage.show("once its button was pressed", say(stage.language, "setup.card.done"))


SCENES = (notices, alone, people, forwarded, greeting)
