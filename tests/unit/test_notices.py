"""What Regrow says unasked: each event once, many of a kind in one message, to the right chats (F27, F28, F29)."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from regrow.events import Events
from regrow.notices import Notices
from regrow.outbox import Outbox
from regrow.permissions import Permissions, Person, Role
from regrow.store import Store, outbox
from regrow.testing.manual_clock import ManualClock

PEOPLE = (
    Person("ada", "Ada", Role.owner, frozenset({"feishu:ou_ada"})),
    Person("bob", "Bob", Role.operator, frozenset({"feishu:ou_bob"})),
)


class Told:
    """Notices, and what they put into the outbox."""

    def __init__(
        self, store: Store, events: Events, clock: ManualClock, chats: tuple[str, ...] = (), hold_s: float | None = None
    ) -> None:
        self._store = store
        until = None if hold_s is None else clock.now() + hold_s
        self.notices = Notices(
            store=store,
            outbox=Outbox(store, events, clock),
            events=events,
            permissions=Permissions(PEOPLE, {}),
            channels=("web", "feishu"),
            chats=chats,
            language="en",
            window_s=3600.0,
            clean=lambda text: text.replace("canary", "***"),
            hold=lambda now: until if until is not None and now < until else None,
            clock=clock,
        )

    async def messages(self, channel: str = "feishu") -> list[dict[str, Any]]:
        def read(connection: Any) -> list[dict[str, Any]]:
            rows = connection.execute(sa.select(outbox).where(outbox.c.channel == channel).order_by(outbox.c.id))
            return [dict(row) for row in rows.mappings()]

        return await self._store.read(read)


@pytest.fixture
def told(store: Store, events: Events, clock: ManualClock) -> Told:
    return Told(store, events, clock)


async def test_an_event_is_told_once_however_often_it_is_seen(told: Told) -> None:
    news = [await told.notices.tell("claw event 7", "service claw", "crashed", service="claw", cause="x") for _ in "ab"]
    assert news == [True, False]
    (message,) = await told.messages()
    assert (message["chat"], message["revision"]) == ("ou_ada", 1)
    (console,) = await told.messages("web")
    assert console["chat"] == "main"


async def test_f29_a_day_of_crashes_is_one_message_a_window(told: Told, clock: ManualClock) -> None:
    for number in range(48):
        await told.notices.tell(f"e{number}", "service claw", "crashed", service="claw", cause=f"cause {number}")
        clock.advance(1800)
    messages = await told.messages()
    assert len(messages) == 24
    assert {message["revision"] for message in messages} == {2}
    assert "cause 47" in messages[-1]["content"]["text"]


async def test_a_long_story_shows_its_end_and_says_how_much_is_left_out(told: Told) -> None:
    for number in range(10):
        await told.notices.tell(f"e{number}", "service claw", "crashed", service="claw", cause=f"cause {number}.")
    (message,) = await told.messages()
    assert "(4 more before these)" in message["content"]["text"]
    assert "cause 3." not in message["content"]["text"]
    assert "cause 9." in message["content"]["text"]


async def test_subjects_do_not_share_a_message(told: Told) -> None:
    await told.notices.tell("a", "service claw", "crashed", service="claw", cause="x")
    await told.notices.tell("b", "daemon", "killed", away="3s")
    assert len(await told.messages()) == 2


async def test_the_chats_of_the_settings_are_told_in_place_of_the_owners(
    store: Store, events: Events, clock: ManualClock
) -> None:
    told = Told(store, events, clock, ("feishu:oc_ops",))
    await told.notices.tell("a", "daemon", "killed", away="3s")
    assert [message["chat"] for message in await told.messages()] == ["oc_ops"]


async def test_f38_no_secret_goes_out_or_stays(told: Told) -> None:
    await told.notices.tell("a", "service claw", "crashed", service="claw", cause="the canary sang")
    (message,) = await told.messages()
    assert "canary" not in message["content"]["text"]
    assert "*** sang" in message["content"]["text"]


async def test_good_news_waits_for_the_morning_and_bad_news_never(
    store: Store, events: Events, clock: ManualClock
) -> None:
    told = Told(store, events, clock, hold_s=600.0)
    night, morning = clock.now(), clock.now() + 600.0
    await told.notices.tell("life 1", "daemon", "restarted", away="3s")
    await told.notices.tell("e 1", "service claw", "crashed", service="claw", cause="x")
    assert {row["key"].split("-")[1]: row["next_at"] for row in await told.messages()} == {"1": morning, "2": night}
    # Bad news of the same subject takes the good news along.
    await told.notices.tell("life 2", "daemon", "killed", away="3s")
    assert [row["next_at"] for row in await told.messages()] == [night, night]
    clock.advance(601)
    await told.notices.tell("disk", "disk claw", "disk_well", free="9GB")
    assert (await told.messages())[-1]["next_at"] == clock.now()
