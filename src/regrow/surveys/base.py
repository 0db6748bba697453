"""What a survey reads and what it writes down: files of one commit, and settings with the evidence for each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

Value = str | bool | tuple[str, ...]

PYTHON, NODE, GO, RUST = "python", "node", "go", "rust"


@dataclass(frozen=True)
class Tree:
    """The files of a commit, as far as a survey looks at them. Nothing here runs or follows anything.

    Attributes:
        sizes: every regular file by its path, with its size in bytes.
        texts: those that were read, by their path.
    """

    sizes: Mapping[str, int]
    texts: Mapping[str, str] = field(default_factory=dict)

    def named(self, *names: str) -> list[str]:
        """Files that were read and have one of these names, the least deep first."""
        found = [path for path in self.texts if PurePosixPath(path).name in names]
        return sorted(found, key=lambda path: (path.count("/"), path))

    def sources(self, *suffixes: str) -> Iterator[tuple[str, str]]:
        """Files that were read and end like this, tests and examples left out, the least deep first."""
        for path in sorted(self.texts, key=lambda path: (path.count("/"), path)):
            if path.endswith(suffixes) and not is_aside(path):
                yield path, self.texts[path]

    def find(self, pattern: re.Pattern[str], *suffixes: str) -> list[tuple[str, re.Match[str]]]:
        """Where sources match, as ("app.py:12", match); lines that are comments do not count."""
        found = []
        for path, text in self.sources(*suffixes):
            for match in pattern.finditer(text):
                line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()].lstrip()
                if not line.startswith(("#", "//", "*", "/*")):
                    found.append((f"{path}:{text.count(chr(10), 0, match.start()) + 1}", match))
        return found


# Of tests, samples and what belongs to others: they say nothing of how the service itself is run.
_ASIDE = re.compile(
    r"(^|/)(tests?|spec|__tests__|examples?|samples?|demos?|docs?|vendor|node_modules|testdata|benches|fixtures)/"
    r"|(^|/)(tests?\.py|test_[^/]*|[^/]*_test\.\w+|[^/]*\.(test|spec)\.\w+|conftest\.py)$"
)


def is_aside(path: str) -> bool:
    """Whether a path is of tests, samples, documents or what belongs to others."""
    return bool(_ASIDE.search(path))


@dataclass(frozen=True)
class Reason:
    """Why a setting is proposed, or what has to be asked: a text of the catalogue `init` and its fields."""

    key: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """One line of the proposal.

    Attributes:
        name: dotted, e.g. "service.command" or "probe.health.target".
        value: as it would be written.
        reason: with the evidence; of a question, what is asked.
        asked: nothing shows it: it is written as a comment, and a person answers.
    """

    name: str
    value: Value
    reason: Reason
    asked: bool = False


@dataclass(frozen=True)
class Machine:
    """What the machine has that a box would not see by itself.

    Attributes:
        toolchains: the folder that has `bin/PROGRAM` below it, by the program ("go", "cargo"), where that is not in
            /usr/bin or /usr/local/bin.
    """

    toolchains: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Survey:
    """What was found.

    Attributes:
        language: one of the four, or "" when no file shows it.
        shown_by: the file that shows it.
        settings: proposed lines, and questions, in the order in which they were found.
        facts: what templates may ask for, by name: "name", "port", "main", "binary", "module" ...
    """

    language: str = ""
    shown_by: str = ""
    settings: list[Setting] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: Value, key: str, /, **fields: str) -> None:
        """Propose a setting, unless it is proposed already: the first evidence is the strongest."""
        if not self.has(name):
            self.settings = [one for one in self.settings if one.name != name]
            self.settings.append(Setting(name, value, Reason(key, fields)))

    def ask(self, name: str, value: Value, key: str, /, **fields: str) -> None:
        """Leave a setting to a person, with an example of what could stand there."""
        if all(one.name != name for one in self.settings):
            self.settings.append(Setting(name, value, Reason(key, fields), asked=True))

    def instead(self, name: str, value: Value, key: str, /, **fields: str) -> None:
        """Ask whether a setting that is proposed should rather be another."""
        self.settings.append(Setting(name, value, Reason(key, fields), asked=True))

    def has(self, name: str) -> bool:
        """Whether the setting is proposed."""
        return any(one.name == name and not one.asked for one in self.settings)


def plain_name(text: str) -> str:
    """`text` as the name of a service: lower-case letters, digits and dashes, at most 31; "" when nothing is left."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return re.sub(r"^[^a-z]+", "", name)[:31].strip("-")
