"""A `regrow.toml` as text that a person wrote: a section is put in, everything else stays as it is, byte for byte."""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regrow.config import Config, parse
from regrow.errors import ConfigError, Refused
from regrow.files import write_like

_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?")
_NOTHING = re.compile(r"\s*(#.*)?")


class ConfigFile:
    """One file, read once.

    Args:
        path: the file; a link is followed, and stays one.

    Raises:
        ConfigError: it cannot be read, is no usable configuration, or may not be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.backup = self.path.with_name(f"{self.path.name}.bak")
        try:
            self.content = self.path.read_bytes()
            self._stat = self.path.stat()
        except FileNotFoundError:
            raise ConfigError(f"cannot read {path}: it does not exist; name the file with --config") from None
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}; let your user read it") from None
        try:
            self.text = self.content.decode()
        except UnicodeDecodeError:
            raise ConfigError(f"cannot read {path}: it is not UTF-8 text; save it as that") from None
        self.config = parse(self.path, self.text)

    def check_writable(self) -> None:
        """Refuse before anything is asked of anyone what would fail at the end.

        Raises:
            ConfigError: the file or its directory is read-only, also where root could write it all the same.
        """
        for path, mode in ((self.path, self._stat.st_mode), (self.path.parent, self.path.parent.stat().st_mode)):
            if not mode & 0o222 or not os.access(path, os.W_OK):
                raise ConfigError(
                    f"cannot write {path}: it is read-only (mode {stat.S_IMODE(mode):o}); make it writable, or name "
                    "another file with --config"
                )

    def with_section(self, name: str, lines: Sequence[str], *, replace: bool = False) -> str:
        """The text with a section at its end, or in the place of the one it has.

        Args:
            name: dotted, e.g. "channels.feishu".
            lines: what stands below the section's header.
            replace: whether there may be one already.

        Raises:
            Refused: kind "exists": it is there already.
            ConfigError: it is written in a way that cannot be replaced safely, or the result would not load.
        """
        section = [f"[{name}]", *lines]
        there = _value(tomllib.loads(self.text), name) is not None
        if there and not replace:
            raise Refused(
                f"cannot add [{name}] to {self.path}: it has this section already; replace it with --replace",
                kind="exists",
            )
        end = "\r\n" if "\r\n" in self.text else "\n"
        old = self.text.split(end)
        if there:
            first, last = _span(old, name)
            new = [*old[:first], *section, *old[last:]]
        else:
            while old and not old[-1].strip():
                old.pop()
            new = [*old, *([""] if old else []), *section, ""]
        text = end.join(new)
        if not self._differs_only_in(name, text, "\n".join(section)):
            raise ConfigError(
                f"cannot change [{name}] in {self.path} by itself: it is not written as a section of its own; "
                "take it out by hand and try again"
            )
        parse(self.path, text)
        return text

    def _differs_only_in(self, name: str, text: str, section: str) -> bool:
        """Whether nothing but this section changed, whatever the text looked like: both are read and compared."""
        try:
            after = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return False
        same = _value(after, name) == _value(tomllib.loads(section), name)
        return same and _without(after, name) == _without(tomllib.loads(self.text), name)

    def difference(self, text: str) -> str:
        """What would change, as a diff."""
        old, new = self.text.splitlines(), text.splitlines()
        return "\n".join(difflib.unified_diff(old, new, self.path.name, self.path.name, lineterm="", n=2))

    def write(self, text: str) -> Config:
        """Replace the file; its old bytes stay beside it.

        Returns:
            What the new text says.

        Raises:
            ConfigError: it does not load, somebody changed the file meanwhile, or it cannot be written. The file is as
                it was.
        """
        config = parse(self.path, text)
        try:
            if self.path.read_bytes() != self.content:
                raise ConfigError(f"cannot write {self.path}: somebody changed it meanwhile; try again")
            write_like(self.backup, self.content, self._stat)
            write_like(self.path, text.encode(), self._stat)
        except OSError as error:
            raise ConfigError(f"cannot write {self.path}: {error.strerror}; it is as it was") from None
        return config


def toml_string(text: str) -> str:
    """`text` as a TOML basic string.

    Raises:
        ConfigError: it has characters that no name has: controls, or halves of characters.
    """
    if not text.isprintable():
        raise ConfigError("cannot write a text with control characters into the configuration; leave them out")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _span(lines: Sequence[str], name: str) -> tuple[int, int]:
    """The lines of a section and of those below it, without the comments that lead to what follows."""
    wanted = name.split(".")
    first = last = -1
    for number, line in enumerate(lines):
        header = _HEADER.fullmatch(line)
        if header:
            parts = [part.strip().strip("\"'") for part in header[1].split(".")]
            inside = parts[: len(wanted)] == wanted
            if inside and first < 0:
                first, last = number, number + 1
            elif not inside and first >= 0:
                break
        if first >= 0 and not _NOTHING.fullmatch(line):
            last = number + 1
    return (first, last) if first >= 0 else (0, 0)


def _value(values: Mapping[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values without one; what it leaves empty does not count."""
    first, _, rest = name.partition(".")
    left = {key: value for key, value in values.items() if key != first}
    inner = values.get(first)
    if rest and isinstance(inner, dict) and (kept := _without(inner, rest)):
        left[first] = kept
    return left
