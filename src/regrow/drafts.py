"""What `regrow init` would write: files below one folder, checked before anybody is asked, each written whole."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regrow import config
from regrow.catalogue import Language
from regrow.errors import Refused
from regrow.files import write_atomic
from regrow.git import Repository
from regrow.installation import Change
from regrow.surveys import reading, rendering
from regrow.surveys.base import Machine, Setting, Survey
from regrow.surveys.looking import survey
from regrow.templates.base import fill

SETTINGS = "regrow.toml"


@dataclass(frozen=True)
class Draft:
    """Files that would be written.

    Attributes:
        root: the folder that is set up.
        changes: what is not there as it should be; its path is absolute, its text complete.
        survey: what was found in the repository.
        template: its name, or "" where the survey made the file.
        values: of the template's fields.
        defaults: fields whose value is the template's own.
    """

    root: Path
    changes: tuple[Change, ...]
    survey: Survey
    template: str = ""
    values: Mapping[str, str] | None = None
    defaults: tuple[str, ...] = ()

    @property
    def questions(self) -> list[Setting]:
        """What a person has to answer."""
        return [] if self.template else [one for one in self.survey.settings if one.asked]


async def draft(
    folder: Path, language: Language, *, template: str = "", said: Mapping[str, str] | None = None, force: bool = False
) -> Draft:
    """Look at a repository and say what would be written into its folder. Nothing is.

    Args:
        folder: the root of a checkout.
        language: of the reasons.
        template: whose files are meant; "": a `regrow.toml` by what the repository shows.
        said: values of the template's fields, by name.
        force: whether files may be replaced; their old text stays beside them.

    Raises:
        Refused: kinds "no_repository", "no_commits", "no_template", "no_field", "bad_field", "exists", "link".
        ConfigError: what would be written does not load.
    """
    root = Path(os.path.abspath(folder))  # noqa: ASYNC240, PTH100  no look at the disk
    repository = await _opened(root)
    commit = await repository.resolve("HEAD")
    found = survey(await reading.read(repository, commit), root.name, await repository.branch() or "", _machine())
    if template:
        home = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
        filled = fill(template, {"cargo_home": home, **found.facts}, said or {}, language)
        made = Draft(root, _changes(root, filled.files, force), found, template, filled.values, filled.defaults)
    else:
        made = Draft(root, _changes(root, {SETTINGS: rendering.render(found, language)}, force), found)
    for change in made.changes:
        if change.path.name == SETTINGS:
            text = change.after or ""
            if not template and not found.has("service.command"):
                # Nothing starts without an answer to this one; the rest is tried as if its example were the answer.
                text = re.sub(r"^# (?=command = )", "", text, count=1, flags=re.MULTILINE)
            config.parse(change.path, text)
    return made


def write(made: Draft) -> list[Path]:
    """Write the files; the text of one that is replaced stays beside it, with `.bak` at the end of its name.

    Returns:
        What was written.

    Raises:
        Refused: kinds "changed" (a file is not what it was when the draft was made), "forbidden".
    """
    for change in made.changes:
        if _text(change.path) != change.before:
            raise Refused(f"cannot write {change.path}: somebody changed it meanwhile; try again", kind="changed")
    try:
        for change in made.changes:
            change.path.parent.mkdir(parents=True, exist_ok=True)
            if change.before is not None:
                write_atomic(change.path.with_name(f"{change.path.name}.bak"), change.before.encode(), mode=0o644)
            write_atomic(change.path, (change.after or "").encode(), mode=0o644)
    except OSError as error:
        raise Refused(
            f"cannot write {error.filename}: {error.strerror}; mend that and try again", kind="forbidden"
        ) from error
    return [change.path for change in made.changes]


async def _opened(root: Path) -> Repository:
    try:
        return await Repository.open(root)
    except Refused as error:
        above = next((one for one in root.parents if (one / ".git").exists()), None)
        if error.kind != "no_repository" or above is None:
            raise
        raise Refused(
            f"cannot set up {root}: its repository begins at {above}; name that folder", kind="no_repository"
        ) from error


def _machine() -> Machine:
    """Toolchains that a box does not find by itself. None of them is started."""
    found = {}
    for tool in ("go", "cargo", "node"):
        where = shutil.which(tool)
        if where is None or where.startswith(("/usr/bin/", "/bin/", "/usr/local/bin/")):
            continue
        folder = Path(where).resolve().parent
        if (Path(where).parent / "rustup").exists():  # cargo is a stand-in, which needs all of rustup's home
            folder = _rust_toolchain(Path(where).parent) or folder
        if folder.name == "bin":
            found[tool] = str(folder.parent)
    return Machine(found)


def _rust_toolchain(programs: Path) -> Path | None:
    """The programs of rustup's default toolchain; its home is beside cargo's, if no variable says otherwise."""
    home = Path(os.environ.get("RUSTUP_HOME") or programs.parent.parent / ".rustup")
    try:
        chosen = tomllib.loads((home / "settings.toml").read_text("utf-8")).get("default_toolchain", "")
    except (OSError, ValueError):
        return None
    found = (home / "toolchains" / str(chosen) / "bin").resolve()
    return found if (found / "cargo").exists() else None


def _changes(root: Path, files: Mapping[str, str], force: bool) -> tuple[Change, ...]:
    changes = []
    for name, text in files.items():
        path = _below(root, name)
        before = _text(path)
        if before == text:
            continue
        if before is not None and not force:
            raise Refused(
                f"cannot write {path}: it is there already; look at what would change with --force --dry-run, "
                "and replace it with --force",
                kind="exists",
            )
        changes.append(Change(path, before, text))
    return tuple(changes)


def _below(root: Path, name: str) -> Path:
    """The place of a file. A repository may hold links that lead out of it: none is followed."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise Refused(f"cannot write {name}: it is not below {root}; correct the template", kind="link")
    path = root
    for part in parts:
        path /= part
        if path.is_symlink():
            raise Refused(f"cannot write {root / name}: {path} is a link; remove it first", kind="link")
    return path


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}; mend that and try again", kind="forbidden") from error
