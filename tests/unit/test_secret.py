"""Secrets stay unseen however they are printed, and are found by their names."""

from __future__ import annotations

import copy
import json
import pickle
import secrets
import traceback
from pathlib import Path

import pytest
from pydantic import BaseModel

from regrow import secret
from regrow.errors import ConfigError
from regrow.secret import Secret


@pytest.fixture
def canary() -> str:
    return secrets.token_urlsafe(24)


class Holder(BaseModel):
    secret: Secret


def test_no_way_of_printing_shows_it(canary: str) -> None:
    value = Secret(canary)
    shown = [
        str(value),
        repr(value),
        f"{value}",
        f"{value!r:>40}",
        "%s" % value,  # noqa: UP031
        format(value, ""),
        str([value]),
        str({"a": value}),
        json.dumps({"a": value}, default=secret.for_json),
        repr(Holder(secret=value)),
        Holder(secret=value).model_dump_json(),
        str(Holder(secret=value).model_dump()),
        repr(copy.deepcopy(value)),
        str(dir(value)),
    ]
    assert not any(canary in text for text in shown)
    assert all("[redacted]" in text for text in shown[:-1])
    assert value.reveal() == canary


def test_it_is_not_pickled_changed_or_hashed(canary: str) -> None:
    value = Secret(canary)
    with pytest.raises(TypeError, match="cannot pickle") as refused:
        pickle.dumps(value)
    assert canary not in str(refused.value)
    with pytest.raises(AttributeError):
        value._value = "x"
    with pytest.raises(TypeError):
        hash(value)
    with pytest.raises(TypeError):
        json.dumps(value)
    assert value == Secret(canary)
    assert value != Secret(canary + "x")
    assert value != canary
    assert value
    assert not Secret("")


def test_it_is_resolved_by_name(tmp_path: Path, canary: str) -> None:
    (tmp_path / "token").write_text(canary + "\n")
    environ = {"TOKEN": canary, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for reference in ("env:TOKEN", f"file:{tmp_path}/token", "credential:token"):
        assert secret.resolve(reference, environ=environ).reveal() == canary


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:MISSING", "is not set"),
        ("env:EMPTY", "is empty"),
        ("file:{}/missing", "there is no such file"),
        ("file:{}", "it is no file"),
        ("file:{}/empty", "it is empty"),
        ("file:{}/binary", "not UTF-8"),
        ("file:relative", "relative path"),
        ("credential:missing", "there is no such file"),
        ("credential:../token", "letters, digits"),
        ("credential:..", "letters, digits"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, reference: str, words: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    environ = {"EMPTY": "", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    with pytest.raises(ConfigError, match=words) as refused:
        secret.resolve(reference.format(tmp_path), environ=environ)
    assert str(refused.value).startswith("cannot ")


def test_a_credential_needs_a_directory() -> None:
    with pytest.raises(ConfigError, match="LoadCredential"):
        secret.resolve("credential:token", environ={})


def test_a_value_written_in_place_of_a_name_is_not_repeated(canary: str) -> None:
    for reference in (canary, f"env:{canary}-x", f"token:{canary}", f"credential:/{canary}", f"file:{canary}"):
        with pytest.raises(ConfigError) as refused:
            secret.resolve(reference, environ={"CREDENTIALS_DIRECTORY": "/x"})
        assert canary not in "".join(traceback.format_exception(refused.value))


def test_a_file_that_others_may_read_is_warned_of(tmp_path: Path, canary: str) -> None:
    path = tmp_path / "token"
    path.write_text(canary)
    path.chmod(0o644)
    assert f"chmod 600 {path}" in secret.warning(f"file:{path}")
    assert "chmod" in secret.warning("credential:token", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    path.chmod(0o600)
    assert secret.warning(f"file:{path}") == ""
    assert secret.warning("env:TOKEN") == ""
