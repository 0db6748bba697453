"""Values that must not be seen: a type that prints as [redacted], and the names they are read by.

Settings hold names, never values: `env:NAME`, `file:PATH`, `credential:NAME` (a systemd credential). No text raised
here holds a value, and none repeats a name that may be a value written in the wrong place.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from regrow.errors import ConfigError

REDACTED = "[redacted]"
_LARGEST = 1 << 20  # bytes; a secret file of more is a mistake
_FORMS = "env:NAME, file:PATH or credential:NAME"


class Secret:
    """A value that is only seen by whoever calls `reveal`.

    It prints, formats and serialises as "[redacted]", cannot be pickled, and is no `str`, so a type checker finds every
    place that would let it out by accident. For `json.dumps` pass `default=secret.for_json`.

    Args:
        value: the value itself.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("cannot change a secret; make a new one")

    def reveal(self) -> str:
        """The value; call it at the last moment, and give the result to nothing that prints."""
        value: str = object.__getattribute__(self, "_value")
        return value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return REDACTED

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    __hash__ = None  # type: ignore[assignment]  # a hash would let the value be guessed at

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("cannot pickle a secret; pass its name and resolve it there")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(
            cls,
            serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema()),
        )


def for_json(value: object) -> str:
    """The `default` of `json.dumps`: a secret becomes "[redacted]", anything else is refused as json does."""
    if isinstance(value, Secret):
        return REDACTED
    raise TypeError(f"cannot serialise {type(value).__name__}")


def resolve(reference: str, *, environ: Mapping[str, str] | None = None) -> Secret:
    """Read the secret a setting names.

    Args:
        reference: `env:NAME`, `file:PATH` (absolute) or `credential:NAME`.
        environ: the environment to look in; the process's own unless given.

    Returns:
        The value, without the one line end a file may have.

    Raises:
        ConfigError: it is not there, empty, not text, or not a reference at all.
    """
    environ = os.environ if environ is None else environ
    form, _, name = reference.partition(":")
    if form == "env" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
        value = environ.get(name)
        if not value:
            state = "is not set" if value is None else "is empty"
            raise ConfigError(
                f"cannot read the secret env:{name}: the variable {state}; set it where the daemon starts"
            )
        return Secret(value)
    if form in ("file", "credential"):
        return Secret(_read(_path(form, name, environ), form))
    raise ConfigError(f"cannot use a secret that is not named; write {_FORMS}, and the value itself only there")


def warning(reference: str, *, environ: Mapping[str, str] | None = None) -> str:
    """What is wrong with where a secret lies though it can be read, or "": a file that others on the machine may read.

    Args:
        reference: as for `resolve`.
        environ: as for `resolve`.

    Raises:
        ConfigError: the reference is none, or names a credential while there are none.
    """
    form, _, name = reference.partition(":")
    if form not in ("file", "credential"):
        return ""
    path = _path(form, name, os.environ if environ is None else environ)
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    return f"{path} may be read by every user of this machine; run: chmod 600 {path}" if mode & 0o004 else ""


def _path(form: str, name: str, environ: Mapping[str, str]) -> Path:
    if form == "file":
        path = Path(name)
        if not path.is_absolute():
            raise ConfigError("cannot read a secret file by a relative path; write file:/absolute/path")
        return path
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigError(
            "cannot read a systemd credential: CREDENTIALS_DIRECTORY is not set; "
            "add LoadCredential= to the unit, or use env: or file:"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,128}", name) or name in (".", ".."):
        raise ConfigError(
            "cannot read a systemd credential by this name; use letters, digits, dot, dash and underscore"
        )
    return Path(directory, name)


def _read(path: Path, form: str) -> str:
    try:
        if not path.is_file():
            reason = "it is no file" if path.exists() else "there is no such file"
            raise ConfigError(f"cannot read the secret {form}:{path}: {reason}; create it with mode 600")
        if path.stat().st_size > _LARGEST:
            raise ConfigError(
                f"cannot read the secret {form}:{path}: it is larger than 1 MiB; name the file of one secret"
            )
        value = path.read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(
            f"cannot read the secret {form}:{path}: {error.strerror}; let the daemon's user read it"
        ) from None
    except UnicodeDecodeError:
        # Not chained: the original error carries the bytes.
        raise ConfigError(f"cannot read the secret {form}:{path}: it is not UTF-8 text; encode it as base64") from None
    if not value:
        raise ConfigError(f"cannot read the secret {form}:{path}: it is empty; write the value into it")
    return value
