"""JSON: order and indentation stay; there are no comments to lose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from regrow.settings.base import Changes, Settings


class JsonSettings(Settings):
    """A JSON file whose outermost value is an object."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = json.loads(text)
        if not isinstance(self._values, dict):
            raise ValueError("it holds no object")

    def names(self) -> frozenset[str]:
        return frozenset(_names(self._values, ""))

    def get(self, name: str) -> str | None:
        found: Any = self._values
        for part in name.split("."):
            inner = _inside(found)
            if part not in inner:
                return None
            found = inner[part]
        if isinstance(found, dict):
            raise KeyError(name)
        return json.dumps(found, ensure_ascii=False)

    def literal(self, value: str) -> str:
        try:
            json.loads(value)
        except ValueError:
            return self.text_literal(value)
        return value

    def text_literal(self, value: str) -> str:
        return json.dumps(value, ensure_ascii=False)

    def changed(self, changes: Changes) -> str:
        values = json.loads(self.text)
        for name, value in changes.items():
            *above, last = name.split(".")
            table: Any = values
            for part in above:
                if isinstance(table, list) and part.isdecimal() and int(part) < len(table):
                    table = table[int(part)]
                elif isinstance(table, dict):
                    if part not in table and value is None:
                        table = {}
                    table = table.setdefault(part, {})
                else:
                    raise ValueError(f"{name} lies below something that is no object")
            if not isinstance(table, dict):
                raise ValueError(f"{name} lies below something that is no object")
            if isinstance(table.get(last), dict):
                raise ValueError(f"{name} is an object, not a setting")
            if value is None:
                table.pop(last, None)
            else:
                table[last] = json.loads(value)
        if values == self._values:
            return self.text
        found = re.search(r"\n([ \t]+)\S", self.text)
        text = json.dumps(values, ensure_ascii=False, indent=found[1] if found else None)
        return text + self.text[len(self.text.rstrip()) :]


def _inside(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {str(number): entry for number, entry in enumerate(value)}
    return value if isinstance(value, dict) else {}


def _names(value: Any, prefix: str) -> Iterator[str]:
    for key, inner in _inside(value).items():
        if isinstance(value, dict) or isinstance(inner, dict):
            yield prefix + key
            yield from _names(inner, f"{prefix}{key}.")
