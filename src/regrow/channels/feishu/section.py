"""The section `[channels.feishu]` as it is written into a file."""

from __future__ import annotations

import re

from regrow.config import FeishuSection, PersonSection
from regrow.config_file import toml_string

_ID = re.compile(r"[a-z][a-z0-9-]{0,30}")


def lines(section: FeishuSection) -> list[str]:
    """What stands below the header; what has its default is left out."""
    written = [f"app_id = {toml_string(section.app_id)}", f"app_secret = {toml_string(section.app_secret)}"]
    written.append(f"domain = {toml_string(section.domain)}")
    written += [
        f"{key} = {toml_string(getattr(section, key))}" for key in ("base_url", "proxy") if getattr(section, key)
    ]
    return [*written, "people = [", *(f"    {_row(person)}," for person in section.people), "]"]


def _row(person: PersonSection) -> str:
    values = {key: getattr(person, key) for key in PersonSection.model_fields}
    return "{ " + ", ".join(f"{key} = {toml_string(value)}" for key, value in values.items() if value) + " }"


def people(old: FeishuSection | None, app_id: str, owner: PersonSection) -> tuple[PersonSection, ...]:
    """Who may ask for things from now on: the owner, and everyone the old section had.

    An open_id is one app's own, so with another app only those stay who are known by their union_id.

    Args:
        old: the section that is replaced.
        app_id: the app of the new one.
        owner: the person who sets it up; takes the place of whoever had the same identity.
    """
    kept = []
    for person in old.people if old else ():
        if old is not None and old.app_id != app_id:
            if not person.union_id:
                continue
            person = person.model_copy(update={"open_id": ""})  # noqa: PLW2901
        if not _same(person, owner):
            kept.append(person)
    taken = {person.id for person in kept}
    free = next(name for number in range(1, 1000) if (name := _numbered(owner.id, number)) not in taken)
    return (owner.model_copy(update={"id": free}), *kept)


def name_to_id(name: str) -> str:
    """A person's id out of their name: "Ada Lovelace" is "ada-lovelace", a name in other letters is "owner"."""
    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:31]
    return found if _ID.fullmatch(found) else "owner"


def _same(one: PersonSection, other: PersonSection) -> bool:
    return any(getattr(one, key) and getattr(one, key) == getattr(other, key) for key in ("open_id", "union_id"))


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name[:27]}-{number}"
