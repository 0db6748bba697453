"""Files of settings whose single values are changed, everything else staying as a person wrote it.

`regrow.toml` itself, and the service's own files that `[config] files` names. A format is one file here.
"""

from __future__ import annotations

from pathlib import Path

from regrow.errors import ConfigError
from regrow.settings.base import Settings
from regrow.settings.env import EnvSettings
from regrow.settings.json import JsonSettings
from regrow.settings.toml import TomlSettings

FORMATS: dict[str, type[Settings]] = {".toml": TomlSettings, ".json": JsonSettings, ".env": EnvSettings}


def format_of(path: Path) -> type[Settings]:
    """How a file is written, by its name.

    Raises:
        ConfigError: its values cannot be changed one by one.
    """
    name = path.name
    ending = ".env" if name == ".env" or name.startswith(".env.") else path.suffix
    if ending not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        raise ConfigError(
            f"cannot read settings in {path}: only {known} are known here; leave it out of [config] files"
        )
    return FORMATS[ending]


def read(path: Path, text: str) -> Settings:
    """The settings that a file holds, or would hold.

    Raises:
        ConfigError: with the file, and the line where that is known: it is not well-formed.
    """
    try:
        return format_of(path)(text)
    except ValueError as error:
        raise ConfigError(f"cannot read {path}: {error}; mend it by hand", kind="broken_settings") from None
