"""Which settings of `regrow.toml` may be changed by saying so, and what role that takes (ask 5 of the seed).

What is not in the table is changed by hand, in the file, by whoever may write it: it weakens the box, decides who may
do what, holds names of secrets, or is read once when the daemon starts. Everything in the table is read anew each time
it is used, or is part of what the supervisor is given at a start.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from regrow.catalogue import LANGUAGES, Language, texts
from regrow.config import Config
from regrow.errors import Refused
from regrow.permissions import Role

SETTABLE: dict[str, Role] = {
    **dict.fromkeys(
        (
            *("service.drain", "service.stop_timeout", "service.start_timeout", "service.check_timeout"),
            *("service.idle_within", "service.restart_limit", "service.restart_window"),
            *("service.log_size", "service.log_keep"),
            *("probe.*.interval", "probe.*.timeout", "probe.*.strikes", "probe.*.grace"),
            *("switch.bake", "switch.restart_bake", "switch.promote_within", "switch.confirm_within"),
            *("switch.crash_backoff", "switch.crash_backoff_max", "switch.crash_limit", "switch.crash_window"),
            *("build.timeout", "build.nice", "test.timeout", "test.reruns", "test.nice"),
            *("repair.timeout", "repair.attempts"),
            *("snapshots.keep", "snapshots.keep_bytes", "retention.releases", "retention.job_logs"),
            *("chat.fresh", "chat.heartbeat"),
        ),
        Role.maintainer,
    ),
    # An environment variable can be made to run anything, and nobody approves it on a diff.
    "service.env.*": Role.owner,
}


IN_UNITS = frozenset({"service.drain", "service.stop_timeout", "service.start_timeout"})
"""Where releases are units of systemd, `regrow install` has written these into them, and systemd holds to that."""


def role_of(name: str) -> Role | None:
    """The role that it takes to change a setting, by its dotted name; None when it is changed by hand."""
    parts = name.split(".")
    for pattern, role in SETTABLE.items():
        wanted = pattern.split(".")
        if len(wanted) == len(parts) and all(one in {"*", other} for one, other in zip(wanted, parts, strict=True)):
            return role
    return None


def live(now: Config, new: Config) -> Config:
    """The settings that hold once a file was read again: of what is in the table the new values, of all else those of
    now, because that was read when the daemon started and is copied in many places.

    Args:
        now: the settings that hold.
        new: what the file says.
    """
    sections: dict[str, Any] = {}
    for section in dict.fromkeys(pattern.partition(".")[0] for pattern in SETTABLE):
        if section == "probe":
            sections[section] = {
                name: _live(probe, new.probe.get(name, probe), f"probe.{name}", now)
                for name, probe in now.probe.items()
            }
        else:
            sections[section] = _live(getattr(now, section), getattr(new, section), section, now)
    return now.model_copy(update=sections)


def in_units(name: str, config: Config) -> bool:
    """Whether a setting is a unit's of systemd, which only an installation changes."""
    return name in IN_UNITS and config.service.driver == "systemd"


def _live(now: BaseModel, new: BaseModel, prefix: str, whole: Config) -> BaseModel:
    """One section, with those of its values that may be set. What is equal is left alone: not set stays not set."""
    changed = {}
    for name in type(now).model_fields:
        full = f"{prefix}.{name}"
        settable = (role_of(full) is not None and not in_units(full, whole)) or f"{full}.*" in SETTABLE
        if settable and getattr(now, name) != getattr(new, name):
            changed[name] = getattr(new, name)
    return now.model_copy(update=changed)


def names(config: Config) -> list[str]:
    """Every setting that may be changed, by its full name."""
    found = []
    for pattern in SETTABLE:
        section, _, rest = pattern.partition(".*")
        if not rest and not pattern.endswith(".*"):
            found += [] if in_units(pattern, config) else [pattern]
        elif section == "probe":
            found += [f"probe.{name}{rest}" for name in config.probe]
        else:
            found += [f"{section}.{name}" for name in config.service.env]
    return found


def find(word: str, config: Config) -> str:
    """The full name of what a person calls a setting: all of it, its last part where only one has that, or its title.

    Raises:
        Refused: kinds "which_setting", "not_settable", "in_units" and "no_such_setting".
    """
    word = " ".join(word.split()).strip("`'\"“”「」")
    known = names(config)
    plain = word.lower().replace(" ", "_").replace("-", "_")
    if unit := next((name for name in IN_UNITS if _called(word, plain, name) and in_units(name, config)), ""):
        raise Refused(
            f"cannot set {unit} from here: systemd has it in the units; change it in regrow.toml and run "
            "`regrow install` again",
            kind="in_units",
            name=unit,
        )
    if word in known or role_of(word) is not None:
        return word
    fitting = [name for name in known if name.rpartition(".")[2].lower() == plain or name == plain]
    fitting = fitting or [name for name in known if word.lower() in titles(name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        shown = ", ".join(fitting)
        raise Refused(f"cannot tell which setting is meant; name one of: {shown}", kind="which_setting", names=shown)
    every = list(_every(Config, ""))
    if plain in every or any(name.rpartition(".")[2] == plain for name in every):
        raise Refused(
            f"cannot set {word} from here: change it in regrow.toml and start the daemon again",
            kind="not_settable",
            name=word,
        )
    near = next(iter(difflib.get_close_matches(plain, [*known, *(name.rpartition(".")[2] for name in known)], n=1)), "")
    hint = f"; did you mean {near}?" if near else "; `regrow config show` lists them"
    raise Refused(f"cannot find a setting called {word}{hint}", kind="no_such_setting", name=word, near=near or "—")


def _called(word: str, plain: str, name: str) -> bool:
    return plain in {name, name.rpartition(".")[2]} or word.lower() in titles(name)


def titles(name: str) -> frozenset[str]:
    """What people call a setting, in all languages, in lower case."""
    pattern = name if name in SETTABLE else _pattern(name)
    found = (texts(language).get(f"setting.{pattern}", "") for language in LANGUAGES)
    return frozenset(word.strip().lower() for text in found for word in text.split("|") if word.strip())


def title(name: str, language: Language) -> str:
    """What a setting is called, in a few words."""
    pattern = name if name in SETTABLE else _pattern(name)
    return texts(language).get(f"setting.{pattern}", "").partition("|")[0].strip()


def _pattern(name: str) -> str:
    if name.startswith("service.env."):
        return "service.env.*"
    parts = name.split(".")
    return f"{parts[0]}.*.{parts[2]}" if len(parts) == 3 else name


def _every(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """All names of settings, of all sections."""
    for name, field in model.model_fields.items():
        inner = list(_models(field.annotation))
        if not inner:
            yield prefix + name
        for one in inner:
            yield from _every(one, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)
