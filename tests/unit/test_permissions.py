"""Who may ask for what (F37)."""

from __future__ import annotations

import os

import pytest

from regrow.errors import ConfigError, Refused
from regrow.intents import ROLES, TABLE
from regrow.permissions import DECISIONS, LOCAL, Permissions, Person, Role, local_person

VERA = Person("vera", "Vera", Role.viewer, frozenset({"feishu:ou_1"}))
OTTO = Person("otto", "Otto", Role.operator, frozenset({"feishu:ou_2"}))
MAX = Person("max", "Max", Role.maintainer, frozenset({"feishu:ou_3", "web:max"}))
OLGA = Person("olga", "Olga", Role.owner)
EVERYONE = [VERA, OTTO, MAX, OLGA]


@pytest.mark.parametrize("intent", list(TABLE))
@pytest.mark.parametrize("person", EVERYONE)
def test_every_intent_needs_its_role(person: Person, intent: str) -> None:
    permissions = Permissions(EVERYONE, ROLES)
    if person.role >= ROLES[intent]:
        permissions.check(person, intent)
        assert permissions.allowed(person, intent)
    else:
        with pytest.raises(Refused) as refused:
            permissions.check(person, intent)
        assert refused.value.kind == "forbidden"
        assert str(refused.value).startswith("cannot ")
        assert not permissions.allowed(person, intent)


@pytest.mark.parametrize("intent", list(TABLE))
def test_an_empty_list_is_nobody(intent: str) -> None:
    permissions = Permissions([], ROLES)
    for person in (*EVERYONE, None):
        with pytest.raises(Refused):
            permissions.check(person, intent)
    permissions.check(LOCAL, intent)


def test_an_intent_without_a_row_is_refused_even_to_owners() -> None:
    for person in (OLGA, LOCAL):
        with pytest.raises(Refused):
            Permissions(EVERYONE, ROLES).check(person, "none")


def test_only_the_id_of_a_person_is_believed() -> None:
    forged = Person("vera", "Vera", Role.owner)
    with pytest.raises(Refused):
        Permissions(EVERYONE, ROLES).check(forged, "deploy")
    removed = Permissions([VERA], ROLES)
    with pytest.raises(Refused):
        removed.check(OLGA, "status")


def test_people_are_found_by_identity() -> None:
    permissions = Permissions(EVERYONE, ROLES)
    assert permissions.find("web", "max") == MAX
    assert permissions.find("web", "ou_3") is None
    assert permissions.by_role("deploy") == (MAX, OLGA)


@pytest.mark.parametrize(
    "other",
    [
        Person("vera", "V", Role.owner),
        Person("x", "X", Role.owner, frozenset({"feishu:ou_1"})),
        Person("local", "L", Role.owner),
    ],
)
def test_one_identity_is_one_person(other: Person) -> None:
    with pytest.raises(ConfigError):
        Permissions([VERA, other], ROLES)


def test_the_local_user_is_owner_and_no_other_user_is() -> None:
    assert local_person(os.geteuid()) is LOCAL
    assert local_person(0) is LOCAL
    assert local_person(os.geteuid() + 4321) is None


def test_the_table_says_what_check_does() -> None:
    permissions = Permissions(EVERYONE, ROLES)
    by_role = {person.role.name: person for person in EVERYONE}
    rows = permissions.table()
    assert [row[0] for row in rows] == list(ROLES)
    for intent, _, cells in rows:
        assert cells == {role: permissions.allowed(person, intent) for role, person in by_role.items()}


@pytest.mark.parametrize("role", list(Role))
def test_a_program_decides_nothing_that_people_are_asked(role: Role) -> None:
    program = Person("mcp", "mcp", role, program=True)
    permissions = Permissions([*EVERYONE, program], ROLES)
    for intent, needed in ROLES.items():
        assert permissions.allowed(program, intent) == (intent not in DECISIONS and role >= needed)
        if intent in DECISIONS:
            assert program not in permissions.by_role(intent)
            with pytest.raises(Refused) as refused:
                # Whatever it says of itself, what the list says counts.
                permissions.check(Person("mcp", "mcp", Role.owner), intent)
            assert refused.value.kind == "forbidden"
