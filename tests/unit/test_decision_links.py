"""Links by which one person answers one question."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.api import types
from regrow.channels.base import Address, Content
from regrow.decision_links import AskedAlone, Decision, DecisionLinks
from regrow.errors import NotFound
from regrow.intents import ROLES
from regrow.permissions import Permissions, Person, Role

LINKS = DecisionLinks(secrets.token_urlsafe(24), "https://regrow.example.org/console")
ANN = Person("ann", "Ann", Role.maintainer, frozenset({"feishu:on_ann", "feishu:ou_ann"}))
BEN = Person("ben", "Ben", Role.owner, frozenset({"feishu:on_ben"}))
VERA = Person("vera", "Vera", Role.viewer, frozenset({"feishu:on_vera"}))
WEB = Person("web", "Web", Role.owner, frozenset({"web:w"}))
MCP = Person("mcp", "mcp", Role.owner, frozenset({"feishu:on_bot"}), program=True)


def name(url: str) -> str:
    return url.rpartition("/")[2]


@given(st.builds(Decision, st.integers(1, 2**31), st.text(max_size=80), st.text(max_size=40)))
def test_a_link_says_what_it_was_made_for(decision: Decision) -> None:
    url = LINKS.url(decision)
    assert url.startswith("https://regrow.example.org/console/decide/")
    assert url.isascii()
    assert LINKS.read(name(url)) == decision


@given(st.text(max_size=200))
def test_a_name_that_nobody_made_opens_nothing(text: str) -> None:
    with pytest.raises(NotFound):
        LINKS.read(text)


@given(st.data())
def test_a_changed_link_opens_nothing(data: st.DataObject) -> None:
    good = name(LINKS.url(Decision(7, "sha256:abc", "ann")))
    at = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.sampled_from("ABCabc019-_.").filter(lambda letter: letter != good[at]))
    with pytest.raises(NotFound):
        LINKS.read(good[:at] + other + good[at + 1 :])


def test_a_link_of_another_daemon_opens_nothing() -> None:
    other = DecisionLinks(secrets.token_urlsafe(24), "https://regrow.example.org")
    with pytest.raises(NotFound):
        LINKS.read(name(other.url(Decision(7, "sha256:abc", "ann"))))


class Put:
    """An outbox that remembers."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Address, str]] = {}

    async def put(self, key: str, address: Address, content: Content) -> None:
        self.rows[key] = address, content.text

    async def knows(self, key: str) -> bool:
        return key in self.rows


def job(state: str = "open", channel: str = "feishu") -> types.Job:
    approval = types.Approval(
        digest="sha256:abc",
        summary="one line",
        files=["a"],
        diff="",
        state=state,
        decided_by="Ben",  # type: ignore[arg-type]
    )
    facts: Mapping[str, object] = {"kind": "repair", "status": "waiting", "title": "Repair", "asked_by": "mcp"}
    return types.Job(
        id=7,
        service="claw",
        channel=channel,
        chat="oc_1",
        created_at=1.0,
        approval=approval,
        **facts,  # type: ignore[arg-type]
    )


@pytest.fixture
def outbox() -> Put:
    return Put()


@pytest.fixture
def alone(outbox: Put) -> AskedAlone:
    permissions = Permissions([ANN, BEN, VERA, WEB, MCP], ROLES)
    return AskedAlone(links=LINKS, permissions=permissions, outbox=outbox, channels={"feishu"})  # type: ignore[arg-type]


async def test_each_who_may_answer_is_asked_with_a_link_of_their_own(alone: AskedAlone, outbox: Put) -> None:
    await alone.tell(job(), "")
    chats = {address.chat: text for address, text in outbox.rows.values()}
    assert set(chats) == {"ou_ann", "on_ben"}
    for chat, person in (("ou_ann", "ann"), ("on_ben", "ben")):
        link = next(word for word in chats[chat].split() if word.startswith("https://"))
        assert LINKS.read(name(link)) == Decision(7, "sha256:abc", person)


async def test_who_asked_is_not_asked_where_two_must_look(alone: AskedAlone, outbox: Put) -> None:
    await alone.tell(job(), "ben")
    assert [address.chat for address, _ in outbox.rows.values()] == ["ou_ann"]


async def test_who_was_asked_hears_of_the_answer_and_nobody_else(alone: AskedAlone, outbox: Put) -> None:
    await alone.tell(job("approved"), "")
    assert outbox.rows == {}
    await alone.tell(job(), "")
    await alone.tell(job("approved"), "")
    assert {text for _, text in outbox.rows.values()} == {"✓ Job #7: approved by Ben."}


async def test_where_buttons_work_nobody_is_asked_alone(alone: AskedAlone, outbox: Put) -> None:
    await alone.tell(job(channel="web"), "")
    assert outbox.rows == {}
