"""A template: read, filled in, and nothing of it written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from regrow.catalogue import Language
from regrow.errors import Refused

_FIELD = re.compile(r"@([a-z][a-z_]*)@")
_VALUE = r"[\w./:-]+"


@dataclass(frozen=True)
class Field:
    """What differs from one service to the next.

    Attributes:
        source: the name of the fact that fills it in, or "".
        default: what it is otherwise; None: it must be said.
        pattern: what a value must match from its beginning to its end.
    """

    source: str = ""
    default: str | None = None
    pattern: str = _VALUE


@dataclass(frozen=True)
class Filled:
    """A template with its fields filled in.

    Attributes:
        files: texts by path, relative to the folder that is set up.
        values: of the fields, by name.
        defaults: fields whose value is the template's own: nobody said it and nothing shows it.
    """

    files: Mapping[str, str]
    values: Mapping[str, str]
    defaults: tuple[str, ...]


@cache
def names() -> tuple[str, ...]:
    """The templates there are, in the order of the alphabet."""
    folder = resources.files("regrow.templates")
    return tuple(sorted(one.name for one in folder.iterdir() if one.is_dir() and (one / "template.toml").is_file()))


def fill(name: str, facts: Mapping[str, str], said: Mapping[str, str], language: Language) -> Filled:
    """Fill a template in.

    Args:
        name: of the template.
        facts: what a survey knows, by name.
        said: what a person has said, by the name of the field; it wins.
        language: of the comments in the files, where the template has them in it.

    Raises:
        Refused: kinds "no_template", "no_field" (a field that is not there, or that nobody has filled in), "bad_field".
    """
    if name not in names():
        raise Refused(
            f"cannot find the template {name!r}: there are {', '.join(names())}; "
            "without --template the repository is looked at",
            kind="no_template",
        )
    folder = resources.files("regrow.templates") / name
    manifest = tomllib.loads((folder / "template.toml").read_text("utf-8"))
    fields = {key: Field(row.get("from", ""), row.get("default"), row.get("pattern", _VALUE))
              for key, row in manifest.get("fields", {}).items()}  # fmt: skip
    if unknown := sorted(said.keys() - fields.keys()):
        raise Refused(
            f"cannot set {unknown[0]}: the template {name} has {', '.join(fields) or 'no fields'}", kind="no_field"
        )
    values, defaults = _values(name, fields, facts, said)
    files = {}
    for row in manifest["files"]:
        text = _variant(folder, str(row["from"]), language).read_text("utf-8")
        files[_put(str(row["to"]), values)] = _put(text, values)
    return Filled(files, values, defaults)


def _values(
    name: str, fields: Mapping[str, Field], facts: Mapping[str, str], said: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    values, defaults = dict[str, str](), list[str]()
    for key, one in fields.items():
        value = said.get(key, facts.get(one.source) if one.source else None)
        if value is None and one.default is not None:
            value = _put(one.default, values)
            if value:  # an empty one only leaves its lines out
                defaults.append(key)
        if value is None:
            raise Refused(
                f"cannot fill in {key} of the template {name}: nothing here shows it; say it with --set {key}=VALUE",
                kind="no_field",
            )
        if not re.fullmatch(one.pattern, value):
            raise Refused(
                f"cannot use {value[:80]!r} as {key} of the template {name}: it must match {one.pattern}; "
                f"say another with --set {key}=VALUE",
                kind="bad_field",
            )
        values[key] = value
    return values, tuple(defaults)


def _variant(folder: Traversable, name: str, language: Language) -> Traversable:
    """The file in a language, where there is one: regrow.zh.toml beside regrow.toml."""
    stem, dot, suffix = name.rpartition(".")
    other = folder / f"{stem}.{language}{dot}{suffix}" if dot else folder / f"{name}.{language}"
    return other if other.is_file() else folder / name


def _put(text: str, values: Mapping[str, str]) -> str:
    """The text with the fields in it; a line with an empty one is left out."""
    lines = [
        _FIELD.sub(lambda match: values.get(match[1], match[0]), line)
        for line in text.splitlines(keepends=True)
        if not any(values.get(name) == "" for name in _FIELD.findall(line))
    ]
    return "".join(lines)
