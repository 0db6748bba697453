"""Lines of NAME=value, as `.env` files have them: nothing is nested, and a line is a setting or a remark."""

from __future__ import annotations

import re

from regrow.settings.base import Changes, Settings

_LINE = re.compile(r"(?P<head>\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*=)(?P<value>.*)")


class EnvSettings(Settings):
    """A file of environment variables. The last of two lines with one name counts, as for those who read such files."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._lines = text.splitlines(keepends=True)
        self._at: dict[str, int] = {}
        for number, line in enumerate(self._lines):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = _LINE.fullmatch(line.rstrip("\r\n"))
            if found is None:
                raise ValueError(f"line {number + 1} is neither NAME=value nor a remark")
            self._at[found["name"]] = number

    def names(self) -> frozenset[str]:
        return frozenset(self._at)

    def get(self, name: str) -> str | None:
        if name not in self._at:
            return None
        found = _LINE.fullmatch(self._lines[self._at[name]].rstrip("\r\n"))
        assert found is not None
        return found["value"]

    def literal(self, value: str) -> str:
        return value

    def text_literal(self, value: str) -> str:
        return value

    def changed(self, changes: Changes) -> str:
        lines: list[str | None] = list(self._lines)
        for name, value in changes.items():
            if value is not None and ("\n" in value or "\r" in value):
                raise ValueError(f"{name} cannot have more than one line")
            at = self._at.get(name)
            if at is None:
                if value is None:
                    continue
                if not _LINE.fullmatch(f"{name}="):
                    raise ValueError(f"{name!r} is no name of a variable")
                if lines and lines[-1] is not None and not lines[-1].endswith("\n"):
                    lines[-1] += "\n"
                lines.append(f"{name}={value}\n")
            elif value is None:
                lines[at] = None
            else:
                old = self._lines[at]
                found = _LINE.fullmatch(old.rstrip("\r\n"))
                assert found is not None
                lines[at] = found["head"] + value + old[len(old.rstrip("\r\n")) :]
        return "".join(line for line in lines if line is not None)
