"""Changes of settings as a transaction: planned, written so that they can be taken back, and taken back exactly.

Before a byte of a file is changed, the record of the job says what will be: the file's bytes of before, what they will
be, and each setting with both values. So a killed daemon finds out what it had done, and what goes back is only what
this job changed, and only where nobody else has changed it since; what is displaced by that stays beside it (F18, F19).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow import files, settable
from regrow.care import OWN, Care
from regrow.config import Config, parse
from regrow.errors import ConfigError, Refused
from regrow.permissions import Role
from regrow.settings import read

_SECRET = re.compile(r"(?i)(token|secret|passw|key|credential)")
_KEPT = 50


@dataclass(frozen=True)
class Change:
    """One setting and the value it is to have, as its file writes it; None takes it out."""

    file: str
    name: str
    value: str | None


@dataclass(frozen=True)
class Planned:
    """What changes would do.

    Attributes:
        changes: with full names and values as the files write them.
        before: the values of now, by (file, name).
        diff: for people, with the values of what looks like a secret left out.
        config: Regrow's settings afterwards.
        role: the least role that may ask for it.
        own_files: whether files of the service's own change.
    """

    changes: tuple[Change, ...]
    before: Mapping[tuple[str, str], str | None]
    diff: str
    config: Config
    role: Role
    own_files: bool


def asked(words: Sequence[str], config: Config) -> list[Change]:
    """Changes that people wrote as NAME=VALUE, or FILE:NAME=VALUE for a file of the service's own.

    Raises:
        Refused: no such setting or file, or it may not be set from here; kinds as `settable.find`, and "bad_request".
    """
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise Refused(f"cannot read {word!r}: write NAME=VALUE", kind="bad_request")
        file, colon, inner = name.strip().rpartition(":")
        if not colon or file == OWN:
            found.append(Change(OWN, settable.find(inner, config), value.strip()))
            continue
        named = [one for one in config.config.files if one == file or Path(one).name == file]
        if len(named) != 1:
            known = ", ".join(config.config.files) or "—"
            raise Refused(
                f"cannot find the file {file}: [config] files names {known}",
                kind="no_such_file",
                name=file,
                known=known,
            )
        found.append(Change(named[0], inner.strip(), value.strip()))
    return found


def plan(care: Care, changes: Sequence[Change], *, literal: bool = False) -> Planned:
    """Try changes on the files as they are now, and write nothing.

    Args:
        care: the service.
        changes: as asked for.
        literal: whether their values are written as the files write them already.

    Raises:
        Refused: kind "nothing_to_change", or the result would not load: "bad_setting" with the reason.
        ConfigError: a file is broken as it is.
    """
    before: dict[tuple[str, str], str | None] = {}
    written: list[Change] = []
    diffs: list[str] = []
    config = care.config
    for file in dict.fromkeys(change.file for change in changes):
        path = care.settings_file(file)
        text = _text(path)
        known = read(path, text)
        mine = [change for change in changes if change.file == file]
        try:
            for change in mine:
                before[file, change.name] = known.get(change.name)
                value = change.value
                if value is not None and not literal:
                    # A variable of the environment is a text, whatever it looks like.
                    texts = file == OWN and change.name.startswith("service.env.")
                    value = known.text_literal(value) if texts else known.literal(value)
                written.append(Change(file, change.name, value))
            new = known.changed({one.name: one.value for one in written if one.file == file})
            if file == OWN:
                config = settable.live(care.config, parse(path, new))
            else:
                read(path, new)
        except (ValueError, KeyError, ConfigError) as error:
            # Its line is one of a file that was not written.
            said = re.sub(rf"{re.escape(str(path))}:(?:\d+: )?", "", str(error).removeprefix("cannot use ")).strip()
            raise Refused(f"cannot set that: {said}", kind="bad_setting", text=said) from None
        diffs += _diff(file, text, new)
    if not diffs:
        raise Refused("cannot change anything: it is set like that already", kind="nothing_to_change")
    roles = [settable.role_of(one.name) or Role.owner for one in written if one.file == OWN]
    own_files = any(one.file != OWN for one in written)
    return Planned(
        tuple(written),
        before,
        care.redactor.redact("\n".join(diffs)),
        config,
        max([*roles, *([Role.maintainer] if own_files else [])]),
        own_files,
    )


def needs_start(care: Care, planned: Planned, release: Any) -> bool:
    """Whether a fresh process is needed for it: it reads the files itself, or it is started with other settings."""
    return planned.own_files or care.spec(release) != care.spec(release, planned.config)


def check_files(care: Care) -> None:
    """Read every file of settings as it is on disk.

    Raises:
        ConfigError: one is broken; with its name, line and what is wrong (F18).
    """
    parse(care.config.path, _text(care.config.path))
    for file in care.config.config.files:
        path = care.settings_file(file)
        if path.exists():
            read(path, _text(path))


# Writing, so that it can be taken back


def apply(care: Care, job: int, changes: Sequence[Change]) -> list[dict[str, str | None]]:
    """Write changes; repeated, it finds what an earlier try has done.

    Returns:
        What changed: file, name, and the values before and after.
    """
    place = _place(care, job)
    record = _record(place)
    if record is None or not all(_is_ours(care, file, known) for file, known in record.items()):
        planned = plan(care, changes, literal=True)
        record = {}
        for number, file in enumerate(dict.fromkeys(change.file for change in planned.changes)):
            path = care.settings_file(file)
            old = _bytes(path)
            mine = {one.name: one.value for one in planned.changes if one.file == file}
            new = read(path, old.decode()).changed(mine).encode()
            files.write_atomic(place / f"{number}.before", old)
            record[file] = {
                "number": number,
                "before": _digest(old),
                "after": _digest(new),
                "changes": {name: [planned.before[file, name], value] for name, value in mine.items()},
            }
        _keep(place, record)
    for file, known in record.items():
        path = care.settings_file(file)
        old = _bytes(path)
        if _digest(old) == known["before"]:
            mine = {name: values[1] for name, values in known["changes"].items()}
            _write(path, read(path, old.decode()).changed(mine).encode())
    return _told(record)


def _told(record: Mapping[str, Any]) -> list[dict[str, str | None]]:
    return [
        {"file": file, "name": name, "before": _shown(name, values[0]), "after": _shown(name, values[1])}
        for file, known in record.items()
        for name, values in known["changes"].items()
    ]


def take_back(care: Care, job: int) -> list[str]:
    """Give each setting that a job changed its value of before, unless somebody has changed it since.

    Returns:
        Where the files as they were found are kept: those in which something else had changed meanwhile.
    """
    place = _place(care, job)
    kept, broken = [], list[ConfigError]()
    for file, known in (_record(place) or {}).items():
        try:
            kept += _take_back(care, place, file, known)
        except ConfigError as error:  # somebody broke it meanwhile: that keeps no other file from going back
            broken.append(error)
    if broken:
        raise broken[0]
    return kept


def _take_back(care: Care, place: Path, file: str, known: Mapping[str, Any]) -> list[str]:
    path = care.settings_file(file)
    now = _bytes(path)
    if _digest(now) == known["before"] or not known["changes"]:
        return []
    if _digest(now) == known["after"]:
        _write(path, (place / f"{known['number']}.before").read_bytes())
        return []
    settings = read(path, _text(path))
    back = _before(settings, known)
    new = settings.changed(back).encode()
    if not back or new == now:
        return []
    displaced = place / f"{known['number']}.displaced"
    files.write_atomic(displaced, now)
    _write(path, new)
    return [str(displaced)]


def displaced(care: Care, job: int) -> list[str]:
    """Where files are kept as a job's end found them, because something else had changed in them meanwhile."""
    return sorted(str(path) for path in _directory(care, job).glob("*.displaced"))


def changed(care: Care, job: int) -> list[dict[str, str | None]]:
    """Which settings a job has changed, or was about to when it was killed; as `apply`."""
    return _told(_record(_directory(care, job)) or {})


def reversed_changes(care: Care, job: int) -> list[Change]:
    """What would take back a job's changes now: those that still hold."""
    found = []
    for file, known in (_record(_directory(care, job)) or {}).items():
        path = care.settings_file(file)
        settings = read(path, _text(path))
        found += [Change(file, name, before) for name, before in _before(settings, known).items()]
    return found


# Settings that a new version loses (F20)


def guard(care: Care, job: int) -> None:
    """Keep the service's own files as they are before a new version may touch them. Once a job."""
    place = _place(care, job)
    if (place / "guard.json").exists():
        return
    kept: dict[str, Any] = {}
    for number, file in enumerate(care.config.config.files):
        path = care.settings_file(file)
        if not path.exists():
            continue
        content = path.read_bytes()
        files.write_atomic(place / f"guard-{number}", content)
        kept[file] = {"number": number, "names": sorted(read(path, content.decode()).names())}
    files.write_atomic(place / "guard.json", json.dumps(kept, ensure_ascii=False).encode())


def lost(care: Care, job: int) -> dict[str, list[str]]:
    """Names of settings and sections, without values, that were there at `guard` and are not now, by file."""
    found = {}
    for file, known in _guarded(care, job).items():
        path = care.settings_file(file)
        try:
            now = read(path, _text(path)).names() if path.exists() else frozenset()
        except ConfigError:
            now = frozenset()  # broken by who runs now: nothing of it can be read any more
        if gone := [name for name in known["names"] if name not in now]:
            found[file] = [name for name in gone if name.rpartition(".")[0] not in gone]
    return found


def note_changed(care: Care, job: int) -> list[dict[str, str | None]]:
    """Write down which settings a new version changed in the service's own files, so that an undo of its job can take
    just those back. Nothing is written down of a job that changes settings itself.

    Returns:
        As `apply`.
    """
    place = _place(care, job)
    known = _record(place)
    if known is None:
        known = {}
        for file, kept in _guarded(care, job).items():
            path = care.settings_file(file)
            old, new = (place / f"guard-{kept['number']}").read_bytes(), _bytes(path)
            if old == new:
                continue
            before, after = read(path, old.decode()), read(path, new.decode())
            names = sorted({*_leaves(before), *_leaves(after)})
            files.write_atomic(place / f"{kept['number']}.before", old)
            known[file] = {
                "number": kept["number"],
                "before": _digest(old),
                "after": _digest(new),
                "changes": {
                    name: [_value(before, name), _value(after, name)]
                    for name in names
                    if _value(before, name) != _value(after, name)
                },
            }
        _keep(place, known)
    return _told(known)


def give_back_lost(care: Care, job: int) -> list[str]:
    """Put back the files from which something was lost; what was found instead is kept. Returns where."""
    kept = []
    place, guarded = _place(care, job), _guarded(care, job)
    for file in lost(care, job):
        number = guarded[file]["number"]
        path, before = care.settings_file(file), (place / f"guard-{number}").read_bytes()
        displaced = place / f"guard-{number}.displaced"
        now = _bytes(path)
        files.write_atomic(displaced, now)
        _write(path, _with_lost(path, now, before))
        kept.append(str(displaced))
    return kept


def _with_lost(path: Path, now: bytes, before: bytes) -> bytes:
    """What is there now with what is missing; all of what was there where that cannot be put together."""
    try:
        old, new = read(path, before.decode()), read(path, now.decode())
        missing = {name: old.get(name) for name in _leaves(old) if name not in new.names()}
        text = new.changed(missing)
        if old.names() <= read(path, text).names():
            return text.encode()
    except (ConfigError, ValueError, KeyError):
        pass
    return before


def _leaves(settings: Any) -> list[str]:
    found = []
    for name in sorted(settings.names()):
        try:
            settings.get(name)
        except KeyError:
            continue
        found.append(name)
    return found


# How


def _directory(care: Care, job: int) -> Path:
    return care.directory / "settings" / str(job)


def _place(care: Care, job: int) -> Path:
    """The directory of a job that is under way; those of long ago go, and with them the way back by undo."""
    directory = files.private_directory(care.directory / "settings")
    old = sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and int(path.name) != job)
    for number in old[: max(0, len(old) + 1 - _KEPT)]:
        files.remove_tree(directory / str(number))
    return files.private_directory(directory / str(job))


def _record(place: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((place / "record.json").read_bytes())
    except FileNotFoundError:
        return None
    return found


def _guarded(care: Care, job: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((_directory(care, job) / "guard.json").read_bytes())
    except FileNotFoundError:
        return {}
    return found


def _keep(place: Path, record: Mapping[str, Any]) -> None:
    files.write_atomic(place / "record.json", json.dumps(record, ensure_ascii=False).encode())


def _is_ours(care: Care, file: str, known: Mapping[str, Any]) -> bool:
    """Whether a record still fits the file: it is untouched, or holds what was to be written."""
    path = care.settings_file(file)
    now = _bytes(path)
    if _digest(now) in {known["before"], known["after"]}:
        return True
    settings = read(path, now.decode())
    return all(_value(settings, name) == values[1] for name, values in known["changes"].items())


def _before(settings: Any, known: Mapping[str, Any]) -> dict[str, str | None]:
    """The values of before of those settings that a job changed and nobody has changed since."""
    return {name: before for name, (before, after) in known["changes"].items() if _value(settings, name) == after}


def _value(settings: Any, name: str) -> str | None:
    try:
        value: str | None = settings.get(name)
    except KeyError:
        return ""
    return value


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}; mend it by hand", kind="broken_settings") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Replace a file whose owner and mode stay (F15); a link is followed and stays one."""
    path = path.resolve()
    try:
        was = path.stat()
    except FileNotFoundError:
        files.write_atomic(path, content)
        return
    files.write_like(path, content, was)


def _shown(name: str, value: str | None) -> str | None:
    return value if value is None or not _SECRET.search(name) else "•••"


def _diff(file: str, old: str, new: str) -> list[str]:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), file, file, lineterm="", n=1)
    return [_without_secret(line) for line in lines]


def _without_secret(line: str) -> str:
    name, sign, _ = re.split(r"(\s*[=:]\s*)", line, maxsplit=1) if re.search(r"[=:]", line) else (line, "", "")
    hides = bool(sign) and bool(_SECRET.search(name)) and not line.startswith(("---", "+++", "@@"))
    return f"{name}{sign}•••" if hides else line
