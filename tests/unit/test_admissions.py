"""Letting people in, as the stranger and the owner see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regrow.channels.base import Press
from regrow.presses import Presses
from regrow.testing.parts import Parts


async def told(parts: Parts, chat: str) -> list[dict[str, object]]:
    return [row for row in await parts.sent() if row["chat"] == chat]


async def code_of(parts: Parts) -> str:
    (one,) = await parts.people.waiting()
    return one.code


async def test_a_stranger_is_told_a_code_and_the_owner_is_asked(parts: Parts) -> None:
    parts.serve(await parts.release())
    await parts.conversations.handle(parts.message("重启一下", "m1", who="eve", chat="team"))
    code = await code_of(parts)
    (answer,) = await told(parts, "team")
    assert code in str(answer["text"])
    (asked,) = await told(parts, "owner")
    (console,) = await told(parts, "main")
    assert asked["choices"] == console["choices"]
    actions = [choice["action"] for choice in asked["choices"]]  # type: ignore[index,union-attr]
    assert actions == [f"admit:{code}:operator", f"admit:{code}:viewer", f"dismiss:{code}"]
    assert await parts.ledger.last() == [], "nothing was done yet"


async def test_who_is_on_the_list_but_may_not_gets_no_code(parts: Parts) -> None:
    parts.serve(await parts.release())
    await parts.conversations.handle(parts.message("重启一下", "m1", who="viewer"))
    assert await parts.people.waiting() == []


async def test_somebody_of_another_organisation_gets_no_code(parts: Parts) -> None:
    parts.serve(await parts.release())
    await parts.conversations.handle(replace(parts.message("重启一下", "m1", who="x"), sender="outside:ou_x"))
    (said,) = [row["text"] for row in await parts.sent()]
    assert "本组织" in said
    assert await parts.people.waiting() == []


async def test_the_owner_says_it_in_the_chat_and_the_stranger_may_act(parts: Parts) -> None:
    parts.serve(await parts.release())
    await parts.conversations.handle(parts.message("restart", "m1", who="eve", chat="team"))
    code = await code_of(parts)
    await parts.conversations.handle(parts.message(f"approve pairing {code} as operator", "m2", chat="room"))
    assert "as operator" in str((await told(parts, "room"))[-1]["text"])
    assert [row["text"] for row in await told(parts, "team")][-1] == (
        'You are in, as operator. Say "help" to see what you can do.'.join(["✅ ", ""])
    )
    (asked,) = await told(parts, "owner")
    assert asked["choices"] == [], "a question that was answered has no buttons"
    await parts.conversations.handle(parts.message("restart", "m3", who="eve", chat="team"))
    (job,) = await parts.ledger.last()
    assert (job.kind, job.asked_by) == ("restart", "eve")


@pytest.mark.parametrize(("who", "ok"), [("owner", True), ("maintainer", False), ("eve", False)])
async def test_the_button_counts_for_the_owner_it_was_sent_to(parts: Parts, who: str, ok: bool) -> None:
    parts.serve(await parts.release())
    await parts.conversations.handle(parts.message("restart", "m1", who="eve", chat="team"))
    code = await code_of(parts)
    await parts.store.transact(
        lambda c: c.exec_driver_sql("update outbox set platform_id = 'om_1', state = 'sent' where chat = 'owner'")
    )
    presses = Presses(
        outbox=parts.outbox,
        ledger=parts.ledger,
        requests=parts.requests,
        permissions=parts.permissions,
        refusal=parts.conversations.refusal,
        tell=parts.conversations.tell,
        answer=parts.conversations.press,
        language="en",
    )
    pressed = await presses.take(Press("memory", "oc_private", "om_1", who, who, f"admit:{code}:operator"))
    assert pressed.ok is ok
    found = parts.permissions.find("memory", "eve")
    assert (found is not None) is ok
    again = await presses.take(Press("memory", "oc_private", "om_1", who, who, f"admit:{code}:operator"))
    assert not again.ok, "pressed twice it counts once"


async def test_a_refused_stranger_is_told_so(parts: Parts) -> None:
    parts.serve(await parts.release())
    await parts.conversations.handle(parts.message("重启一下", "m1", who="eve", chat="team"))
    await parts.conversations.handle(parts.message(f"拒绝配对 {await code_of(parts)}", "m2", chat="room"))
    assert "没有同意" in str((await told(parts, "team"))[-1]["text"])
    assert parts.permissions.find("memory", "eve") is None


async def test_a_name_is_enough_to_remove_somebody(parts: Parts) -> None:
    await parts.conversations.handle(parts.message("remove person Viewer", "m1"))
    assert parts.permissions.find("memory", "viewer") is None
    await parts.conversations.handle(parts.message("people", "m2"))
    text = (await parts.sent())[-1]["text"]
    assert "Operator" in text
    assert "Viewer" not in text


async def test_leaving_is_told_to_owners_once(parts: Parts) -> None:
    for _ in range(2):
        await parts.admissions.left("memory", ["operator"])
    assert parts.permissions.find("memory", "operator") is None
    assert len(await told(parts, "owner")) == 1
