"""The table that the settings make: a place asks for more and never for less (F37)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow import rights
from regrow.config import PermissionsSection, PlaceSection, parse
from regrow.errors import ConfigError, Refused
from regrow.intents import ROLES, TABLE
from regrow.permissions import READS, Permissions, Person, Place, Role
from regrow.testing.parts import PEOPLE

ALL = {**ROLES, **READS}
ROOMS = ["feishu:oc_1", "feishu:oc_2", "feishu:*", "feishu", "web", "web:main"]
SERVICE = '[service]\nname = "tiny"\ncommand = ["x"]\n'

roles = st.one_of(st.none(), st.sampled_from(Role))
place = st.builds(
    Place,
    most=st.sampled_from(Role),
    roles=st.dictionaries(st.sampled_from(sorted(ALL)), roles, max_size=6),
    confirm=st.frozensets(st.sampled_from(sorted(ALL)), max_size=3),
)


@given(
    st.dictionaries(st.sampled_from(sorted(ALL)), roles, max_size=6),
    st.dictionaries(st.sampled_from(ROOMS), place, max_size=6),
    st.sampled_from(PEOPLE),
    st.sampled_from(sorted(ALL)),
    st.sampled_from(["feishu", "web", "terminal", "api"]),
    st.sampled_from(["oc_1", "oc_2", "oc_2/t1", "main", ""]),
)
def test_a_rule_never_widens(
    table: dict[str, Role | None], places: dict[str, Place], person: Person, intent: str, channel: str, chat: str
) -> None:
    """Whatever the settings say of a place: who may there, may anywhere by the table, and has the role for it."""
    known = Permissions(PEOPLE, {**ALL, **table}, places)
    if known.allowed(person, intent, channel, chat):
        assert known.allowed(person, intent)
        needed = known.required(intent)
        assert needed is not None
        assert person.role >= needed
    assert not known.allowed(None, intent, channel, chat), "a stranger may do nothing anywhere"
    forged = Person(person.id, person.name, Role.owner)
    assert known.allowed(forged, intent, channel, chat) == known.allowed(person, intent, channel, chat)


@given(st.dictionaries(st.sampled_from(ROOMS), place, max_size=6), st.sampled_from(sorted(ALL)), place)
def test_one_more_rule_only_takes_away(places: dict[str, Place], intent: str, more: Place) -> None:
    before = Permissions(PEOPLE, ALL, {name: one for name, one in places.items() if name != "feishu"})
    after = Permissions(PEOPLE, ALL, {**places, "feishu": more})
    for person in PEOPLE:
        assert after.allowed(person, intent, "feishu", "oc_1") <= before.allowed(person, intent, "feishu", "oc_1")


def made(settings: str) -> Permissions:
    section = PermissionsSection.model_validate(tomllib.loads(settings))
    return rights.permissions(section, PEOPLE)


def may(known: Permissions, where: str) -> dict[str, set[str]]:
    channel, _, chat = where.partition(":")
    return {
        person.id: {intent for intent in known.intents if known.allowed(person, intent, channel, chat)}
        for person in PEOPLE
    }


def test_without_settings_it_is_the_table() -> None:
    known = made("")
    for person in PEOPLE:
        for intent, role in ALL.items():
            assert known.allowed(person, intent, "feishu", "oc_1") is (person.role >= role)
    assert {intent for intent in ALL if known.confirmed(intent)} == {"undo", "configure"}


def test_a_chat_for_reading_alone() -> None:
    known = made('[chats."feishu:oc_1"]\nread_only = true')
    effects = {row.intent.value for row in TABLE.values() if row.effect}
    assert not may(known, "feishu:oc_1")["owner"] & effects
    assert may(known, "feishu:oc_1")["owner"] == may(known, "feishu:oc_2")["owner"] - effects
    assert may(known, "feishu:oc_1/thread") == may(known, "feishu:oc_1"), "a thread is its room"


def test_a_chat_in_which_nobody_is_more_than_an_operator() -> None:
    known = made('[chats."feishu:oc_1"]\nmost = "operator"')
    here = may(known, "feishu:oc_1")
    assert here["owner"] == here["operator"] == may(known, "feishu:oc_2")["operator"]
    with pytest.raises(Refused) as refused:
        known.check(PEOPLE[0], "deploy", "feishu", "oc_1")
    assert (refused.value.kind, refused.value.values["where"]) == ("forbidden_here", "feishu:oc_1")


def test_only_one_chat_may_deploy() -> None:
    known = made('[chats."feishu:*"]\nmost = "viewer"\n[chats."feishu:oc_ops"]')
    assert "deploy" in may(known, "feishu:oc_ops")["maintainer"]
    assert may(known, "feishu:oc_other")["maintainer"] == may(known, "web:main")["viewer"]


def test_what_the_channel_takes_no_chat_gives_back() -> None:
    known = made('[channels.web]\nroles = {deploy = "nobody"}\n[chats."web:main"]\nroles = {deploy = "maintainer"}')
    assert not known.allowed(PEOPLE[0], "deploy", "web", "main")


def test_roles_and_confirmations_of_the_table() -> None:
    table = 'roles = {restart = "maintainer", build = "nobody"}\nconfirm = ["deploy"]\n'
    known = made(table + '[channels.web]\nconfirm = ["restart"]')
    assert known.required("restart") is Role.maintainer
    assert known.required("build") is None
    assert (known.confirmed("undo"), known.confirmed("deploy"), known.confirmed("restart")) == (False, True, False)
    assert known.confirmed("restart", "web", "main")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            '[permissions]\nroles = {restrat = "owner"}',
            '"permissions.roles.restrat": no intent is called "restrat"; did you mean "restart"?',
        ),
        ("[permissions.channels.feishuu]", 'no channel is called "feishuu"; did you mean "feishu"?'),
        ('[permissions.chats."wbe:main"]', 'no channel is called "wbe"; did you mean "web"?'),
        ('[permissions.chats."feishu:0c_1"]', 'a chat of feishu looks like "feishu:oc_..."'),
        ('[permissions.chats."feishu"]', 'a chat looks like "feishu:NAME"'),
        ('[permissions]\nconfirm = ["status"]', 'no intent that changes anything is called "status"'),
        ('[permissions]\nroles = {admit = "operator"}', "stays with owners"),
        ('[permissions.channels.web]\nroles = {deploy = "viewer"}', "a place asks for more or not at all"),
        ('[permissions.channels.web]\nmsot = "viewer"', 'did you mean "most"?'),
        ('[permissions]\nask_when_busy = ["build"]', 'no intent that changes the service is called "build"'),
        ("[permissions]\nper_minutes = 3", 'did you mean "per_minute"?'),
        ('[quiet]\nhours = ["23-7"]', 'hours look like "23:00-07:00"'),
        ('[quiet]\nhours = ["23:00-07:00"]\nzone = "Asia/Peking"', "is not known here"),
    ],
)
def test_a_mistake_is_found_when_it_is_read(settings: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(Path("regrow.toml"), SERVICE + settings)
    assert said in str(error.value)
    assert str(error.value).startswith("cannot use regrow.toml:"), "with the line"


def test_two_sections_would_be_two_tables() -> None:
    config = parse(Path("regrow.toml"), SERVICE + "[permissions]\nper_minute = 3")
    assert rights.section([config]).per_minute == 3
    with pytest.raises(ConfigError):
        rights.section([config, config])


def test_the_printed_table_is_what_check_does() -> None:
    settings = PermissionsSection(chats={"feishu:oc_1": PlaceSection(most="operator", confirm=("restart",))})
    known = rights.permissions(settings, PEOPLE)
    for person in PEOPLE:
        for channel, chat in (("feishu", "oc_1"), ("feishu", "oc_2"), ("", "")):
            shown = rights.table(known, settings, person, channel, chat)
            assert [one.intent for one in shown.rights] == list(ALL)
            assert {one.intent: one.allowed for one in shown.rights} == {
                intent: known.allowed(person, intent, channel, chat) for intent in ALL
            }
    here = {one.intent: one for one in rights.table(known, settings, None, "feishu", "oc_1").rights}
    assert (here["deploy"].role, here["restart"].role, here["restart"].confirm) == ("nobody", "operator", True)
    assert {one.intent for one in here.values() if one.held} == {"restart", "deploy", "repair", "configure"}
    assert not {"rollback", "approve", "cancel"} & {one.intent for one in here.values() if one.limited}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_chat_is_told_what_holds_there(language: str) -> None:
    known = made('[chats."feishu:oc_1"]\nread_only = true')
    lines = rights.text(known, "zh" if language == "zh" else "en", "feishu", "oc_1").splitlines()
    assert len(lines) == 1 + len({known.required(intent, "feishu", "oc_1") for intent in TABLE})


def test_the_page_shows_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "permissions.md").read_text("utf-8")
    settings = PermissionsSection()
    shown = {
        f"| `{one.intent}` | {one.role} | {'yes' if one.confirm else ''} | {'yes' if one.ask_when_busy else ''} "
        f"| {'yes' if one.held else ''} | {'yes' if one.limited else ''} |"
        for one in rights.table(rights.permissions(settings, ()), settings).rights
    }
    assert {line for line in page.splitlines() if line.startswith("| `")} == shown
