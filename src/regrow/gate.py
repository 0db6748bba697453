"""The check of a change from outside: what the agent says about it is not believed.

First the directory is walked with lstat and nothing of it is run or given to git: links, special files, nested
repositories, odd names. Then git stores it as a tree in a private index (see `regrow.git`), and the tree is compared
with the base commit. Files that the base commit ignores are invisible here, so whatever is built, tested or deployed
comes from a fresh export of the tree and never from the directory (evidence of issue 2, agents.md section 5)."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pathspec import GitIgnoreSpec

from regrow import risks
from regrow.git import EXECUTABLE, GITLINK, SYMLINK, Difference, Entry, Repository
from regrow.risks import Risk

# Files that read as empty in the agent's box: they hold secrets by convention.
SECRET_FILES = (".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ed25519*", "id_ecdsa*", ".netrc")

# Whoever changes one of these changes what is built, tested, installed or started, or who may do what.
PROTECTED = (
    *("regrow.toml", ".env*", *SECRET_FILES, ".npmrc", ".pypirc"),
    *("credentials.json", "secrets.json", "secrets.toml", "secrets.yml", "secrets.yaml", "*.tfstate"),
    *(".git", ".gitmodules", ".hg", ".svn", ".claude", ".mcp.json", "CLAUDE.md", "AGENTS.md", ".cursor*", ".vscode"),
    *(".idea", ".github", ".gitlab*", ".gitea", ".forgejo", ".circleci", ".buildkite", ".travis.yml", "Jenkinsfile"),
    *("azure-pipelines.yml", ".woodpecker*", ".drone.yml", ".pre-commit-config.yaml", ".husky", ".envrc"),
    *(".tool-versions", ".devcontainer", "Dockerfile*", "Containerfile*", "docker-compose*", "compose.yaml"),
    *("compose.yml", "*.service", "Procfile", "Makefile", "GNUmakefile", "CMakeLists.txt", "justfile", "Justfile"),
    *("Taskfile.yml", "noxfile.py", "tox.ini", "setup.cfg", "pyproject.toml", "MANIFEST.in", "requirements*.txt"),
    *("constraints*.txt", "Pipfile*", "poetry.lock", "uv.lock", "uv.toml", "pdm.lock", "pip.conf", "pytest.ini"),
    *("package.json", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", ".yarn*", "pnpm-*", ".pnpmfile.cjs"),
    *("bun.lock*", "deno.lock", "binding.gyp", "Cargo.toml", "Cargo.lock", ".cargo", "rust-toolchain*"),
    *("go.mod", "go.sum", "go.work*", "vendor/", "pom.xml", "build.gradle*", "settings.gradle*", "gradle.properties"),
    *("gradlew*", "Gemfile*", "*.gemspec", "composer.json", "composer.lock", "mix.exs", "mix.lock"),
)

# Code that runs when something is built, tested or started, without being called; and what changes how git reads files.
BUILD_TIME = (
    *("conftest.py", "setup.py", "build.rs", "build.py", "*.pth", "*.egg-link", "sitecustomize.py"),
    *("usercustomize.py", ".gitattributes", ".gitignore", "*.config.js", "*.config.cjs", "*.config.mjs"),
    *("*.config.ts", ".babelrc*", ".eslintrc*", ".mocharc*", "*_plugin.py"),
)

# Joiners belong into emoji and some scripts; beside ASCII they make two names that look like one.
_JOINERS = frozenset("\u200c\u200d")
_ASCII_JOINER = re.compile("(?:^|(?<=[\x00-\x7f]))([\u200c\u200d])|([\u200c\u200d])(?=[\x00-\x7f]|$)")

ChangeKind = Literal["added", "modified", "deleted"]
ContentCheck = Callable[[str, str], tuple[str, str] | None]


@dataclass(frozen=True)
class Limits:
    """How large a change may be.

    Attributes:
        files: changed files.
        lines: added and removed lines together.
        file_bytes: size of a changed file.
        total_bytes: size of all changed files together.
        tree_files: entries of the directory, changed or not.
        depth: directories above a file.
    """

    files: int = 40
    lines: int = 2000
    file_bytes: int = 1_000_000
    total_bytes: int = 4_000_000
    tree_files: int = 200_000
    depth: int = 60


@dataclass(frozen=True)
class Change:
    """A changed file: its path, what happened to it, lines added and removed."""

    path: str
    kind: ChangeKind
    added: int
    removed: int


@dataclass(frozen=True)
class Refusal:
    """Why a change is not let through.

    Attributes:
        rule: stable word for catalogues and programs.
        path: the file it is about; empty when it is about the change as a whole.
        text: one line of plain English.
        detail: figure or name that belongs to the text; empty when there is none.
    """

    rule: str
    path: str
    text: str
    detail: str = ""


@dataclass(frozen=True)
class GateReport:
    """What the gate found.

    Attributes:
        tree: id of the stored tree; empty when the directory was refused before git saw it.
        changes: in the order of paths; empty likewise.
        refusals: empty when the change may pass.
        digest: SHA-256 over tree and base commit, what an approval is bound to; empty likewise.
        risks: what only a person may let through.
    """

    tree: str
    changes: tuple[Change, ...]
    refusals: tuple[Refusal, ...]
    digest: str
    risks: tuple[Risk, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing was refused."""
        return not self.refusals


def digest(tree: str, base: str) -> str:
    """What an approval is bound to: SHA-256 over the tree and the commit it is a change of."""
    return hashlib.sha256(f"{tree}\n{base}\n".encode()).hexdigest()


class Gate:
    """Judges changes by rules that the changed tree cannot touch.

    Args:
        allowed: patterns (gitignore syntax) of paths that may change; nothing may when empty.
        denied: patterns of paths that may not, even if allowed; compared without regard to case.
        limits: how large a change may be.
        content_checks: further checks of new text; each gets a path and the lines that the change brings and gives a
            rule with a detail, or None. For secrets, say.
        ask: patterns of paths that may change, allowed and denied or not, when a person says so.
        tests: patterns of the files that prove something; what they name is not held against code.
        scripts: paths, exactly, that are protected where the base commit has them: what the settings build and test by.
    """

    def __init__(
        self,
        allowed: Sequence[str],
        denied: Sequence[str] = PROTECTED,
        limits: Limits = Limits(),
        content_checks: Sequence[ContentCheck] = (),
        *,
        ask: Sequence[str] = (),
        tests: Sequence[str] = (),
        scripts: Sequence[str] = (),
    ) -> None:
        self._allowed = GitIgnoreSpec.from_lines(allowed)
        self._denied = _lowered(denied)
        self._limits = limits
        self._content_checks = tuple(content_checks)
        self._ask = _lowered(ask)
        self._tests = GitIgnoreSpec.from_lines(tests)
        self._build_time = _lowered(BUILD_TIME)
        self._scripts = frozenset(scripts)
        self._sealed: GitIgnoreSpec | None = None
        self._new_only = False

    def only(self, allowed: Sequence[str]) -> Gate:
        """The same gate for new files on other paths: a reproducing test, beside which no other test is touched."""
        other = copy.copy(self)
        other._allowed, other._ask = GitIgnoreSpec.from_lines(allowed), _lowered(())
        other._new_only = True
        return other

    def sealing(self, patterns: Sequence[str]) -> Gate:
        """The same gate, which lets nothing through that changes files of these patterns, whoever is asked: the tests,
        while the fix is made."""
        other = copy.copy(self)
        other._sealed = GitIgnoreSpec.from_lines(patterns)
        return other

    async def check(self, repository: Repository, base_commit: str, workspace_path: Path) -> GateReport:
        """Judge the files of a workspace.

        Args:
            repository: where the base commit is and where the tree is stored.
            base_commit: full id of the commit the workspace was made from.
            workspace_path: its directory; nothing may run in it any more.
        """
        base = await repository.entries(base_commit)
        walked = await asyncio.to_thread(self._walk, workspace_path, base)
        if walked.refusals:
            return GateReport("", (), tuple(walked.refusals), "")
        ignored = await repository.ignored(base_commit, [path for path in walked.sizes if path not in base])
        refusals = [
            Refusal("file_too_large", path, f"{path} is larger than {self._limits.file_bytes} bytes", str(size))
            for path, size in walked.sizes.items()
            if size > self._limits.file_bytes and path not in ignored and size != _size(base.get(path))
        ]
        if refusals:
            return GateReport("", (), tuple(refusals), "")
        tree = await repository.write_tree_from(workspace_path, base_commit)
        differences = await repository.diff(base_commit, tree)
        refusals = self._judge(differences, walked.sizes)
        refusals += self._clashes(differences, base)
        risks = self._paths_at_risk(differences)
        refusals += await self._contents(repository, differences, workspace_path, risks)
        changes = tuple(_change(difference) for difference in differences)
        return GateReport(tree, changes, tuple(refusals), digest(tree, base_commit), tuple(risks))

    def _walk(self, root: Path, base: Mapping[str, Entry]) -> _Walked:
        walked = _Walked({}, [])
        refuse = walked.refusals.append
        known = {prefix for path in base for prefix in _prefixes(path)}
        gitlinks = {path for path, entry in base.items() if entry.mode == GITLINK}
        waiting = [("", 0)]
        seen = 0
        while waiting:
            prefix, depth = waiting.pop()
            try:
                entries = sorted(os.scandir(root / prefix), key=lambda entry: entry.name)
            except OSError as error:
                refuse(Refusal("unreadable", _shown(prefix), f"{_shown(prefix)} cannot be read", error.strerror or ""))
                continue
            for entry in entries:
                seen += 1
                if seen > self._limits.tree_files:
                    refuse(
                        Refusal("too_many_files", "", f"there are more than {self._limits.tree_files} files", str(seen))
                    )
                    return walked
                path = prefix + entry.name
                shown = _shown(path)
                mode = entry.stat(follow_symlinks=False).st_mode
                if _odd(entry.name) and path not in known:
                    refuse(Refusal("name", shown, f"{shown} has a name with odd characters"))
                elif _is_git(entry.name):
                    refuse(Refusal("nested_repository", shown, f"{shown} is a repository inside the tree"))
                elif path in gitlinks and (not stat.S_ISDIR(mode) or any(os.scandir(entry.path))):
                    refuse(Refusal("submodule", shown, f"{shown} is a submodule and was changed"))
                elif stat.S_ISLNK(mode):
                    if not _same_link(Path(entry.path), base.get(path)):
                        refuse(Refusal("symlink", shown, f"{shown} is a symbolic link"))
                    else:
                        walked.sizes[path] = _size(base.get(path))
                elif stat.S_ISDIR(mode):
                    if depth >= self._limits.depth:
                        refuse(Refusal("too_deep", shown[:80], "directories are nested too deep", str(depth)))
                    else:
                        waiting.append((path + "/", depth + 1))
                elif not stat.S_ISREG(mode):
                    refuse(Refusal("special_file", shown, f"{shown} is not a regular file"))
                elif mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
                    refuse(Refusal("special_mode", shown, f"{shown} has special permission bits", f"{mode & 0o7777:o}"))
                else:
                    walked.sizes[path] = entry.stat(follow_symlinks=False).st_size
        return walked

    def _judge(self, differences: Sequence[Difference], sizes: Mapping[str, int]) -> list[Refusal]:
        found: list[Refusal] = []
        if not differences:
            found.append(Refusal("no_change", "", "nothing was changed"))
        if len(differences) > self._limits.files:
            text = f"{len(differences)} files were changed, more than {self._limits.files}"
            found.append(Refusal("too_many_changes", "", text, str(len(differences))))
        lines = sum(difference.added + difference.removed for difference in differences)
        if lines > self._limits.lines:
            text = f"{lines} lines were changed, more than {self._limits.lines}"
            found.append(Refusal("too_many_lines", "", text, str(lines)))
        for difference in differences:
            path = difference.path
            if self._sealed is not None and self._sealed.match_file(path):
                found.append(Refusal("sealed", path, f"{path} is a test, and tests are fixed while the fix is made"))
            elif self._ask.match_file(path.lower()):
                pass
            elif not self._allowed.match_file(path):
                found.append(Refusal("outside", path, f"{path} is outside of the paths that may be changed"))
            elif self._denied.match_file(path.lower()) or (path in self._scripts and difference.status != "A"):
                found.append(Refusal("denied", path, f"{path} is protected"))
            if self._new_only and difference.status != "A":
                found.append(Refusal("not_new", path, f"{path} was there before; only new files may be added"))
            if difference.new_mode == EXECUTABLE and difference.old_mode != EXECUTABLE:
                found.append(Refusal("executable", path, f"{path} was made executable"))
            if difference.new_mode in (SYMLINK, GITLINK) or difference.old_mode == GITLINK:
                found.append(Refusal("kind", path, f"{path} is not a plain file"))
            if difference.status != "D" and sizes.get(path, 0) > self._limits.file_bytes:
                text = f"{path} is larger than {self._limits.file_bytes} bytes"
                found.append(Refusal("file_too_large", path, text, str(sizes[path])))
            if difference.binary and difference.status != "D":
                found.append(Refusal("binary", path, f"{path} is binary"))
        return found

    def _clashes(self, differences: Sequence[Difference], base: Mapping[str, Entry]) -> list[Refusal]:
        """New names that are the same as others on a file system that ignores case."""
        if not any(difference.status == "A" for difference in differences):
            return []
        gone = {difference.path for difference in differences if difference.status == "D"}
        added = [difference.path for difference in differences if difference.status == "A"]
        spellings: dict[str, set[str]] = {}
        for path in (*(path for path in base if path not in gone), *added):
            for prefix in _prefixes(path):
                spellings.setdefault(_folded(prefix), set()).add(prefix)
        found = []
        for path in added:
            for prefix in _prefixes(path):
                others = spellings[_folded(prefix)] - {prefix}
                if others:
                    other = min(others)
                    found.append(Refusal("case_clash", path, f"{path} differs from {other} by case only", other))
                    break
        return found

    def _paths_at_risk(self, differences: Sequence[Difference]) -> list[Risk]:
        found = []
        for difference in differences:
            path = difference.path
            if self._build_time.match_file(path.lower()):
                found.append(Risk("build_time", path))
            elif self._ask.match_file(path.lower()):
                found.append(Risk("asked", path))
            elif difference.status != "A" and self._tests.match_file(path):
                found.append(Risk("tests_changed", path))
            if difference.status == "A" and (shadowed := risks.shadows(path)):
                found.append(Risk("shadows", path, shadowed))
        return found

    async def _contents(
        self, repository: Repository, differences: Sequence[Difference], root: Path, at_risk: list[Risk]
    ) -> list[Refusal]:
        found: list[Refusal] = []
        total = 0
        for difference in differences:
            if difference.status == "D" or difference.binary or difference.new_mode in (SYMLINK, GITLINK):
                continue
            path = difference.path
            raw = await asyncio.to_thread(_read, root / path)
            total += len(raw)
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                found.append(Refusal("binary", path, f"{path} is not UTF-8 text"))
                continue
            before = "" if difference.status == "A" else await repository.blob(difference.old_id)
            strange = _strange(text)
            if strange and before:
                strange = [character for character in strange if text.count(character) > before.count(character)]
            if strange:
                names = ", ".join(f"U+{ord(character):04X}" for character in strange[:5])
                found.append(
                    Refusal("invisible", path, f"{path} has invisible or direction-changing characters", names)
                )
            fresh = risks.new_lines(before, text)
            for check in self._content_checks:
                # What was there before is no one's doing; a name is read like a line.
                verdict = await asyncio.to_thread(check, path, f"{fresh}\n{path}\n")
                if verdict is not None:
                    found.append(Refusal(verdict[0], path, f"{path} is refused: {verdict[1]}", verdict[1]))
            if self._tests.match_file(path):
                if by := risks.chance(before, text):
                    at_risk.append(Risk("test_by_chance", path, by))
            else:
                at_risk += [Risk(rule, path, detail) for rule, detail in risks.signs(before, text)]
        if total > self._limits.total_bytes:
            text = f"the changed files have {total} bytes, more than {self._limits.total_bytes}"
            found.append(Refusal("too_many_bytes", "", text, str(total)))
        return found


@dataclass(frozen=True)
class _Walked:
    """Sizes of the files by path, and what was refused on the way."""

    sizes: dict[str, int]
    refusals: list[Refusal]


def _lowered(patterns: Sequence[str]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(pattern.lower() for pattern in patterns)


def _size(entry: Entry | None) -> int:
    return -1 if entry is None else entry.size


def _change(difference: Difference) -> Change:
    kinds: dict[str, ChangeKind] = {"A": "added", "D": "deleted"}
    return Change(difference.path, kinds.get(difference.status, "modified"), difference.added, difference.removed)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _shown(path: str) -> str:
    """A path that can be printed."""
    return "".join(character if character.isprintable() else "?" for character in path)


def _odd(name: str) -> bool:
    """Whether a name holds bytes that are no text, control or invisible characters, or a backslash."""
    return any(
        character == "\\" or "\udc80" <= character <= "\udcff" or unicodedata.category(character) in ("Cc", "Cf")
        for character in name
    )


def _is_git(name: str) -> bool:
    """Whether some file system takes `name` for ".git" (Windows strips dots, spaces and streams, and has git~1)."""
    plain = unicodedata.normalize("NFKC", name).casefold().partition(":")[0].rstrip(". ")
    return plain == ".git" or (plain.startswith("git~") and plain[4:].isdecimal())


def _same_link(path: Path, entry: Entry | None) -> bool:
    """Whether a link is the one that the base commit has: links that were there are no one's doing."""
    if entry is None or entry.mode != SYMLINK:
        return False
    target = os.fsencode(path.readlink())
    algorithm = hashlib.sha256 if len(entry.id) == 64 else hashlib.sha1
    return algorithm(b"blob %d\0" % len(target) + target).hexdigest() == entry.id


def _prefixes(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[: n + 1]) for n in range(len(parts)))


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _strange(text: str) -> list[str]:
    """The characters of `text` that a reader does not see, or that change what a reader sees."""
    strange = {character for character in set(text) if _is_strange(character)} - set("\t\n\r\f")
    if not _JOINERS.isdisjoint(text):
        strange.update(match[1] or match[2] for match in _ASCII_JOINER.finditer(text))
    return sorted(strange)


def _is_strange(character: str) -> bool:
    point = ord(character)
    if point < 0x20 or 0x7F <= point <= 0x9F:
        return True
    if point < 0xAD:
        return False
    return (
        # Direction marks, tags, soft hyphens: category Cf.
        (unicodedata.category(character) == "Cf" and character not in _JOINERS)
        or point in (0x2028, 0x2029, 0x115F, 0x1160, 0x3164, 0xFFA0, 0x034F, 0x17B4, 0x17B5)
        or 0xFE00 <= point <= 0xFE0D
        or 0xE0100 <= point <= 0xE01EF
    )
