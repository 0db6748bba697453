"""Regrow under systemd: what would be written or removed, shown first and then done."""

from __future__ import annotations

import difflib
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regrow import files
from regrow.config import Config, load
from regrow.errors import ConfigError, ProcessError, Refused
from regrow.places import Places
from regrow.process import run
from regrow.services import units

_POLKIT = Path("/etc/polkit-1/rules.d")
_RULE = "50-regrow.rules"
_LINGER = Path("/var/lib/systemd/linger")
_CALL_S = 60.0


@dataclass(frozen=True)
class Change:
    """One file.

    Attributes:
        before: its text now; None when it is not there.
        after: its text then; None when it is removed.
    """

    path: Path
    before: str | None
    after: str | None

    @property
    def diff(self) -> str:
        """What changes, as a unified diff."""
        old, new = ((text or "").splitlines(keepends=True) for text in (self.before, self.after))
        of, to = ("/dev/null" if text is None else str(self.path) for text in (self.before, self.after))
        return "".join(difflib.unified_diff(old, new, of, to))


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        manager: of whose units.
        changes: the files, empty when all is as it should be.
        starts: units that are enabled, so that the machine's start, or the user's log-in, starts them.
        notes: what a person must know or do: its kind ("linger", "secret") and the fields of its text.
    """

    manager: units.Manager
    changes: tuple[Change, ...]
    starts: tuple[str, ...] = ()
    notes: tuple[tuple[str, Mapping[str, str]], ...] = ()


def places_of(manager: units.Manager) -> Places:
    """The places of a daemon under this manager: root's shell variables are not the system's."""
    if manager == "user":
        return Places.of()
    return Places.of({name: value for name, value in os.environ.items() if name.startswith("REGROW_")}, 0)


async def plan_install(paths: Sequence[Path], manager: units.Manager, run_as: str = "") -> Plan:
    """What must be written, and of our own removed, so that exactly these services are under this manager.

    Args:
        paths: of the configuration files.
        manager: whose units.
        run_as: the user of the system's units; empty: root.

    Raises:
        ConfigError: a file cannot be used, or is for the other manager.
        Refused: kinds no_systemd, forbidden, foreign, no_polkit, running.
    """
    await _check_manager(manager)
    configs = [load(path) for path in paths]
    _check(configs, manager, run_as)
    wanted = _wanted(configs, manager, run_as)
    changes = []
    for path, text in wanted.items():
        before = _read(path)
        if before is not None and not units.is_ours(before):
            raise Refused(f"cannot write {path}: it was not written by Regrow; move it away first", kind="foreign")
        if before != text:
            changes.append(Change(path, before, text))
    stale = [Change(path, _read(path), None) for path in _ours(manager) if path not in wanted]
    await _check_stopped(manager, [change.path.name for change in stale])
    starts = (units.DAEMON, *(units.supervisor_name(config.service.name) for config in configs))
    return Plan(manager, (*changes, *stale), starts, tuple(_notes(configs, manager)))


def _wanted(configs: Sequence[Config], manager: units.Manager, run_as: str) -> dict[Path, str]:
    made = units.units(configs, places_of(manager), manager, run_as)
    wanted = {units.directory(manager) / unit.name: unit.text for unit in made}
    if run_as and _POLKIT.is_dir():
        wanted[_POLKIT / _RULE] = units.polkit_rule(configs, run_as)
    return wanted


async def plan_uninstall(manager: units.Manager) -> Plan:
    """Every file that `regrow install` wrote for this manager. Raises Refused (no_systemd, forbidden, running)."""
    await _check_manager(manager)
    ours = _ours(manager)
    await _check_stopped(manager, [path.name for path in ours])
    return Plan(manager, tuple(Change(path, _read(path), None) for path in ours))


async def carry_out(plan: Plan) -> None:
    """Do it: checked by systemd first, written whole, read by systemd, enabled or disabled. It may be done again.

    Raises:
        ConfigError: systemd finds fault with a unit; nothing is written then.
        ProcessError: systemd cannot be asked.
        Refused: kind "forbidden", a file cannot be written.
    """
    written = [change for change in plan.changes if change.after is not None]
    removed = [change for change in plan.changes if change.after is None]
    await _verify(plan.manager, {change.path.name: change.after or "" for change in written})
    enabled = [change.path.name for change in removed if "[Install]" in (change.before or "")]
    if enabled:
        await _systemctl(plan.manager, "disable", *enabled)
    try:
        for change in written:
            change.path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomic(change.path, (change.after or "").encode(), mode=0o644)
        for change in removed:
            change.path.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(
            f"cannot write {error.filename}: {error.strerror}; mend that and try again", kind="forbidden"
        ) from error
    if plan.changes:
        await _systemctl(plan.manager, "daemon-reload")
    if plan.starts:
        await _systemctl(plan.manager, "enable", *plan.starts)


async def _check_manager(manager: units.Manager) -> None:
    if manager == "system" and os.getuid() != 0:
        raise Refused("cannot install for the whole system: only root may; use sudo, or --user", kind="forbidden")
    hint = "log in anew, or set XDG_RUNTIME_DIR" if manager == "user" else "use `regrow up` here"
    if shutil.which("systemctl") is None:
        raise Refused("cannot find systemctl: there is no systemd on this machine; use `regrow up`", kind="no_systemd")
    try:
        await _systemctl(manager, "show", "--property=Version")
    except ProcessError as error:
        raise Refused(f"cannot reach the {manager} manager of systemd ({error}); {hint}", kind="no_systemd") from error


def _check(configs: Sequence[Config], manager: units.Manager, run_as: str) -> None:
    if run_as and manager == "user":
        raise ConfigError("cannot use --run-as with --user: a user's units are that user's; use --system")
    if run_as:
        try:
            pwd.getpwnam(run_as)
        except KeyError:
            raise ConfigError(f"cannot run as {run_as}: there is no such user; make it with useradd") from None
    for config in configs:
        service = config.service
        if service.driver == "systemd" and service.scope != manager:
            raise ConfigError(
                f'cannot install {service.name} for the {manager} manager: its [service] scope is "{service.scope}"'
            )
        if service.driver == "systemd" and run_as and not _POLKIT.is_dir():
            raise Refused(
                f"cannot run {service.name} as {run_as}: only polkit can let it start units of the system, and "
                "it is not there; apt install polkitd, or run as root",
                kind="no_polkit",
            )


async def _check_stopped(manager: units.Manager, names: Sequence[str]) -> None:
    """A file is not taken from under what runs by it."""
    patterns = [name.replace("@.", "@*.") for name in names if name.endswith(".service")]
    if not patterns:
        return
    listed = await _systemctl(
        manager, "list-units", "--plain", "--no-legend", "--state=active,activating,deactivating", *patterns
    )
    if running := [line.split()[0] for line in listed.splitlines() if line.strip()]:
        raise Refused(
            f"cannot remove the unit of what runs: {', '.join(running)}; run `regrow down` first", kind="running"
        )


def _notes(configs: Sequence[Config], manager: units.Manager) -> list[tuple[str, Mapping[str, str]]]:
    notes: list[tuple[str, Mapping[str, str]]] = []
    user = pwd.getpwuid(os.getuid()).pw_name
    if manager == "user" and not (_LINGER / user).exists():
        notes.append(("linger", {"user": user}))
    for config in configs:
        feishu = config.channels.feishu if config.channels is not None else None
        named = [*config.service.secrets.values(), *([feishu.app_secret] if feishu is not None else [])]
        notes += [("secret", {"name": name}) for name in named if not name.startswith("file:")]
    return notes


def _ours(manager: units.Manager) -> list[Path]:
    found = [*units.directory(manager).glob("regrow*.service")]
    if manager == "system":
        found.append(_POLKIT / _RULE)
    return sorted(path for path in found if units.is_ours(_read(path) or ""))


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {error}; mend that first", kind="foreign") from error


async def _verify(manager: units.Manager, texts: Mapping[str, str]) -> None:
    """Have systemd read the units before they are where it finds them."""
    named = {name: text for name, text in texts.items() if name.endswith(".service")}
    if not named or shutil.which("systemd-analyze") is None:
        return
    with tempfile.TemporaryDirectory(prefix="regrow-units-") as directory:
        paths = [Path(directory, name) for name in named]
        for path, text in zip(paths, named.values(), strict=True):
            path.write_text(text)
        words = [*units.manager_argv(manager, "systemd-analyze"), "verify", "--man=no", "--recursive-errors=no"]
        done = await run([*words, *map(str, paths)], timeout_s=_CALL_S)
        if done.code:
            said = next((line for line in done.output.splitlines() if directory in line), done.output.strip())
            raise ConfigError(f"cannot make units of these settings: {said.replace(directory + '/', '')}; correct them")


async def _systemctl(manager: units.Manager, *words: str) -> str:
    done = await run([*units.manager_argv(manager), "--no-ask-password", *words], timeout_s=_CALL_S)
    return done.check(f"{words[0]} units").output
