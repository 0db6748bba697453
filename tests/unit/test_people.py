"""Who is on the list: the settings, those let in by a code, and those whose rights have ended (F37)."""

from __future__ import annotations

import asyncio

import pytest

from regrow.errors import NotFound, Refused
from regrow.intents import ROLES
from regrow.people import People, owners
from regrow.permissions import LOCAL, Permissions, Person, Role
from regrow.store import Store
from regrow.testing.manual_clock import ManualClock

ADA = Person("ada", "Ada", Role.owner, frozenset({"feishu:ou_ada", "feishu:on_ada"}))


class List:
    """People and the permissions they keep up to date, as after a start of the daemon."""

    def __init__(self, store: Store, clock: ManualClock, *configured: Person) -> None:
        self.permissions = Permissions(configured, ROLES)
        self.people = People(store, self.permissions, configured, clock)

    async def code(self, identity: str = "ou_bob", name: str = "Bob") -> str:
        made = await self.people.pair("feishu", identity, name, "oc_1", "zh")
        assert made is not None
        return made

    def role(self, identity: str) -> str:
        person = self.permissions.find("feishu", identity)
        return person.role.name if person else ""


@pytest.fixture
async def listed(store: Store, clock: ManualClock) -> List:
    made = List(store, clock, ADA)
    await made.people.load()
    return made


async def test_a_stranger_is_let_in_by_code_at_once_and_after_a_restart(
    listed: List, store: Store, clock: ManualClock
) -> None:
    code = await listed.code()
    assert listed.role("ou_bob") == ""
    person = await listed.people.admit(code.lower(), "operator", "Ada", name="Robert")
    assert (listed.role("ou_bob"), person.name) == ("operator", "Robert")
    again = List(store, clock, ADA)
    await again.people.load()
    assert again.role("ou_bob") == "operator"
    assert await again.people.waiting() == []


async def test_a_code_is_the_same_until_it_expires_and_then_worth_nothing(listed: List, clock: ManualClock) -> None:
    code = await listed.code()
    assert await listed.code() == code
    assert await listed.code("ou_eve", "Eve") != code
    clock.advance(3601)
    assert await listed.people.waiting() == []
    with pytest.raises(Refused, match="expired"):
        await listed.people.admit(code, "operator", "Ada")
    assert await listed.code() != code
    assert listed.role("ou_bob") == ""


async def test_a_code_is_decided_once_also_by_two_owners_at_once(listed: List) -> None:
    code = await listed.code()
    outcomes = await asyncio.gather(
        listed.people.admit(code, "operator", "Ada"),
        listed.people.dismiss(code, "Olga"),
        return_exceptions=True,
    )
    refused = [one for one in outcomes if isinstance(one, Refused)]
    assert [one.kind for one in refused] == ["code_decided"]


@pytest.mark.parametrize("role", ["", "root", "OWNER", "local"])
async def test_an_unknown_role_lets_nobody_in(listed: List, role: str) -> None:
    code = await listed.code()
    with pytest.raises(Refused, match="cannot give the role"):
        await listed.people.admit(code, role, "Ada")
    assert [one.code for one in await listed.people.waiting()] == [code]


async def test_an_unknown_code_is_said_to_be_one(listed: List) -> None:
    with pytest.raises(NotFound, match="cannot find the code"):
        await listed.people.admit("AAAAAA", "owner", "Ada")


async def test_a_crowd_of_strangers_fills_no_disk(listed: List) -> None:
    made = [await listed.people.pair("feishu", f"ou_{n}", "?", "oc", "zh") for n in range(60)]
    assert made.count(None) == 10
    assert made[0] is not None, "those who came first keep their codes"


async def test_removing_ends_rights_whoever_gave_them(listed: List, store: Store, clock: ManualClock) -> None:
    await listed.people.admit(await listed.code(), "owner", "Ada")
    for person in list(listed.permissions.people):
        await listed.people.remove(person.id, "root")
    assert listed.permissions.people == ()
    again = List(store, clock, ADA)
    await again.people.load()
    assert again.permissions.people == (), "the settings alone must not bring a removed person back"
    with pytest.raises(NotFound, match="nobody on the list"):
        await listed.people.remove("ada", "root")
    with pytest.raises(Refused, match="local user"):
        await listed.people.remove(LOCAL.id, "root")


async def test_who_left_the_tenant_is_known_by_any_of_their_ids(listed: List) -> None:
    assert await listed.people.left("feishu", ["ou_nobody", ""]) is None
    gone = await listed.people.left("feishu", ["ou_other_app", "on_ada"])
    assert gone is not None
    assert gone.id == "ada"
    assert (listed.role("ou_ada"), listed.role("on_ada")) == ("", "")


async def test_who_comes_back_needs_a_new_yes_and_has_the_role_of_that_yes(listed: List) -> None:
    await listed.people.left("feishu", ["ou_ada", "on_ada"])
    code = await listed.code("ou_ada", "Ada")
    assert listed.role("ou_ada") == ""
    await listed.people.admit(code, "viewer", "root")
    assert (listed.role("ou_ada"), listed.role("on_ada")) == ("viewer", "")


async def test_the_settings_win_over_an_admission(store: Store, clock: ManualClock) -> None:
    first = List(store, clock)
    await first.people.load()
    await first.people.admit(await first.code("ou_ada", "A."), "viewer", "root")
    then = List(store, clock, ADA)
    await then.people.load()
    assert [(one.id, one.role) for one in then.permissions.people] == [("ada", Role.owner)]


async def test_owners_are_told_alone_under_an_id_of_theirs(listed: List) -> None:
    await listed.people.admit(await listed.code(), "maintainer", "Ada")
    (address,) = owners(listed.permissions, "feishu")
    assert (address.channel, address.chat, address.message) == ("feishu", "ou_ada", "")
    assert owners(listed.permissions, "web") == []
