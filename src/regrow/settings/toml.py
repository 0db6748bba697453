"""TOML: comments, order and spacing stay."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Item, Table

from regrow.settings.base import Changes, Settings


class TomlSettings(Settings):
    """A TOML file."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = tomllib.loads(text)  # its errors name the line

    def names(self) -> frozenset[str]:
        return frozenset(_names(self._values, ""))

    def get(self, name: str) -> str | None:
        *above, last = name.split(".")
        found: Any = tomlkit.parse(self.text)
        for part in above:
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, Mapping) and part in found:
                found = found[part]
            else:
                return None
        if not isinstance(found, Mapping) or last not in found:
            return None
        if isinstance(found[last], Mapping):
            raise KeyError(name)
        return _item(found, last).as_string()

    def literal(self, value: str) -> str:
        try:
            tomlkit.value(value)
        except (TOMLKitError, ValueError):
            return self.text_literal(value)
        return value

    def text_literal(self, value: str) -> str:
        return tomlkit.string(value).as_string()

    def changed(self, changes: Changes) -> str:
        document = tomlkit.parse(self.text)
        for name, value in changes.items():
            *above, last = name.split(".")
            table: MutableMapping[str, Any] = document
            for part in above:
                if part not in table:
                    if value is None:
                        break
                    table[part] = tomlkit.table()
                table = table[part]
                if not isinstance(table, MutableMapping):
                    raise ValueError(f"{name} lies below something that is no table")
            else:
                _put(table, last, value)
        text = tomlkit.dumps(document)
        tomllib.loads(text)
        return text


def _item(table: Any, last: str) -> Item:
    """An entry as it is written; a table's own access would give the plain value of some."""
    inner = table if hasattr(table, "item") else table.value
    found: Item = inner.item(last)
    return found


def _put(table: MutableMapping[str, Any], last: str, value: str | None) -> None:
    if value is None:
        table.pop(last, None)
        return
    new = tomlkit.value(value)
    old = _item(table, last) if last in table else None
    if isinstance(old, Mapping):
        raise ValueError(f"{last} is a table, not a setting")
    if isinstance(old, Item):  # the comment behind it, and the blanks before that, are a person's
        new.trivia.indent, new.trivia.comment_ws = old.trivia.indent, old.trivia.comment_ws
        new.trivia.comment, new.trivia.trail = old.trivia.comment, old.trivia.trail
        table[last] = new
    elif isinstance(table, Table):
        table.add(last, new)
    else:
        table[last] = new


def _names(values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in values.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{key}.")
        elif isinstance(value, list):  # an array of tables, such as one a channel: its entries by number
            for number, entry in enumerate(value):
                if isinstance(entry, dict):
                    yield f"{prefix}{key}.{number}"
                    yield from _names(entry, f"{prefix}{key}.{number}.")
